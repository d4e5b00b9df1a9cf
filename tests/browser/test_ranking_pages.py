"""Ranking in a browser: keys, buttons and dragging press the same radio buttons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from annotate.models import Assignment, Member, Project, Ranking
from annotate.services import slates
from annotate.services.slates import NewCompletion
from tests.browser.board import (
    area,
    card,
    chosen_places,
    drafted_places,
    expect_places,
    letters,
    open_board,
    press,
    shown_places,
    stored_places,
    submit,
    submit_and_compare,
    submit_next,
    wait_until,
)
from tests.factories import make_prompt, make_slate


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


def test_a_number_that_is_held_ranks_one_answer(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for _repeat in range(4):
        page.keyboard.down("1")
    page.keyboard.up("1")
    assert shown_places(page) == {"A": 1}


def test_a_letter_marks_an_answer_and_backspace_takes_its_place_away(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for key in ["c", "1", "c", "Backspace"]:
        page.keyboard.press(key)
    expect(page.locator("[data-answer=C] [data-place]")).to_have_text("not ranked")
    expect(page.get_by_role("button", name="Submit ranking")).to_be_disabled()


def test_arrow_buttons_and_place_buttons_do_the_same(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    for letter, place in [("A", 1), ("B", 2), ("C", 3)]:
        page.locator(f"[data-answer={letter}] .pick label", has_text=str(place)).click()
    page.get_by_role("button", name="Move B up").click()
    assert letters(page) == "BAC"
    submit(page)
    assert stored_places(Ranking.objects.get()) == [2, 1, 3]


def test_an_order_that_nobody_touched_is_asked_about_once(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    press(page, "1 2 3 4 Control+Enter")
    expect(page.get_by_text("You have not changed the order")).to_be_visible()
    assert not Ranking.objects.exists()

    submit(page)
    assert stored_places(Ranking.objects.get()) == [1, 2, 3, 4]


def test_a_held_submit_key_does_not_answer_the_question_about_an_unchanged_order(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    press(page, "1 2 3 4")
    page.keyboard.down("Control")
    page.keyboard.down("Enter")
    expect(page.get_by_text("You have not changed the order")).to_be_visible()
    page.keyboard.down("Enter")
    expect(page.get_by_text("You have not changed the order")).to_be_visible()
    assert len([address for address in sent if address.endswith("/submit/")]) == 1
    page.keyboard.up("Enter")
    page.keyboard.up("Control")


def test_of_three_answers_the_order_in_which_they_came_is_not_asked_about(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "1 2 3")
    submit(page)
    assert stored_places(Ranking.objects.get()) == [1, 2, 3]


def test_an_order_that_was_asked_about_cannot_be_handed_in_with_a_place_missing(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    press(page, "1 2 3 4 Control+Enter")
    expect(page.get_by_text("You have not changed the order")).to_be_visible()
    press(page, "b Backspace")
    expect(page.locator("[data-answer=B] [data-place]")).to_have_text("not ranked")
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


def test_after_a_reload_keys_go_on_with_the_first_answer_that_has_no_place(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    press(page, "3 1")
    drafted_places(page)
    page.reload()
    expect(page.locator("[data-answer=C] input").first).to_be_focused()
    press(page, "2 4")
    assert chosen_places(page) == {"A": 3, "B": 1, "C": 2, "D": 4}


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_answer_that_keys_have_come_to_is_seen_above_the_bar(
    open_as, project: Project, annotator: Member, motion: Literal["no-preference", "reduce"]
) -> None:
    texts = [NewCompletion(f"{name} line\n\n" * 6) for name in ("One", "Two", "Red", "Blue")]
    slates.add(project, prompt=make_prompt(project), completions=texts)
    page = open_board(open_as, annotator)
    page.set_viewport_size({"width": 1280, "height": 700})
    page.emulate_media(reduced_motion=motion)
    for key in "123":
        press(page, key)
    wait_until(page, "document.getAnimations().length === 0")
    card, bar, prompt = (
        page.locator(one).evaluate("one => one.getBoundingClientRect().toJSON()")
        for one in ("[data-answer=D]", ".action-bar", "[data-prompt]")
    )
    assert prompt["bottom"] <= card["top"] < card["bottom"] <= bar["top"]


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
    assert stored_places(Ranking.objects.newest().get()) == [1, 1]
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


def test_answers_without_a_place_wait_behind_the_ranked_ones(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    expect(page.get_by_role("heading", name="Not ranked yet")).to_be_visible()
    press(page, "d 2 b 0 a 2")
    assert [area(page, name) for name in ("ranked", "unranked", "unjudged")] == ["AD", "C", "B"]
    assert shown_places(page) == {"A": 2, "D": 2, "B": None}  # the place that is free may yet be taken
    assert Axe().run(page, options={"resultTypes": ["violations"]}).violations_count == 0
    press(page, "c 1")
    expect(page.get_by_role("heading", name="Not ranked yet")).to_be_hidden()
    expect_places(page, {"C": 1, "A": 2, "D": 2, "B": None})
    submit_and_compare(page)


TABLE = Path(__file__).parents[1] / "dense_places.json"
SHIFTED = {
    "1 2 3 4 d Shift+1": {"D": 1, "A": 2, "B": 3, "C": 4},
    "1 2 3 4 a Shift+Digit3": {"B": 1, "C": 2, "A": 3, "D": 4},
    "1 1 2 3 d Shift+Digit1": {"D": 1, "A": 2, "B": 2, "C": 3},
    "1 1 2 3 a Shift+Digit1": {"A": 1, "B": 2, "C": 3, "D": 4},
    "1 2 c Shift+Digit1": {"C": 1, "A": 2, "B": 3},
    "2 c Shift+Digit1": {"C": 1, "A": 2},
    "1 3 d Shift+Digit1": {"D": 1, "A": 2, "B": 3},
    "3 4 d Shift+Digit3": {"D": 1, "A": 2, "B": 3},
    "1 2 d Shift+Numpad1": {"D": 1, "A": 2, "B": 3},
    "1 2 3 0 d Shift+Digit2": {"A": 1, "D": 2, "B": 3, "C": 4},
    "1 2 3 4 a Shift+Digit0": {"A": None, "B": 1, "C": 2, "D": 3},
    "1 2 3 4 a Shift+Digit9": {"A": 1, "B": 2, "C": 3, "D": 4},
}


def test_shift_and_a_number_insert_the_marked_answer(open_as, project: Project, annotator: Member) -> None:
    for _ in range(len(SHIFTED) + 1):
        make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    for keys, places in SHIFTED.items():
        press(page, keys)
        expect_places(page, places)
        for letter in area(page, "unranked").lower():
            press(page, f"{letter} 1")
        submit_next(page)
    press(page, "?")
    expect(
        page.get_by_role("dialog", name="Keyboard shortcuts").get_by_text("insert the selected answer")
    ).to_be_visible()


def test_after_an_insertion_the_next_waiting_answer_is_marked(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "1 Shift+Digit1 Shift+Digit1")
    expect_places(page, {"C": 1, "B": 2, "A": 3})


@pytest.mark.parametrize(
    ("event", "places"),
    [
        ({"key": "&", "code": "Digit1"}, {"A": 1, "B": 1}),  # a French keyboard
        ({"key": "1", "code": "Digit1", "shiftKey": True}, {"B": 1, "A": 2}),  # the same with Shift
        ({"key": "!", "code": "Digit1", "shiftKey": True}, {"B": 1, "A": 2}),
        ({"key": "1", "code": ""}, {"A": 1, "B": 1}),  # a keyboard on a screen
        ({"key": "1", "code": "Numpad1"}, {"A": 1, "B": 1}),
        ({"key": "End", "code": "Numpad1", "modifierNumLock": True}, {"B": 1, "A": 2}),  # a keypad with Shift
        ({"key": "End", "code": "Numpad1"}, {"A": 1}),  # a keypad that moves about
    ],
)
def test_a_number_is_known_by_its_key_on_every_keyboard(
    open_as, project: Project, annotator: Member, event: dict[str, object], places: dict[str, int | None]
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "1")
    page.locator(":focus").dispatch_event("keydown", event)
    expect_places(page, places)


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ("4 4 2 2", {"C": 1, "D": 1, "A": 2, "B": 2}),
        ("3 3 0 0", {"A": 1, "B": 1, "C": None, "D": None}),
        ("1 2 3 4 a 4", {"B": 1, "C": 2, "A": 3, "D": 3}),
    ],
)
def test_holes_are_closed_as_soon_as_every_answer_has_a_place(
    open_as, project: Project, annotator: Member, keys: str, places: dict[str, int | None]
) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    press(page, keys)
    expect_places(page, places)
    submit_and_compare(page)


def test_places_are_picked_with_the_arrow_keys_too(open_as, project: Project, annotator: Member) -> None:
    """The radio buttons' own keys; where a hole is closed, they go on from the place that is shown."""
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "1 2 3 a ArrowRight")
    expect_places(page, {"A": 1, "B": 1, "C": 2})
    press(page, "ArrowRight")
    expect_places(page, {"B": 1, "A": 2, "C": 2})
    press(page, "ArrowRight")
    expect_places(page, {"B": 1, "C": 2, "A": 3})
    submit_and_compare(page)


