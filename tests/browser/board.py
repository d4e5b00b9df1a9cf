"""The ranking board in a test's hands: what it shows, what its buttons say, what is stored; a mouse and a finger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from playwright.sync_api import FloatRect, Locator, Page, expect

from annotate.models import Assignment, Member, Placement, Ranking

PATIENCE_S = 10
STEPS = 4  # of a pointer, on its way to an edge of a card

Places = dict[str, int | None]  # by letter; those without a place are not in it


def by_place(*letters: str) -> Places:
    """Tied ones are written together: by_place("C", "AB") is C 1, A 2, B 2."""
    return {letter: place for place, tied in enumerate(letters, 1) for letter in tied}


def open_board(open_as: Callable[..., Page], annotator: Member) -> Page:
    page = open_as(annotator.user, f"/projects/{annotator.project.slug}/rank/")
    expect(page.locator("[data-answer=A] input").first).to_be_focused()
    return page


def press(page: Page, keys: str) -> None:
    """Each of the keys that are named, one after the other."""
    for key in keys.split():
        page.keyboard.press(key)


def letters(page: Page) -> str:
    return "".join(page.locator("[data-answer]").evaluate_all("cards => cards.map(card => card.dataset.answer)"))


def area(page: Page, name: str) -> str:
    """The letters of the answers that stand there."""
    cards = page.locator(f"[data-area={name}] [data-answer]")
    return "".join(cards.evaluate_all("cards => cards.map(card => card.dataset.answer)"))


def shown_places(page: Page) -> Places:
    """What the board says: the words at each letter, read as a person reads them."""
    words = page.locator("[data-answer]").evaluate_all(
        "cards => cards.map(card => [card.dataset.answer, card.querySelector('[data-place]').textContent.trim()])"
    )
    places = {
        letter: None if said == "cannot judge" else int(said.split()[0])
        for letter, said in words
        if said != "not ranked"
    }
    for letter, said in words:
        tied = [other for other, place in places.items() if place is not None and place == places.get(letter)]
        assert said.endswith("tie") == (len(tied) > 1), f"{letter}: {said}"
    return places


def chosen_places(page: Page) -> Places:
    """What the radio buttons say, which are what is handed in."""
    said = page.locator("[data-answer]").evaluate_all(
        "cards => cards.map(card => [card.dataset.answer, card.querySelector('.pick :checked')?.value])"
    )
    return {letter: None if value == "none" else int(value) for letter, value in said if value is not None}


def drafted_places(page: Page) -> Places:
    """What the server keeps, as soon as it has everything that the page has."""
    page.evaluate("unsaved().forEach((draft) => void draft.save())")
    wait_until(page, "!unsaved().length && [...drafts.values()].every((draft) => !draft.inFlight)")
    held = Assignment.objects.get(status=Assignment.Status.HELD)
    places = (held.draft or {}).get("places", {})
    lettered = zip("ABCDEFGHI", map(str, held.card_order), strict=False)
    return {letter: places[pk] for letter, pk in lettered if pk in places}


def stored_places(ranking: Ranking) -> list[int | None]:
    """Places in the order in which the annotator saw the answers."""
    said = dict(Placement.objects.filter(ranking=ranking).values_list("completion", "place"))
    return [said[pk] for pk in ranking.assignment.card_order]


def expect_places(page: Page, places: Places) -> None:
    """Screen, order, radio buttons and draft all say `places`."""
    said = {"screen": shown_places(page), "buttons": chosen_places(page), "draft": drafted_places(page)}
    assert said == dict.fromkeys(said, places), f"{said}, not {places}"
    in_order = sorted(letters(page), key=lambda letter: (_rank(places, letter), letter))
    assert letters(page) == "".join(in_order)
    assert area(page, "ranked") == "".join(letter for letter in in_order if places.get(letter) is not None)


def _rank(places: Places, letter: str) -> int:
    place = places.get(letter, 98)
    return 99 if place is None else place


def wait_until(page: Page, script: str) -> None:
    """Until it is true in the page, whose policy forbids Playwright's own way of asking again."""
    patience = time.monotonic() + PATIENCE_S
    while not page.evaluate(script):
        assert time.monotonic() < patience, script
        page.wait_for_timeout(20)


