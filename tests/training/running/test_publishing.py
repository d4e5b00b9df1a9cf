"""What a finished attempt wrote becomes the run's result, all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_django import Settings

from annotate.models import AuditEvent, Member, Project, Slate, WorkItem
from annotate.services.slates import NewCompletion
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run, Sample, SentSample
from training.rlhf import exits
from training.rlhf.run.manifest import manifest_sha256
from training.services.labels import sent_samples
from training.services.planning import plans
from training.services.planning.plans import Plan, PlannedParent, StagePlan
from training.services.registry import model_versions
from training.services.run_files import directories
from training.services.running import runs
from training.services.running.runs import Ending
from training.stages import Stage

pytestmark = [pytest.mark.django_db, pytest.mark.database]

DONE = Ending(exits.DONE, "")


def make_round(project: Project, stage: str, **parents: ModelVersion) -> Round:
    """A running round whose plan has one stage, on models that exist."""
    planned = {role: PlannedParent(name=model.name, model_version=model.pk) for role, model in parents.items()}
    number = project.rounds.count() + 1
    plan = Plan(number=number, obstacle="", stages=[StagePlan(stage=stage, parents=planned)])
    Round.objects.active().update(status=Round.Status.SUCCEEDED)
    return Round.objects.create(
        project=project,
        number=number,
        plan=plan.to_json(),
        status=Round.Status.RUNNING,
        snapshot=machine.make_snapshot(project),
    )


def claim_run(round: Round, stage: str) -> Run:
    run = machine.queue_run(round.project, stage, round=round, snapshot=round.snapshot)
    claimed = runs.claim(run.pk, owner="gpu@one")
    assert claimed is not None
    return claimed


@pytest.fixture
def sft(project: Project) -> ModelVersion:
    return machine.make_model(project, "sft")


@pytest.fixture
def ppo_run(project: Project, sft: ModelVersion, data_dir: Path) -> Run:
    reward = machine.make_model(project, "reward", parent=sft)
    return claim_run(make_round(project, Stage.PPO, policy=sft, reference=sft, reward=reward), Stage.PPO)


def test_a_model_is_published_with_everything_that_made_it(ppo_run: Run, sft: ModelVersion) -> None:
    machine.write_output(ppo_run, {"model.safetensors": "weights"})
    attempt = directories.attempt(ppo_run.directory, ppo_run.fence)
    lines = [{"step": step, "total": 2, "time": 0, "metrics": {"rollout/kl": step / 2}} for step in (1, 2)]
    (attempt / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs.finish(ppo_run, DONE)
    model = ModelVersion.objects.get(kind="ppo")
    assert (model.name, model.parent, model.reference, model.reward.kind) == ("ppo-1", sft, sft, "reward")
    assert (model.run, model.attempt, model.snapshot) == (ppo_run, ppo_run.fence, ppo_run.snapshot)
    assert model.metrics == Run.objects.get(pk=ppo_run.pk).metrics == {"rollout/kl": 1.0}
    assert model.manifest_sha256 == manifest_sha256(model.directory)
    assert (model.directory / "model.safetensors").read_text() == "weights"


def write_watched_output(run: Run, steps: int) -> None:
    """What a PPO leaves whose judge liked step 10 best."""
    machine.write_output(run, {"model.safetensors": "weights"})
    (run.directory / "config.json").write_text('{"early_stopping": "on"}')
    engine_files.write_metrics(run, engine_files.watched_metrics(steps))


def test_the_audit_has_the_judges_decision_with_its_scores(ppo_run: Run) -> None:
    write_watched_output(ppo_run, 20)
    runs.finish(ppo_run, DONE)
    judged = AuditEvent.objects.get(action="run.judged")
    assert judged.detail == {
        "stopped_at": 20,
        "total": 40,
        "published": 10,
        "score": 0.4,
        "last_step": 20,
        "last_score": 0.2,
    }


def test_a_model_keeps_what_the_judge_measured_of_it_and_its_run_the_last_measurement(ppo_run: Run) -> None:
    write_watched_output(ppo_run, 20)
    runs.finish(ppo_run, DONE)
    of_run, of_model = Run.objects.get(pk=ppo_run.pk).metrics, ModelVersion.objects.get(kind="ppo").metrics
    assert [one["gauge/watcher"] for one in (of_run, of_model)] == pytest.approx([0.2, 0.4])
    measured = {name for name in of_run if name.startswith("gauge/")}
    assert {name: of_run[name] for name in of_run.keys() - measured} == {
        name: of_model[name] for name in of_model.keys() - measured
    }


def test_the_audit_has_no_decision_on_a_ppo_whose_last_policy_was_the_best(ppo_run: Run) -> None:
    write_watched_output(ppo_run, 10)
    runs.finish(ppo_run, DONE)
    assert not AuditEvent.objects.filter(action="run.judged").exists()


def test_a_finished_pretraining_is_the_base_model(project: Project, data_dir: Path) -> None:
    run = runs.claim(machine.queue_run(project, Stage.PRETRAINING).pk, owner="gpu@one")
    assert run is not None
    machine.write_output(run, {"model.safetensors": "weights"})
    runs.finish(run, DONE)
    base = ModelVersion.objects.get()
    assert (base.name, base.parent, base.snapshot, base.run) == ("base-1", None, None, run)


def test_checkpoints_go_when_a_run_succeeds(ppo_run: Run) -> None:
    engine_files.write_checkpoint(ppo_run, 4)
    machine.write_output(ppo_run, {"model.safetensors": "weights"})
    runs.finish(ppo_run, DONE)
    assert not list(ppo_run.directory.glob("attempts/*/checkpoints"))


@pytest.mark.parametrize("damage", ["nothing written", "a byte changed"])
def test_a_damaged_output_is_not_published_and_the_run_tries_again(ppo_run: Run, damage: str) -> None:
    if damage == "a byte changed":
        machine.write_output(ppo_run, {"model.safetensors": "weights"})
        (directories.attempt(ppo_run.directory, 1) / "output" / "model.safetensors").write_text("Weights")
    runs.finish(ppo_run, DONE)
    stored = Run.objects.get(pk=ppo_run.pk)
    assert (stored.status, stored.error) == (Run.Status.QUEUED, "the output of attempt 1 is missing or damaged")
    assert not ModelVersion.objects.filter(kind="ppo").exists()


def test_the_lease_is_renewed_while_a_large_model_is_read(ppo_run: Run, settings: Settings) -> None:
    settings.RUN_HEARTBEAT_S = 0.0
    machine.write_output(ppo_run, {"model.safetensors": "weights", "tokenizer.json": "{}"})
    Run.objects.update(heartbeat_at=None)
    runs.finish(ppo_run, DONE)
    assert Run.objects.get(pk=ppo_run.pk).heartbeat_at is not None


def test_of_two_attempts_only_the_one_with_the_newest_fence_publishes(ppo_run: Run, data_dir: Path) -> None:
    machine.let_lease_end(ppo_run)
    runs.reclaim()
    second = runs.claim(ppo_run.pk, owner="gpu@two")
    assert second is not None
    for attempt in (ppo_run, second):
        machine.write_output(attempt, {"model.safetensors": f"weights of {attempt.owner}"})
    with pytest.raises(runs.LostRace):
        runs.finish(ppo_run, DONE)
    runs.finish(second, DONE)
    model = ModelVersion.objects.get(kind="ppo")
    assert (model.directory / "model.safetensors").read_text() == "weights of gpu@two"
    assert [path.name for path in (data_dir / "models").iterdir()] == [str(model.uuid)]


def completion(prompt: int, index: int, policy: str, text: str) -> dict[str, object]:
    return {
        "prompt_id": str(prompt),
        "index": index,
        "policy": policy,
        "text": text,
        "n_tokens": 5,
        "logprob": -2.5,
        "reward": None,
        "finish_reason": "stop",
    }


def publish_samples(project: Project, sft: ModelVersion, base: ModelVersion, texts: list[str]) -> Run:
    """A round's sampling run that wrote two completions to a new prompt."""
    run = claim_run(make_round(project, Stage.SAMPLING, policy=sft, parent=base), Stage.SAMPLING)
    prompt = machine.make_prompts(project, 1)[0].pk
    rows = [completion(prompt, 0, "policy", texts[0]), completion(prompt, 1, "parent", texts[1])]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    runs.finish(run, DONE)
    return run