def test_a_step_leads_out_of_a_tie_or_past_all_of_one(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    press(page, "1 1 2 b Shift+ArrowRight")
    expect_places(page, {"A": 1, "B": 2, "C": 3})
    press(page, "d Shift+ArrowLeft a 2 d Shift+ArrowLeft")
    expect_places(page, {"A": 1, "B": 1, "D": 2, "C": 3})
    press(page, "Shift+ArrowUp")
    expect_places(page, {"D": 1, "A": 2, "B": 2, "C": 3})
    press(page, "Shift+ArrowUp a Shift+ArrowLeft")
    expect_places(page, {"D": 1, "A": 2, "B": 3, "C": 4})
    submit_and_compare(page)


def test_what_is_not_on_the_screen_is_not_handed_in(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "1 1 2")
    card(page, "C").locator("[value='1']").evaluate("radio => { radio.checked = true; }")  # no event tells the board
    press(page, "Control+Enter")
    expect(page.get_by_text("check them, then submit again")).to_be_visible()
    assert not Ranking.objects.exists()
    assert shown_places(page) == chosen_places(page) == {"A": 1, "B": 1, "C": 1}
    submit_and_compare(page)


def test_cannot_judge_is_named_with_its_key(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=4)
    make_slate(project, completions=9)
    page = open_board(open_as, annotator)
    for count in (4, 9):
        expect(page.get_by_role("radio", name="0 cannot judge")).to_have_count(count)
        expect(card(page, "A").locator(".pick-none")).to_have_attribute("title", "Cannot judge")
        card(page, "A").get_by_role("radio", name="0 cannot judge").check()
        expect(card(page, "A").locator("[data-place]")).to_have_text("cannot judge")
        for letter in area(page, "unranked").lower():
            press(page, f"{letter} 1")
        submit_and_compare(page)


def test_both_sides_close_holes_alike(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=2)
    page = open_board(open_as, annotator)
    for each in json.loads(TABLE.read_text()):
        assert page.evaluate("places => densePlaces(places)", each["said"]) == each["stored"]
