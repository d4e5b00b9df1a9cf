"""Many people at once: 16 threads on PostgreSQL, 8 processes on SQLite, and two who press at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F

from annotate.models import Assignment, Demonstration, Kind, Member, Project, Prompt, Role, User, WorkItem
from annotate.services import demonstrations, projects, prompts, work
from annotate.services.people import accounts, members
from tests.annotate.racer import race
from tests.factories import make_assignment, make_member, make_project, make_prompt, make_user

pytestmark = pytest.mark.database
SEATS = 2
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_items_wanted_from_two_people_each_end_with_exactly_their_seats():
    """Two thousand of them; fewer on SQLite, where one writes at a time and all others wait."""
    is_postgresql = connection.vendor == "postgresql"
    items, people = (2_000, 16) if is_postgresql else (500, 8)
    members = fill_queue(items, people)
    submitted = race_in_threads(members) if is_postgresql else race_in_processes(members)
    assert sum(submitted) == items * SEATS
    assert not WorkItem.objects.exclude(status="done", seats_taken=F("seats"), submitted_count=F("seats")).exists()
    pairs = Counter(Demonstration.objects.values_list("prompt", "annotator"))
    assert len(pairs) == items * SEATS
    assert set(pairs.values()) == {1}
    assert set(Counter(Assignment.objects.values_list("item", flat=True)).values()) == {SEATS}
    assert not Assignment.objects.exclude(status="submitted", seat__in=(1, 2)).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["same submission", "two windows"])
def test_who_presses_twice_at_the_same_moment_gets_one_piece_and_hands_it_in_once(what):
    annotator = make_member()
    if what == "two windows":
        fill = prompts.records_from_paste("One?\nTwo?\nThree?")
        prompts.add(annotator.project, fill)
        claims = at_once(lambda: work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment)
        assert len(set(claims)) == 1
        return
    assignment, submission_id = make_assignment(annotator, Kind.DEMONSTRATION), uuid4()
    labels = at_once(lambda: demonstrations.submit(assignment, submission_id=submission_id, text="Rest."))
    assert len(set(labels)) == 1
    assert Demonstration.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_imports_of_one_file_at_the_same_moment_add_every_prompt_once():
    project = make_project()
    lines = prompts.records_from_paste("\n".join(f"Question {n}?" for n in range(50)))
    imports = at_once(lambda: prompts.add(project, lines))
    assert sorted((done.created, done.existing) for done in imports) == [(0, 50), (50, 0)]
    assert Prompt.objects.count() == 50


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", [accounts.close, accounts.end_site_admin])
def test_of_two_site_admins_who_end_each_other_at_the_same_moment_one_stays(end):
    for _ in range(10):  # the moment at which they would block each other is short
        User.objects.update(is_superuser=False)
        pair = [make_user(is_site_admin=True) for _ in range(2)]
        doing = iter([pair, pair[::-1]])

        def end_the_other(doing=doing):
            actor, other = next(doing)
            try:
                end(other, actor=actor)
            except accounts.LastSiteAdmin:
                return "refused"
            return "done"

        assert sorted(at_once(end_the_other)) == ["done", "refused"]
        assert User.objects.filter(accounts.SITE_ADMINS).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_projects_of_one_name_made_at_the_same_moment_get_an_address_each():
    creator = make_user(is_site_admin=True)
    made = at_once(lambda: projects.create(Project(name="Everyday questions"), creator=creator).slug)
    assert sorted(made) == ["everyday-questions", "everyday-questions-2"]


@pytest.mark.django_db(transaction=True)
def test_of_two_first_saves_of_a_draft_one_is_kept_and_the_other_is_told_of_it():
    assignment = make_assignment(make_member(), Kind.DEMONSTRATION)
    texts = iter(("from one window", "from the other"))

    def save():
        text = next(texts)
        try:
            return text, work.save_draft(assignment, draft={"text": text}, version=0).draft
        except work.StaleDraft as stale:
            return text, stale.stored.draft

    ends = at_once(save)
    kept = Assignment.objects.get().draft
    assert [stored for _text, stored in ends] == [kept, kept]
    assert kept["text"] in {text for text, _stored in ends}


ADMIN_ACTIONS = {
    "change a role": lambda member, admin: members.change_role(member, role=Role.REVIEWER, actor=admin),
    "edit the guidelines": lambda member, admin: projects.edit_guidelines(
        member.project, text="Be kind.", before="", actor=admin
    ),
    "take in a member again": lambda member, admin: members.join(member.project, user=member.user, role=member.role),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ADMIN_ACTIONS)
def test_work_is_handed_out_while_an_admin_is_about_to(action):
    annotator = make_member()
    admin = make_member(annotator.project, role=Role.ADMIN).user
    make_prompt(annotator.project)

    def claim(_number: int):
        return work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            ADMIN_ACTIONS[action](annotator, admin)
            claimed = pool.submit(closing(claim), 0)
            if connection.vendor == "postgresql":  # on SQLite one writes at a time, whatever it is about
                assert claimed.result(timeout=10)
        assert claimed.result(timeout=30)


def fill_queue(items: int, people: int) -> list[Member]:
    project = make_project(demonstration_seats=SEATS)
    prompts.add(project, prompts.records_from_list({"text": f"Question {n}?"} for n in range(items)))
    return [make_member(project) for _ in range(people)]


def race_in_threads(members: list[Member]) -> list[int]:
    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(closing(race), members))


def race_in_processes(members: list[Member]) -> list[int]:
    database = f"sqlite:///{connection.settings_dict['NAME']}"
    environment = os.environ | {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.annotate.racer", str(member.pk)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for member in members
    ]  # fmt: skip
    results = [racer.communicate(timeout=540) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * len(racers), results
    return [int(printed) for printed, _errors in results]


def at_once(action) -> list:
    """What two people get who do `action` at the same moment."""
    start = Barrier(2)

    def wait_and_do(_number: int):
        start.wait(timeout=10)
        return action()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(closing(wait_and_do), range(2)))


def closing(action):
    """`action`, after which its thread keeps no connection open."""

    def done(argument):
        try:
            return action(argument)
        finally:
            connection.close()

    return done
