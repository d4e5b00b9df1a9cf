"""Ranking in a browser: keys, buttons and dragging press the same radio buttons."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Assignment, Member, Placement, Project, Ranking
from annotate.services import slates
from annotate.services.slates import NewCompletion
from tests.factories import make_prompt, make_slate


def open_board(open_as: Callable[..., Page], annotator: Member) -> Page:
    page = open_as(annotator.user, f"/projects/{annotator.project.slug}/rank/")
    expect(page.locator("[data-answer=A] input").first).to_be_focused()
    return page


def letters(page: Page) -> str:
    return "".join(page.locator("[data-answer]").evaluate_all("cards => cards.map(card => card.dataset.answer)"))


def stored_places(ranking: Ranking) -> list[int | None]:
    """Places in the order in which the annotator saw the answers."""
    said = dict(Placement.objects.filter(ranking=ranking).values_list("completion", "place"))
    return [said[pk] for pk in ranking.assignment.card_order]


def submit(page: Page) -> None:
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Handed in")).to_be_visible()


@pytest.mark.parametrize("count", [2, 9])
def test_numbers_alone_rank_a_slate_and_the_next_one_is_there_at_once(
    open_as, project: Project, annotator: Member, count: int
) -> None:
    for _ in range(2):
        make_slate(project, completions=count)
    page = open_board(open_as, annotator)
    for place in range(count, 0, -1):
        page.keyboard.press(str(place))
    submit(page)
    assert stored_places(Ranking.objects.get()) == list(range(count, 0, -1))
    assert Assignment.objects.get(status="held").item.slate != Ranking.objects.get().slate
    expect(page.locator("[data-answer]")).to_have_count(count)


def test_the_same_number_is_a_tie_and_nought_means_cannot_judge(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    for key in "2120":
        page.keyboard.press(key)
    assert letters(page) == "BACD"
    expect(page.locator("[data-answer=A] [data-place]")).to_have_text("2 · tie")
    submit(page)
    assert stored_places(Ranking.objects.get()) == [2, 1, 2, None]


def test_a_letter_marks_an_answer_and_backspace_takes_its_place_away(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for key in ["c", "1", "c", "Backspace"]:
        page.keyboard.press(key)
    expect(page.locator("[data-answer=C] [data-place]")).to_have_text("not placed")
    expect(page.get_by_role("button", name="Submit ranking")).to_be_disabled()


def test_dragging_places_the_answer_where_it_is_dropped(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    drag(page, "C", before="A")
    assert letters(page) == "CAB"
    drag(page, "B", before="A")
    assert letters(page) == "CBA"
    submit(page)
    assert stored_places(Ranking.objects.get()) == [3, 2, 1]


def test_arrow_buttons_and_place_buttons_do_the_same(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for letter, place in [("A", 1), ("B", 2), ("C", 3)]:
        page.locator(f"[data-answer={letter}] .pick label", has_text=str(place)).click()
    page.get_by_role("button", name="Move B to a better place").click()
    assert letters(page) == "BAC"
    submit(page)
    assert stored_places(Ranking.objects.get()) == [2, 1, 3]


def test_an_order_that_nobody_touched_is_asked_about_once(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for key in ["1", "2", "3", "Control+Enter"]:
        page.keyboard.press(key)
    expect(page.get_by_text("in which you first saw them")).to_be_visible()
    assert not Ranking.objects.exists()

    submit(page)
    assert stored_places(Ranking.objects.get()) == [1, 2, 3]


def test_an_order_that_was_asked_about_cannot_be_handed_in_with_a_place_missing(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for key in ["1", "2", "3", "Control+Enter"]:
        page.keyboard.press(key)
    expect(page.get_by_text("in which you first saw them")).to_be_visible()
    for key in ["b", "Backspace"]:
        page.keyboard.press(key)
    expect(page.locator("[data-answer=B] [data-place]")).to_have_text("not placed")
    expect(page.get_by_role("button", name="Submit ranking")).to_be_disabled()


def test_every_letter_marks_its_answer_and_the_guidelines_have_a_key_of_their_own(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=9)
    page = open_board(open_as, annotator)
    for letter in "BCDEFGHIA":
        page.keyboard.press(letter.lower())
        expect(page.locator(f"[data-answer={letter}] input:focus")).to_be_visible()
    page.keyboard.press("l")
    expect(page.get_by_role("dialog", name="Guidelines")).to_be_visible()


def test_places_survive_a_reload(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    page.keyboard.press("3")
    page.reload()
    expect(page.locator("[data-answer=A] [data-place]")).to_have_text("3")


def test_undo_opens_the_ranking_again_and_stores_a_newer_version(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=2)
    page = open_board(open_as, annotator)
    page.keyboard.press("2")
    page.keyboard.press("1")
    submit(page)
    page.keyboard.press("u")
    expect(page.get_by_text("You are correcting")).to_be_visible()
    expect(page.locator("[data-answer=A] input:focus")).to_be_visible()  # the board listens
    page.keyboard.press("b")
    page.keyboard.press("2")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("The new version counts")).to_be_visible()
    assert stored_places(Ranking.objects.newest().get()) == [2, 2]
    assert Ranking.objects.count() == 2


def test_markup_in_an_answer_stays_text(open_as, project: Project, annotator: Member) -> None:
    code = "document.title='pwned'"
    bad = f'<img src=x onerror="{code}"> [x](javascript:alert(1)) <script>{code}</script>'
    texts = [NewCompletion(bad), NewCompletion("fine")]
    slates.add(project, prompt=make_prompt(project), completions=texts)
    page = open_board(open_as, annotator)
    assert page.locator(".answers :is(img, script, a)").count() == 0
    assert "pwned" not in page.title()
    page.keyboard.press("m")
    expect(page.locator(".answers .is-raw", has_text="<img src=x")).to_be_visible()


def drag(page: Page, letter: str, *, before: str) -> None:
    """Pull a card by its grip, and let go where the board shows it at its new place, as a hand does."""
    grip = page.locator(f"[data-answer={letter}] [data-grip]").bounding_box()
    target = page.locator(f"[data-answer={before}]").bounding_box()
    assert grip and target
    page.mouse.move(grip["x"] + 8, grip["y"] + 8)
    page.mouse.down()
    for part in range(1, 9):
        x = grip["x"] + 8 + (target["x"] + 12 - grip["x"] - 8) * part / 8
        page.mouse.move(x, grip["y"] + 8 + part)
    expect(page.locator(f"[data-answer={letter}] ~ [data-answer={before}]")).to_be_attached()
    page.mouse.up()
