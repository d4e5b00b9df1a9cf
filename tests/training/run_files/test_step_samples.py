"""The answers of a PPO step: read, put in order, and sent to the people who rank."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from annotate.models import Completion, Member, Project, Slate, WorkItem
from annotate.services import prompts
from tests.factories import make_prompt
from tests.training import engine_files
from training.models import Run, Sample, SentSample
from training.services.run_files import step_samples
from training.services.run_files.reader import RunFiles


@pytest.fixture
def run(project: Project, data_dir: Path) -> Run:
    """A PPO run of three steps with samples of the second."""
    run = engine_files.make_run(project, fence=1, status=Run.Status.RUNNING)
    engine_files.write_metrics(run, [{"rollout/kl": kl, "rollout/reward": 0.5} for kl in (0.0, 1.1, 9.0)], total=5)
    engine_files.write_samples(run, 2, prompt_id=str(make_prompt(project).pk))
    return run


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def step_url(run: Run, step: int = 2) -> str:
    return reverse("training:run-step", args=[run.project.slug, run.pk, step])


def send_url(run: Run, place: int = 0) -> str:
    return reverse("training:run-send", args=[run.project.slug, run.pk, 2, place])


def test_the_bar_has_a_cell_for_every_step_done_and_to_come(run: Run) -> None:
    bar = step_samples.step_cells(RunFiles(run))
    assert [cell.level for cell in bar] == [1, 3, 10, 0, 0]
    assert [cell.step for cell in bar if cell.has_samples] == [2]


@pytest.mark.parametrize(
    ("kl", "level"), [(-0.2, 1), (0.001, 1), (0.5, 2), (2.4, 6), (2.5, 7), (3.6, 9), (3.7, 10), (4.0, 10), (40.0, 10)]
)
def test_a_cell_is_as_high_as_the_distance_is_near_the_limit(run: Run, kl: float, level: int) -> None:
    engine_files.write_metrics(run, [{"rollout/kl": kl}])
    assert [cell.level for cell in step_samples.step_cells(RunFiles(run))][:1] == [level]


def test_the_stylesheet_knows_every_level() -> None:
    css = (settings.BASE_DIR / "static/css/steps.css").read_text("utf-8")
    for level in range(1, step_samples.LEVELS + 1):
        assert f".step-cell.level-{level}::before {{\n  height: {level * 100 // step_samples.LEVELS}%;" in css


@pytest.mark.parametrize(("order", "places"), [("worst", [0, 1, 2]), ("best", [2, 1, 0]), ("changed", [2, 1, 0])])
def test_samples_come_in_the_order_that_was_asked_for(run: Run, order: str, places: list[int]) -> None:
    assert [sample.index for sample in step_samples.read(run, 2, order=order)] == places


def test_a_step_that_was_done_again_shows_what_it_did_the_last_time(run: Run) -> None:
    engine_files.write_samples(run, 2, fence=10, number=1)
    engine_files.write_samples(run, 2, fence=9, number=2)
    assert len(step_samples.read(run, 2, order="worst")) == 1


def test_a_line_that_was_not_written_to_its_end_is_left_out(run: Run) -> None:
    path = RunFiles(run).samples[2]
    path.write_text(path.read_text() + '{"prompt_id": "1", "mess')
    assert len(step_samples.read(run, 2, order="worst")) == 3


def test_a_sample_without_a_finite_reward_comes_last(run: Run) -> None:
    path = RunFiles(run).samples[2]
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(first.replace('"reward": -1.0', '"reward": null') + "".join(others))
    for order in ("worst", "best"):
        assert step_samples.read(run, 2, order=order)[-1].reward is None


def test_a_step_shows_prompt_answer_numbers_and_the_reference(page: Client, run: Run) -> None:
    shown = page.get(step_url(run)).content.decode()
    for part in ("What helps against number 2?", "Rest, and drink water 2.", "Nobody knows 2.", "KL 1.00 nats"):
        assert part in shown
    assert shown.count("cut off at the length limit") == 1
    assert page.get(step_url(run), {"order": "loudest"}).status_code == 404


def test_people_are_asked_about_a_sample_once_and_without_a_name(page: Client, run: Run) -> None:
    for _ in range(2):
        page.post(send_url(run))
    slate = Slate.objects.get()
    assert SentSample.objects.get().slate == slate
    texts = set(Completion.objects.filter(slate=slate).values_list("text", flat=True))
    assert texts == {"Rest, and drink water 0.", "Nobody knows 0."}
    assert WorkItem.objects.filter(slate=slate, status="open").count() == 1
    assert not Sample.objects.exists()
    assert "People have been asked to rank these two." in page.get(step_url(run)).content.decode()


def test_a_retry_that_tells_of_the_same_two_answers_does_not_ask_again(page: Client, run: Run) -> None:
    page.post(send_url(run))
    other = engine_files.make_run(run.project, fence=1)
    engine_files.write_samples(other, 2, prompt_id=step_samples.read(run, 2, order="worst")[0].prompt_id)
    page.post(send_url(other))
    assert Slate.objects.count() == 1


def test_a_withdrawn_prompt_is_asked_about_no_more(page: Client, run: Run, admin: Member) -> None:
    prompts.withdraw(run.project.prompts.get(), actor=admin.user)
    answer = page.post(send_url(run), follow=True)
    assert "The prompt is withdrawn." in answer.content.decode()
    assert not Slate.objects.exists()
