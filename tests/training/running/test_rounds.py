"""A round from its opening to its end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connection

from annotate.models import AuditEvent, Member, Project, Prompt, Split, WorkItem
from tests.training import machine
from training import stages
from training.models import IllegalMove, ModelVersion, Round, Run, Sample, TrainingSettings
from training.rlhf import exits
from training.services.labels import slates
from training.services.running import rounds, runs
from training.services.running.rounds import NotReady, RoundRunning
from training.services.running.runs import Ending
from training.stages import Stage, watcher

Status = Round.Status


@pytest.fixture
def round(project: Project, annotator: Member, base: ModelVersion) -> Round:
    """A round on two demonstrations, whose first run waits."""
    machine.write_demonstrations(annotator, 2)
    return rounds.open(project, opened_by=None)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.database
def test_a_round_of_every_stage_with_the_real_engine_ends_in_a_policy_and_its_answers(
    project: Project, annotator: Member, base: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "WATCHER_MINIMUM", 10)
    Project.objects.update(heldout_share=0.5)
    annotator.refresh_from_db()
    machine.write_demonstrations(annotator, 4)
    machine.rank_new_slates(annotator, 60)  # so many that all three sides have enough, whatever their texts
    round = rounds.open(annotator.project, opened_by=None)
    machine.work_off()
    round.refresh_from_db()
    assert (round.status, round.error) == (Status.SUCCEEDED, "")
    assert list(round.runs.order_by("pk").values_list("stage", flat=True)) == machine.ROUND_STAGES
    assert {model.name for model in ModelVersion.objects.all()} == {"base-1", "sft-1", "reward-1", "watcher-1", "ppo-1"}
    ppo = ModelVersion.objects.get(kind="ppo")
    assert (ppo.parent.name, ppo.reference.name, ppo.reward.name) == ("sft-1", "sft-1", "reward-1")
    assert (ppo.watcher.name, ppo.watcher.parent.name) == ("watcher-1", "sft-1")
    assert ppo.watcher.run.metrics["data/used"] == round.snapshot.counts["watcher_rankings"]
    assert {"rollout/kl", "gauge/watcher", "heldout/kl"} <= set(ppo.metrics)
    samples = Sample.objects.filter(run__round=round)
    assert {sample.model_version.name for sample in samples} == {"ppo-1", "sft-1"}
    assert all(sample.reward is not None for sample in samples)
    newest = WorkItem.objects.filter(kind="ranking", status=WorkItem.Status.OPEN, priority=-1)
    assert newest.count() == samples.values("completion__slate").distinct().count() > 0


@pytest.mark.django_db
def test_a_round_opens_with_its_plan_its_snapshot_and_its_first_run(round: Round) -> None:
    assert (round.status, round.number) == (Status.RUNNING, 1)
    assert round.snapshot is not None
    run = round.runs.get()
    assert (run.stage, run.status) == (Stage.SFT, Run.Status.QUEUED)
    config = json.loads((run.directory / "config.json").read_text())
    assert config["parents"]["base"]["manifest_sha256"] == ModelVersion.objects.get().manifest_sha256
    assert config["seed"] == 1
    frozen = round.snapshot.directory / "demonstrations.jsonl"
    assert (run.directory / "data" / "demonstrations.jsonl").read_bytes() == frozen.read_bytes()


@pytest.mark.django_db
def test_no_stage_that_trains_is_given_what_is_held_out() -> None:
    for stage in stages.DEFINITIONS:
        assert stage.name == Stage.EVALUATION or not [name for name in stage.data if "heldout" in name]


@pytest.mark.django_db
def test_a_second_round_waits_for_the_first(project: Project, round: Round) -> None:
    with pytest.raises(RoundRunning) as refusal:
        rounds.open(project, opened_by=None)
    assert refusal.value.round == round


@pytest.mark.django_db
def test_a_round_that_is_not_ready_says_what_is_missing(project: Project, base: ModelVersion) -> None:
    with pytest.raises(NotReady, match="2 more answers before round 1 can train"):
        rounds.open(project, opened_by=None)
    assert not Round.objects.exists()


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_press_at_once_one_starts_the_round(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 2)
    start = Barrier(8)

    def press() -> Round:
        start.wait()
        try:
            return rounds.open(project, opened_by=None)
        except RoundRunning as refusal:
            return refusal.round
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as admins:
        seen = [future.result() for future in [admins.submit(press) for _ in range(8)]]
    assert {round.pk for round in seen} == {Round.objects.get().pk}
    assert Run.objects.count() == 1


@pytest.mark.django_db
def test_advancing_a_round_again_changes_nothing(round: Round) -> None:
    for _ in range(3):
        rounds.advance(round)
    assert round.runs.count() == 1


@pytest.mark.django_db
def test_a_round_fails_with_its_run_and_says_why(round: Round) -> None:
    run = runs.claim(round.runs.get().pk, owner="gpu@one")
    assert run is not None
    facts = {"kind": "nothing_to_learn", "sentence": "no usable demonstrations"}
    runs.finish(run, Ending(exits.InvalidInput.code, "no usable demonstrations", facts))
    rounds.advance(round)
    round.refresh_from_db()
    assert (round.status, round.error) == (
        Status.FAILED,
        "SFT: There was nothing to train on. (no usable demonstrations)",
    )
    assert AuditEvent.objects.filter(action="round.failed").exists()


@pytest.mark.django_db
def test_cancelling_a_round_ends_it_and_its_runs(project: Project, admin: Member, round: Round) -> None:
    rounds.cancel(round, actor=admin.user)
    assert round.status == Status.CANCELLED
    assert round.runs.get().status == Run.Status.CANCELLED
    with pytest.raises(IllegalMove):
        rounds.cancel(round, actor=admin.user)
    rounds.advance(round)
    assert Round.objects.get().status == Status.CANCELLED


@pytest.mark.django_db
def test_a_cancelled_round_makes_room_for_the_next(project: Project, admin: Member, round: Round) -> None:
    rounds.cancel(round, actor=admin.user)
    assert rounds.open(project, opened_by=admin.user).number == 2


@pytest.mark.django_db
def test_an_override_made_during_a_round_that_the_engine_does_not_know_fails_it_with_its_name(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 2)
    round = rounds.open(project, opened_by=None)
    run = runs.claim(round.runs.get().pk, owner="gpu@test")
    assert run is not None
    run.move_to(Run.Status.SUCCEEDED)
    machine.make_model(project, "sft", run=run)
    TrainingSettings.objects.update(overrides={"sampling": {"patience": 3}})
    rounds.advance(round)
    round.refresh_from_db()
    assert (round.status, round.error) == (Status.FAILED, "sampling: unknown field 'patience'")


@pytest.mark.django_db
def test_prompts_with_the_fewest_slates_are_answered_first(project: Project, annotator: Member, data_dir: Path) -> None:
    machine.rank_new_slates(annotator, 3)
    fresh = machine.make_prompts(project, 2)
    assert set(slates.choose_prompts(project, train=2, heldout=0, seed=1)) == set(fresh)
    orders = {tuple(slates.choose_prompts(project, train=5, heldout=0, seed=seed)) for seed in range(8)}
    assert len(orders) > 1


@pytest.mark.django_db
def test_held_out_prompts_stand_evenly_among_the_others(project: Project, annotator: Member) -> None:
    for prompt in machine.make_prompts(project, 12)[:3]:
        Prompt.objects.filter(pk=prompt.pk).update(split=Split.HELDOUT)
    Prompt.objects.exclude(split=Split.HELDOUT).update(split=Split.TRAIN)
    chosen = slates.choose_prompts(project, train=9, heldout=3, seed=1)
    assert [place for place, prompt in enumerate(chosen) if prompt.split == Split.HELDOUT] == [2, 6, 10]
