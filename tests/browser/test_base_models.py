"""The page of base models in a real browser: it shows by itself what a worker found, and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Page, expect

from annotate.models import User
from tests.browser.keyboard import PHONE, fits
from tests.factories import make_user
from tests.training import machine
from training.models import Adoption
from training.services.machines import workers
from training.services.registry import adoptions


@pytest.fixture
def folders(transactional_db: None) -> Iterator[Path]:
    """A folder that can be used, and one that waits for a worker."""
    for name in ("good", "a-folder-with-a-name-that-does-not-end-" + "x" * 80):
        (settings.BASE_MODELS_DIR / name).mkdir(parents=True)
        (settings.BASE_MODELS_DIR / name / "config.json").write_text("{}")
    workers.beat("default@one", queue="default", host="here", device="", pid=1)
    machine.adopt("good", findings=[{"level": "warn", "kind": "adapter_ignored", "sentence": ""}])
    yield settings.BASE_MODELS_DIR
    shutil.rmtree(settings.BASE_MODELS_DIR)


@pytest.fixture
def site_admin(transactional_db: None) -> User:
    return make_user(is_site_admin=True)


def test_a_folder_is_examined_again_and_the_page_shows_what_was_found(
    open_as: Callable[[User, str], Page], site_admin: User, folders: Path
) -> None:
    page = open_as(site_admin, "/base-models/")
    card = page.locator("section.card", has=page.get_by_role("heading", name="good"))
    expect(card.locator(".badge")).to_have_text("can be used")
    card.get_by_role("button", name="Check again").click()
    expect(card.locator(".badge")).to_have_text("waiting for check")
    expect(card).to_contain_text("projects can choose the version checked before")
    taken = adoptions.claim(Adoption.objects.live().get().pk, worker="w")
    assert taken
    expect(card.locator(".badge")).to_have_text("being checked")
    finding = {"level": "block", "kind": "lfs_pointer", "field": "model.safetensors", "sentence": ""}
    adoptions.refuse(taken, {"findings": [finding]}, "It is a pointer.")
    expect(card.locator(".badge")).to_have_text("cannot be used")
    expect(card).to_contain_text("git lfs pull")
    expect(card.get_by_role("button", name="Check again")).to_be_visible()


def test_the_page_has_no_barrier_and_fits_a_phone(
    open_as: Callable[[User, str], Page], site_admin: User, folders: Path
) -> None:
    page = open_as(site_admin, "/base-models/")
    for summary in page.locator("details:not(.menu) > summary").all():
        summary.click()
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        report = Axe().run(page)
        assert report.violations_count == 0, report.generate_report()
    page.set_viewport_size(PHONE)
    assert fits(page)
    page.goto("/projects/new/")
    assert fits(page)
    report = Axe().run(page)
    assert report.violations_count == 0, report.generate_report()
