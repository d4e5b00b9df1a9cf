"""An invited person in a browser: from the link to the first piece of work, in the time zone of the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from annotate.models import Member, Project, User
from annotate.services.people import links
from tests.browser.conftest import PATIENCE_MS, watch
from tests.browser.keyboard import PHONE, fits
from tests.factories import make_slate

GUIDELINES = "Ask before you advise.\n\n" * 100


@pytest.fixture
def visitor(browser: Browser, live_server: object) -> Iterator[Page]:
    """Somebody in Zurich, who is not signed in."""
    url = live_server.url  # type: ignore[attr-defined]
    context = browser.new_context(base_url=url, timezone_id="Europe/Zurich", reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    faults = watch(context)
    yield context.new_page()
    context.close()
    assert faults == []


def invite(project: Project) -> str:
    return links.path_of(links.make("grace@example.org", purpose="invitation", project=project).secret)


def test_an_invitation_leads_by_the_welcome_to_the_first_slate(visitor: Page, project: Project) -> None:
    Project.objects.update(guidelines=GUIDELINES)
    slate = make_slate(project)
    visitor.goto(invite(project))
    visitor.get_by_role("button", name="Join project").click()
    expect(visitor.get_by_role("heading", name=f"Welcome to “{project}”")).to_be_visible()
    visitor.goto("/")
    expect(visitor).to_have_url(f"{visitor.url.removesuffix('/welcome/')}/welcome/")
    expect(visitor.get_by_label("Time zone")).to_have_value("Europe/Zurich")
    visitor.get_by_text("Read guidelines").click()
    expect(visitor.get_by_text("Ask before you advise.").first).to_be_visible()
    visitor.keyboard.press("Control+Enter")
    expect(visitor.get_by_label("Name")).to_be_focused()  # the browser asks for what is missing
    visitor.keyboard.type("Grace")
    visitor.keyboard.press("Control+Enter")
    expect(visitor.get_by_role("paragraph").filter(has_text=slate.completions.first().text)).to_be_visible()
    person = User.objects.get(email="grace@example.org")
    assert (person.name, person.time_zone) == ("Grace", "Europe/Zurich")


def test_the_welcome_fits_a_phone_and_can_be_read_by_everybody(visitor: Page, project: Project) -> None:
    visitor.set_viewport_size(PHONE)
    visitor.goto(invite(project))
    visitor.get_by_role("button", name="Join project").click()
    expect(visitor.get_by_role("button", name="Start")).to_be_visible()
    for colours in ("light", "dark"):
        visitor.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        assert [fault["id"] for fault in Axe().run(visitor).response["violations"]] == []
    assert fits(visitor)


def test_the_account_page_offers_the_zone_of_the_browser(
    visitor: Page, open_as: Callable[..., Page], annotator: Member
) -> None:
    page = open_as(annotator.user, "/account/")
    zone = page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    User.objects.update(time_zone="Asia/Tokyo")
    page.reload()
    page.get_by_role("button", name="Use browser time zone").click()
    expect(page.get_by_label("Time zone")).to_have_value(zone)
    expect(page.get_by_role("button", name="Use browser time zone")).to_be_hidden()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    annotator.user.refresh_from_db()
    assert annotator.user.time_zone == zone
