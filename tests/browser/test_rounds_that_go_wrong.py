"""What people see of a round whose engine, worker or web process dies, and what they do about it.

The engine is the toy one: each step of a stage takes milliseconds, or waits until the test has looked.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from annotate.models import Project, Role
from tests.browser.conftest import PATIENCE_MS, open_window, sign_in
from tests.browser.keyboard import PHONE, fits, press
from tests.factories import make_member
from tests.faults.conftest import points, processes, toy
from tests.faults.failpoints import Failpoints
from tests.faults.processes import Processes, wait_until
from tests.faults.toy_project import make_toy_project
from tests.web_server import Server
from training.models import ModelVersion, Round, Run, TrainingSettings
from training.models.runs import SILENT_AFTER
from training.services.running import rounds
from training.stages import Stage

__all__ = ["points", "processes", "toy"]

PPO_STEPS = 16  # more than the other stages have, so that a failpoint can mean PPO alone
STAGES = (Stage.SFT, Stage.REWARD, Stage.PPO, Stage.EVALUATION, Stage.SAMPLING)
WHILE_WORKERS_WORK_MS = 60_000


@pytest.fixture
def project(toy: None, processes: Processes) -> Iterator[Project]:
    """A project whose next round has a run of every stage, and workers that say at once how far they are."""
    processes.environment = {"ROUNDTABLE_RUN_HEARTBEAT_S": "0.2"}
    project = make_toy_project(of_every_stage=True)
    training = TrainingSettings.objects.get()
    training.overrides["ppo"] |= {"iterations": PPO_STEPS}
    training.save()
    yield project
    shutil.rmtree(settings.BASE_MODELS_DIR)


def test_a_failed_stage_is_resumed_by_keyboard_on_a_phone_and_its_round_ends_well(
    page: Page, project: Project, processes: Processes, points: Failpoints
) -> None:
    for _ in range(4):  # the attempt that comes this far, and three that come no further
        points.arm("toy-step", "out_of_memory", PPO_STEPS - 1)
    processes.worker("gpu")
    page.set_viewport_size(PHONE)
    page.goto(f"/projects/{project.slug}/rounds/")
    press(page.get_by_role("button", name="Start round 1"))
    cell = page.locator(".strip .is-failed")
    expect(cell).to_contain_text("PPO", timeout=WHILE_WORKERS_WORK_MS)
    expect(cell.get_by_role("button")).to_have_text(["Run again from the start", "Resume at step 14"])
    assert fits(page)

    press(cell.get_by_role("link", name="PPO"))
    card = page.locator(".failure")
    expect(card.get_by_role("heading", name="There was not enough memory.")).to_be_visible()
    expect(card.get_by_role("row").filter(has_text="step 14")).to_contain_text("verified")
    expect(card.get_by_role("region", name="End of the log")).to_contain_text("MemoryError")
    assert fits(page)

    press(card.get_by_role("button", name="Resume at step 14"))
    expect(page.get_by_role("link", name="ppo-1")).to_be_visible(timeout=WHILE_WORKERS_WORK_MS)
    failed = Run.objects.get(status=Run.Status.FAILED)
    press(page.get_by_role("link", name=f"run {failed.pk}"))
    press(page.get_by_role("link", name="View run"))
    press(page.locator("#to-round"))
    expect(page.get_by_text("The round is complete")).to_be_visible(timeout=WHILE_WORKERS_WORK_MS)
    expect(page.locator(".strip .is-succeeded")).to_have_count(8)
    assert fits(page)
    model = ModelVersion.objects.get(kind=ModelVersion.Kind.PPO)
    assert model.run.retry_of == failed
    assert steps_done_by(model.run) == [15, 16]


def steps_done_by(run: Run) -> list[int]:
    """The steps that the run did itself."""
    lines = (run.directory / "attempts" / str(run.fence) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_round_is_started_and_cancelled_by_keyboard_on_a_phone(page: Page, project: Project) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"/projects/{project.slug}/rounds/")
    assert fits(page)
    press(page.get_by_role("button", name="Start round 1"))
    expect(page.locator(".strip [aria-current=step]")).to_contain_text("SFT")
    assert fits(page)
    press(page.get_by_role("link", name="Cancel round…"))
    expect(page.get_by_role("heading", name="Cancel round 1?")).to_be_visible()
    assert fits(page)
    press(page.get_by_role("button", name="Cancel round 1"))
    expect(page.locator("h1 + .badge")).to_contain_text("cancelled")
    assert fits(page)
    assert Round.objects.get().status == Round.Status.CANCELLED


def test_a_round_that_is_being_cancelled_says_so_until_its_engine_has_stopped(
    page: Page, project: Project, processes: Processes, points: Failpoints
) -> None:
    paused = points.arm("toy-step", "pause", 7)
    processes.supervisor()
    page.goto(f"/projects/{project.slug}/rounds/")
    page.get_by_role("button", name="Start round 1").click()
    points.wait_for_pause(paused)
    page.get_by_role("link", name="Cancel round…").click()
    page.get_by_role("button", name="Cancel round 1").click()
    expect(page.get_by_text("Cancelling.")).to_be_visible()
    points.resume(paused)
    expect(page.locator("#stage-sft .badge")).to_contain_text("cancelled", timeout=WHILE_WORKERS_WORK_MS)
    expect(page.locator("#live[hx-get]")).to_have_count(0)


@pytest.mark.slow
def test_a_web_process_that_is_killed_at_any_cell_shows_the_same_afterwards(
    page: Page, project: Project, server: Server, processes: Processes, points: Failpoints
) -> None:
    page.goto(f"/projects/{project.slug}/rounds/")
    collecting = strip(page)
    points.arm("sealed-renamed", "kill", "snapshots")  # the labels are frozen, and no row knows
    page.get_by_role("button", name="Start round 1").click()
    server.process.wait(PATIENCE_MS / 1000)
    server.start()
    page.goto(f"/projects/{project.slug}/rounds/")
    assert strip(page) == collecting

    processes.supervisor()
    armed = points.arm("toy-step", "pause", 7)
    page.get_by_role("button", name="Start round 1").click()
    for stage in STAGES:
        points.wait_for_pause(armed)
        wait_until(Run.objects.filter(stage=stage, step=6).exists, within=30)
        expect_the_same_after_a_kill(page, server)
        expect(page.locator(f"[aria-current=step] #cell-{stage}")).to_be_visible()
        paused, armed = armed, points.arm("toy-step", "pause", 7)
        points.resume(paused)
    wait_until(Round.objects.filter(status=Round.Status.SUCCEEDED).exists, within=30)
    expect_the_same_after_a_kill(page, server)


def expect_the_same_after_a_kill(page: Page, server: Server) -> None:
    page.reload()
    before = strip(page)
    server.kill()
    server.start()
    page.reload()
    assert strip(page) == before


def test_a_run_in_the_middle_looks_the_same_after_a_reload_in_another_browser_and_after_a_kill(
    page: Page, browser: Browser, project: Project, server: Server, processes: Processes, points: Failpoints
) -> None:
    points.arm("toy-step", "pause", 7)
    processes.supervisor()
    run = rounds.open(project, opened_by=None).runs.get()
    wait_until(Run.objects.filter(step=6).exists, within=30)
    address = f"/projects/{project.slug}/runs/{run.pk}/"
    page.goto(address)
    expect(page.get_by_text("step 6 of 12")).to_be_visible()
    expect(page.locator(".curve-table tbody tr")).to_have_count(6)
    before = picture(page)
    page.reload()
    assert picture(page) == before
    with open_window(browser, server.url) as window:
        sign_in(window, make_member(project, role=Role.ADMIN).user, server.url)
        other = window.new_page()
        other.goto(address)
        assert picture(other) == before
    server.kill()
    server.start()
    page.reload()
    assert picture(page) == before


def picture(page: Page) -> list[str]:
    """What the page of a run says, and the numbers of its curves."""
    return [steady(page.locator("#live").inner_text()), *page.locator(".curve-table").all_text_contents()]


def test_a_killed_worker_is_called_lost_without_a_reload(
    page: Page, project: Project, processes: Processes, points: Failpoints
) -> None:
    paused = points.arm("toy-step", "pause", 7)
    worker = processes.supervisor()
    round = rounds.open(project, opened_by=None)
    points.wait_for_pause(paused)
    page.goto(f"/projects/{project.slug}/rounds/{round.number}/")
    of_run = page.context.new_page()
    of_run.goto(f"/projects/{project.slug}/runs/{round.runs.get().pk}/")
    expect(of_run.locator("h1 + .badge")).to_contain_text("running")
    processes.kill(worker)
    Run.objects.update(heartbeat_at=timezone.now() - SILENT_AFTER)  # as time does
    expect(page.locator(".strip [aria-current=step]")).to_contain_text("lost: worker not responding")
    expect(of_run.locator("h1 + .badge")).to_contain_text("lost: worker not responding")
    for shown, said in ((page, "is not responding"), (of_run, "is not responding")):
        expect(shown.get_by_text(f"Worker gpu-0@test {said}.")).to_be_visible()


def strip(page: Page) -> list[str]:
    return [steady(cell) for cell in page.locator(".strip li").all_inner_texts()]


def steady(text: str) -> str:
    """The text without the times that go on, such as 3 s or 1 min 3 s."""
    return re.sub(r"(\d+ (s|min|h)\b ?)+", "… ", text)
