"""What people read, in a browser: formulas, tables, code, text of either direction, conversations of any length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotate.models import Member, Project
from annotate.services import prompts, slates
from annotate.services.slates import NewCompletion
from tests.factories import make_prompt

WIDE = r"$$" + " + ".join(rf"\frac{{x_{{{n}}}}}{{y}}" for n in range(40)) + "$$"
FORMULAS = r"So \(x \cdot y = 4z^2\) and \begin{aligned} a &= 1 \\ b &= 2 \end{aligned}" + "\n\n" + WIDE
COLUMNS = ["Country", "Population", "Capital", "Language", "Currency", "Confectionery", "Government"]
TABLE = "\n".join(["|".join(COLUMNS), "|".join(["---"] * 7), *["|".join(word.lower() for word in COLUMNS)] * 3])
CODE = "```python\ndef f(x):\n    return 'y' * 3  # " + "long " * 80 + "\n```\n\n```\nplain\n```"
ARABIC = "هذا نص عربي.\n\n```python\nprint('x')\n```\n\n- مثال `x = 1`"
HOSTILE = r"<img src=x onerror='window.pwned=1'> $\text{</annotation><img src=x onerror='window.pwned=1'>}$ <script>"


@pytest.fixture
def board(open_as: Callable[..., Page], project: Project, annotator: Member) -> Page:
    """The ranking board with answers of every kind, below a conversation of 25 turns."""
    talk = [{"role": ("user", "assistant")[n % 2], "content": f"Turn {n}: $x_1$ costs $5 and $6"} for n in range(25)]
    prompt = prompts.add_one(project, {"messages": talk})[0]
    texts = [FORMULAS, TABLE, CODE, ARABIC, " \n", HOSTILE, "twins", "twins"]
    slates.add(project, prompt=prompt, completions=[NewCompletion(text) for text in texts])
    return open_as(annotator.user, f"/projects/{project.slug}/rank/")


def open_all(page: Page) -> None:
    page.evaluate("for (const b of document.querySelectorAll('[data-open-text]:not([hidden])')) b.click()")


def test_axe_finds_no_barrier_and_a_phone_no_edge(board: Page) -> None:
    for width in (1440, 360):
        board.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            board.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            board.reload()
            open_all(board)
            report = Axe().run(board, options={"resultTypes": ["violations"]})
            assert report.violations_count == 0, f"{width} {scheme}\n{report.generate_report()}"
            assert board.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert board.evaluate("window.pwned") is None


def test_formulas_tables_and_code_scroll_by_keyboard_in_their_own_boxes(board: Page) -> None:
    board.set_viewport_size({"width": 360, "height": 800})
    board.reload()
    open_all(board)
    for selector in (".formula[tabindex]", ".table-scroll", ".code pre:has(.c-keyword)"):
        box = board.locator(selector).first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth"), selector
        box.focus()
        board.keyboard.press("ArrowRight")
        board.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_no_cell_breaks_a_word(board: Page) -> None:
    board.set_viewport_size({"width": 360, "height": 800})
    one_line = "cells => cells.every(cell => cell.getBoundingClientRect().height < 60)"
    assert board.locator(".table-scroll th").evaluate_all(one_line)


def test_code_is_copied_and_says_so(board: Page) -> None:
    board.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_all(board)
    board.locator(".code", has_text="plain").get_by_role("button", name="Copy").click()
    expect(board.locator("#spoken")).to_have_text("Copied")
    assert board.evaluate("navigator.clipboard.readText()") == "plain\n"


def test_text_from_right_to_left_stands_at_the_right_and_its_code_runs_left_to_right(board: Page) -> None:
    text = board.locator(".text.markdown:dir(rtl)")
    edges = "text => [text.getBoundingClientRect().right, text.parentElement.getBoundingClientRect().right]"
    right, edge = text.evaluate(edges)
    assert edge - right < 30  # the margin of the card
    assert text.locator("pre").evaluate("pre => getComputedStyle(pre).direction") == "ltr"
    assert text.locator("li code").evaluate("code => getComputedStyle(code).direction") == "ltr"


def test_an_empty_answer_and_equal_ones_say_so(board: Page) -> None:
    expect(board.get_by_text("(empty answer)")).to_be_visible()
    twins = board.locator("[data-answer]", has_text="twins")
    letters = twins.evaluate_all("cards => cards.map(card => card.dataset.answer)")
    expect(twins.first).to_contain_text(f"same text as {letters[1]}")
    expect(twins.last).to_contain_text(f"same text as {letters[0]}")


def test_a_long_conversation_opens_in_full_in_place(board: Page) -> None:
    prompt = board.locator(".prompt")
    scroller = prompt.locator("[data-prompt]")
    expect(prompt).to_have_class("prompt is-cut-above")  # its end is shown first: the question
    scroller.focus()
    board.keyboard.press("Home")
    expect(prompt).to_have_class("prompt is-cut-below")
    prompt.get_by_role("button", name="Show the whole conversation (25 turns)").click()
    assert scroller.evaluate("box => box.scrollHeight <= box.clientHeight")
    expect(prompt.locator(".markdown", has_text="Turn 0:")).to_be_in_viewport()
    prompt.get_by_role("button", name="Show less").click()
    assert scroller.evaluate("box => box.scrollHeight > box.clientHeight")


def test_the_switch_to_raw_holds_for_the_prompt_as_well(board: Page) -> None:
    shown = board.locator(".prompt .text", has_text="Turn 24").locator("visible=true")
    expect(shown.locator("math")).to_have_count(1)
    board.keyboard.press("m")
    expect(shown).to_have_text("Turn 24: $x_1$ costs $5 and $6")


def test_code_in_a_preview_has_its_copy_button(
    open_as: Callable[..., Page], project: Project, annotator: Member
) -> None:
    make_prompt(project)
    page = open_as(annotator.user, f"/projects/{project.slug}/write/")
    page.locator("textarea[name=text]").fill(CODE + "\n\n$x^2$")
    page.locator(".segmented label", has_text="Preview").click()
    expect(page.locator(".preview .code").first.get_by_role("button", name="Copy")).to_be_visible()
    expect(page.locator(".preview math")).to_be_visible()
