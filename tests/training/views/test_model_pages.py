"""The pages of models: where each came from, what made it, how several differ, and which one is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.models import AuditEvent, Member, Project
from tests.factories import bearer, make_demonstration, make_project, make_ranking
from tests.training import history, machine
from training.models import ModelVersion, Promotion
from training.services.pages.model_pages import lineage, lineage_picture, model_comparison, model_curves
from training.services.registry import promotions


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    """The browser of a project admin."""
    client.force_login(admin.user)
    return client


@pytest.fixture
def models(project: Project, annotator: Member, data_dir: Path) -> dict[str, ModelVersion]:
    """The models of two rounds, by name: base-1, sft-1, then reward-1 and ppo-1."""
    base = machine.make_model(project, "base")
    answers = [make_demonstration(annotator, f"Answer number {number}.") for number in range(3)]
    first = history.make_round(project, "sft", demonstrations=answers[:2])
    second = history.make_round(
        project, "reward", "ppo", demonstrations=answers[1:], rankings=[make_ranking(annotator)]
    )
    return {model.name: model for model in (base, *first.values(), *second.values())}


def address(project: Project, name: str = "models", *args: object) -> str:
    return reverse(f"training:{name}", args=[project.slug, *args])


def shown(page: Client, url: str) -> str:
    answer = page.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_policy_that_went_on_from_the_champion_still_names_the_answers_that_taught_it(
    models: dict[str, ModelVersion], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ppo = models["ppo-1"]
    shared = {"reference": ppo.reference, "reward": ppo.reward}
    for _ in range(3):
        ppo = machine.make_model(ppo.project, "ppo", parent=ppo, **shared)
    ppo = ModelVersion.objects.get(pk=ppo.pk)
    with django_assert_num_queries(4):  # two models and their snapshots, however many rounds lie between
        assert {teacher.kind: teacher.model.name for teacher in lineage.teachers(ppo)} == {
            "demonstration": "sft-1",
            "ranking": "reward-1",
        }


def test_the_lineage_goes_from_labels_through_models_to_answers_and_the_next_labels(
    project: Project, models: dict[str, ModelVersion]
) -> None:
    rounds = lineage.rounds(project)
    assert [[model.name for model in round.models] for round in rounds] == [["sft-1"], ["reward-1", "ppo-1"]]
    assert [(round.slates, round.writers) for round in rounds] == [(200, ["sft-1"]), (200, ["ppo-1"])]
    picture = lineage_picture.draw(project, rounds, lineage.base_models(project), None)
    assert set(picture.boxes) == {*models, "labels 1", "labels 2", "answers 1", "answers 2"}
    # base to SFT, labels to SFT, SFT to answers, answers to labels; SFT and labels to reward; three parents less one
    # that is named twice to PPO, and PPO to answers.
    assert len(picture.lines) == 4 + 2 + 2 + 1


def test_the_list_says_what_the_picture_draws(page: Client, project: Project, models: dict[str, ModelVersion]) -> None:
    html = shown(page, address(project))
    twin = html.split('<ol class="lineage-list">')[1].split("</ol>")[0]
    for model in models.values():
        assert address(project, "model", model.pk) in twin
    assert "reward model: reward-1" in twin
    assert "200 sets of answers by ppo-1, to rank for the next round" in twin


def test_a_watcher_is_a_parent_of_what_it_watched_and_is_taught_by_its_own_rankings(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    ppo = models["ppo-1"]
    judge = machine.make_model(project, "watcher", parent=models["sft-1"], run=None, snapshot=ppo.snapshot)
    ModelVersion.objects.filter(pk=ppo.pk).update(watcher=judge)
    ppo.snapshot.counts |= {"rankings": 40, "watcher_rankings": 20}
    ppo.snapshot.save()
    assert list(ModelVersion.objects.made_from([judge.pk])) == [ppo]
    assert "Independent judge" in shown(page, address(project, "model", ppo.pk))
    assert "independent judge: watcher-1" in shown(page, address(project))
    assert "20 rankings" in shown(page, address(project, "model", judge.pk))
    assert "40 rankings" in shown(page, address(project, "model", models["reward-1"].pk))
    assert page.get(address(project, "model-labels", judge.pk, "ranking")).status_code == 200


def test_the_page_costs_the_same_for_few_models_and_for_many(
    page: Client,
    project: Project,
    models: dict[str, ModelVersion],
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(6):
        history.make_round(project, "sft", "reward", "ppo")
    with django_assert_max_num_queries(22):
        page.get(address(project))


def test_a_model_page_names_its_parents_its_data_and_its_hash(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    html = shown(page, address(project, "model", models["ppo-1"].pk))
    for parent in ("sft-1", "reward-1"):
        assert address(project, "model", models[parent].pk) in html
    assert "1 ranking" in html
    assert "via reward-1" in html
    assert "ab" * 32 in html


def test_an_adapter_is_called_one_wherever_it_is_shown_and_its_base_names_it(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    base, sft = models["base-1"], models["sft-1"]
    words = "adapter of base-1, rank 16"
    pages = {
        "list": address(project),
        "adapter": address(project, "model", sft.pk),
        "comparison": f"{address(project, 'models-compare')}?model={base.pk}&model={sft.pk}",
    }
    assert [name for name, url in pages.items() if words in shown(page, url)] == []
    ModelVersion.objects.filter(pk=sft.pk).update(stands_on=base, config={"adapter_rank": 16})
    assert [name for name, url in pages.items() if words not in shown(page, url)] == []
    assert words in shown(page, address(project)).split('<ol class="lineage-list">')[1].split("</ol>")[0]
    assert "base-1: whole model; sft-1: adapter of base-1, rank 16." in shown(page, pages["comparison"])
    facts = shown(page, address(project, "model", base.pk)).split("Kept for its adapters")[1].split("</dd>")[0]
    assert address(project, "model", sft.pk) in facts


def test_a_base_model_is_never_an_adapter(models: dict[str, ModelVersion]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ModelVersion.objects.filter(kind="base").update(stands_on=models["sft-1"])


def test_the_api_says_what_a_model_stands_on_and_where_it_can_be_downloaded(
    client: Client, admin: Member, models: dict[str, ModelVersion]
) -> None:
    project, sft = admin.project, models["sft-1"]
    ModelVersion.objects.filter(pk=sft.pk).update(stands_on=models["base-1"], config={"adapter_rank": 16})
    answer = client.get(reverse("training-api:models", args=[project.slug]), headers=bearer(admin.user))
    listed = answer.json()["results"]
    found = {model["name"]: (model["stands_on"], model["adapter_rank"]) for model in listed}
    assert (found["sft-1"], found["base-1"]) == (("base-1", 16), (None, None))
    (champion,) = (model for model in listed if model["is_champion"])
    assert champion["download_page"] == f"{address(project, 'model', models['base-1'].pk)}#download"


def test_the_labels_that_made_a_model_are_listed_and_open_in_the_review(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    html = shown(page, address(project, "model-labels", models["ppo-1"].pk, "demonstration"))
    wrote = models["sft-1"].snapshot.demonstrations.order_by("pk")
    assert [f"Answer number {number}." in html for number in range(3)] == [True, True, False]
    assert reverse("annotate:review", args=[project.slug, "demonstration", wrote[0].pk]) in html
    assert page.get(address(project, "model-labels", models["base-1"].pk, "ranking")).status_code == 404


def test_promoting_needs_a_reason_and_tells_the_audit(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    promote = address(project, "model-promote", models["ppo-1"].pk)
    assert page.post(promote, {"reason": "  "}).status_code == 422
    assert not Promotion.objects.exists()
    page.post(promote, {"reason": "Wins 71 % of the held-out prompts"})
    assert promotions.champion(project) == models["ppo-1"]
    event = AuditEvent.objects.get(action="model.promoted")
    assert (event.subject, event.detail["before"]) == ("ppo-1", "base-1")


def test_rolling_back_serves_what_was_served_before(
    page: Client, project: Project, admin: Member, models: dict[str, ModelVersion]
) -> None:
    for name in ("sft-1", "ppo-1"):
        promotions.promote(models[name], promoted_by=admin.user, reason=f"{name} reads well")
    back = address(project, "models-roll-back")
    assert "Roll back to sft-1?" in shown(page, back)
    page.post(back, {"reason": "It was rude", "seen": models["ppo-1"].pk})
    assert promotions.champion(project) == models["sft-1"]
    assert AuditEvent.objects.filter(action="model.rolled_back", subject="sft-1").exists()
    rows = shown(page, address(project, "models-history")).split("<tbody>")[1]
    order = [rows.index(reason) for reason in ("It was rude", "ppo-1 reads well", "sft-1 reads well", "first model")]
    assert order == sorted(order)


def test_the_champion_is_not_promoted_again(
    page: Client, project: Project, admin: Member, models: dict[str, ModelVersion]
) -> None:
    promotions.promote(models["ppo-1"], promoted_by=admin.user, reason="better")
    promote = address(project, "model-promote", models["ppo-1"].pk)
    for answer in (page.get(promote, follow=True), page.post(promote, {"reason": "again"}, follow=True)):
        assert "ppo-1 is already the champion." in answer.content.decode()
    assert Promotion.objects.count() == 1


def test_before_a_promotion_it_says_that_labels_were_returned_since(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    promote = address(project, "model-promote", models["ppo-1"].pk)
    assert "returned or withdrawn" not in shown(page, promote)
    ModelVersion.objects.filter(pk=models["ppo-1"].pk).update(uses_withdrawn_labels=True)
    assert "returned or withdrawn" in shown(page, promote)


def test_the_champion_says_whether_it_was_promoted_or_came_back(
    page: Client, project: Project, admin: Member, models: dict[str, ModelVersion]
) -> None:
    def said() -> str:
        return shown(page, address(project, "models")).split('id="champion-title"')[1].split("</section>")[0]

    by = {"promoted_by": admin.user}
    promotions.promote(models["sft-1"], **by, reason="reads well")
    assert "Promoted by" in said()
    promotions.roll_back(project, seen=models["sft-1"], **by, reason="rude")
    assert "Rolled back by" in said()
    promotions.promote(models["sft-1"], **by, reason="not so rude after all")
    assert "Promoted by" in said()
    assert [reign.is_rollback for reign in promotions.history(project)] == [False, True, False, False]


def test_who_rolls_back_what_somebody_has_replaced_meanwhile_is_told(
    page: Client, project: Project, admin: Member, models: dict[str, ModelVersion]
) -> None:
    for name in ("sft-1", "ppo-1"):
        promotions.promote(models[name], promoted_by=admin.user, reason="better")
    answer = page.post(
        address(project, "models-roll-back"), {"reason": "rude", "seen": models["sft-1"].pk}, follow=True
    )
    assert "Someone has made ppo-1 the champion in the meantime." in answer.content.decode()
    assert promotions.champion(project) == models["ppo-1"]


def test_each_reign_ends_where_the_next_begins(
    project: Project, admin: Member, models: dict[str, ModelVersion]
) -> None:
    for name in ("sft-1", "ppo-1"):
        promotions.promote(models[name], promoted_by=admin.user, reason="better")
    now, before, first = promotions.history(project)
    assert [reign.model.name for reign in (now, before, first)] == ["ppo-1", "sft-1", "base-1"]
    assert (now.until, before.until, first.until) == (None, now.since, before.since)


def test_a_comparison_shows_only_what_differs(
    page: Client, project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    more = [make_demonstration(annotator, "A new answer.")]
    second = history.make_round(
        project, "sft", demonstrations=[*models["sft-1"].snapshot.demonstrations.all()[:1], *more]
    )["sft"]
    for model, rate, loss in ((models["sft-1"], 1e-5, 1.5), (second, 3e-5, 1.25)):
        config = {"epochs": 3, "learning_rate": rate, "parents": {"base": {"path": "/somewhere"}}}
        ModelVersion.objects.filter(pk=model.pk).update(config=config, metrics={"sft/loss": loss})
        model.refresh_from_db()
    history.write_curve(models["sft-1"], sft__loss=[3.0, 2.0, 1.5])
    history.write_curve(second, sft__loss=[2.5, 1.25])
    html = shown(page, address(project, "models-compare") + f"?model={models['sft-1'].pk}&model={second.pk}")
    settings = html.split('id="settings-title"')[1].split("</section>")[0]
    assert "Learning rate" in settings and "1e-5<" in settings and "3e-5<" in settings
    assert "Passes" not in settings and "learning_rate" not in html and "/somewhere" not in html
    assert "1.25" in html and "1.5" in html
    assert "1 added, 1 removed" in html
    assert html.count("<polyline") == 2


def test_the_settings_of_models_of_different_stages_are_not_compared(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    second = history.make_round(project, "sft")["sft"]
    for model, rate in ((models["base-1"], 1e-3), (models["sft-1"], 1e-5), (second, 3e-5)):
        ModelVersion.objects.filter(pk=model.pk).update(config={"learning_rate": rate, "mlp_size": 1})
        model.refresh_from_db()
    three = [models["base-1"], models["sft-1"], second]
    [group] = model_comparison.compare_settings(three)
    assert [model.name for model in group.models] == ["sft-1", "sft-2"]
    assert [(row.name, row.values) for row in group.rows] == [("learning rate", ["1e-5", "3e-5"])]
    html = shown(page, address(project, "models-compare") + "?" + "&".join(f"model={model.pk}" for model in three))
    assert "Not compared:" in html
    alike = [models["base-1"], models["sft-1"]]
    assert model_comparison.compare_settings(alike) == []
    assert model_comparison.without_counterpart(alike) == alike


def test_the_table_behind_a_compared_curve_ends_with_the_figure_of_all_pages(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    loss = [*(3.0 - step / 20 for step in range(18)), 1.0, 2.0]  # the last step says 2, the last tenth 1.5
    for name in ("sft-1", "ppo-1"):
        history.write_curve(models[name], sft__loss=loss)
    [chart] = model_curves.charts([models["sft-1"], models["ppo-1"]])
    assert chart.rows[-1] == ("mean of the last tenth of the steps", ("1.5", "1.5"))


def test_figures_with_one_name_say_of_which_stage_they_are(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    pair = [models["base-1"], models["sft-1"]]
    for model, key in zip(pair, ("pretraining/loss", "sft/loss"), strict=True):
        ModelVersion.objects.filter(pk=model.pk).update(metrics={key: 1.5, "data/used": 18000.0, "skipped_steps": 0.0})
        model.refresh_from_db()
    rows = {row.name: row.values for row in model_comparison.compare_figures(pair)}
    assert rows["loss (pretraining)"] == ["1.5", "–"]
    assert rows["loss (SFT)"] == ["–", "1.5"]
    assert rows["records used"] == ["18000", "18000"]


def test_nobody_is_asked_to_promote_beside_a_reward_model(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    def compared(*names: str) -> str:
        return shown(page, address(project, "models-compare") + "?" + "&".join(f"model={models[n].pk}" for n in names))

    assert "Promote sft-1…" in compared("sft-1", "ppo-1")
    assert "Promote" not in compared("sft-1", "reward-1").split("<main")[1]


def test_at_most_five_models_stand_side_by_side(page: Client, project: Project) -> None:
    many = [machine.make_model(project, "sft") for _ in range(6)]
    query = "&".join(f"model={model.pk}" for model in many)
    html = shown(page, address(project, "models-compare") + f"?{query}")
    assert "Only the first 5 models are shown" in html
    assert "Select two to five models" in shown(page, address(project, "models-compare") + "?model=x&model=")


def test_models_of_another_project_are_not_compared(
    page: Client, project: Project, models: dict[str, ModelVersion]
) -> None:
    foreign = machine.make_model(make_project(), "sft")
    html = shown(page, address(project, "models-compare") + f"?model={models['sft-1'].pk}&model={foreign.pk}")
    assert "Select two to five models" in html
