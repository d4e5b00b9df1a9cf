"""The system page in a browser: reached by the menu, readable in both colours and on a phone."""

from __future__ import annotations

from datetime import timedelta

from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import expect

from annotate.models import Project
from tests.factories import make_user
from tests.training import machine
from training.models import Run, Worker
from training.services.machines import workers


def test_a_site_admin_finds_what_is_wrong_by_the_menu(open_as, project: Project) -> None:
    machine.queue_run(project, status=Run.Status.HELD, error="The disk is full.")
    workers.beat("gpu@attic", queue="gpu", host="attic", device="2 CPU cores", pid=8)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    page = open_as(make_user(is_site_admin=True), "/")
    page.get_by_label("Account").click()
    page.get_by_role("link", name="System health").click()
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(page.get_by_role("row", name="gpu@attic")).to_contain_text("no heartbeat for")
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    reports = [Axe().run(page, options={"resultTypes": ["violations"]})]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    reports.append(Axe().run(page, options={"runOnly": ["color-contrast"]}))
    for report in reports:
        assert report.violations_count == 0, report.generate_report()
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_queue_is_steered_by_keys_in_the_row_that_has_the_focus(open_as, project: Project) -> None:
    first, second = (machine.queue_run(project, stage) for stage in ("sft", "reward"))
    page = open_as(make_user(is_site_admin=True), "/system/")
    page.keyboard.press("f")
    expect(page.get_by_role("table").filter(has_text="Starts").locator("tbody th").first).to_have_text("SFT")
    page.locator(f"#job-{second.pk}").focus()
    page.keyboard.press("f")
    expect(page.get_by_text(f"Run {second.pk} is now first in the queue.")).to_be_visible()
    assert list(Run.objects.queued()) == [second, first]
    page.locator(f"#job-{first.pk}").focus()
    page.keyboard.press("x")
    page.get_by_role("button", name=f"Cancel run {first.pk}").click()
    expect(page.get_by_text("is cancelled.")).to_be_visible()
    assert list(Run.objects.queued()) == [second]
