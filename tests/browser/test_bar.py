"""The bar in a browser: G and a letter go places; the menu of projects works by keys, by mouse and without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from annotate.models import Member, Project
from tests.browser.conftest import open_window, sign_in
from tests.factories import make_demonstration, make_member, make_project, make_slate


@pytest.fixture
def other(admin: Member) -> Project:
    """A second project of the admin, the first by its name."""
    return make_member(make_project("A first one"), role="admin", user=admin.user).project


def test_g_and_a_letter_open_a_page_and_a_letter_alone_does_not(open_as, project: Project, admin: Member) -> None:
    page = open_as(admin.user, f"/projects/{project.slug}/members/")
    page.keyboard.press("o")
    page.keyboard.type("gr")
    expect(page).to_have_url(re.compile(f"/projects/{project.slug}/rounds/$"))
    page.wait_for_load_state()
    page.keyboard.type("go")
    expect(page).to_have_url(re.compile(f"/projects/{project.slug}/$"))
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts").get_by_text("Overview")).to_be_visible()


def test_g_in_a_text_is_a_letter(open_as, project: Project, admin: Member) -> None:
    page = open_as(admin.user, f"/projects/{project.slug}/members/")
    field = page.get_by_label("Email address")
    field.click()
    page.keyboard.type("gordon")
    expect(field).to_have_value("gordon")


def test_on_a_board_of_seven_answers_g_is_an_answer(open_as, project: Project, annotator: Member) -> None:
    make_slate(project, completions=7)
    page = open_as(annotator.user, f"/projects/{project.slug}/rank/")
    page.keyboard.press("g")
    page.wait_for_function("() => document.activeElement.closest('[data-answer]')?.dataset.answer === 'G'")
    page.keyboard.press("1")
    expect(page.locator('[data-answer="G"] [data-place]')).to_have_text("1")


def test_g_p_opens_the_projects_and_a_digit_chooses(open_as, project: Project, admin: Member, other: Project) -> None:
    page = open_as(admin.user, f"/projects/{project.slug}/members/")
    menu = page.locator(".switcher > div")
    page.keyboard.type("gp")
    expect(menu).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(page.locator(".switcher > summary")).to_be_focused()
    page.keyboard.type("gp")
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("link", name=other.name)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(menu.get_by_role("link", name="All projects")).to_be_focused()
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile(f"/projects/{other.slug}/$"))


def test_the_menu_opens_without_scripts(
    browser: Browser, live_server, project: Project, admin: Member, other: Project
) -> None:
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    sign_in(context, admin.user, live_server.url)
    page = context.new_page()
    page.goto(f"/projects/{project.slug}/members/")
    page.locator(".switcher > summary").click()
    page.get_by_role("link", name=other.name).click()
    expect(page).to_have_url(re.compile(f"/projects/{other.slug}/$"))
    context.close()


@pytest.mark.parametrize("width", [360, 1024, 1920])
def test_the_bar_and_the_open_menu_fit_the_window(
    browser: Browser, live_server, project: Project, admin: Member, annotator: Member, width: int
) -> None:
    Project.objects.filter(pk=project.pk).update(name="Everyday questions of people in their second year of work")
    make_demonstration(annotator)
    with open_window(browser, live_server.url) as window:
        sign_in(window, admin.user, live_server.url)
        page = window.new_page()
        page.set_viewport_size({"width": width, "height": 740})
        page.goto(f"/projects/{project.slug}/")
        page.locator(".switcher > summary").click()
        box = page.locator(".switcher > div").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        expect(page.get_by_role("link", name="Review (1 waiting)")).to_be_attached()
