"""What the pages that renew themselves cost, and that they take nothing away from who is using them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project, Prompt
from tests.training import engine_files, machine
from training import examiner
from training.models import Examination, ModelVersion, Round, Run, Worker
from training.services.machines import workers
from training.services.planning import plans
from training.services.running import questions, rounds, runs

HTMX = {"HX-Request": "true"}  # as a page asks for its parts
MOST_STATEMENTS = {"rounds-next": 42, "round-live": 16, "run-live": 13}


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    machine.write_demonstrations(annotator, 3)
    return project


def past_rounds(project: Project, number: int) -> None:
    """So many rounds that are through, each with runs of every stage."""
    plan = plans.draft(project).to_json()
    done = {"started_at": timezone.now(), "finished_at": timezone.now()}
    first = project.rounds.count() + 100
    for count in range(first, first + number):
        fields = {"plan": plan, "status": Round.Status.SUCCEEDED, "finished_at": timezone.now()}
        round = Round.objects.create(project=project, number=count, **fields)
        for stage in machine.ROUND_STAGES:
            machine.queue_run(project, stage, round=round, status=Run.Status.SUCCEEDED, **done)


def statements(page: Client, project: Project, name: str, *args: object) -> list[str]:
    address = reverse(f"training:{name}", args=[project.slug, *args])
    page.get(address, headers=HTMX)  # what is asked for once, and the session, are none of the poll's cost
    with CaptureQueriesContext(connection) as captured:
        assert page.get(address, headers=HTMX).status_code == 200
    return [query["sql"] for query in captured]


def test_the_plan_asks_the_same_few_statements_however_many_rounds_there_were(page: Client, ready: Project) -> None:
    past_rounds(ready, 1)
    few = statements(page, ready, "rounds-next")
    past_rounds(ready, 4)
    many = statements(page, ready, "rounds-next")
    assert len(many) == len(few) <= MOST_STATEMENTS["rounds-next"]


def test_a_round_asks_the_same_few_statements_however_many_rounds_there_were(page: Client, ready: Project) -> None:
    round = rounds.open(ready, opened_by=None)
    few = statements(page, ready, "round-live", round.number)
    past_rounds(ready, 4)
    assert len(statements(page, ready, "round-live", round.number)) == len(few) <= MOST_STATEMENTS["round-live"]


def test_a_run_asks_the_same_few_statements_however_many_runs_there_were(page: Client, ready: Project) -> None:
    run = rounds.open(ready, opened_by=None).runs.get()
    few = statements(page, ready, "run-live", run.pk)
    past_rounds(ready, 4)
    assert len(statements(page, ready, "run-live", run.pk)) == len(few) <= MOST_STATEMENTS["run-live"]


class Focusable(HTMLParser):
    """Collects what can have the focus inside the parts of a page that renew themselves."""

    VOID = ("input", "meta", "link", "br", "img", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0  # inside such a part, 0 outside
        self.nameless: list[str] = []
        self.ids: list[str] = []
        self.closed: list[str] = []  # <details> that a renewal would close

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self.depth:
            self._look(tag, given)
        if tag not in self.VOID and (self.depth or "every" in (given.get("hx-trigger") or "")):
            self.depth += 1

    def handle_endtag(self, tag: str) -> None:
        if self.depth and tag not in self.VOID:
            self.depth -= 1

    def _look(self, tag: str, given: dict[str, str | None]) -> None:
        if "id" in given:
            self.ids.append(str(given["id"]))
        takes_focus = tag in ("a", "button", "summary", "select", "textarea") or "tabindex" in given
        if takes_focus and not given.get("id"):
            self.nameless.append(f"{tag} {given}")
        if tag == "details" and not (given.get("id") and "data-keeps-open" in given):
            self.closed.append(str(given))


def assert_keeps_focus(page: Client, project: Project, name: str, *args: object) -> None:
    """htmx gives the focus back by id, and site.js opens again what has data-keeps-open."""
    found = Focusable()
    html = page.get(reverse(f"training:{name}", args=[project.slug, *args])).content.decode()
    found.feed(html)
    assert found.ids, "nothing on the page renews itself"
    assert found.nameless == []
    assert found.closed == []
    assert len(found.ids) == len(set(re.findall(r'\sid="([^"]+)"', html)) & set(found.ids)), "an id is there twice"


def test_the_plan_keeps_the_focus_and_what_was_opened_when_it_renews_itself(page: Client, ready: Project) -> None:
    page.get(reverse("training:rounds", args=[ready.slug]))
    examiner.examine(Examination.objects.get().pk)
    asked = [str(pk) for pk in Prompt.objects.values_list("pk", flat=True)[:2]]
    numbers = {"stages": ["sft"], "what": "prompts", "of": 40, "dropped": 2, "ids": asked, "reason": "no"}
    findings = [
        {"level": "warn", "kind": kind, "numbers": numbers | {"context": 9}} for kind in ("refused", "too_long")
    ]
    Examination.objects.update(findings=findings)
    ending = {"kind": "left_out", "records": asked, "numbers": {"what": "prompts"}}
    machine.queue_run(ready, "ppo", status=Run.Status.HELD, ending=ending)
    assert_keeps_focus(page, ready, "rounds")


def test_a_project_that_does_not_train_keeps_the_focus_of_its_page(page: Client, project: Project) -> None:
    assert_keeps_focus(page, project, "rounds")


def test_a_round_keeps_the_focus_and_what_was_opened_when_it_renews_itself(page: Client, ready: Project) -> None:
    run = runs.claim(rounds.open(ready, opened_by=None).runs.get().pk, owner="gpu@here")
    assert run is not None
    (engine_files.attempt(run) / "engine.log").write_text("a line\n")
    assert_keeps_focus(page, ready, "round", 1)
    Run.objects.update(status=Run.Status.HELD)
    assert_keeps_focus(page, ready, "round", 1)
    assert_keeps_focus(page, ready, "rounds")


def test_a_run_keeps_the_focus_and_what_was_opened_when_it_renews_itself(
    page: Client, project: Project, data_dir: Path
) -> None:
    run = runs.claim(engine_files.make_run(project).pk, owner="gpu@here")
    assert run is not None
    engine_files.write_metrics(run, engine_files.ppo_metrics(3))
    engine_files.write_samples(run, 2)
    engine_files.write_checkpoint(run, 2)
    (engine_files.attempt(run) / "engine.log").write_text("a line\n")
    assert_keeps_focus(page, project, "run", run.pk)
    run.move_to(Run.Status.HELD, error="The disk is full.")
    assert_keeps_focus(page, project, "run", run.pk)


def test_a_question_keeps_the_focus_when_it_renews_itself(page: Client, ready: Project, admin: Member) -> None:
    models = list(questions.models_to_ask(ready))
    question = questions.ask(ready, text="What helps?", models=models, asked_by=admin.user)
    assert_keeps_focus(page, ready, "question", question.pk)


def test_all_gpu_workers_are_asked_for_once(page: Client, ready: Project) -> None:
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    assert Worker.objects.count() == 1
    asked = [
        sql for sql in statements(page, ready, "rounds-next") if 'FROM "training_worker"' in sql and "'gpu'" in sql
    ]
    assert len(asked) == 1