def submit(page: Page) -> None:
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Submitted")).to_be_visible()


def submit_and_compare(page: Page) -> None:
    """Hand in what is shown, and find just that in the database."""
    shown = shown_places(page)
    page.evaluate("window.handedIn = document.querySelector('form[data-ranking]')")
    page.keyboard.press("Control+Enter")
    wait_until(page, "!window.handedIn?.isConnected")
    assert stored_places(Ranking.objects.latest("pk")) == [shown[letter] for letter in sorted(shown)]


def submit_next(page: Page) -> None:
    """The same with a slate of four, where the order in which they came is asked about."""
    if shown_places(page) == by_place("A", "B", "C", "D"):
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("You have not changed the order")).to_be_visible()
    submit_and_compare(page)


class Pointer(Protocol):
    def down(self, x: float, y: float) -> None: ...
    def move(self, x: float, y: float) -> None: ...
    def up(self) -> None: ...


class Mouse:
    def __init__(self, page: Page) -> None:
        self.mouse = page.mouse

    def down(self, x: float, y: float) -> None:
        self.mouse.move(x, y)
        self.mouse.down()

    def move(self, x: float, y: float) -> None:
        self.mouse.move(x, y)

    def up(self) -> None:
        self.mouse.up()


class Finger:
    """Real touches, which the browser may take for scrolling."""

    def __init__(self, page: Page) -> None:
        self.devtools = page.context.new_cdp_session(page)
        self.devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def down(self, x: float, y: float) -> None:
        self._send("touchStart", {"x": x, "y": y})

    def move(self, x: float, y: float) -> None:
        self._send("touchMove", {"x": x, "y": y})

    def up(self) -> None:
        self._send("touchEnd")

    def _send(self, kind: str, *points: dict[str, Any]) -> None:
        self.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})


def drag(page: Page, letter: str, *, to: str, side: str = "before", pointer: Pointer | None = None) -> None:
    """Pull a card by its header to an edge of another one, and let go."""
    with held_card(page, letter, pointer or Mouse(page)) as hand:
        hand.carry(card(page, to), side)


@contextmanager
def held_card(page: Page, letter: str, pointer: Pointer) -> Iterator[Hand]:
    head = _box(card(page, letter).locator("header"))
    hand = Hand(page, pointer, head["x"] + 24, head["y"] + head["height"] / 2)
    yield hand
    pointer.up()


class Hand:
    """A pointer that holds a card by its header."""

    def __init__(self, page: Page, pointer: Pointer, x: float, y: float) -> None:
        self.page, self.pointer, self.x, self.y = page, pointer, x, y
        pointer.down(x, y)

    def move(self, x: float, y: float) -> None:
        from_x, from_y = self.x, self.y
        for part in range(1, STEPS + 1):
            self.pointer.move(from_x + (x - from_x) * part / STEPS, from_y + (y - from_y) * part / STEPS)
        self.x, self.y = x, y

    def carry(self, target: Locator, side: str) -> None:
        """To the edge of `target`: at its left or right, in a list at its top or bottom."""
        box = _box(target)
        is_row = target.evaluate("card => getComputedStyle(card.parentElement).gridTemplateColumns.includes(' ')")
        part = 0.1 if side == "before" else 0.9
        if is_row:
            self.move(box["x"] + box["width"] * part, box["y"] + 30)
        else:
            self.move(box["x"] + 30, box["y"] + box["height"] * part)

    def wait_at(self, x: float, y: float, *, until: str) -> None:
        """Stay there until the page has scrolled so far that the script is true, then come back to where it rests."""
        self.move(x, y)
        wait_until(self.page, until)
        self.move(x, self.page.evaluate("innerHeight / 2"))


def card(page: Page, letter: str) -> Locator:
    return page.locator(f"[data-answer={letter}]")


def _box(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None
    return box
