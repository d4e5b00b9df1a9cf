"""The supervisor of one engine process: what it starts, what it notices, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import F
from pytest_django import Settings

from annotate.models import Member, Project
from tests.faults.failpoints import Failpoints
from tests.faults.processes import engines, wait_until
from tests.training import machine
from training import engine_process, runner
from training.models import LostRace, ModelVersion, Run, Worker
from training.rlhf import failpoints
from training.services.machines import workers
from training.services.run_files import directories, metrics, summaries
from training.services.running import rounds, runs

pytestmark = pytest.mark.django_db(transaction=True)
Status = Run.Status


@pytest.fixture
def run(project: Project, annotator: Member, base: ModelVersion, settings: Settings) -> Run:
    """An SFT run that waits, supervised with quick heartbeats."""
    settings.RUN_HEARTBEAT_S = 0.1
    machine.write_demonstrations(annotator, 2)
    return rounds.open(project, opened_by=None).runs.get()


@pytest.fixture
def draining() -> Iterator[None]:
    engine_process.draining.set()
    yield
    engine_process.draining.clear()


def supervise(run: Run) -> Run:
    runner.supervise(run.pk, owner="gpu@test")
    return Run.objects.get(pk=run.pk)


def when_engine_runs(run: Run, action: object) -> threading.Thread:
    """Do something, on a connection of its own, as soon as the engine of `run` is there."""

    def wait() -> None:
        while not engines(run.directory):
            time.sleep(0.05)
        try:
            action(engines(run.directory)[0])
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_bad_input_fails_the_run_with_one_clear_sentence(run: Run) -> None:
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"patience": 3}))
    run = supervise(run)
    assert (run.status, run.exit_code, run.error) == (Status.FAILED, 77, "unknown field 'patience'")
    assert run.ending == {"kind": "config", "field": "patience", "sentence": "unknown field 'patience'"}
    run.round.refresh_from_db()
    assert run.round.error == "SFT: A setting of the run is not valid. (unknown field 'patience')"


def test_records_that_cannot_be_read_are_named_by_their_file(run: Run) -> None:
    records = run.directory / "data/demonstrations.jsonl"
    records.unlink()
    records.mkdir()
    run = supervise(run)
    assert (run.exit_code, run.ending["kind"], run.ending["numbers"]["file"]) == (77, "records", "demonstrations.jsonl")


def left_by(run: Run, program: str, settings: Settings, tmp_path: Path) -> Run:
    """The run after an engine that does nothing but `program`."""
    (tmp_path / "odd_engine.py").write_text(program)
    settings.BASE_DIR = tmp_path  # where the engine is started
    settings.ENGINE_MODULE = "odd_engine"
    return supervise(run)


@pytest.mark.parametrize(
    ("program", "kind", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed", "The engine was killed by SIGKILL."),
        ("import os; os.abort()", "killed_by_fault", "The engine was killed by SIGABRT."),
        ("raise SystemExit(3)", "unknown", "The engine crashed with exit status 3."),
    ],
)
def test_the_end_of_an_engine_that_says_nothing_is_written_by_its_supervisor(
    run: Run, settings: Settings, tmp_path: Path, program: str, kind: str, error: str
) -> None:
    run = left_by(run, program, settings, tmp_path)
    assert (run.status, run.ending["kind"], run.error) == (Status.QUEUED, kind, error)


def test_an_engine_that_could_not_write_down_why_is_believed_its_exit_status(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    run = left_by(run, "print('the disk is full'); raise SystemExit(78)", settings, tmp_path)
    assert (run.status, run.ending, run.error) == (Status.HELD, {"kind": "disk"}, "the disk is full")


def test_what_a_crash_says_is_stored_whatever_it_holds(run: Run, settings: Settings, tmp_path: Path) -> None:
    program = (
        "import json, os, pathlib, sys\n"
        "ending = {'kind': 'crash', 'numbers': {'loss': float('nan')}, 'sentence': 'KeyError: \\0'}\n"
        "folder = next(pathlib.Path(sys.argv[2]).glob('attempts/*'))\n"
        "(folder / 'ending.json').write_text(json.dumps(ending))\n"
        "raise SystemExit(1)\n"
    )
    run = left_by(run, program, settings, tmp_path)
    assert run.error == "The engine crashed with exit status 1: KeyError: \N{REPLACEMENT CHARACTER}"
    assert run.ending["numbers"] == {"loss": None}


def test_a_cancellation_reaches_a_running_engine(run: Run) -> None:
    thread = when_engine_runs(run, lambda _pid: runs.cancel(run))
    started = time.monotonic()
    stopped = supervise(run)
    thread.join()
    assert time.monotonic() - started < 15 + 10  # 10: the test machine may be slow to start a process
    assert stopped.status == Status.CANCELLED
    assert not engines(run.directory)


def test_an_engine_whose_run_went_to_another_worker_is_stopped(run: Run) -> None:
    def take_over(_pid: int) -> None:
        Run.objects.filter(pk=run.pk).update(fence=F("fence") + 1, owner="gpu@other")

    thread = when_engine_runs(run, take_over)
    left = supervise(run)
    thread.join()
    assert (left.status, left.owner) == (Status.RUNNING, "gpu@other")
    assert not engines(run.directory)


def test_an_engine_without_progress_is_killed_and_tried_again(run: Run, settings: Settings) -> None:
    settings.RUN_STALL_S = 0.2
    engine_process.draining.clear()
    claimed = runs.claim(run.pk, owner="gpu@test")
    assert claimed is not None
    ending = runner.Engine(claimed).supervise()
    said = "The engine made no progress for 0 minutes."
    assert ending == runs.Ending(-signal.SIGUSR1, said, {"kind": "stall"})  # it was starting up
    runs.finish(claimed, ending)
    assert Run.objects.get(pk=run.pk).status == Status.QUEUED


def test_the_engine_is_told_no_secret_and_lets_others_go_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    def look(pid: int) -> None:
        seen["environment"] = Path(f"/proc/{pid}/environ").read_text()
        seen["oom_score"] = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
        seen["niceness"] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16]
        runs.cancel(run)

    monkeypatch.setenv("SECRET_KEY", "s" * 50)
    thread = when_engine_runs(run, look)
    supervise(run)
    thread.join()
    assert not [name for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO") if name in seen["environment"]]
    assert int(seen["niceness"]) >= engine_process.NICENESS
    assert seen["oom_score"] == engine_process.OUT_OF_MEMORY_SCORE


@pytest.mark.parametrize("own", ["", "glibc.malloc.arena_max=2"])
def test_an_engine_gets_huge_pages_unless_the_operator_has_settings_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    with engine_process.started(["--help"], log=tmp_path / "log") as engine:
        variables = Path(f"/proc/{engine.pid}/environ").read_text().split("\0")
    assert f"GLIBC_TUNABLES={own or 'glibc.malloc.hugetlb=1'}" in variables


def test_a_draining_worker_takes_nothing(run: Run, draining: None) -> None:
    assert supervise(run).status == Status.QUEUED


def test_the_worker_is_busy_while_it_supervises(run: Run) -> None:
    workers.beat("gpu@test", queue="gpu", host="here", device="2 CPU cores", pid=1)
    seen: list[int] = []

    def look(_pid: int) -> None:
        seen.extend(Worker.objects.values_list("run", flat=True))
        runs.cancel(run)

    thread = when_engine_runs(run, look)
    supervise(run)
    thread.join()
    assert seen == [run.pk]
    assert Worker.objects.get().run is None


def test_metrics_are_read_on_from_where_the_last_reading_ended(data_dir: Path) -> None:
    attempt = directories.attempt(data_dir, 1)
    attempt.mkdir(parents=True)
    file = attempt / "metrics.jsonl"
    file.write_text('{"step": 1, "total": 2, "time": 0, "metrics": {"sft/loss": 3.0}}\n{"step": 2, "to')
    first = metrics.read(attempt)
    assert [row.step for row in first.rows] == [1]
    with file.open("a") as out:
        out.write('tal": 2, "time": 0, "metrics": {"sft/loss": 2.0, "value/explained_variance": NaN}}\n')
    assert [row.step for row in metrics.read(attempt, since=first.end).rows] == [2]
    assert summaries.summarise(metrics.read(attempt).rows) == {"sft/loss": 2.0}


def test_what_single_batches_measured_is_remembered_by_the_mean_of_the_last_ones(data_dir: Path) -> None:
    attempt = directories.attempt(data_dir, 1)
    attempt.mkdir(parents=True)
    lines = [
        {"step": step, "total": 20, "time": 0, "metrics": {"reward/accuracy": step / 20, "skipped_steps": step}}
        for step in range(1, 21)
    ]
    (attempt / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert summaries.summarise(metrics.read(attempt).rows) == {
        "reward/accuracy": pytest.approx(0.975),
        "skipped_steps": 20,
    }


def metrics_line(step: int, loss: float = 1.0) -> str:
    return json.dumps({"step": step, "total": 9, "time": 0.0, "metrics": {"sft/loss": loss}}) + "\n"


@pytest.mark.parametrize("steps", [[1], [1, 2, 3, 4]], ids=["shorter", "longer"])
def test_metrics_that_were_written_anew_are_read_from_their_beginning(data_dir: Path, steps: list[int]) -> None:
    attempt = directories.attempt(data_dir, 1)
    attempt.mkdir(parents=True)
    file, cut = attempt / "metrics.jsonl", attempt / "metrics.cut"
    file.write_text("".join(map(metrics_line, [1, 2, 3])))
    first = metrics.read(attempt)
    cut.write_text("".join(metrics_line(step, loss=0.123456789) for step in steps))
    cut.replace(file)
    again = metrics.read(attempt, since=first.end)
    assert [row.step for row in again.rows] == steps
    assert metrics.read(attempt, since=again.end).rows == []


def test_a_torn_line_among_the_metrics_is_passed_over(data_dir: Path) -> None:
    attempt = directories.attempt(data_dir, 1)
    attempt.mkdir(parents=True)
    torn = ['{"step": 2, "to', "[]", '{"step": 2}', '{"step": 2, "total": 9, "metrics": {"sft/loss": "x"}}']
    text = metrics_line(1) + "".join(f"{line}\n" for line in torn) + metrics_line(3)
    (attempt / "metrics.jsonl").write_text(text)
    assert [row.step for row in metrics.read(attempt).rows] == [1, 3]


def test_progress_goes_on_after_an_engine_has_gone_back_to_a_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, str(tmp_path / "failpoints"))
    points = Failpoints(tmp_path / "failpoints")
    armed = points.arm("sealed-begins", "pause", "step-000001")  # step 1 of 2 is in its metrics, and not saved yet
    claimed = runs.claim(run.pk, owner="gpu@test")
    assert claimed is not None

    def go_back(_pid: int) -> None:
        points.wait_for_pause(armed)
        wait_until(lambda: Run.objects.get(pk=run.pk).step == 1, within=60)
        file = directories.attempt(run.directory, claimed.fence) / "metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.with_suffix(".cut").write_text(lines[0])
        file.with_suffix(".cut").replace(file)
        points.resume(armed)

    thread = when_engine_runs(run, go_back)
    ending = runner.Engine(claimed).supervise()
    thread.join()
    assert ending.exit_code == 0
    assert (claimed.step, claimed.total) == (2, 2)


def test_a_supervisor_that_wakes_up_late_leaves_the_directory_to_the_next_attempt(run: Run) -> None:
    """Frozen between its claim and its first write, it finds that another one has begun."""
    claimed = runs.claim(run.pk, owner="gpu@frozen")
    assert claimed is not None
    directories.write_fence(run.directory, claimed.fence + 1)
    draft = directories.attempt(run.directory, claimed.fence + 1) / "checkpoints" / ".step-000001.draft"
    draft.mkdir(parents=True)
    with pytest.raises(LostRace):
        runner.Engine(claimed).supervise()
    assert (run.directory / "fence").read_text() == str(claimed.fence + 1)
    assert draft.exists()
