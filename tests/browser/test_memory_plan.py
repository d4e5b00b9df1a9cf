"""A round that does not fit into a worker's memory, in a browser: one button takes settings with which it does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.db.models.functions import Now
from playwright.sync_api import Page, expect

from annotate.models import Member, Project
from tests.browser.keyboard import PHONE, fits
from tests.training import machine
from tests.training.conftest import built_base
from training import examiner
from training.models import Examination, ModelVersion, TrainingSettings, Worker
from training.services.machines import workers

__all__ = ["built_base"]


@pytest.fixture
def base(project: Project, built_base: Path) -> Iterator[ModelVersion]:
    """In the data directory that the test's server, a process of its own, has too."""
    shutil.copytree(built_base, settings.BASE_MODELS_DIR / machine.BASE)
    overrides = machine.OVERRIDES | {"sft": machine.OVERRIDES["sft"] | {"activation_checkpointing": "off"}}
    machine.make_settings(project, overrides=overrides)
    yield machine.make_base(project)
    shutil.rmtree(settings.BASE_MODELS_DIR)


def worker_with(memory: int) -> None:
    workers.beat("gpu@small", queue="gpu", host="small", device="2 CPU cores", pid=1, memory=memory)


def count() -> int:
    """Let a worker count the plan on the page; returns what SFT needs with its settings as they are."""
    pending = Examination.objects.get(kind="memory", status="pending")
    Worker.objects.update(heartbeat_at=Now())
    examiner.examine(pending.pk)
    Worker.objects.update(heartbeat_at=Now())  # which a live one goes on writing meanwhile
    pending.refresh_from_db()
    return next(stage for stage in pending.counts["cpu"] if stage["run"] == "sft")["counted"][0]["needed"]


def test_what_does_not_fit_is_made_to_fit_by_one_button(
    page: Page, project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 3)
    worker_with(16_000_000_000)
    page.goto(f"/projects/{project.slug}/rounds/")
    sft = page.locator("#stage-sft .plan-memory")
    expect(sft).to_contain_text("at most")
    needed = count()
    expect(sft).to_contain_text("at its peak")
    expect(sft).to_contain_text("gpu@small has 14.9")
    expect(page.locator("#make-fit")).to_have_count(0)

    worker_with(needed - 1)
    page.reload()
    expect(sft).to_contain_text("at most")
    count()
    expect(sft).to_contain_text("does not fit")
    expect(page.locator(".preflight-line.is-warn", has_text="SFT does not fit on any gpu-worker")).to_be_visible()
    expect_no_barrier(page)
    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_text("The settings are saved.")).to_be_visible()
    assert TrainingSettings.objects.get().overrides["sft"]["activation_checkpointing"] == "on"
    assert count() < needed
    expect(sft).to_contain_text("gpu@small has")
    expect(page.locator("#make-fit")).to_have_count(0)
    expect(page.locator("#stage-sft")).to_contain_text("Activation checkpointing on", ignore_case=True)


def expect_no_barrier(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        report = Axe().run(page, options={"resultTypes": ["violations"]})
        assert report.violations_count == 0, report.generate_report()
    size = page.viewport_size
    page.set_viewport_size(PHONE)
    assert fits(page)
    assert size
    page.set_viewport_size(size)
