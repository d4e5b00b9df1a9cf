"""Rounds that train adapters: what their runs are told, what comes of them, and what keeps them from starting."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Member, Project
from tests.training import engine_files, machine
from training.models import Download, ModelVersion, Round, Run, TrainingSettings
from training.rlhf import exits
from training.services.planning import adapters, capacity, memory_counts, plans, preflight
from training.services.registry import configs, downloads, model_versions
from training.services.registry.configs import BadSettings
from training.services.run_files.reader import RunFiles
from training.services.running import questions, rounds, runs
from training.services.running.rounds import NotReady
from training.services.running.runs import Ending
from training.stages import Stage

pytestmark = [pytest.mark.django_db]

LEARNING = (Stage.SFT, Stage.REWARD, Stage.PPO)


def train_adapters(project: Project, *stages: str, rank: int = 4, alpha: float = 8.0) -> None:
    training = TrainingSettings.objects.get(project=project)
    for stage in stages:
        training.overrides[stage] |= {"adapter_rank": rank, "adapter_alpha": alpha}
    training.save()


def trained_from(model: ModelVersion) -> dict[str, Any]:
    """The parents that the newest run of the project was told."""
    run = Run.objects.filter(project=model.project).latest("pk")
    return json.loads((run.directory / "config.json").read_text())["parents"]  # type: ignore[no-any-return]


@pytest.fixture
def adapter(base: ModelVersion) -> ModelVersion:
    return machine.make_adapter(base, "sft")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_round_of_adapters_with_the_real_engine_ends_in_a_policy_that_is_downloaded_whole(
    client: Client, project: Project, annotator: Member, admin: Member, base: ModelVersion, tmp_path: Path
) -> None:
    train_adapters(project, *LEARNING)
    Project.objects.update(heldout_share=0.5)
    annotator.refresh_from_db()
    machine.write_demonstrations(annotator, 4)
    machine.rank_new_slates(annotator, 24)  # so many that both sides of the split have enough, whatever their texts
    round = rounds.open(annotator.project, opened_by=None)
    machine.work_off()
    round.refresh_from_db()
    assert (round.status, round.error) == (Round.Status.SUCCEEDED, "")
    made = {model.name: model for model in ModelVersion.objects.exclude(kind="base")}
    assert {name: model.adapter_words for name, model in made.items()} == dict.fromkeys(
        ("sft-1", "reward-1", "ppo-1"), "adapter of base-1, rank 4"
    )
    downloads.pack(downloads.ask(made["ppo-1"], asked_by=admin.user).pk)
    download = Download.objects.get()
    assert (download.status, download.error, download.done) == (Download.Status.READY, "", download.total)
    client.force_login(admin.user)
    answer = client.get(reverse("training:download-file", args=[project.slug, download.pk]))
    with tarfile.open(fileobj=io.BytesIO(b"".join(answer.streaming_content))) as tar:  # type: ignore[attr-defined]
        tar.extractall(tmp_path / "unpacked", filter="data")
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "unpacked/ppo-1")
    before = AutoModelForCausalLM.from_pretrained(base.directory)
    changed = [
        name for name, weight in whole.state_dict().items() if not weight.equal(before.state_dict()[name].float())
    ]
    assert any("q_proj" in name for name in changed)
    assert [path.name for path in download.path.parent.iterdir()] == [download.path.name]


def test_a_run_that_starts_from_an_adapter_is_told_the_model_it_stands_on(
    adapter: ModelVersion, base: ModelVersion, admin: Member
) -> None:
    questions.ask(base.project, text="What helps?", models=[adapter], asked_by=admin.user)
    parents = trained_from(adapter)
    assert {role: parent["manifest_sha256"] for role, parent in parents.items()} == {
        "policy": adapter.manifest_sha256,
        "policy_trunk": base.manifest_sha256,
    }
    run = Run.objects.get()
    assert (run.directory / parents["policy_trunk"]["path"]).resolve() == base.directory.resolve()


def test_a_run_that_starts_from_a_whole_model_is_told_no_other(base: ModelVersion, admin: Member) -> None:
    questions.ask(base.project, text="What helps?", models=[base], asked_by=admin.user)
    assert set(trained_from(base)) == {"policy"}


def test_without_its_base_an_adapter_is_neither_asked_nor_trained_on(
    adapter: ModelVersion, base: ModelVersion, admin: Member
) -> None:
    shutil.rmtree(base.directory)
    gone = "sft-1 is an adapter of base-1, whose weights no longer exist"
    with pytest.raises(questions.CannotAsk, match=gone):
        questions.ask(base.project, text="What helps?", models=[adapter], asked_by=admin.user)
    training = TrainingSettings.objects.get()
    with pytest.raises(BadSettings, match=gone) as refusal:
        configs.make(training, Stage.REWARD, round_number=2, parents={"policy": adapter})
    assert (refusal.value.kind, refusal.value.field) == ("trunk_missing", "parents.policy_trunk")
    assert not Run.objects.exists()


def test_a_round_that_would_start_from_an_adapter_without_base_says_so_before_it_starts(
    adapter: ModelVersion, base: ModelVersion, annotator: Member
) -> None:
    machine.rank_new_slates(annotator, 8)
    plan = plans.draft(base.project)
    assert plan.stage(Stage.REWARD).parents["policy"].name == "sft-1"
    shutil.rmtree(base.directory)
    blocks = preflight.check(base.project, plan, preflight.gather(base.project)).blocks
    assert [line.text for line in blocks] == [model_versions.why_base_missing(adapter)]
    with pytest.raises(NotReady, match="whose weights no longer exist"):
        rounds.open(base.project, opened_by=None)


@pytest.mark.parametrize(
    ("rank", "alpha", "is_refused"), [(16, 32.0, False), (0, 32.0, False), (8, 32.0, True), (16, 16.0, True)]
)
def test_training_goes_on_from_an_adapter_of_the_same_shape_only(
    adapter: ModelVersion, annotator: Member, rank: int, alpha: float, is_refused: bool
) -> None:
    project = adapter.project
    train_adapters(project, Stage.REWARD, rank=rank, alpha=alpha)
    machine.rank_new_slates(annotator, 8)
    blocks = preflight.check(project, plans.draft(project), preflight.gather(project)).blocks
    shape = "Reward model starts from sft-1, an adapter with rank 16 and alpha 32."
    assert [line.text.startswith(shape) for line in blocks] == [True] * is_refused
    if is_refused:
        assert [link.anchor for link in blocks[0].settings] == ["reward-adapter_rank", "reward-adapter_alpha"]
        with pytest.raises(NotReady, match="an adapter with rank 16"):
            rounds.open(project, opened_by=None)


def test_stages_of_one_round_that_do_not_fit_together_are_found_before_it_starts(
    base: ModelVersion, annotator: Member
) -> None:
    train_adapters(base.project, Stage.SFT, Stage.PPO, rank=4)
    train_adapters(base.project, Stage.REWARD, rank=8)
    machine.write_demonstrations(annotator, 3)
    machine.rank_new_slates(annotator, 8)
    blocks = preflight.check(base.project, plans.draft(base.project), preflight.gather(base.project)).blocks
    assert [line.text.partition(" an adapter")[0] for line in blocks] == [
        "Reward model starts from sft-1,",
        "PPO starts from reward-1,",
    ]


def test_a_round_that_trains_adapters_needs_less_disk_and_memory(base: ModelVersion, annotator: Member) -> None:
    ModelVersion.objects.update(manifest={"files": {"model.safetensors": {"size": 16 << 30}}})
    (base.directory / "config.json").write_text('{"hidden_size": 4096, "vocab_size": 128256}')
    base.refresh_from_db()
    machine.write_demonstrations(annotator, 3)
    plan = plans.draft(base.project)

    def bounds() -> tuple[int, int]:
        made = memory_counts.make_configs(plan, TrainingSettings.objects.get(), base)
        parents = adapters.weights_of_parents(plan, made, adapters.existing(plan))
        return capacity.disk_bound(base, plan, made), max(capacity.memory_bounds(base, made, parents).values())

    whole_disk, whole_memory = bounds()
    train_adapters(base.project, *LEARNING, rank=16)
    disk, memory = bounds()
    assert disk < whole_disk / 20
    assert 16 << 30 < memory < whole_memory / 2


def test_the_model_an_adapter_stands_on_is_named_in_words_while_it_is_loaded(
    client: Client, adapter: ModelVersion, admin: Member
) -> None:
    questions.ask(adapter.project, text="What helps?", models=[adapter], asked_by=admin.user)
    run = runs.claim(Run.objects.get().pk, owner="gpu@one")
    assert run is not None
    attempt = engine_files.attempt(run)
    (attempt / "phase.json").write_text('{"name": "loading", "what": "policy_trunk"}')
    assert RunFiles(run).phase == "loading the model that the policy stands on"
    client.force_login(admin.user)
    page = client.get(reverse("training:run", args=[adapter.project.slug, run.pk])).content.decode()
    assert "Model that the policy stands on" in page


def finish_with(base: ModelVersion, base_sha256: str) -> Run:
    """An SFT run of `base` whose engine wrote an adapter that names this base."""
    project = base.project
    plan = plans.draft(project)
    plan.stage(Stage.SFT).parents["base"] = plans.PlannedParent(name=base.name, model_version=base.pk)
    snapshot = machine.make_snapshot(project)
    round = Round.objects.create(project=project, number=1, plan=plan.to_json(), status="running", snapshot=snapshot)
    machine.queue_run(project, round=round, snapshot=snapshot)
    run = runs.claim(Run.objects.get().pk, owner="gpu@one")
    assert run is not None
    machine.write_output(run, {"base.json": json.dumps({"manifest_sha256": base_sha256})})
    runs.finish(run, Ending(exits.DONE, ""))
    run.refresh_from_db()
    return run


def test_an_adapter_is_published_with_the_model_that_it_names(base: ModelVersion) -> None:
    run = finish_with(base, base.manifest_sha256)
    assert run.status == Run.Status.SUCCEEDED
    assert ModelVersion.objects.get(kind="sft").stands_on == base


def test_what_goes_on_from_an_adapter_stands_on_the_same_model(
    adapter: ModelVersion, base: ModelVersion, tmp_path: Path
) -> None:
    (tmp_path / "base.json").write_text(json.dumps({"manifest_sha256": base.manifest_sha256}))
    assert model_versions.base_of(tmp_path, [adapter]) == base
    (tmp_path / "base.json").unlink()
    assert model_versions.base_of(tmp_path, [adapter]) is None


@pytest.mark.parametrize("base_sha256", ["f" * 64, 7])
def test_an_adapter_of_a_model_that_the_run_did_not_start_from_is_not_published(
    base: ModelVersion, base_sha256: Any
) -> None:
    run = finish_with(base, base_sha256)
    assert (run.status, run.fruitless_attempts) == (Run.Status.QUEUED, 1)
    assert "cannot be published" in run.error
    assert not ModelVersion.objects.exclude(kind="base").exists()
