"""The order of the queue, who may change it, and what happens when a worker comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.models import AuditEvent, Member, Project, User
from tests.factories import make_member, make_project, make_user
from tests.training import machine
from training.models import Round, Run
from training.services.planning import plans
from training.services.running import runs, steering
from training.stages import Stage

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = Run.Status
MOVES = {"first": steering.put_first, "last": steering.put_last}


@pytest.fixture
def root(db: None) -> User:
    return make_user(is_site_admin=True)


def queue() -> list[int]:
    return list(Run.objects.queued().values_list("pk", flat=True))


def make_round(project: Project) -> Round:
    plan = plans.Plan(number=1, obstacle="", stages=[]).to_json()
    return Round.objects.create(project=project, number=1, plan=plan, status=Round.Status.RUNNING)


def press(client: Client, user: User, name: str, run: Run, **fields: str) -> str:
    """What the person reads who presses the button."""
    client.force_login(user)
    address = reverse(f"training:run-{name}", args=[run.project.slug, run.pk])
    answer = client.post(address, fields, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


STEPS = st.lists(st.tuples(st.sampled_from(["queue", "pretrain", "first", "last", "claim"]), st.integers(0, 9)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_workers_take_the_runs_in_the_order_that_people_gave_them_and_pretrainings_last(
    steps: list[tuple[str, int]], root: User, project: Project
) -> None:
    Run.objects.all().delete()
    order: dict[bool, list[int]] = {False: [], True: []}  # by whether it is a pretraining: what should be
    for step, number in steps:
        if step in ("queue", "pretrain"):
            run = machine.queue_run(project, Stage.PRETRAINING if step == "pretrain" else Stage.SFT)
            order[step == "pretrain"].append(run.pk)
        elif waiting := order[False] + order[True]:
            run = Run.objects.get(pk=waiting[number % len(waiting)])
            own = order[run.yields_to_others]
            if step == "claim":
                taken = runs.claim(run.pk, owner="gpu@one")
                assert taken is not None
                assert taken.pk == waiting[0]
                order[taken.yields_to_others].remove(taken.pk)
            else:
                MOVES[step](run, actor=root)
                own.remove(run.pk)
                own.insert(0 if step == "first" else len(own), run.pk)
        assert queue() == order[False] + order[True]


def test_a_pretraining_that_came_first_waits_until_the_runs_of_rounds_are_through(project: Project, root: User) -> None:
    pretraining = machine.queue_run(make_project(), Stage.PRETRAINING)
    stage = machine.queue_run(project, Stage.REWARD, round=make_round(project))
    steering.put_first(pretraining, actor=root)
    assert runs.claim(pretraining.pk, owner="gpu@one") == stage
    assert runs.claim(pretraining.pk, owner="gpu@one") == pretraining


def test_a_message_for_a_run_that_was_put_last_takes_what_stands_before_it(project: Project, root: User) -> None:
    first, second = machine.queue_run(project), machine.queue_run(project)
    steering.put_last(first, actor=root)
    assert runs.claim(first.pk, owner="gpu@one") == second


def test_a_project_admin_puts_an_own_run_first_only_before_own_runs(client: Client, admin: Member) -> None:
    own = [machine.queue_run(admin.project) for _ in range(2)]
    assert "is now first in the queue" in press(client, admin.user, "first", own[1])
    assert queue() == [own[1].pk, own[0].pk]
    foreign = machine.queue_run(make_project("Secret plans"))
    later = machine.queue_run(admin.project)
    said = press(client, admin.user, "first", later)
    assert "Only a site admin can move it ahead of them" in said
    assert "Secret plans" not in said
    assert queue() == [own[1].pk, own[0].pk, foreign.pk, later.pk]
    press(client, admin.user, "last", own[1])
    assert queue() == [own[0].pk, foreign.pk, later.pk, own[1].pk]


def test_a_site_admin_moves_runs_of_every_project_from_the_system_page(client: Client, root: User) -> None:
    first, second = machine.queue_run(make_project("One")), machine.queue_run(make_project("Two"))
    client.force_login(root)
    shown = client.get(reverse("training:system")).content.decode()
    assert f'id="first-{second.pk}"' in shown
    assert f'id="last-{first.pk}"' in shown
    assert f'id="first-{first.pk}"' not in shown, "it stands first"
    said = press(client, root, "first", second, back="system")
    assert 'aria-labelledby="workers"' in said
    assert queue() == [second.pk, first.pk]


def test_buttons_stand_only_where_they_do_something(client: Client, admin: Member) -> None:
    machine.queue_run(make_project())
    own = machine.queue_run(admin.project)
    client.force_login(admin.user)
    shown = client.get(reverse("training:rounds", args=[admin.project.slug])).content.decode()
    assert f'id="cancel-{own.pk}"' in shown
    assert f'id="first-{own.pk}"' not in shown, "a run of another project stands before it"
    assert f'id="last-{own.pk}"' not in shown, "it stands last"


def test_a_move_says_who_did_it_and_which_place_the_run_had_and_has(project: Project, root: User) -> None:
    _first, _second, third = (machine.queue_run(project) for _ in range(3))
    steering.put_first(third, actor=root)
    steering.put_first(third, actor=root)
    event = AuditEvent.objects.get(action="run.moved")
    assert (event.actor, event.project, event.detail) == (root, project, {"before": 3, "after": 1})


@pytest.mark.parametrize("name", ["first", "last"])
def test_a_run_that_a_worker_has_taken_in_this_instant_is_said_to_run(
    client: Client, admin: Member, data_dir: Path, name: str
) -> None:
    run = machine.queue_run(admin.project)
    machine.queue_run(admin.project)
    runs.claim(run.pk, owner="gpu@one")
    assert f"A worker has just started run {run.pk}." in press(client, admin.user, name, run)
    assert not AuditEvent.objects.filter(action="run.moved").exists()


@pytest.mark.parametrize("stage", [Stage.PRETRAINING, Stage.SAMPLING])
def test_an_admin_cancels_a_waiting_run_that_belongs_to_no_round(client: Client, admin: Member, stage: str) -> None:
    run = machine.queue_run(admin.project, stage)
    asked = client.get(reverse("training:run-cancel", args=[admin.project.slug, run.pk]))
    assert asked.status_code == 302, "signed out"
    assert "is cancelled" in press(client, admin.user, "cancel", run)
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    event = AuditEvent.objects.get(action="run.cancelled")
    assert (event.actor, event.detail) == (admin.user, {"came_from": "queued"})
    assert "is no longer waiting" in press(client, admin.user, "cancel", run)


def test_a_running_run_is_asked_to_stop_once_and_the_audit_says_by_whom(
    client: Client, admin: Member, data_dir: Path
) -> None:
    run = runs.claim(machine.queue_run(admin.project, Stage.PRETRAINING).pk, owner="gpu@one")
    assert run is not None
    press(client, admin.user, "cancel", run)
    assert runs.heartbeat(run, step=3, total=9).cancel_requested
    assert "is already being cancelled" in press(client, admin.user, "cancel", run)
    event = AuditEvent.objects.get(action="run.cancel_requested")
    assert (event.actor, event.detail["before"]) == (admin.user, "running")


def test_a_run_of_a_round_is_cancelled_with_its_round(client: Client, admin: Member) -> None:
    run = machine.queue_run(admin.project, round=make_round(admin.project))
    with pytest.raises(steering.BelongsToRound):
        steering.cancel(run, actor=admin.user)
    assert "Cancel round 1?" in press(client, admin.user, "cancel", run)
    run.refresh_from_db()
    assert run.status == Status.QUEUED


@pytest.mark.django_db(transaction=True)
def test_of_workers_and_admins_at_the_same_moment_each_run_goes_to_one_and_nobody_sees_an_error(data_dir: Path) -> None:
    root, project = make_user(is_site_admin=True), make_project()
    waiting = [machine.queue_run(project) for _ in range(6)]

    def steer(number: int) -> str:
        run = Run.objects.get(pk=waiting[number % 6].pk)
        try:
            (steering.put_first, steering.put_last, steering.cancel)[number % 3](run, actor=root)
        except steering.TooLate:
            return "too late"
        finally:
            connection.close()
        return "done"

    def claim(number: int) -> int | None:
        try:
            taken = runs.claim(waiting[number].pk, owner=f"gpu@{number}")
            return taken and taken.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        steered = [pool.submit(steer, number) for number in range(12)]
        claimed = [pool.submit(claim, number) for number in range(6)]
        said = {future.result(timeout=60) for future in steered}
        taken = [pk for future in claimed if (pk := future.result(timeout=60))]
    assert said <= {"done", "too late"}
    assert len(taken) == len(set(taken))
    assert set(taken) == set(Run.objects.running().values_list("pk", flat=True))
    assert set(queue()) | set(taken) | set(Run.objects.finished().values_list("pk", flat=True)) == {
        run.pk for run in waiting
    }


def test_an_admin_of_another_project_finds_no_such_run(client: Client, project: Project) -> None:
    run = machine.queue_run(project)
    stranger = make_member(make_project(), role="admin")
    client.force_login(stranger.user)
    for name in ("first", "last", "cancel"):
        for slug in (project.slug, stranger.project.slug):
            address = reverse(f"training:run-{name}", args=[slug, run.pk])
            assert client.post(address).status_code == 404
    assert queue() == [run.pk]
