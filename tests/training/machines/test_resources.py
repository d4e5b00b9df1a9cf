"""What a worker says of the memory that an engine finds on its machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.rlhf import memory
from training.services.machines import resources


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without cards, with 8 GiB to spare."""
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n")
    monkeypatch.setattr(resources, "CARDS", tmp_path / "gpus")
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "cgroup")
    resources._memory_of_cards.cache_clear()
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
    tool.write_text("#!/bin/sh\necho 15360\necho 14000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    assert resources.device() == "2 × NVIDIA T4"
    assert resources.memory() == 14000 << 20


def test_cards_that_tell_nothing_are_not_taken_for_the_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "gpus/0").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(machine))
    assert resources.memory() is None
