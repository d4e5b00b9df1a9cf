"""The engine that waits for the next run: it does what a new one does, and is not used once it is out of date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from pytest_django import Settings

from training import engine_process
from training.rlhf import memory
from training.rlhf.exits import InvalidInput


@pytest.fixture(autouse=True)
def keeps(settings: Settings) -> Iterator[None]:
    settings.KEEP_ENGINE_READY = True
    yield
    engine_process.ready.dismiss()


def refused(folder: Path, **environment: str) -> Popen[bytes]:
    """The engine that has been asked for a stage without a config."""
    with engine_process.started(
        ["sft", str(folder)], log=folder / "log", environment=environment, keeps_one_ready=True
    ) as process:
        assert process.wait(120) == InvalidInput.code
    return process


def waiting() -> Popen[bytes]:
    assert engine_process.ready._waiting
    return engine_process.ready._waiting[0]


def test_the_engine_that_waits_does_what_a_new_one_does(tmp_path: Path) -> None:
    refused(tmp_path)
    said_by_a_new_one = (tmp_path / "log").read_text()
    one_that_waits = waiting()
    assert refused(tmp_path) is one_that_waits
    assert (tmp_path / "log").read_text() == said_by_a_new_one * 2
    assert "config.json cannot be read" in said_by_a_new_one
    assert waiting().poll() is None
    assert waiting() is not one_that_waits


def test_another_environment_needs_a_new_engine(tmp_path: Path) -> None:
    refused(tmp_path)
    one_that_waits = waiting()
    assert refused(tmp_path, HF_HOME=str(tmp_path)) is not one_that_waits
    assert one_that_waits.poll() is not None


def test_other_code_needs_a_new_engine(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "training/rlhf").mkdir(parents=True)
    for path in (settings.BASE_DIR / "training").rglob("*.py"):
        target = tmp_path / path.relative_to(settings.BASE_DIR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    settings.BASE_DIR = tmp_path
    refused(tmp_path)
    one_that_waits = waiting()
    (tmp_path / "training/rlhf/__init__.py").unlink()
    (tmp_path / "training/rlhf/__init__.py").write_text("")
    assert refused(tmp_path) is not one_that_waits


def test_one_that_was_killed_is_replaced(tmp_path: Path) -> None:
    refused(tmp_path)
    waiting().kill()
    waiting().wait()
    refused(tmp_path)


def test_none_waits_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 3_000_000_000)
    refused(tmp_path)
    assert engine_process.ready._waiting is None


def test_a_run_goes_on_where_no_engine_can_be_kept_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(engine_process.ready, "prepare", fails)
    refused(tmp_path)
    assert "no engine waits for the next run: no more processes" in caplog.text
