"""The page of training settings in a browser: links lead to a setting, resets are seen at once, a phone shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django import Settings

from annotate.models import Member, User
from tests.browser.keyboard import PHONE, fits
from training.models import TrainingSettings
from training.presets import TINY

OpenAs = Callable[[User, str], Page]


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def address(admin: Member) -> str:
    own = {"ppo": {"beta": 0.2, "checkpoint_seconds": 60}}
    TrainingSettings.objects.create(project=admin.project, overrides=own)
    return reverse("training:settings", args=[admin.project.slug])


def test_a_link_to_a_folded_setting_opens_it_and_puts_the_cursor_there(
    open_as: OpenAs, admin: Member, address: str
) -> None:
    page = open_as(admin.user, f"{address}#ppo-checkpoint_seconds")
    expect(page.locator("#ppo-checkpoint_seconds")).to_be_in_viewport()
    expect(page.locator("#id_ppo-checkpoint_seconds")).to_be_focused()
    expect(page.locator("#ppo-checkpoint_seconds")).to_have_css("outline-style", "solid")


def test_a_reset_is_seen_at_once_and_saved_by_key(open_as: OpenAs, admin: Member, address: str) -> None:
    page = open_as(admin.user, address)
    row = page.locator("#ppo-beta")
    expect(row.get_by_text("differs from the preset")).to_be_visible()
    row.get_by_role("button", name="Reset to preset").click()
    expect(page.locator("#id_ppo-beta")).to_have_value(str(TINY.values["ppo"]["beta"]))
    expect(row.get_by_text("differs from the preset")).to_be_hidden()
    expect(page.get_by_text("Not saved: 1")).to_be_visible()
    page.locator("#id_sft-epochs").fill("6")
    expect(page.locator("#sft-epochs").get_by_text("differs from the preset")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Saved 2 changes.")).to_be_visible()
    assert TrainingSettings.objects.get().overrides == {"ppo": {"checkpoint_seconds": 60}, "sft": {"epochs": 6}}


def test_an_error_is_reached_from_the_top_of_the_page(open_as: OpenAs, admin: Member, address: str) -> None:
    page = open_as(admin.user, address)
    page.locator("#id_ppo-minibatch_size").fill("33")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_role("link", name="Rollout size (PPO)").click()
    expect(page.locator("#id_ppo-rollout_size")).to_be_focused()
    expect(page.locator("#ppo-rollout_size")).to_contain_text("rollout_size must be a multiple of minibatch_size.")
    expect(page.locator("#id_ppo-minibatch_size")).to_have_value("33")


@pytest.mark.parametrize("typed", ["5e-", "1,5", "abc"])
def test_what_is_no_number_is_refused_where_it_was_typed_and_resets_nothing(
    open_as: OpenAs, admin: Member, address: str, typed: str
) -> None:
    page = open_as(admin.user, address)
    page.locator("#id_ppo-beta").press("Control+a")
    page.keyboard.type(typed)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#ppo-beta")).to_contain_text("Enter a number.")
    expect(page.locator("#id_ppo-beta")).to_have_value(typed)
    assert TrainingSettings.objects.get().overrides["ppo"]["beta"] == 0.2


def test_the_page_has_no_barrier_and_fits_a_phone(open_as: OpenAs, admin: Member, address: str) -> None:
    page = open_as(admin.user, address)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
        page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        report = Axe().run(page, options={"resultTypes": ["violations"]})
        assert report.violations_count == 0, report.generate_report()
    page.set_viewport_size(PHONE)
    assert fits(page)
