"""Resources: what a worker on this machine computes on, the memory that an engine finds, and room on the disk.

Found without torch.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
from pathlib import Path

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from training.rlhf import memory as engine_memory

CARDS = Path("/proc/driver/nvidia/gpus")
CPU = Path("/proc/cpuinfo")
MIB = 1 << 20
FIRST_WITH_BF16 = 8.0  # compute capability of a card


def device() -> str:
    """The graphics cards that an engine may use, else the processor's cores, and whether they multiply in bf16."""
    cards = [path.read_text("utf-8") for path in CARDS.glob("*/information")]
    models = [_field(card, "Model") for card in cards]
    number = _cards()
    cores = _cores()
    words = f"{cores} CPU core" if cores == 1 else f"{cores} CPU cores"
    found = f"{number} × {models[0]}" if number and models else words
    return f"{found}, bf16" if _has_bf16(number) else found


def processes() -> int:
    """How many processes of a run work here side by side: one for each card, or on each core where there is none.

    A launcher that reaches other hosts starts more, as a setting says.
    """
    return settings.ENGINE_PROCESSES or _cards() or _cores()


def memory() -> int | None:
    """The bytes that an engine finds; None where nothing says.

    Of graphics cards, all of the smallest one, since an engine that works there now will have gone; else what Linux
    could give to a new process without swapping.
    """
    if list(CARDS.glob("*")):
        return _memory_of_cards()
    return engine_memory.free_bytes()


def disk_shortage() -> str:
    """In words, that the disk with the data has too little room to train; empty where it has enough.

    Training stops before there is no room left for labels.
    """
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free >= settings.MIN_FREE_BYTES:
        return ""
    return _(
        "The data disk has %(free)s free, but %(needed)s must stay free. The run "
        "continues automatically once there is enough space."
    ) % {"free": filesizeformat(free), "needed": filesizeformat(settings.MIN_FREE_BYTES)}


def disk_full(error: Exception) -> str:
    """In words, that a file could not be written."""
    return _("The disk is full: %(error)s") % {"error": error}


@functools.cache  # cards do not grow
def _memory_of_cards() -> int | None:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        sizes = subprocess.run(query, capture_output=True, check=True, timeout=30, text=True).stdout
        return min(int(line) for line in sizes.splitlines()) * MIB
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _cards() -> int:
    """The cards that CUDA shows to the engine: CUDA_VISIBLE_DEVICES is a list that ends at the first invalid entry."""
    there = len(list(CARDS.glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    listed = itertools.takewhile(lambda card: card.strip() not in ("", "-1"), visible.split(","))
    return len(list(listed)) if there else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@functools.cache
def _has_bf16(cards: int) -> bool:
    if not cards:
        return any(flag in CPU.read_text("utf-8") for flag in ("amx_bf16", "avx512_bf16")) if CPU.exists() else False
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, check=True, timeout=30, text=True).stdout
        return all(float(line) >= FIRST_WITH_BF16 for line in found.splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _sep, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return name
