"""A run in a browser: its curves are drawn, its tables and its CSV are there, and so are the answers of its steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django import Settings

from annotate.models import Member, Project, Slate
from tests.browser.conftest import watch
from tests.browser.keyboard import PHONE, press, reach
from tests.factories import make_prompt
from tests.training import engine_files
from training.models import Round, Run
from training.services.planning import plans
from training.services.run_files import directories
from training.services.running import runs


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def running(project: Project) -> Run:
    run = runs.claim(engine_files.make_run(project).pk, owner="gpu@here")
    assert run is not None
    engine_files.write_metrics(run, engine_files.ppo_metrics(12))
    runs.heartbeat(run, step=12, total=40)
    return run


@pytest.fixture
def failed(running: Run) -> Run:
    """The run after its last attempt crashed, with a round, a checkpoint and samples."""
    plan = plans.Plan(number=1, obstacle="", stages=[plans.StagePlan(stage="ppo")]).to_json()
    round = Round.objects.create(project=running.project, number=1, status=Round.Status.FAILED, plan=plan)
    error = "The engine was killed by SIGKILL."
    Run.objects.update(round=round, status=Run.Status.FAILED, exit_code=-9, error=error, finished_at=timezone.now())
    engine_files.write_metrics(running, engine_files.watched_metrics(12))
    engine_files.write_checkpoint(running, 10)
    for step in (4, 8, 10):
        engine_files.write_samples(running, step, prompt_id=str(make_prompt(running.project).pk))
    (engine_files.attempt(running) / directories.LOG).write_text("iteration 12 begins\n" * 50, "utf-8")
    return Run.objects.get(pk=running.pk)


def address(run: Run) -> str:
    return f"/projects/{run.project.slug}/runs/{run.pk}/"


def drawn_pixels(page: Page, curve: str) -> int:
    """How many pixels of a curve's canvas are not empty."""
    return page.evaluate(
        """id => {
          const canvas = document.querySelector(`#plot-${id} canvas`);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.filter((value, index) => index % 4 === 3 && value).length;
        }""",
        curve,
    )


def test_curves_are_drawn_and_go_on_while_the_run_goes_on(open_as, admin: Member, running: Run) -> None:
    page = open_as(admin.user, address(running))
    expect(page.locator(".plot canvas")).to_have_count(10)
    assert drawn_pixels(page, "rollout-kl") > 1_000
    page.locator("#table-rollout-kl summary").click()
    expect(page.locator("#table-rollout-kl tbody tr")).to_have_count(12)
    engine_files.write_metrics(running, engine_files.ppo_metrics(15))
    expect(page.locator("#table-rollout-kl tbody tr")).to_have_count(15)
    expect(page.locator("#curve-rollout-kl .plot .uplot")).to_have_count(1)
    assert drawn_pixels(page, "rollout-kl") > 1_000


def test_a_curve_is_smoothed_at_first_and_can_be_seen_raw_and_on_a_logarithmic_axis(
    open_as, admin: Member, running: Run
) -> None:
    page = open_as(admin.user, address(running))
    expect(page.locator("#plot-rollout-kl .u-series")).to_have_count(3)
    page.get_by_label("Smoothing").fill("0")
    expect(page.locator("#plot-rollout-kl .u-series")).to_have_count(2)
    page.get_by_label("Logarithmic axis").check()
    assert drawn_pixels(page, "rollout-kl") > 1_000


def test_all_panels_of_the_gauge_point_at_one_measurement_and_go_on_while_the_run_goes_on(
    open_as, admin: Member, running: Run
) -> None:
    engine_files.write_metrics(running, engine_files.watched_metrics(20))
    page = open_as(admin.user, address(running))
    expect(page.locator("#gauge canvas")).to_have_count(5)
    assert drawn_pixels(page, "gauge-scores") > 1_000
    expect(page.locator("#gauge [data-gauge-at]")).to_have_text("last measurement")
    plot = page.locator("#plot-gauge-distance .u-over")
    plot.hover(position={"x": plot.bounding_box()["width"] * 0.89, "y": 50})  # the last step, but second by KL
    expect(page.locator("#gauge [data-gauge-at]")).to_have_text("at step 20")
    expect(page.locator("#gauge [data-gauge-value='gauge/reward']")).to_have_text("1")
    pointer, scores = (
        page.locator(f"#plot-gauge-{part}").bounding_box() for part in ("length .u-cursor-x", "scores .u-over")
    )
    assert pointer["x"] == pytest.approx(scores["x"] + scores["width"], abs=2)
    engine_files.write_metrics(running, engine_files.watched_metrics(25))
    expect(page.locator("#table-gauge tbody tr")).to_have_count(5)
    expect(page.locator("#gauge .uplot")).to_have_count(5)


