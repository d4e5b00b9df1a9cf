"""What a worker says of the memory that an engine finds on its machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_django import Settings

from training.rlhf import memory
from training.services.machines import resources


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without cards, with 8 GiB to spare."""
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n")
    monkeypatch.setattr(resources, "CARDS", tmp_path / "gpus")
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "CPU", tmp_path / "cpuinfo")
    resources._memory_of_cards.cache_clear()
    resources._has_bf16.cache_clear()
    return tmp_path


def test_a_machine_without_cards_has_what_linux_has_to_spare(machine: Path) -> None:
    assert resources.memory() == 8 << 30


@pytest.mark.parametrize(("limit", "left"), [(f"{3 << 30}", 2 << 30), ("max", 8 << 30)])
def test_a_container_has_no_more_than_its_limit_leaves(machine: Path, limit: str, left: int) -> None:
    (machine / "cgroup").mkdir()
    (machine / "cgroup/memory.max").write_text(f"{limit}\n")
    (machine / "cgroup/memory.current").write_text(f"{1 << 30}\n")
    assert resources.memory() == left


def test_a_machine_with_cards_has_what_the_smallest_of_them_has(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        card = machine / "gpus" / str(number) / "information"
        card.parent.mkdir(parents=True)
        card.write_text("Model: \t\t NVIDIA T4\nIRQ:   \t\t 61\n")
    tool = machine / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\ncase "$1" in *compute_cap) echo 7.5;; *) echo 15360; echo 14000;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    assert resources.device() == "2 × NVIDIA T4"
    assert resources.memory() == 14000 << 20


def test_cards_that_tell_nothing_are_not_taken_for_the_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "gpus/0").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(machine))
    assert resources.memory() is None


@pytest.mark.parametrize(("visible", "places"), [(None, 4), ("0,2", 2), ("1,-1,2", 1)])
def test_a_worker_offers_the_cards_that_it_may_use(
    machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, places: int
) -> None:
    for number in range(4):
        (machine / "gpus" / str(number)).mkdir(parents=True)
        (machine / "gpus" / str(number) / "information").write_text("Model: NVIDIA H200\n")
    (machine / "nvidia-smi").write_text("#!/bin/sh\necho 9.0\n")
    (machine / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(machine), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.processes() == places
    assert resources.device() == f"{places} × NVIDIA H200, bf16"


def test_a_worker_without_cards_offers_its_cores_or_what_a_setting_says(
    machine: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    assert resources.processes() == len(os.sched_getaffinity(0))
    (machine / "cpuinfo").write_text("flags\t: fpu sse2 avx512_bf16\n")
    for cores, words in (({0}, "1 CPU core, bf16"), ({0, 1}, "2 CPU cores, bf16")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: cores)
        assert resources.device() == words
    settings.ENGINE_PROCESSES = 16
    assert resources.processes() == 16
