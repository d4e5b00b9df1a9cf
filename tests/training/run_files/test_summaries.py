"""One figure, one value: what a run measured reads the same on every page and in the API."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from annotate.models import Member, Project
from tests.factories import bearer
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run
from training.services.planning import plans
from training.services.run_files import summaries
from training.services.run_files.metrics import Row
from training.services.run_files.reader import RunFiles
from training.stages.planning import StagePlan

# Agreement rises from 0 to 0.95 in 20 steps and swings: the last step says 20%, the mean of the last two says 55%.
AGREEMENT = [*(step / 20 for step in range(18)), 0.9, 0.2]
LOSS = [*([0.9] * 18), 0.4, 0.5]
ROWS = [{"reward/accuracy": share, "reward/loss": loss} for share, loss in zip(AGREEMENT, LOSS, strict=True)]


@pytest.fixture
def page(client: Client, admin: Member, data_dir: Path) -> Client:
    """The browser of a project admin."""
    client.force_login(admin.user)
    return client


@pytest.fixture
def round(project: Project) -> Round:
    machine.make_settings(project)
    machine.make_model(project, "base")
    plan = plans.draft(project).to_json()
    return Round.objects.create(project=project, number=1, status=Round.Status.RUNNING, plan=plan)


@pytest.fixture
def running(round: Round, data_dir: Path) -> Run:
    """A reward run at its 20th step."""
    run = engine_files.make_run(
        round.project, "reward", round=round, status=Run.Status.RUNNING, fence=1, step=20, total=40
    )
    engine_files.write_metrics(run, ROWS)
    return run


@pytest.fixture
def model(running: Run) -> ModelVersion:
    """What the run has made of it, as publishing stores it."""
    rows = [Row(step, 20, 0.0, row) for step, row in enumerate(ROWS, 1)]
    figures = summaries.summarise(rows)
    Run.objects.filter(pk=running.pk).update(status=Run.Status.SUCCEEDED, total=20, metrics=figures)
    running.refresh_from_db()
    return machine.make_model(running.project, "reward", run=running, attempt=1, metrics=figures)


def shown(page: Client, name: str, *args: object, **query: object) -> str:
    html = page.get(reverse(f"training:{name}", args=args), query).content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_what_each_step_measures_is_the_mean_of_the_last_tenth_of_the_steps() -> None:
    measured = [{**row, "rollout/reward": step, "rollout/kl": step / 10} for step, row in enumerate(ROWS, 1)]
    rows = [Row(step, 20, 0.0, row) for step, row in enumerate(measured, 1)]
    assert summaries.summarise(rows) == pytest.approx(
        {"reward/accuracy": 0.55, "reward/loss": 0.45, "rollout/reward": 19.5, "rollout/kl": 1.95}
    )


def test_what_the_engine_counts_through_is_the_number_of_all_steps() -> None:
    rows = [Row(step, 20, 0.0, {"skipped_steps": step // 5}) for step in range(1, 21)]
    assert summaries.summarise(rows) == {"skipped_steps": 4}
    assert summaries.steps_in_words("skipped_steps", 20) == "total"


def test_what_is_measured_once_is_just_that_and_says_no_steps() -> None:
    rows = [Row(step, 20, 0.0, {"rollout/kl": 2.0}) for step in range(1, 21)] + [
        Row(20, 20, 0.0, {"rollout/final_kl": 3.0})
    ]
    assert summaries.summarise(rows)["rollout/final_kl"] == 3.0
    assert [summaries.steps_in_words(name, 20) for name in ("rollout/final_kl", "heldout/kl", "data/used")] == [""] * 3


def test_what_the_independent_judge_measures_is_never_averaged_over_measurements() -> None:
    measured = {10: 0.9, 95: 0.4, 100: 0.2}
    rows = [Row(step, 100, 0.0, {"gauge/watcher": measured[step]} if step in measured else {}) for step in range(101)]
    assert summaries.summarise(rows) == {"gauge/watcher": 0.2}
    assert summaries.steps_in_words("gauge/watcher", 100) == "last measurement"


def test_a_model_shows_what_the_judge_measured_of_it_and_not_of_the_last_step(
    page: Client, admin: Member, project: Project
) -> None:
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=20, total=40)
    engine_files.write_metrics(run, engine_files.watched_metrics(20))
    last = summaries.summarise(RunFiles(run).history)  # 0.2 at step 20; published is step 10, with 0.4
    model = machine.make_model(project, "ppo", run=run, attempt=1, metrics=last)  # as earlier versions stored it
    assert "0.4 σ (at step 10, which was published)" in shown(page, "model", project.slug, model.pk)
    other = machine.make_model(project, "reward")
    compared = shown(page, "models-compare", project.slug, model=[model.pk, other.pk])
    assert re.search(r"Independent judge σ, of the published policy .{0,200} 0\.4 –", compared)
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"early_stopping": "off"}), "utf-8")
    assert "0.2 σ (last measurement)" in shown(page, "model", project.slug, model.pk)


def test_a_step_that_measured_nothing_does_not_stretch_the_mean_to_earlier_ones() -> None:
    rows = [Row(step, 20, 0.0, {"sft/loss": float(step)}) for step in range(1, 20)] + [Row(20, 20, 0.0, {})]
    assert summaries.summarise(rows) == {"sft/loss": 19.0}


@pytest.mark.parametrize(("steps", "words"), [(1, "the last step"), (15, "mean of the last 2 steps")])
def test_the_words_say_over_which_steps(steps: int, words: str) -> None:
    assert summaries.steps_in_words("reward/accuracy", steps) == words
    assert summaries.steps_in_words("rollout/kl", steps) == words


def test_a_run_that_goes_reads_the_same_on_its_page_on_that_of_its_round_and_in_the_api(
    page: Client, admin: Member, running: Run
) -> None:
    slug = running.project.slug
    for words in (shown(page, "run", slug, running.pk), shown(page, "round", slug, 1)):
        assert "55% (mean of the last 2 steps)" in words
        assert "0.45 nats (mean of the last 2 steps)" in words
    assert figures_in_api(admin, slug) == pytest.approx({"reward/accuracy": 0.55, "reward/loss": 0.45})


def test_a_finished_run_reads_the_same_on_every_page_and_in_the_api(
    page: Client, admin: Member, model: ModelVersion
) -> None:
    slug, run = model.project.slug, model.run
    assert run is not None
    for words in (
        shown(page, "run", slug, run.pk),
        shown(page, "round", slug, 1),
        shown(page, "model", slug, model.pk),
    ):
        assert "55% (mean of the last 2 steps)" in words
        assert "0.45 nats (mean of the last 2 steps)" in words
    other = machine.make_model(model.project, "reward")
    compared = shown(page, "models-compare", slug, model=[model.pk, other.pk])
    assert "Agreement with rankings mean of the last tenth of the steps" in compared
    assert "55% –" in compared
    assert "nats, mean of the last tenth of the steps" in compared
    assert "0.45 –" in compared
    assert "fits 55% of rankings" in shown(page, "models", slug)
    assert figures_in_api(admin, slug) == pytest.approx({"reward/accuracy": 0.55, "reward/loss": 0.45})
    assert model_in_api(admin, model)["metrics"] == pytest.approx({"reward/accuracy": 0.55, "reward/loss": 0.45})


def test_the_page_of_a_reward_run_shows_what_its_model_reaches_on_held_out_rankings(
    page: Client, model: ModelVersion
) -> None:
    run = model.run
    assert run is not None
    measured = {"heldout/reward_accuracy": 0.8, "heldout/reward_pairs": 10}
    evaluation = machine.queue_run(run.project, "evaluation", round=run.round, status="succeeded", metrics=measured)
    words = shown(page, "run", model.project.slug, run.pk)
    # Wilson 1927, 8 of 10
    assert "Reward accuracy on held-out rankings: 80% (49% to 94%) 10 pairs of answers; 95%" in words
    assert "healthy 65% to 80%" in words
    address = reverse("training:run", args=[run.project.slug, evaluation.pk])
    assert f'href="{address}"' in page.get(reverse("training:run", args=[run.project.slug, run.pk])).content.decode()


def test_a_reward_run_says_when_its_held_out_accuracy_comes_and_why_it_does_not(
    page: Client, model: ModelVersion
) -> None:
    run = model.run
    assert run is not None and run.round is not None

    def said() -> str:
        return shown(page, "run", model.project.slug, run.pk).split("Reward accuracy on held-out rankings:")[1][:120]

    assert "Not measured: the evaluation of round 1 is left out. No new policy to evaluate." in said()
    Round.objects.update(plan=plans.Plan(number=1, obstacle="", stages=[StagePlan(stage="evaluation")]).to_json())
    assert "Measured by the evaluation of round 1, after the stages before it." in said()
    evaluation = machine.queue_run(run.project, "evaluation", round=run.round)
    assert "Measured by the evaluation of round 1, which is waiting for a worker." in said()
    for status, words in {
        "running": "Measured by the evaluation of round 1, which is running.",
        "failed": "Not measured: the evaluation of round 1 ended early.",
        "succeeded": "Not measured: the evaluation of round 1 found no held-out rankings.",
    }.items():
        Run.objects.filter(pk=evaluation.pk).update(status=status)
        assert words in said()
    Run.objects.filter(pk=evaluation.pk).delete()
    Run.objects.filter(pk=run.pk).update(round=None)
    assert "not part of a round" in said()


def test_the_figures_of_ppo_that_were_stored_as_the_last_step_had_them_are_averaged_by_the_migration(
    project: Project, data_dir: Path
) -> None:
    run = engine_files.make_run(project, "ppo", fence=1, status=Run.Status.SUCCEEDED)
    engine_files.write_metrics(run, [{"rollout/reward": float(step), "skipped_steps": 2} for step in range(1, 21)])
    stored = {"rollout/reward": 20.0, "skipped_steps": 2, "data/used": 9}
    Run.objects.filter(pk=run.pk).update(metrics=stored)
    made = machine.make_model(project, "ppo", run=run, metrics=stored | {"proxy/win_rate": 0.7})
    lost = engine_files.make_run(project, "ppo", fence=9, status=Run.Status.SUCCEEDED, metrics=stored)
    import_module("training.migrations.0008_figures_of_ppo").average(apps, None)
    run.refresh_from_db()
    made.refresh_from_db()
    lost.refresh_from_db()
    assert run.metrics == stored | {"rollout/reward": 19.5}
    assert run.metrics["rollout/reward"] == summaries.summarise(RunFiles(run).history)["rollout/reward"]
    assert made.metrics == run.metrics | {"proxy/win_rate": 0.7}
    assert lost.metrics == stored


def figures_in_api(admin: Member, slug: str) -> dict[str, float]:
    address = reverse("training-api:round", args=[slug, 1])
    answer = Client().get(address, headers=bearer(admin.user, "read"))
    stage = next(stage for stage in answer.json()["stages"] if stage["stage"] == "reward")
    return {name: value for name, value in stage["run"]["metrics"].items() if name in ROWS[0]}


def model_in_api(admin: Member, model: ModelVersion) -> dict[str, object]:
    address = reverse("training-api:models", args=[model.project.slug])
    rows = Client().get(address, headers=bearer(admin.user, "read")).json()["results"]
    return next(row for row in rows if row["name"] == model.name)
