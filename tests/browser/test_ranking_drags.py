"""Dragging on the ranking board: what the screen shows, what is drafted and what is stored are one and the same."""

from __future__ import annotations

from itertools import product

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from annotate.models import Member, Project, Ranking
from annotate.services import slates
from annotate.services.slates import NewCompletion
from tests.browser.board import (
    Finger,
    Hand,
    Mouse,
    area,
    by_place,
    card,
    chosen_places,
    drag,
    expect_places,
    held_card,
    open_board,
    press,
    shown_places,
    stored_places,
    submit_and_compare,
    submit_next,
    wait_until,
)
from tests.browser.keyboard import PHONE, fits
from tests.factories import make_prompt, make_slate

LONG = "Drink a glass of water, and rest for an hour in a room that is dark and quiet. " * 8
TOP = "document.querySelector('[data-answer=%s]').getBoundingClientRect().top"
SMALL: ViewportSize = {"width": 1280, "height": 700}


def after_drag(ranked: str, dragged: str, to: str, side: str) -> str:
    """The ranked ones, best first, worked out on paper: take one out, and put it back in beside another."""
    if to not in ranked:
        return ranked.replace(dragged, "")
    rest = ranked.replace(dragged, "")
    at = rest.index(to) + (side == "after")
    return rest[:at] + dragged + rest[at:]


@pytest.mark.parametrize(("hand", "sides"), [(Mouse, ["before", "after"]), (Finger, ["before"])])
def test_wherever_an_answer_is_dragged_all_say_the_same(
    open_as, project: Project, annotator: Member, hand: type[Mouse] | type[Finger], sides: list[str]
) -> None:
    """Every card to every other one, where the first two are ranked and the others wait."""
    moves = [(dragged, to, side) for dragged, to, side in product("ABCD", "ABCD", sides) if dragged != to]
    for _ in range(len(moves) + 1):
        make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    pointer = hand(page)
    for dragged, to, side in moves:
        press(page, "a 1 b 2")
        drag(page, dragged, to=to, side=side, pointer=pointer)
        ranked = after_drag("AB", dragged, to, side)
        expect_places(page, {letter: n for n, letter in enumerate(ranked, 1)})
        for n, letter in enumerate(sorted({*"ABCD"} - {*ranked}), len(ranked) + 1):
            press(page, f"{letter.lower()} {n}")
        submit_next(page)


def long_slate(project: Project) -> None:
    texts = [NewCompletion(f"{n}. {LONG}") for n in range(9)]
    slates.add(project, prompt=make_prompt(project), completions=texts)


@pytest.mark.parametrize(("hand", "size"), [(Mouse, SMALL), (Finger, PHONE)])
def test_the_page_scrolls_under_a_card_that_is_dragged_past_the_prompt_and_back(
    open_as, project: Project, annotator: Member, hand: type[Mouse] | type[Finger], size: ViewportSize
) -> None:
    long_slate(project)
    page = open_board(open_as, annotator)
    page.set_viewport_size(size)
    pointer = hand(page)
    press(page, "a 1 b 2 c 3 d 4")
    card(page, "I").locator("header").evaluate("head => head.scrollIntoView({ block: 'center' })")
    with held_card(page, "I", pointer) as held:
        prompt = page.locator("[data-prompt]").bounding_box()
        assert prompt and page.evaluate("scrollY") > size["height"]
        held.wait_at(held.x, prompt["y"] + 10, until=f"{TOP % 'A'} >= {prompt['y'] + prompt['height']}")
        held.carry(card(page, "A"), "before")
        assert_under_pointer(page, "I", held)
    expect_places(page, by_place("I", "A", "B", "C", "D"))

    page.evaluate("scrollTo(0, 0)")
    with held_card(page, "I", pointer) as held:
        held.wait_at(held.x, size["height"] - 100, until=f"{TOP % 'D'} < {size['height'] / 2}")
        held.carry(card(page, "D"), "before")
        assert_under_pointer(page, "I", held)
    expect_places(page, by_place("A", "B", "C", "I", "D"))
    press(page, "e 1 f 1 g 1 h 0")
    submit_and_compare(page)


