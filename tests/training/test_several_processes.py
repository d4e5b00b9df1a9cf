"""The supervisor of an engine of several processes: it starts their launcher, and they say how the run ended."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.template.loader import render_to_string
from django.utils import timezone
from pytest_django import Settings

from annotate.models import Member, Project
from config.celery import app
from tests.training import machine
from training import engine_process, heartbeat, runner
from training.models import ModelVersion, Run, TrainingSettings, Worker
from training.rlhf.run import rank_notes
from training.rlhf.run.rank_notes import RankNote
from training.services.machines import workers
from training.services.office.doctor import jobs
from training.services.pages import schedule
from training.services.planning import plans, preflight
from training.services.run_files import directories
from training.services.run_files.reader import RunFiles
from training.services.running import failures, rounds, runs

pytestmark = pytest.mark.django_db(transaction=True)
Status = Run.Status

# What a process of the engine does at its end, without the engine.
PROGRAM = """
import os, pathlib, signal, sys, time
from training.rlhf import endings
from training.rlhf.run import rank_notes

attempt = next(pathlib.Path(sys.argv[2]).glob("attempts/*"))
rank = int(os.environ["RANK"])
rank_notes.write(attempt, rank, 2 + rank)
{end}
"""
REFUSED = """
if rank == 0:
    time.sleep(60)
