"""The bell in a browser: it counts, its page leads where something is to be done, and the account switches mail on."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from annotate.models import Member, Project
from annotate.services import notices


def test_the_bell_leads_to_what_is_to_be_done_and_counts_less_afterwards(open_as, project, annotator):
    address = f"/projects/{project.slug}/rank/"
    for number in (1, 2):
        notices.tell(project, kind="rankings.wanted", text=f"{number} sets of answers wait.", address=address)
    page = open_as(annotator.user, "/")
    page.get_by_role("link", name="Notifications, 2 unread").click()
    page.get_by_role("button", name="2 sets of answers wait.").click()
    expect(page).to_have_url(f"{page.url.split('/projects')[0]}{address}")
    page.get_by_role("link", name="Notifications, 1 unread").click()
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.get_by_role("link", name="Notifications", exact=True)).to_be_visible()


def test_mail_is_switched_on_in_the_account(open_as, project: Project, annotator: Member):
    page = open_as(annotator.user, "/account/")
    page.get_by_label(project.name).check()
    page.get_by_role("button", name="Save email settings").click()
    expect(page.get_by_label(project.name)).to_be_checked()
    annotator.refresh_from_db()
    assert annotator.wants_mail


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (1280, "light")])
def test_notices_fit_their_window_and_can_be_read_by_everybody(open_as, project, annotator, width, colours):
    notices.tell(project, kind="round.failed", text="Round 1 has failed: " + "w" * 300, address="/")
    page = open_as(annotator.user, "/")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=colours)
    page.goto("/notices/")
    assert [fault["id"] for fault in Axe().run(page).response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
