"""Two tabs of one browser: in the second one somebody signs out and in again, in the first one work goes on."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from annotate.models import Assignment, Demonstration, Member, Project, Review, User
from tests.factories import make_demonstration, make_member, make_prompt

PASSWORD = "a long enough password"
OTHER_PERSON = "Someone else is now signed in in this browser, so nothing was submitted."


def with_password(user: User | None) -> User:
    assert user is not None
    user.set_password(PASSWORD)
    user.save()
    return user


def sign_in(page: Page, user: User) -> None:
    page.goto("/account/login/")
    page.get_by_label("Email").fill(user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Account", exact=True)).to_be_visible()


def sign_out(page: Page) -> None:
    page.goto("/account/")
    page.get_by_label("Account", exact=True).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def open_tabs(window: BrowserContext, user: User, address: str) -> tuple[Page, Page]:
    """The first tab at `address`, and a second one, both of `user`."""
    first, second = window.new_page(), window.new_page()
    sign_in(first, user)
    first.goto(address)
    return first, second


@pytest.fixture
def writer(annotator: Member, project: Project) -> Member:
    for question in ("First?", "Second?"):
        make_prompt(project, question)
    return annotator


def sheet_of(writer: Member) -> str:
    return f"/projects/{writer.project.slug}/write/"


def come_again(tab: Page, user: User) -> None:
    sign_out(tab)
    sign_in(tab, user)


def test_a_draft_is_saved_and_handed_in_after_signing_in_again_elsewhere(
    window: BrowserContext, writer: Member
) -> None:
    user = with_password(writer.user)
    first, second = open_tabs(window, user, sheet_of(writer))
    come_again(second, user)
    first.get_by_role("textbox", name="Your answer").fill("Rest.")
    expect(first.locator("[data-draft-status][data-state=saved]")).to_be_visible()
    assert Assignment.objects.get().draft == {"text": "Rest."}
    come_again(second, user)
    first.keyboard.press("Control+Enter")
    expect(first.get_by_text("Submitted. Here is the next one.")).to_be_visible()
    assert Demonstration.objects.get().text == "Rest."


def test_words_that_were_not_saved_yet_are_handed_in_too(window: BrowserContext, writer: Member) -> None:
    user = with_password(writer.user)
    first, second = open_tabs(window, user, sheet_of(writer))
    sign_out(second)
    first.get_by_role("textbox", name="Your answer").fill("Typed while signed out.")
    expect(first.get_by_text("you are signed out; kept in this browser")).to_be_visible()
    sign_in(second, user)
    first.keyboard.press("Control+Enter")
    expect(first.get_by_text("Submitted. Here is the next one.")).to_be_visible()
    assert Demonstration.objects.get().text == "Typed while signed out."


def test_a_skip_goes_through_after_signing_in_again_elsewhere(window: BrowserContext, writer: Member) -> None:
    user = with_password(writer.user)
    first, second = open_tabs(window, user, sheet_of(writer))
    come_again(second, user)
    first.keyboard.press("Escape")
    first.keyboard.press("s")
    first.get_by_label("The prompt does not make sense").check()
    first.get_by_role("dialog").get_by_role("button", name="Skip").click()
    expect(first.get_by_text("Second?")).to_be_visible()
    assert Assignment.objects.get(status="skipped").skip_reason == "The prompt does not make sense"


def test_a_plain_form_goes_through_with_the_button_that_was_pressed(
    window: BrowserContext, reviewer: Member, annotator: Member
) -> None:
    label = make_demonstration(annotator)
    address = f"/projects/{label.project.slug}/reviews/demonstration/{label.pk}/"
    user = with_password(reviewer.user)
    first, second = open_tabs(window, user, address)
    come_again(second, user)
    first.get_by_label("Comment").fill("Since when?")
    first.get_by_role("button", name="Return").click()
    expect(first.get_by_text("That was the last one.")).to_be_visible()
    review = Review.objects.get()
    assert (review.verdict, review.comment, review.reviewer) == ("return", "Since when?", reviewer)


def test_nothing_is_handed_in_under_another_persons_name_and_the_words_stay(
    window: BrowserContext, writer: Member, project: Project
) -> None:
    other = make_member(project)
    user = with_password(writer.user)
    first, second = open_tabs(window, user, sheet_of(writer))
    sign_out(second)
    sign_in(second, with_password(other.user))
    sheet = first.get_by_role("textbox", name="Your answer")
    sheet.fill("These are my words.")
    expect(first.get_by_text("someone else is now signed in; kept in this browser for you")).to_be_visible()
    first.keyboard.press("Control+Enter")
    expect(first.get_by_text(OTHER_PERSON)).to_be_visible()
    expect(sheet).to_have_value("These are my words.")
    assert not Demonstration.objects.exists()
    assert Assignment.objects.get().draft is None
    come_again(second, user)
    first.keyboard.press("Control+Enter")
    expect(first.get_by_text("Submitted. Here is the next one.")).to_be_visible()
    assert Demonstration.objects.get().annotator == writer


def test_a_verdict_is_not_recorded_under_another_reviewers_name(
    window: BrowserContext, reviewer: Member, annotator: Member
) -> None:
    label = make_demonstration(annotator)
    address = f"/projects/{label.project.slug}/reviews/demonstration/{label.pk}/"
    first, second = open_tabs(window, with_password(reviewer.user), address)
    sign_out(second)
    sign_in(second, with_password(make_member(label.project, role="reviewer").user))
    first.get_by_label("Comment").fill("Since when?")
    first.get_by_role("button", name="Return").click()
    expect(first.get_by_text(OTHER_PERSON)).to_be_visible()
    expect(first.get_by_label("Comment")).to_have_value("Since when?")
    assert not Review.objects.exists()


def test_signing_in_on_a_page_that_was_open_before_somebody_came_in_another_tab(
    window: BrowserContext, writer: Member
) -> None:
    user = with_password(writer.user)
    first, second = window.new_page(), window.new_page()
    first.goto("/account/login/")
    sign_in(second, user)
    sign_out(second)
    first.get_by_label("Email").fill(user.email)
    first.get_by_label("Password").fill(PASSWORD)
    first.get_by_role("button", name="Sign in").click()
    expect(first.get_by_label("Account", exact=True)).to_be_visible()
