"""Models in a browser: from the list to a model, compared, promoted with a reason, and rolled back again."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from pytest_django import Settings

from annotate.models import Member, Project, Slate
from tests.browser.keyboard import PHONE, press, reach
from tests.factories import make_demonstration, make_ranking
from tests.training import history, machine
from training.models import Answer, Download, ModelVersion, Promotion, Question, Run
from training.services.registry import downloads, promotions


@pytest.fixture
def models(
    project: Project, admin: Member, annotator: Member, settings: Settings, tmp_path: Path
) -> dict[str, ModelVersion]:
    """The models of three rounds, with curves, figures and a champion."""
    settings.DATA_DIR = tmp_path
    base = machine.make_model(project, "base")
    answers = [make_demonstration(annotator, f"Answer number {number}.") for number in range(2)]
    made = [base, *history.make_round(project, "sft", demonstrations=answers[:1]).values()]
    for _ in range(2):
        rankings = [make_ranking(annotator)]
        made += history.make_round(project, "reward", "ppo", demonstrations=answers, rankings=rankings).values()
    for model in made[1:]:
        files = {"model.safetensors": {"size": 2_000_000, "sha256": "cd" * 32}}
        config = {"epochs": model.number, "beta": 0.2}
        metrics = {"proxy/win_rate": 0.6 + model.number / 100, "rollout/kl": 1.5, "rollout/reward": model.number}
        ModelVersion.objects.filter(pk=model.pk).update(manifest={"files": files}, config=config, metrics=metrics)
        curve = [step * (1 - model.number / 4) for step in range(40)]
        history.write_curve(model, rollout__reward=curve, rollout__kl=[value**0.5 for value in curve])
    promotions.promote(made[1], promoted_by=admin.user, reason="The first one that answers at all")
    return {model.name: model for model in made}


def test_a_model_is_found_compared_promoted_and_rolled_back_by_keyboard_on_a_phone(open_as, project, admin, models):
    page = open_as(admin.user, "/")
    page.set_viewport_size(PHONE)
    page.goto(f"/projects/{project.slug}/models/")
    press(page.locator(".lineage-list").get_by_role("link", name="ppo-2"))
    expect(page.get_by_role("heading", name="ppo-2")).to_be_visible()
    press(page.get_by_role("link", name="Compare with the champion"))
    expect(page.get_by_text("Not compared")).to_contain_text("ppo-2")
    press(page.get_by_role("link", name="Promote ppo-2…"))
    expect(page.get_by_text("The project will serve ppo-2 instead of sft-1")).to_be_visible()
    give_reason(page, "Wins 71 % of the held-out prompts")
    press(page.get_by_role("button", name="Promote ppo-2"))
    expect(page.locator(".champion")).to_contain_text("ppo-2")
    press(page.get_by_role("link", name="Roll back to sft-1…"))
    give_reason(page, "It was rude")
    press(page.get_by_role("button", name="Roll back to sft-1"))
    expect(page.locator(".champion")).to_contain_text("sft-1")
    press(page.get_by_role("link", name="Champions"))
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("tbody tr").first).to_contain_text("It was rude")
    assert Promotion.objects.count() == 3


def give_reason(page: Page, reason: str) -> None:
    reach(page.get_by_label("Reason"))
    page.keyboard.insert_text(reason)


def test_the_lineage_can_be_read_as_a_list_and_on_a_phone_it_is_one(open_as, project, admin, models):
    page = open_as(admin.user, f"/projects/{project.slug}/models/")
    picture, twin = page.locator(".lineage"), page.locator(".lineage-list")
    expect(twin).to_be_hidden()
    page.get_by_label("List").check()
    expect(twin).to_be_visible()
    expect(picture).to_be_hidden()
    page.reload()
    page.set_viewport_size(PHONE)
    expect(twin).to_be_visible()
    expect(picture).to_be_hidden()


PAGES = ["", "history/", "questions/", "roll-back/", "compare/?model={ppo}&model={sft}", "{ppo}/", "{ppo}/promote/",
         "{ppo}/labels/ranking/", "questions/{question}/"]  # fmt: skip


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (1280, "light")])
def test_every_page_of_models_fits_its_window_and_can_be_read_by_everybody(
    open_as, project, admin, models, width, colours
):
    question = Question.objects.create(project=project, asked_by=admin.user, text="What helps? " + "w" * 300)
    for name in ("sft-1", "ppo-2"):
        run = machine.queue_run(project, "sampling", status=Run.Status.SUCCEEDED)
        texts = [{"text": "Rest, and drink water. " * 20, "finish_reason": "length"}]
        question.answers.create(model_version=models[name], run=run, texts=texts)
        config = models[name].config | {"adapter_rank": 16}
        ModelVersion.objects.filter(pk=models[name].pk).update(stands_on=models["base-1"], config=config)
    page = open_as(admin.user, "/")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=colours)
    faults = {}
    for pattern in PAGES:
        part = pattern.format(ppo=models["ppo-2"].pk, sft=models["sft-1"].pk, question=question.pk)
        page.goto(f"/projects/{project.slug}/models/{part}")
        found = [fault["id"] for fault in Axe().run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append("wider than the window")
        if found:
            faults[pattern] = found
    assert faults == {}


def test_a_model_is_packed_while_the_page_looks_on_and_then_downloaded(open_as, project, admin, models):
    model = models["ppo-2"]
    model.directory.mkdir(parents=True)
    (model.directory / "model.safetensors").write_bytes(b"weights")
    page = open_as(admin.user, f"/projects/{project.slug}/models/{model.pk}/")
    page.get_by_role("button", name="Prepare download").click()
    expect(page.get_by_text("Waiting for a worker.")).to_be_visible()
    downloads.pack(Download.objects.get().pk)
    with page.expect_download() as started:
        page.get_by_role("link", name="Download ppo-2").click()
    assert started.value.suggested_filename == f"{project.slug}-ppo-2.tar"


def test_a_question_is_asked_and_its_answers_come_without_a_reload(open_as, project, admin, models):
    machine.make_settings(project)
    page = open_as(admin.user, f"/projects/{project.slug}/models/{models['ppo-2'].pk}/")
    page.get_by_role("link", name="Ask a question").click()
    expect(page.get_by_label("ppo-2")).to_be_checked()
    expect(page.get_by_label("sft-1")).to_be_checked()  # the champion
    page.get_by_label("Your question").fill("What helps against stress?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("No gpu-worker is running.")).to_be_visible()
    for answer in Answer.objects.all():
        texts = [{"text": f"Rest, says {answer.model_version.name}.", "finish_reason": "stop"}]
        Answer.objects.filter(pk=answer.pk).update(texts=texts)
    Run.objects.filter(answer__isnull=False).update(status=Run.Status.SUCCEEDED)
    expect(page.get_by_text("Rest, says ppo-2.")).to_be_visible()
    expect(page.get_by_text("Rest, says sft-1.")).to_be_visible()
    press(page.get_by_role("button", name="Add to ranking queue"))
    expect(page.get_by_text("People are now asked to rank these answers.")).to_be_visible()
    assert sorted(Slate.objects.get(question__isnull=False).completions.values_list("text", flat=True)) == [
        "Rest, says ppo-2.",
        "Rest, says sft-1.",
    ]
    page.get_by_role("link", name="Continue from this answer").first.click()
    expect(page.get_by_text("The conversation so far")).to_be_visible()
    page.get_by_label("Your question").fill("How long?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".page-header .turn")).to_have_count(3)
