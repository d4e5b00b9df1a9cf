"""Writing in a browser. What was typed survives a reload, a killed server, an expired session and a second window."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.contrib.sessions.models import Session
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from annotate.models import Assignment, Demonstration, Member, Project
from annotate.services.people import members
from tests.browser.conftest import sign_in
from tests.factories import make_demonstration, make_prompt
from tests.web_server import Server

ANSWER = "Breathe out slowly.\n\nThen *walk* round the block."


def open_sheet(open_as: Callable[..., Page], annotator: Member) -> Page:
    page = open_as(annotator.user, f"/projects/{annotator.project.slug}/write/")
    expect(sheet(page)).to_be_focused()
    return page


def expect_saved(page: Page) -> None:
    expect(page.locator("[data-draft-status]")).to_have_text(re.compile(r"^\s*saved \d\d:\d\d"))


def sheet(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Your answer")


def test_an_answer_is_written_previewed_and_handed_in_and_the_next_prompt_is_there(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project, "What helps against stress?")
    make_prompt(project, "What helps against boredom?")
    page = open_sheet(open_as, annotator)
    page.keyboard.type(ANSWER)
    expect(page.get_by_text("8 words")).to_be_visible()
    page.get_by_text("Preview", exact=True).click()
    expect(page.locator("[data-preview] em")).to_have_text("walk")
    page.get_by_text("Write", exact=True).click()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Submitted")).to_be_visible()
    assert Demonstration.objects.get().text == ANSWER
    expect(page.get_by_text("What helps against boredom?")).to_be_visible()
    expect(sheet(page)).to_have_value("")


def test_a_draft_survives_a_reload_that_comes_before_the_first_save(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    page.keyboard.type("half a thou")
    page.reload()
    expect(sheet(page)).to_have_value("half a thou")
    expect_saved(page)
    assert Assignment.objects.get().draft == {"text": "half a thou"}


def test_a_draft_survives_a_killed_server(
    window: BrowserContext, server: Server, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    sign_in(window, annotator.user, server.url)
    page = window.new_page()
    page.goto(f"{server.url}/projects/{project.slug}/write/")
    server.kill()
    sheet(page).fill("written while nobody listened")
    expect(page.get_by_text("not saved on the server yet")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("The server is not responding")).to_be_visible()
    server.start()
    expect_saved(page)
    assert Assignment.objects.get().draft == {"text": "written while nobody listened"}
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Submitted")).to_be_visible()


def test_a_draft_survives_an_expired_session(open_as, project: Project, annotator: Member) -> None:
    annotator.user.set_password("a long enough password")
    annotator.user.save()
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    Session.objects.all().delete()
    page.keyboard.type("typed after the session ended")
    page.get_by_role("link", name="sign in").click()
    page.get_by_label("Email").fill(annotator.user.email)
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Sign in").click()
    expect(sheet(page)).to_have_value("typed after the session ended")
    expect_saved(page)


def test_two_windows_with_different_texts_are_both_shown(open_as, project: Project, annotator: Member) -> None:
    make_prompt(project)
    first = open_sheet(open_as, annotator)
    second = open_sheet(open_as, annotator)
    sheet(second).fill("the second window's text")
    expect_saved(second)
    sheet(first).fill("the first window's text")
    conflict = first.locator("[data-draft-conflict]")
    expect(conflict).to_contain_text("the first window's text")
    expect(conflict).to_contain_text("the second window's text")
    first.get_by_role("button", name="Keep this version").click()
    expect(conflict).to_be_hidden()
    expect_saved(first)
    assert Assignment.objects.get().draft == {"text": "the first window's text"}


def test_who_was_removed_is_told_to_copy_the_text(open_as, project: Project, annotator: Member, admin: Member) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    members.remove(annotator, actor=admin.user)
    page.keyboard.insert_text("written in vain")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("You can no longer submit this. Copy your text")
    expect(page.locator("[data-draft-status]")).to_contain_text("Copy your text before you leave this page.")
    expect(sheet(page)).to_have_value("written in vain")


def test_skipping_asks_why_and_goes_on(open_as, project: Project, annotator: Member) -> None:
    make_prompt(project, "First?")
    make_prompt(project, "Second?")
    page = open_sheet(open_as, annotator)
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.get_by_label("The prompt does not make sense").check()
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Second?")).to_be_visible()
    assert Assignment.objects.get(status="skipped").skip_reason == "The prompt does not make sense"


def test_an_empty_answer_comes_back_with_a_sentence(open_as, project: Project, annotator: Member) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    page.keyboard.type("   ")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Write an answer, or skip")).to_be_visible()
    assert not Demonstration.objects.exists()


def test_a_correction_survives_a_reload_and_is_gone_when_given_up(open_as, project: Project, annotator: Member) -> None:
    label = make_demonstration(annotator, "Rest.")
    page = open_as(annotator.user, f"/labels/demonstration/{label.pk}/correct/")
    sheet(page).fill("Rest, and drink water")
    expect_saved(page)
    assert copies(page) == []
    page.evaluate("localStorage.clear()")  # as in another browser
    page.reload()
    expect(sheet(page)).to_have_value("Rest, and drink water")
    sheet(page).fill("Rest, and drink tea")
    page.get_by_role("button", name="Discard changes").click()
    expect(page.get_by_role("heading", name="My work")).to_be_visible()
    assert copies(page) == []
    assert Assignment.objects.get().draft is None


def test_words_handed_in_before_they_were_saved_leave_no_copy_in_the_browser(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    page.keyboard.insert_text("quick")
    assert len(copies(page)) == 1
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Submitted")).to_be_visible()
    assert copies(page) == []


def test_the_copy_of_one_window_outlives_what_another_window_saves(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    first = open_sheet(open_as, annotator)
    second = open_sheet(open_as, annotator)
    sheet(second).fill("from the second window")
    expect_saved(second)
    sheet(first).fill("from the first window")
    expect(first.locator("[data-draft-conflict]")).to_be_visible()
    first.close()
    second.reload()
    expect(second.locator("[data-draft-conflict]")).to_contain_text("from the first window")
    expect(second.locator("[data-draft-conflict]")).to_contain_text("from the second window")


def test_who_types_during_a_save_and_reloads_has_no_conflict_with_himself(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    stored_unheard: list[Route] = []

    def store_but_do_not_answer(route: Route) -> None:
        route.fetch()
        stored_unheard.append(route)

    page.route("**/draft/", store_but_do_not_answer, times=1)
    with page.expect_request("**/draft/"):
        page.keyboard.insert_text("first words")
    wait_until(page, lambda: stored_unheard)
    page.keyboard.insert_text(", more words")
    page.reload()
    expect(sheet(page)).to_have_value("first words, more words")
    expect_saved(page)
    expect(page.locator("[data-draft-conflict]")).to_be_hidden()
    assert Assignment.objects.get().draft == {"text": "first words, more words"}
    assert copies(page) == []


def test_who_types_on_after_a_save_whose_answer_got_lost_has_no_conflict_with_himself(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)

    def store_and_lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/draft/", store_and_lose_the_answer, times=1)
    page.keyboard.insert_text("first words")
    expect(page.get_by_text("not saved on the server yet")).to_be_visible()
    page.keyboard.insert_text(", more words")
    expect_saved(page)
    expect(page.locator("[data-draft-conflict]")).to_be_hidden()
    assert Assignment.objects.get().draft == {"text": "first words, more words"}


def test_words_that_do_not_fit_stay_in_the_browser_until_they_are_shortened(
    open_as, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    sheet(page).fill("x" * 100_001)
    expect(page.get_by_text("at most 100000 are allowed. Shorten it.")).to_be_visible()
    assert len(copies(page)) == 1
    assert Assignment.objects.get().draft is None
    page.reload()
    expect(sheet(page)).to_have_value("x" * 100_001)
    sheet(page).fill("x" * 100_000)
    expect_saved(page)
    assert Assignment.objects.get().draft == {"text": "x" * 100_000}
    assert copies(page) == []


def test_signing_out_saves_the_last_words_and_shows_them_to_nobody_else(
    open_as, window: BrowserContext, live_server, project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_sheet(open_as, annotator)
    sheet(page).fill("the last words")
    page.get_by_label("Account").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert Assignment.objects.get().draft == {"text": "the last words"}
    page.go_back()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert "the last words" not in page.content()


def wait_until(page: Page, happened: Callable[[], object]) -> None:
    """Let the browser go on until `happened`."""
    for _ in range(100):
        if happened():
            return
        page.wait_for_timeout(50)
    raise TimeoutError("waited in vain")


def copies(page: Page) -> list[str]:
    """What the browser keeps of drafts."""
    return page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft/'))")