def test_samples_remember_who_wrote_what(project: Project, sft: ModelVersion, data_dir: Path) -> None:
    base = machine.make_model(project, "base")
    run = publish_samples(project, sft, base, ["Rest.", "Run\x00!"])
    samples = {sample.completion.text: sample for sample in Sample.objects.select_related("completion")}
    assert {text: sample.model_version for text, sample in samples.items()} == {"Rest.": sft, "Run\ufffd!": base}
    assert {text: sample.is_repaired for text, sample in samples.items()} == {"Rest.": False, "Run\ufffd!": True}
    assert all((sample.run, sample.logprob, sample.n_tokens) == (run, -2.5, 5) for sample in samples.values())
    assert plans.parents_of(run)["parent"] == base


def test_newest_slates_come_first_and_those_of_two_rounds_ago_are_withdrawn(
    project: Project, annotator: Member, sft: ModelVersion, data_dir: Path
) -> None:
    base = machine.make_model(project, "base")
    written = [publish_samples(project, sft, base, [f"{number}", f"{number}!"]) for number in range(3)]
    slates = [Slate.objects.filter(completions__sample__run=run).distinct().get() for run in written]
    assert [slate.work_item.status for slate in slates] == [
        WorkItem.Status.WITHDRAWN,
        WorkItem.Status.OPEN,
        WorkItem.Status.OPEN,
    ]
    assert slates[2].work_item.priority < slates[1].work_item.priority