def test_flat_and_healthy_curves_open_by_key_are_drawn_then_and_stay_open_while_the_run_goes_on(
    open_as, admin: Member, running: Run
) -> None:
    page = open_as(admin.user, address(running))
    folded = page.locator("#flat-curves")
    expect(folded.locator("> summary")).to_contain_text("flat and healthy: skipped steps 0")
    expect(page.locator("#curve-skipped-steps")).to_be_hidden()
    press(folded.locator("> summary"))
    expect(page.locator("#curve-skipped-steps")).to_be_visible()
    expect(page.locator("#plot-skipped-steps .u-over")).to_be_visible()
    page.wait_for_function("() => document.querySelector('#plot-skipped-steps canvas').width > 100")
    assert drawn_pixels(page, "skipped-steps") > 1_000
    engine_files.write_metrics(running, engine_files.ppo_metrics(15))
    expect(page.locator("#table-rollout-kl tbody tr")).to_have_count(15)
    expect(page.locator("#curve-skipped-steps")).to_be_visible()
    press(folded.locator("> summary"))
    expect(page.locator("#curve-skipped-steps")).to_be_hidden()


def test_the_cards_of_curves_in_a_row_have_one_height_and_little_room_under_their_plots(
    open_as, admin: Member, running: Run
) -> None:
    page = open_as(admin.user, address(running))
    page.set_viewport_size({"width": 1280, "height": 900})
    cards = [card.bounding_box() for card in page.locator("#curves > .curves > .curve").all()]
    tops = {card["y"] for card in cards}
    assert len(tops) > 1
    for top in tops:
        row = [card for card in cards if card["y"] == top]
        assert len({card["height"] for card in row}) == 1
    for card in page.locator("#curves > .curves > .curve").all():
        plot, table = card.locator(".uplot").bounding_box(), card.locator("summary").bounding_box()
        assert table["y"] - (plot["y"] + plot["height"]) < 16


def test_the_numbers_can_be_taken_along(open_as, admin: Member, running: Run) -> None:
    page = open_as(admin.user, address(running))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert Path(download.value.path()).read_text().count("\n") == 13


def test_without_javascript_the_tables_show(browser, live_server, open_as, admin: Member, running: Run) -> None:
    signed_in = open_as(admin.user, "/").context.storage_state()
    bare = browser.new_context(base_url=live_server.url, java_script_enabled=False, storage_state=signed_in)
    faults = watch(bare)
    page = bare.new_page()
    page.goto(address(running))
    page.locator("#table-rollout-kl summary").click()
    expect(page.locator("#table-rollout-kl tbody tr")).to_have_count(12)
    bare.close()
    assert faults == []


def test_a_copy_is_edited_and_started(open_as, admin: Member, failed: Run) -> None:
    page = open_as(admin.user, address(failed))
    page.get_by_role("link", name="Copy and edit").click()
    page.get_by_label("Clip range", exact=True).fill("0")
    page.get_by_role("button", name="Start copy").click()
    expect(page.get_by_text("clip must be above 0")).to_be_visible()
    page.get_by_label("Clip range", exact=True).fill("0.1")
    page.get_by_role("button", name="Start copy").click()
    expect(page.locator("tr", has_text="Clip").filter(has_text="0.1").first).to_be_visible()


def test_the_answers_of_a_step_are_opened_sorted_and_sent_to_people_by_keyboard_on_a_phone(
    open_as, admin: Member, failed: Run
) -> None:
    page = open_as(admin.user, address(failed))
    page.set_viewport_size(PHONE)
    reach(page.locator("#step-10"))
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#step-8")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Answers at step 8")).to_be_focused()
    expect(page.get_by_text("Nobody knows 0.")).to_be_visible()
    press(page.get_by_role("link", name="highest reward first"))
    expect(page.locator(".sample").first).to_contain_text("Nobody knows 2.")
    press(page.locator(".sample").first.get_by_role("button", name="Ask people to rank these"))
    expect(page.get_by_text("People are now asked to rank the two answers.")).to_be_visible()
    assert Slate.objects.count() == 1


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (1280, "light")])
def test_the_pages_of_a_run_fit_their_window_and_can_be_read_by_everybody(
    open_as, admin: Member, failed: Run, width: int, colours: str
) -> None:
    page = open_as(admin.user, "/")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    faults = {}
    for part in ("", "change/", "steps/8/"):
        page.goto(address(failed) + part)
        for part in page.locator("#flat-curves > summary, figure details > summary").all():
            part.click()
        found = [fault["id"] for fault in Axe().run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append("wider than the window")
        if found:
            faults[part] = found
    assert faults == {}
