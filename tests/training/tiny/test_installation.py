"""A throw-away installation is a real one, and nothing of it stays."""

import os
from pathlib import Path

import pytest

from training.tiny.demo import PROJECT, Demo
from training.tiny.installation import Installation

pytestmark = pytest.mark.slow


def test_the_demo_starts_a_real_installation_and_leaves_nothing_behind():
    with Installation() as place:
        demo = Demo(place, seed=7, people=2, shuffle=0.0, say=print)
        demo.prepare()
        assert demo.admin.get(f"projects/{PROJECT}/")["slug"] == PROJECT
        assert len(demo.team) == 2
        assert [one.work("demonstration") for one in demo.team] == [True, True]
        assert processes(place)
    assert not place.data_dir.exists()
    assert not processes(place)


def processes(place: Installation) -> list[str]:
    """The command lines of processes whose environment names the installation's data directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(place.data_dir).encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found