def test_a_pair_that_an_admin_sent_from_ppo_is_withdrawn_two_rounds_later(
    project: Project, admin: Member, sft: ModelVersion, data_dir: Path
) -> None:
    base = machine.make_model(project, "base")
    first = publish_samples(project, sft, base, ["0", "0!"])
    prompt = project.prompts.get()
    two = {"answer": NewCompletion("Rest."), "reference": NewCompletion("Run.")}
    sent_samples.send(first, prompt_id=str(prompt.pk), **two, sent_by=admin.user)
    sent = SentSample.objects.get().slate.work_item
    for number, status in ((1, WorkItem.Status.OPEN), (2, WorkItem.Status.WITHDRAWN)):
        publish_samples(project, sft, base, [f"{number}", f"{number}!"])
        sent.refresh_from_db()
        assert sent.status == status


def test_withdrawn_labels_mark_every_model_that_came_of_them(
    project: Project, annotator: Member, sft: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 1)
    label = project.demonstrations.get()
    snapshot = machine.make_snapshot(project)
    snapshot.demonstrations.add(label)
    taught = machine.make_model(project, "sft", snapshot=snapshot)
    ppo = machine.make_model(project, "ppo", parent=sft, reference=taught)
    model_versions.mark_withdrawn("demonstration", [label.pk])
    snapshot.refresh_from_db()
    assert snapshot.uses_withdrawn_labels
    assert set(ModelVersion.objects.filter(uses_withdrawn_labels=True)) == {taught, ppo}


def test_what_an_evaluation_says_of_its_own_records_is_not_said_of_the_model(
    project: Project, sft: ModelVersion, data_dir: Path
) -> None:
    ModelVersion.objects.filter(pk=sft.pk).update(metrics={"data/used": 150, "sft/loss": 0.5})
    run = claim_run(make_round(project, Stage.EVALUATION, policy=sft, reference=sft), Stage.EVALUATION)
    machine.write_output(run, {"completions.jsonl": ""})
    line = {"step": 1, "total": 1, "time": 0, "metrics": {"data/used": 268, "heldout/kl": 1.5}}
    (directories.attempt(run.directory, run.fence) / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    runs.finish(run, DONE)
    sft.refresh_from_db()
    assert sft.metrics == {"data/used": 150, "sft/loss": 0.5, "heldout/kl": 1.5}
