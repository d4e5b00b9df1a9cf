"""What holds for every labelling page: no barrier that axe finds, and nothing off the screen."""

from __future__ import annotations

from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from annotate.models import Kind, Member, Project, Verdict
from annotate.services import demonstrations, prompts, reviews, slates, work
from annotate.services.slates import NewCompletion
from tests.factories import make_prompt, make_slate

LONG = "An answer without end, and a wordthatdoesnotendeither" + "x" * 200 + ". " + "It goes on and on. " * 500


@pytest.fixture
def full_project(project: Project, annotator: Member, reviewer: Member) -> Project:
    """A project in which every page has something to show, of one character and of ten thousand."""
    project.guidelines = "# Be kind\n\n- Ask first\n- `code`\n\n> A quote"
    project.save()
    talk = [{"role": role, "content": "?"} for role in ("user", "assistant", "user")]
    prompt, _report = prompts.add_one(project, {"messages": talk})
    slates.add(project, prompt=prompt, completions=[NewCompletion(text) for text in ("x", LONG, LONG, "fine")])
    make_slate(project)
    for _ in range(2):
        make_prompt(project)
        assignment = work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
        label = demonstrations.submit(assignment, submission_id=uuid4(), text=LONG)
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Shorter, please.")
    return project


def addresses(project: Project) -> list[str]:
    pages = ["rank/", "write/", "guidelines/", "my-work/", "my-work/?show=submitted", "my-work/?show=skipped"]
    return ["/", *(f"/projects/{project.slug}/{page}" for page in pages)]


def test_axe_finds_no_barrier_in_either_colours(open_as, full_project: Project, annotator: Member) -> None:
    page = open_as(annotator.user, "/")
    for address in addresses(full_project):
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.goto(address)
        reports = [Axe().run(page, options={"resultTypes": ["violations"]})]
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        reports.append(Axe().run(page, options={"runOnly": ["color-contrast"]}))
        for report in reports:
            assert report.violations_count == 0, f"{address}\n{report.generate_report()}"


def test_nothing_leaves_the_screen_of_a_phone(open_as, full_project: Project, annotator: Member) -> None:
    page = open_as(annotator.user, "/")
    page.set_viewport_size({"width": 360, "height": 740})
    for address in addresses(full_project):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


def test_home_counts_the_work_and_its_keys_open_it(open_as, full_project: Project, annotator: Member) -> None:
    page = open_as(annotator.user, "/")
    expect(page.locator(".work", has_text="Rank answers").locator("strong")).to_have_text("2")
    expect(page.get_by_text("Returned to you")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Rank answers")).to_be_visible()


def test_home_says_why_there_is_nothing_to_do(open_as, project: Project, annotator: Member) -> None:
    page = open_as(annotator.user, "/")
    expect(page.get_by_text("There are no prompts yet.")).to_be_visible()
    expect(page.get_by_text("There is nothing to rank yet")).to_be_visible()


def test_the_colours_that_were_chosen_stay_chosen(open_as, annotator: Member) -> None:
    page = open_as(annotator.user, "/")
    page.get_by_role("button", name="Theme").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "light"