def test_a_card_that_is_drawn_beyond_the_end_of_the_page_makes_it_no_longer(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    page.set_viewport_size(PHONE)
    press(page, "a 1")
    page.evaluate("scrollTo(0, 0)")
    length = page.evaluate("document.documentElement.scrollHeight")
    with held_card(page, "A", Mouse(page)) as held:
        held.wait_at(held.x, PHONE["height"] - 10, until=f"scrollY + innerHeight > {length} - 2")
        held.move(held.x + 300, PHONE["height"] - 10)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollHeight") == length
        assert fits(page)
        press(page, "Escape")


def assert_under_pointer(page: Page, letter: str, held: Hand) -> None:
    """Where it was taken hold of: 24 px from the left, in the middle of its header."""
    head = f"document.querySelector('[data-answer={letter}] header').getBoundingClientRect()"
    wait_until(page, f"Math.abs({held.x} - {head}.x - 24) < 2")
    wait_until(page, f"Math.abs({held.y} - {head}.y - {head}.height / 2) < 2")


# `1:a` presses A and 1; `D<A` drags D before A, `D>A` behind it.
STEPS = {
    "1:a D<A": by_place("D", "A"),
    "D<A C<A": {},
    "1:b D<B C<D A>B": by_place("C", "D", "B", "A"),
    "1:a D<A 3:c 1:c 2:b": by_place("CD", "AB"),
    "1:a 1:b 2:c D<A": by_place("D", "AB", "C"),
    "1:a 1:b 2:c D<B": by_place("ABD", "C"),
    "1:a 1:b 2:c D>B": by_place("AB", "D", "C"),
    "1:a 1:b 2:c B>C": by_place("A", "C", "B"),
    "1:a 1:b 2:c B<A": by_place("B", "A", "C"),
    "3:a D<A": {"D": 1, "A": 3},
    "4:a D>A": by_place("A", "D"),
    "1:a 2:b 0:c D<A": by_place("D", "A", "B") | {"C": None},
    "1:a 0:c A<C": {"A": None, "C": None},
    "1:a 0:c C<A": by_place("C", "A"),
    "4:a 4:b 2:c 2:d B<C": by_place("B", "CD", "A"),
}


def test_keys_and_drags_go_on_from_each_other(open_as, project: Project, annotator: Member) -> None:
    for _ in range(len(STEPS) + 1):
        make_slate(project, completions=4)
    page = open_board(open_as, annotator)
    for steps, places in STEPS.items():
        for step in steps.split():
            first, how, other = step
            if how == ":":
                press(page, f"{other} {first}")
            else:
                drag(page, first, to=other, side="before" if how == "<" else "after")
        expect_places(page, places)
        for letter in area(page, "unranked").lower():
            press(page, f"{letter} 1")
        submit_next(page)


def test_the_first_answer_is_dragged_to_where_the_ranked_ones_will_stand(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    with held_card(page, "B", Mouse(page)) as held:
        held.move(held.x, held.y - 20)
        place = page.get_by_text("Drop an answer here to rank it first").bounding_box()
        assert place
        held.move(held.x, place["y"] + place["height"] / 2)
    expect_places(page, {"B": 1})
    press(page, "a")
    drag(page, "B", to="A")
    expect_places(page, {})


def test_what_was_dragged_survives_a_reload_and_an_undo(open_as, project: Project, annotator: Member) -> None:
    for _ in range(2):
        make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "a 1")
    drag(page, "C", to="A")
    expect_places(page, by_place("C", "A"))
    page.reload()
    expect_places(page, by_place("C", "A"))
    drag(page, "B", to="A")
    expect_places(page, by_place("C", "B", "A"))
    submit_and_compare(page)

    press(page, "u")
    expect(page.get_by_text("You are correcting")).to_be_visible()
    assert shown_places(page) == chosen_places(page) == by_place("C", "B", "A")
    drag(page, "A", to="C", side="after")
    assert shown_places(page) == chosen_places(page) == by_place("C", "A", "B")
    press(page, "Control+Enter")
    expect(page.get_by_text("The new version counts")).to_be_visible()
    assert stored_places(Ranking.objects.newest().get()) == [2, 3, 1]


def test_a_drag_that_is_broken_off_has_changed_nothing(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    press(page, "a 1 b 2")
    at = card(page, "C").bounding_box()
    with held_card(page, "C", Mouse(page)) as held:
        held.carry(card(page, "A"), "before")
        press(page, "Escape")
        assert card(page, "C").bounding_box() == at
    expect_places(page, by_place("A", "B"))
    with held_card(page, "C", Mouse(page)) as held:
        held.carry(card(page, "A"), "before")
        card(page, "B").locator("[value='1']").evaluate("radio => radio.click()")  # as another finger does
        held.carry(card(page, "A"), "after")
    expect_places(page, by_place("AB"))
    with held_card(page, "C", Mouse(page)) as held:
        held.carry(card(page, "A"), "before")
        press(page, "c 3 s")  # the keys wait, too
    expect_places(page, by_place("C", "AB"))


def test_buttons_in_the_header_are_pressed_and_a_click_beside_them_marks_the_answer(
    open_as, project: Project, annotator: Member
) -> None:
    make_slate(project, completions=3)
    page = open_board(open_as, annotator)
    page.get_by_role("button", name="Move C up").click()
    page.get_by_role("button", name="Move B up").click()
    expect_places(page, by_place("C", "B"))
    page.get_by_role("button", name="Move B up").click()
    expect_places(page, by_place("B", "C"))
    expect(page.get_by_role("button", name="Move B up")).to_be_disabled()
    expect(page.get_by_role("button", name="Move A down")).to_be_disabled()
    card(page, "A").locator("header").click(position={"x": 24, "y": 20})
    press(page, "3")
    expect_places(page, by_place("B", "C", "A"))
    expect(page.get_by_role("button", name="Move A down")).to_be_disabled()
