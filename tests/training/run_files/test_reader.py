"""The reader of a run's files, and which runs count as lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from annotate.models import Project
from tests.training import engine_files
from training.models import SILENT_AFTER, Run
from training.services.run_files import directories
from training.services.run_files.reader import RunFiles

pytestmark = pytest.mark.usefixtures("data_dir")


def test_a_file_is_read_once_however_often_a_page_asks(project: Project) -> None:
    run = engine_files.make_run(project, fence=1)
    engine_files.write_metrics(run, engine_files.ppo_metrics(3))
    files = RunFiles(run)
    before = (files.config, files.history, files.newest_rows)
    (run.directory / "config.json").unlink()
    (engine_files.attempt(run) / "metrics.jsonl").unlink()
    assert (files.config, files.history, files.newest_rows) == before
    assert (RunFiles(run).config, RunFiles(run).history) == ({}, [])


def test_attempts_follow_each_other_by_number(project: Project) -> None:
    run = engine_files.make_run(project, fence=10)
    for fence in (10, 9):
        engine_files.write_checkpoint(run, fence, fence=fence)
    assert [path.name for path in directories.attempts(run.directory)] == ["9", "10"]
    assert [path.name for path in RunFiles(run).checkpoints] == ["step-000009", "step-000010"]
    assert directories.has_new_checkpoint(run.directory, 10)
    assert not directories.has_new_checkpoint(run.directory, 9)


def test_a_run_without_a_directory_has_no_files(project: Project, data_dir: Path) -> None:
    run = Run.objects.create(project=project, stage="ppo", status=Run.Status.RUNNING)
    files = RunFiles(run)
    assert (files.config, files.history, files.newest_rows, files.checkpoints, files.samples) == ({}, [], [], [], {})
    assert (files.phase, files.log_tail, files.recoveries, files.pace) == ("", "", [], None)


def test_a_running_run_without_a_recent_heartbeat_is_lost(project: Project) -> None:
    long_ago, now = timezone.now() - SILENT_AFTER - timedelta(seconds=5), timezone.now()
    for status, heartbeat_at in (("running", now), ("queued", long_ago), ("running", long_ago), ("running", None)):
        Run.objects.create(project=project, stage="ppo", status=status, heartbeat_at=heartbeat_at)
    assert list(Run.objects.lost().order_by("pk")) == list(Run.objects.order_by("pk")[2:])
