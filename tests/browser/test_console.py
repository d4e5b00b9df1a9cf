"""The console stays empty: under the strict policy nothing is refused, however often parts of pages are swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django import Settings

from annotate.models import Demonstration, Member, Project, Ranking
from tests.factories import make_prompt, make_slate
from tests.training import engine_files
from training.models import ModelVersion, Round, Run, TrainingSettings
from training.services.planning import plans
from training.services.running import runs


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def console(window: BrowserContext) -> Iterator[list[str]]:
    """Everything that the window's console is told; a test that ends with a word in it fails."""
    said: list[str] = []
    window.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    yield said
    assert said == []


@pytest.mark.usefixtures("console")
def test_ranking_with_keys_and_pointer_and_handing_in(open_as, project: Project, annotator: Member) -> None:
    for _ in range(3):
        make_slate(project, completions=4)
    page = open_as(annotator.user, f"/projects/{project.slug}/rank/")
    for number in range(1, 3):
        expect(page.locator("[data-answer=A] input").first).to_be_focused()
        drag(page, "D", before="A")
        for key in "a4b3c2d1":
            page.keyboard.press(key)
        expect(page.locator("[data-draft-status][data-state=saved]")).to_be_visible()
        page.keyboard.press("Control+Enter")
        expect(page.locator("[data-draft-status][data-state=saved]")).to_have_count(0)
        assert Ranking.objects.count() == number
    page.keyboard.press("u")  # undo: the same board again, as a correction
    expect(page.get_by_role("button", name="Discard changes")).to_be_visible()


@pytest.mark.usefixtures("console")
@pytest.mark.parametrize("grows_by_itself", [True, False], ids=["with field-sizing", "without it"])
def test_writing_previewing_refusing_and_handing_in(
    open_as, window: BrowserContext, project: Project, annotator: Member, grows_by_itself: bool
) -> None:
    if not grows_by_itself:  # as browsers in which the page sets the height of the box
        window.add_init_script("CSS.supports = () => false")
    for _ in range(3):
        make_prompt(project)
    page = open_as(annotator.user, f"/projects/{project.slug}/write/")
    for number in range(1, 3):
        sheet = page.get_by_role("textbox", name="Your answer")
        expect(sheet).to_be_focused()
        sheet.fill("Rest, and *drink* water.\n\n| a | b |\n|:-|-:|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n" * 5)
        page.get_by_text("Preview", exact=True).click()
        expect(page.locator("[data-preview] em").first).to_have_text("drink")
        page.get_by_text("Write", exact=True).click()
        expect(page.locator("[data-draft-status][data-state=saved]")).to_be_visible()
        page.keyboard.press("Control+Enter")
        expect(sheet).to_have_value("")
        assert Demonstration.objects.count() == number


@pytest.mark.usefixtures("console")
def test_a_round_and_a_run_that_renew_themselves(
    open_as: Callable[..., Page], project: Project, admin: Member, data_dir: Path
) -> None:
    TrainingSettings.objects.create(project=project)
    ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    page = open_as(admin.user, f"/projects/{project.slug}/rounds/")
    renewed(page, "rounds/next/")
    plan = plans.draft(project).to_json()
    round = Round.objects.create(project=project, number=1, status=Round.Status.RUNNING, plan=plan)
    run = runs.claim(engine_files.make_run(project, round=round).pk, owner="gpu@here")
    assert run is not None
    engine_files.write_metrics(run, engine_files.ppo_metrics(5))
    engine_files.write_samples(run, 2)
    page.goto(f"/projects/{project.slug}/rounds/1/")
    renewed(page, "live/")
    page.goto(f"/projects/{project.slug}/runs/{run.pk}/")
    expect(page.locator("canvas").first).to_be_visible()
    renewed(page, "live/")
    engine_files.write_metrics(run, engine_files.ppo_metrics(7))
    renewed(page, "curves/")
    page.locator("[data-steps] a").first.click()
    expect(page.locator("#samples-title")).to_be_focused()
    Run.objects.filter(pk=run.pk).update(status=Run.Status.FAILED, error="It ended.")
    renewed(page, "live/")
    page.locator("[data-theme-switch]").click()


def renewed(page: Page, address: str) -> None:
    """A fragment has come, and was swapped in."""
    with page.expect_response(lambda answer: address in answer.url):
        pass
    page.wait_for_timeout(300)


def drag(page: Page, letter: str, *, before: str) -> None:
    grip = page.locator(f"[data-answer={letter}] [data-grip]").bounding_box()
    target = page.locator(f"[data-answer={before}]").bounding_box()
    assert grip
    assert target
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.down()
    for part in (0.3, 0.6, 1.0):
        page.mouse.move(
            grip["x"] + (target["x"] + 8 - grip["x"]) * part, grip["y"] + (target["y"] + 8 - grip["y"]) * part, steps=4
        )
    page.mouse.up()
