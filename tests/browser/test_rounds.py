"""A round in a real browser: its workers do it while the page looks on, from the plan to the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotate.models import Member, Project, User
from tests.browser.keyboard import PHONE, fits
from tests.faults.conftest import processes
from tests.faults.processes import Processes
from tests.training import machine
from tests.training.conftest import built_base
from training import examiner
from training.models import Examination, ModelVersion, Promotion, Result, Round, Run, TrainingSettings
from training.services.planning import examinations, plans

__all__ = ["built_base", "processes"]

WHILE_WORKERS_WORK_MS = 180_000
STRIP = ["Collect labels", "Snapshot", "SFT", "Reward", "Judge", "PPO", "Evaluate", "Sample", "New answers"]


@pytest.fixture
def base(project: Project, built_base: Path) -> Iterator[ModelVersion]:
    """In the data directory that the test's server, a process of its own, has too."""
    shutil.copytree(built_base, settings.BASE_MODELS_DIR / machine.BASE)
    machine.make_settings(project)
    yield machine.make_base(project)
    shutil.rmtree(settings.BASE_MODELS_DIR)


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    """A project whose first round trains, measures and writes answers."""
    Project.objects.filter(pk=project.pk).update(heldout_share=0.3)
    project.refresh_from_db()
    machine.make_prompts(project, 12)
    machine.write_demonstrations(annotator, 3)
    TrainingSettings.objects.update(
        overrides=machine.OVERRIDES | {"sft": machine.OVERRIDES["sft"] | {"max_response": 48}}
    )
    return project


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_round_is_followed_from_its_plan_to_its_promotion(
    page: Page, ready: Project, annotator: Member, processes: Processes
) -> None:
    processes.worker("gpu")
    page.goto(f"/projects/{ready.slug}/rounds/")
    expect(page.get_by_text("The labels have not been checked yet.")).to_be_visible()
    examiner.examine(Examination.objects.get(kind="records").pk)
    expect(page.locator(".piece.is-trained", has_text="Behind house 0.")).to_be_visible()
    start_round(page, ready, 1)
    expect_result(page)
    expect(page.locator(".strip li").last).to_contain_text("0 ranked")
    expect(page.get_by_role("heading", name="From last label to new answers")).to_be_visible()

    machine.rank_what_waits(annotator)
    start_round(page, ready, 2)
    expect_result(page)
    expect(page.get_by_role("row").filter(has_text="proxy win rate")).to_contain_text("%")
    page.locator("#cell-ppo").click()
    expect(page.locator(".plot canvas")).not_to_have_count(0)
    page.get_by_role("link", name="ppo-1").click()
    page.get_by_role("link", name="Promote").click()
    page.get_by_label("Reason").fill("It answers in full sentences")
    page.get_by_role("button", name="Promote ppo-1").click()
    expect(page.locator(".champion")).to_contain_text("ppo-1")
    expect(page.locator(".champion")).to_contain_text("It answers in full sentences")
    assert Promotion.objects.get().model_version.name == "ppo-1"


def start_round(page: Page, project: Project, number: int) -> None:
    page.goto(f"/projects/{project.slug}/rounds/")
    expect(page.locator(".strip .cell-name")).to_have_text(STRIP)
    page.get_by_role("button", name=f"Start round {number}").click()
    expect(page.get_by_role("heading", name=f"Round {number}")).to_be_visible()


def expect_result(page: Page) -> None:
    expect(page.get_by_role("heading", name="Result")).to_be_visible(timeout=WHILE_WORKERS_WORK_MS)
    expect(page.locator(".pair").first).to_be_visible()


def test_who_tabs_through_a_page_that_renews_itself_stays_where_he_is(
    open_as: Callable[[User, str], Page], project: Project, admin: Member
) -> None:
    machine.make_settings(project, demonstrations_minimum=0)
    machine.make_model(project, "base")
    page = open_as(admin.user, f"/projects/{project.slug}/rounds/")
    page.evaluate("document.querySelector('#next').dataset.old = 'yes'")
    page.locator("#cell-sft").focus()
    expect(page.locator("#next[data-old]")).to_have_count(0)
    expect(page.locator("#cell-sft")).to_be_focused()


SEEN = {
    "sft": [{"id": "1", "pieces": [["read", "What is a fox?"], ["trained", "A small wild dog."], ["end", "</s>"]]}],
    "reward": [
        {
            "id": "2",
            "pieces": [["read", "What is a fox?"]],
            "answers": [[["scored", "A dog."], ["end", "</s>"]], [["scored", "A cat, a cat, a cat"]]],
            "judgements": [{"places": [1, 2], "pairs": 1}],
        }
    ],
    "ppo": [{"id": "3", "pieces": [["read", "What is a wolf?"]], "room": 64, "ending": "</s>"}],
}
BEFORE, AFTER = [["kept", "Drink "], ["changed", "water."]], [["kept", "Drink "], ["changed", "tea, " * 90]]
FIGURE = {"name": "reward", "before": [0.1, -0.2, 0.4], "after": [1.1, 0.8, 1.4], "change": [1.0, 0.7, 1.3]}
LENGTH = {"name": "length", "before": [20.0, 18.0, 22.0], "after": [24.0, 22.0, 26.0], "change": [4.0, 2.0, 6.0]}


@pytest.fixture
def finished(ready: Project) -> Project:
    """A project with a round that is through, and the plan of the next, looked at by a worker."""
    plan = plans.draft(ready)
    done = {"status": Round.Status.SUCCEEDED, "finished_at": timezone.now()}
    round = Round.objects.create(project=ready, number=1, plan=plan.to_json(), **done)
    times = {"started_at": timezone.now() - timedelta(minutes=4), "finished_at": timezone.now()}
    machine.queue_run(ready, "sft", round=round, status=Run.Status.SUCCEEDED, **times)
    asked = [{"role": "user", "content": "What helps against a cold?"}]
    pair = {"messages": asked, "before": BEFORE, "after": AFTER, "change": 0.5}
    pair |= {"before_reward": 0.1, "after_reward": 1.1, "before_cut": False, "after_cut": True}
    gaps = [{"gap": 1, "pairs": 40, "accuracy": [0.7, 0.55, 0.82]}]
    Result.objects.create(round=round, figures=[FIGURE, LENGTH], gaps=gaps, answers=[pair] * 3)
    TrainingSettings.objects.update(demonstrations_minimum=9)
    plan = plans.draft(ready)
    key = examinations.key_of(ready, plan, TrainingSettings.objects.get())
    examination = examinations.current(ready, Examination.Kind.RECORDS, key)
    empty = {"level": "block", "kind": "empty_answer", "numbers": {"count": 1, "ids": ["1"]}}
    examinations.finish(examination, status="done", findings=[empty], examples=SEEN)
    machine.queue_run(ready, "ppo", status=Run.Status.HELD)
    return ready


def test_no_barrier_and_nothing_off_the_screen_before_and_after_a_round(
    open_as: Callable[[User, str], Page], finished: Project, admin: Member
) -> None:
    page = open_as(admin.user, "/")
    for address in (f"/projects/{finished.slug}/rounds/", f"/projects/{finished.slug}/rounds/1/"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.ok, address
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            report = Axe().run(page, options={"resultTypes": ["violations"]})
            assert report.violations_count == 0, f"{address}\n{report.generate_report()}"
        page.set_viewport_size(PHONE)
        assert fits(page), address
        page.set_viewport_size({"width": 1280, "height": 900})