endings.write(attempt, {"kind": "config", "sentence": "No.", "exit_code": 77})
raise SystemExit(77)
"""
KILLED = "rank and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"


@pytest.fixture
def run(project: Project, annotator: Member, base: ModelVersion, settings: Settings) -> Run:
    """An SFT run that waits and wants two processes."""
    settings.RUN_HEARTBEAT_S = 0.1
    machine.write_demonstrations(annotator, 2)
    run = rounds.open(project, opened_by=None).runs.get()
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"processes": 2}))
    return run


def left_by(run: Run, end: str, settings: Settings, tmp_path: Path) -> Run:
    """The run after two processes that end so."""
    (tmp_path / "odd_engine.py").write_text(PROGRAM.format(end=end))
    (tmp_path / "training").symlink_to(settings.BASE_DIR / "training")
    settings.BASE_DIR = tmp_path
    settings.ENGINE_MODULE = "odd_engine"
    runner.supervise(run.pk, owner="gpu@test")
    return Run.objects.get(pk=run.pk)


def test_a_run_of_two_processes_is_seen_through(run: Run) -> None:
    runner.supervise(run.pk, owner="gpu@test")
    run = Run.objects.get(pk=run.pk)
    assert (run.status, run.error) == (Status.SUCCEEDED, "")
    assert RunFiles(run).origin["hardware"]["world_size"] == 2


def test_the_process_that_ended_first_says_how_the_run_ended(run: Run, settings: Settings, tmp_path: Path) -> None:
    run = left_by(run, REFUSED, settings, tmp_path)
    assert (run.status, run.exit_code, run.error) == (Status.FAILED, 77, "No.")


def test_a_run_of_which_one_process_was_killed_is_tried_again(run: Run, settings: Settings, tmp_path: Path) -> None:
    run = left_by(run, KILLED, settings, tmp_path)
    assert (run.status, run.exit_code, run.ending["kind"]) == (Status.QUEUED, -9, "killed")


def test_a_stall_names_the_process_that_the_others_wait_for(run: Run, settings: Settings) -> None:
    settings.RUN_STALL_S = 0.2
    folder = directories.attempt(run.directory, run.fence + 1) / rank_notes.FOLDER
    folder.mkdir(parents=True)
    for rank, collectives in enumerate((9, 8, 9)):
        note = RankNote(rank=rank, host=f"host-{rank}", pid=1, collectives=collectives, time=0.0)
        (folder / f"{rank}.json").write_text(json.dumps(note._asdict()))
    runner.supervise(run.pk, owner="gpu@test")
    run = Run.objects.get(pk=run.pk)
    assert run.ending == {"kind": "stall"}
    assert run.error.endswith(" Its other processes waited for number 1, on host-1.")


def test_the_launcher_is_a_setting(settings: Settings) -> None:
    settings.ENGINE_LAUNCHER = "srun --ntasks={processes} 'a script' --procs {processes}"
    assert engine_process.launcher(4) == ["srun", "--ntasks=4", "a script", "--procs", "4"]


@pytest.mark.parametrize(
    ("launcher", "why"),
    [
        ("{folder}/launch {processes}", "{folder}/launch: No such file or directory"),
        ("{folder}/text {processes}", "{folder}/text: Exec format error"),
        ("{folder} {processes}", "{folder}: Permission denied"),
        ("launch 'open", "launch 'open: No closing quotation"),
        ("", "ROUNDTABLE_ENGINE_LAUNCHER is empty"),
    ],
)
def test_a_launcher_that_cannot_be_run_ends_the_run_and_is_named(
    run: Run, settings: Settings, tmp_path: Path, launcher: str, why: str
) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    settings.ENGINE_LAUNCHER = launcher.replace("{folder}", str(tmp_path))
    runner.supervise(run.pk, owner="gpu@test")
    run = Run.objects.get(pk=run.pk)
    assert (run.status, run.ending["kind"]) == (Status.FAILED, "launcher")
    assert run.error == f"The processes could not be started: {why.replace('{folder}', str(tmp_path))}."
    assert "ROUNDTABLE_ENGINE_LAUNCHER" in str(failures.cause_of(run).advice)


def test_a_worker_leaves_a_run_that_wants_more_processes_than_it_has_room_for(run: Run, settings: Settings) -> None:
    settings.ENGINE_PROCESSES = 1
    assert runs.claim(run.pk, owner="gpu@small") is None
    settings.ENGINE_PROCESSES = 2
    claimed = runs.claim(run.pk, owner="gpu@large")
    assert claimed == run


def test_pages_and_the_doctor_say_which_worker_such_a_run_waits_for(run: Run, annotator: Member) -> None:
    job = next(job for job in schedule.forecast(annotator.user).jobs if job.run == run)
    said = render_to_string("training/components/wait.html", {"wait": job.wait, "processes": job.processes})
    assert said.strip() == "Waiting for a worker with 2 graphics cards or CPU cores."
    workers.beat("gpu@small", queue="gpu", host="here", device="1 CPU cores", pid=1)
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    assert [found.remedy.split(":")[0] for found in jobs.runs_that_wait()] == ["It wants 2 processes"]


def test_a_plan_says_before_the_start_that_no_worker_has_room_for_as_many(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 2)
    TrainingSettings.objects.filter(project=project).update(overrides={"sft": {"processes": 4}})

    def warnings() -> list[str]:
        found = preflight.check(project, plans.draft(project), preflight.gather(project))
        return [line.text for line in found.lines if "processes" in line.text]

    assert warnings() == []  # no worker at all is another line
    for name, processes in (("gpu@one", 1), ("gpu@two", 2)):
        workers.beat(name, queue="gpu", host="here", device="a card", pid=1, processes=processes)
    assert [said.split(":")[0] for said in warnings()] == [
        "SFT wants 4 processes, and no gpu-worker has more than 2 graphics cards or CPU cores"
    ]
    workers.beat("gpu@two", queue="gpu", host="here", device="a card", pid=1, processes=4)
    assert warnings() == []
    workers.beat("gpu@two", queue="gpu", host="here", device="a card", pid=1)  # of an earlier version: nobody knows
    assert warnings() == []


def test_a_worker_says_how_many_processes_work_there(settings: Settings) -> None:
    settings.ENGINE_PROCESSES = 3
    worker = SimpleNamespace(hostname="gpu@here", app=app)
    heartbeat.start(worker)
    try:
        patience = time.monotonic() + 20
        while not Worker.objects.filter(name="gpu@here").exists() and time.monotonic() < patience:
            time.sleep(0.05)
        assert Worker.objects.get(name="gpu@here").processes == 3
    finally:
        heartbeat.stop(worker)


@pytest.mark.parametrize(("wanted", "processes"), [({"processes": 4}, 4), ({}, 1), ({"processes": "many"}, 1)])
def test_a_run_wants_as_many_processes_as_its_config_says(run: Run, wanted: dict[str, object], processes: int) -> None:
    (run.directory / "config.json").write_text(json.dumps(wanted))
    assert RunFiles(run).processes == processes
