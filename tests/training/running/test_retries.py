"""What can be done about a run that failed or is held; the round goes on from there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Member, Project
from tests.training import engine_files, machine
from training import runner, tasks
from training.models import ModelVersion, Round, Run
from training.presets import TINY
from training.services.planning import plans
from training.services.run_files import directories, environment, integrity, saved_steps
from training.services.run_files.reader import RunFiles
from training.services.running import retries, rounds, runs
from training.services.running.retries import AlreadyRetried, Refused

Status = Run.Status


@pytest.fixture
def round(project: Project, data_dir: Path) -> Round:
    """A round whose PPO run failed."""
    stage = plans.StagePlan(stage="ppo")
    plan = plans.Plan(number=1, obstacle="", stages=[stage]).to_json()
    return Round.objects.create(project=project, number=1, status=Round.Status.FAILED, plan=plan, error="PPO: no.")


@pytest.fixture
def failed(round: Round) -> Run:
    """It came to step 20, with checkpoints at 10 and 20, and samples of every tenth step."""
    run = engine_files.make_run(
        round.project, round=round, fence=2, status=Status.FAILED, exit_code=1, error="It crashed."
    )
    engine_files.write_metrics(run, engine_files.ppo_metrics(22), fence=2)
    for step in (10, 20):
        engine_files.write_checkpoint(run, step)
    for step in (10, 20, 22):
        engine_files.write_samples(run, step)
    environment.write(run, engine_files.attempt(run))
    return run


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def url(run: Run, name: str = "run") -> str:
    return reverse(f"training:{name}", args=[run.project.slug, run.pk])


def test_a_resumed_run_takes_over_the_newest_checkpoint_and_the_round_goes_on(
    failed: Run, round: Round, admin: Member
) -> None:
    new = retries.resume(failed, actor=admin.user)
    round.refresh_from_db()
    assert (round.status, round.error, round.finished_at) == (Round.Status.RUNNING, "", None)
    assert (new.status, new.round, new.snapshot, new.retry_of) == (Status.QUEUED, round, failed.snapshot, failed)
    found = saved_steps.furthest(saved_steps.find(new))
    assert found is not None
    assert (found.step, found.attempt.name) == (20, "0")
    assert (found.attempt / "metrics.jsonl").exists()
    assert sorted(path.name for path in found.attempt.glob("samples/*")) == ["step-000010.jsonl", "step-000020.jsonl"]
    assert RunFiles(new).config == RunFiles(failed).config
    assert AuditEvent.objects.get(action="run.resumed").detail == {"retry": new.pk, "step": 20}


def test_a_damaged_checkpoint_is_passed_over(failed: Run, admin: Member) -> None:
    (engine_files.attempt(failed) / "checkpoints" / "step-000020" / "state.json").write_text("{} ")
    assert [(saved.step, saved.is_whole) for saved in saved_steps.find(failed)] == [(20, False), (10, True)]
    assert AuditEvent.objects.filter(action="run.resumed").count() == 0
    found = saved_steps.furthest(saved_steps.find(retries.resume(failed, actor=admin.user)))
    assert found is not None
    assert found.step == 10


def test_checkpoints_too_large_to_read_while_a_page_waits_are_read_by_a_worker(
    page: Client, failed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "READ_AT_ONCE", 0)
    (engine_files.attempt(failed) / "checkpoints" / "step-000020" / "state.json").write_text("{} ")
    shown = page.get(url(failed)).content.decode()
    assert shown.count("being checked") == 2
    assert "Resume at step 20" in shown
    tasks.read_files(failed.pk)
    shown = page.get(url(failed)).content.decode()
    assert "being checked" not in shown
    assert "Resume at step 10" in shown


def test_running_again_starts_from_nothing_with_the_same_config(failed: Run, admin: Member) -> None:
    new = retries.repeat(failed, actor=admin.user)
    assert saved_steps.find(new) == []
    assert RunFiles(new).config == RunFiles(failed).config
    assert (new.directory / "data" / "prompts.jsonl").read_bytes() == (
        failed.directory / "data" / "prompts.jsonl"
    ).read_bytes()


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("versions", {"torch": "1.0.0"}, "torch was 1.0.0 and is"),
        ("config", {"threads": 9}, "threads in config.json was 9 and is now 2."),
        ("config", {"dtype": "bf16"}, "dtype in config.json was bf16 and is now auto."),
    ],
)
def test_a_resume_that_would_give_other_numbers_is_refused_and_says_what_changed(
    failed: Run, admin: Member, part: str, value: dict, sentence: str
) -> None:
    file = engine_files.attempt(failed) / directories.ENVIRONMENT
    said = json.loads(file.read_text())
    said[part] |= value
    file.write_text(json.dumps(said))
    with pytest.raises(Refused) as refused:
        retries.resume(failed, actor=admin.user)
    assert sentence in str(refused.value)
    assert retries.repeat(failed, actor=admin.user).status == Status.QUEUED


def test_a_parent_that_changed_forbids_every_retry(failed: Run, admin: Member) -> None:
    parent = ModelVersion.objects.get()
    (parent.directory / "weights.txt").write_text("other weights")
    for action in (retries.resume, retries.repeat):
        with pytest.raises(Refused, match=f"hash {parent.manifest_sha256[:8]}"):
            action(failed, actor=admin.user)
    assert Run.objects.count() == 1


def test_without_a_checkpoint_there_is_nothing_to_resume(round: Round, admin: Member) -> None:
    run = engine_files.make_run(round.project, round=round, status=Status.FAILED)
    with pytest.raises(Refused, match="no complete checkpoint"):
        retries.resume(run, actor=admin.user)


def test_an_older_round_is_not_taken_up_again(failed: Run, round: Round, admin: Member) -> None:
    Round.objects.create(project=round.project, number=2, status=Round.Status.SUCCEEDED, plan=round.plan)
    with pytest.raises(Refused, match="Round 2 has started since"):
        retries.repeat(failed, actor=admin.user)


def test_a_run_that_neither_failed_nor_is_held_is_not_retried(failed: Run, admin: Member) -> None:
    Run.objects.update(status=Status.SUCCEEDED)
    failed.refresh_from_db()
    with pytest.raises(Refused):
        retries.repeat(failed, actor=admin.user)


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_two_admins_who_press_at_once_make_one_retry(failed: Run, admin: Member) -> None:
    barrier = Barrier(2)

    def press(action) -> int:
        run = Run.objects.get(pk=failed.pk)
        barrier.wait()
        try:
            return action(run, actor=admin.user).pk
        except AlreadyRetried as known:
            return known.retry.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        pressed = list(pool.map(press, [retries.resume, retries.repeat]))
    assert pressed == [Run.objects.get(retry_of=failed).pk] * 2
    assert len(list(failed.directory.parent.iterdir())) == 2


def test_a_held_run_goes_on_where_it_stood(failed: Run, page: Client) -> None:
    Run.objects.update(status=Status.HELD, exit_code=78, error="the disk is full", ending={"kind": "disk"})
    Round.objects.update(status=Round.Status.RUNNING)
    shown = page.get(url(failed)).content.decode()
    assert "The disk was full." in shown
    assert "Continue" in shown
    page.post(url(failed, "run-release"))
    assert Run.objects.get().status == Status.QUEUED
    assert AuditEvent.objects.filter(action="run.released").count() == 1


def test_a_held_run_that_goes_on_already_gets_no_retry_beside_it(failed: Run, admin: Member) -> None:
    """The sweep lets it go on as soon as there is room, while somebody looks at the page."""
    Run.objects.update(status=Status.HELD, round=None)
    seen = Run.objects.get()
    runs.release(Run.objects.get())
    with pytest.raises(Refused, match="has not failed"):
        retries.repeat(seen, actor=admin.user)
    assert list(Run.objects.values_list("status", flat=True)) == [Status.QUEUED]


def test_a_run_of_a_cancelled_round_gets_no_retry(failed: Run, round: Round, admin: Member) -> None:
    Round.objects.update(status=Round.Status.CANCELLED)
    with pytest.raises(Refused, match="The round was cancelled"):
        retries.repeat(failed, actor=admin.user)


def test_giving_a_held_run_up_ends_its_round(failed: Run, round: Round, page: Client) -> None:
    Run.objects.update(status=Status.HELD)
    Round.objects.update(status=Round.Status.RUNNING)
    page.post(url(failed, "run-close"))
    round.refresh_from_db()
    assert (Run.objects.get().status, round.status) == (Status.CANCELLED, Round.Status.CANCELLED)


def test_a_held_run_that_is_run_again_makes_room_for_its_retry(failed: Run, round: Round, page: Client) -> None:
    Run.objects.update(status=Status.HELD)
    Round.objects.update(status=Round.Status.RUNNING)
    page.post(url(failed, "run-repeat"))
    assert [run.status for run in Run.objects.order_by("pk")] == [Status.CANCELLED, Status.QUEUED]
    round.refresh_from_db()
    assert round.status == Round.Status.RUNNING


def test_the_failure_card_says_why_what_was_saved_and_what_can_be_done(failed: Run, page: Client) -> None:
    (engine_files.attempt(failed) / "engine.log").write_text("\n".join(f"line {n}" for n in range(60)))
    shown = page.get(url(failed)).content.decode()
    assert "The engine ended unexpectedly." in shown
    assert "Resume at step 20" in shown
    assert ("line 20\n" in shown, "line 19\n" in shown) == (True, False)
    assert shown.count("verified") == 2


def test_a_retried_run_points_to_its_retry_and_offers_nothing_more(failed: Run, page: Client) -> None:
    answer = page.post(url(failed, "run-resume"))
    new = Run.objects.get(retry_of=failed)
    assert answer.url == url(new)
    assert page.post(url(failed, "run-repeat")).url == url(new)
    shown = page.get(url(failed)).content.decode()
    assert f"Run {new.pk} has replaced it." in shown
    assert "Resume at step" not in shown


def test_a_copy_is_edited_and_its_errors_stand_at_their_fields(failed: Run, page: Client) -> None:
    form = page.get(url(failed, "run-change")).context["form"]
    filled = {name: field.initial for name, field in form.fields.items()}
    wrong = page.post(url(failed, "run-change"), filled | {"clip": "-1", "minibatch_size": "32"})
    assert wrong.status_code == 422
    assert list(wrong.context["form"].errors) == ["clip"]
    odd = page.post(url(failed, "run-change"), filled | {"minibatch_size": "7"})
    assert "multiple of minibatch_size" in odd.content.decode()
    page.post(url(failed, "run-change"), filled | {"learning_rate": "1e-5"})
    new = Run.objects.get(retry_of=failed)
    assert RunFiles(new).config == RunFiles(failed).config | {"learning_rate": 1e-5}
    assert AuditEvent.objects.get(action="run.changed").detail["fields"] == {
        "learning_rate": [TINY.values["ppo"]["learning_rate"], 1e-5]
    }


def test_a_retry_fails_and_is_retried_in_its_turn(failed: Run, round: Round, admin: Member) -> None:
    second = retries.resume(failed, actor=admin.user)
    Run.objects.filter(pk=second.pk).update(status=Status.FAILED, finished_at=Now())
    Round.objects.update(status=Round.Status.FAILED)
    second.refresh_from_db()
    third = retries.resume(second, actor=admin.user)
    assert third.retry_of == second
    found = saved_steps.furthest(saved_steps.find(third))
    assert found is not None
    assert found.step == 20


@pytest.mark.slow
def test_the_real_engine_goes_on_from_the_checkpoint_and_ends_with_the_same_weights(
    project: Project, annotator: Member, admin: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 6)
    round = rounds.open(project, opened_by=None)
    run = runs.claim(round.runs.get().pk, owner="gpu@test")
    assert run is not None
    directories.write_fence(run.directory, run.fence)
    engine_files.attempt(run)
    environment.write(run, engine_files.attempt(run))
    subprocess.run([sys.executable, "-m", "training.rlhf", "sft", str(run.directory)], check=True)
    weights = (engine_files.attempt(run) / "output" / "model.safetensors").read_bytes()
    steps = [row.step for row in RunFiles(run).history]
    # As if it had been killed after its last step but one, for the third time.
    shutil.rmtree(engine_files.attempt(run) / "output")
    shutil.rmtree(saved_steps.find(run)[0].path)
    run.move_to(Status.FAILED, exit_code=-9, error="The engine was killed by SIGKILL.")
    rounds.advance(round)

    new = retries.resume(run, actor=admin.user)
    runner.supervise(new.pk, owner="gpu@test")
    new.refresh_from_db()
    assert new.status == Status.SUCCEEDED
    assert json.loads((engine_files.attempt(new) / directories.ENVIRONMENT).read_text())["versions"]["torch"]
    assert [row.step for row in RunFiles(new).history] == steps
    assert (new.model_version.directory / "model.safetensors").read_bytes() == weights
    round.refresh_from_db()
    assert round.status == Round.Status.RUNNING
    assert round.runs.exclude(stage="sft").get().status == Status.QUEUED
