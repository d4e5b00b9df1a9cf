"""Adding prompts in a browser: what the report tells can be read and followed on every screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.django_db(transaction=True)
CASES = Path(__file__).parent.parent / "cases"


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (1280, "light")])
def test_the_report_of_an_import_leads_to_near_duplicates(open_as, project, admin, tmp_path, width, colours):
    lines = [(CASES / name).read_text() for name in ("prompts-fold-together.jsonl", "prompts-extra-keys.jsonl")]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join([*lines, "nonsense" + "x" * 500]))
    page = open_as(admin.user, f"/projects/{project.slug}/prompts/add/")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=colours)
    page.get_by_label("JSON file").set_input_files(file)
    page.get_by_role("button", name="Add prompts").click()
    expect(page.get_by_role("heading", name="12 prompts added")).to_be_visible()
    expect(page.get_by_text("“weight” was ignored in 1 turn")).to_be_visible()
    expect(page.get_by_text("“external_id” must be a string")).to_be_visible()
    assert no_barrier_in(page)
    page.get_by_role("link", name="Show both").first.click()
    expect(page.get_by_text("Rewrite in lower case: HELLO WORLD").first).to_be_visible()
    expect(page.get_by_text("Rewrite in lower case: Hello World").first).to_be_visible()
    assert no_barrier_in(page)
    page.get_by_role("link", name="Show all").click()
    page.get_by_label("Filter").select_option("near-duplicates")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("link", name="near-duplicate of prompt")).to_have_count(10)
    assert no_barrier_in(page)


def no_barrier_in(page) -> bool:
    report = Axe().run(page, options={"resultTypes": ["violations"]})
    assert report.violations_count == 0, report.generate_report()
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")
