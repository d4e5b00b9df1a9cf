"""Simulated people help in a demo project: a job of a worker, which a page starts, follows and stops."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Demonstration, Kind, Member, Project, Ranking, User
from annotate.services import prompts, slates
from annotate.services.slates import NewCompletion, NewSlate
from tests.factories import make_member, make_project
from training import doorbell
from training.models import Simulation, TrainingSettings
from training.services.demo import simulations
from training.services.running import reconciler
from training.tiny import annotators, gold
from training.tiny.world import phrasings

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = Simulation.Status


@pytest.fixture
def demo() -> Project:
    project = make_project("Everyday")
    TrainingSettings.objects.create(project=project, purpose=TrainingSettings.Purpose.DEMO)
    prompts.add(project, prompts.records_from_list([{"text": phrasing.text} for phrasing in phrasings()[:30]]))
    return project


@pytest.fixture
def admin(demo: Project) -> User:
    user = make_member(demo, role="admin").user
    assert user is not None
    return user


def test_they_write_what_is_wanted_marked_as_simulated(demo: Project, admin: User) -> None:
    simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=20, started_by=admin)
    simulations.run(simulation.pk)
    simulation.refresh_from_db()
    assert (simulation.status, simulation.done) == (Status.DONE, 20)
    written = Demonstration.objects.select_related("annotator", "prompt")
    assert len(written) == 20
    assert all(one.annotator.is_simulated for one in written)
    assert min(gold.utility(one.prompt.question, one.text) for one in written) > -2
    assert AuditEvent.objects.filter(action="simulation.waiting", actor=admin).exists()


def test_they_rank_until_nothing_is_left(demo: Project, admin: User) -> None:
    texts = [NewCompletion("Drink a glass of water."), NewCompletion("What a silly question.")]
    slates.add_many(demo, [NewSlate(prompt, texts) for prompt in demo.prompts.all()[:5]])
    simulation = simulations.start(demo, kind=Kind.RANKING, wanted=100, started_by=admin)
    simulations.run(simulation.pk)
    simulation.refresh_from_db()
    assert (simulation.status, simulation.done) == (Status.DONE, Ranking.objects.count())
    assert simulation.done == 5


def test_only_in_a_demo_project(project: Project, admin: User) -> None:
    TrainingSettings.objects.create(project=project)
    with pytest.raises(simulations.Refused):
        simulations.start(project, kind=Kind.RANKING, wanted=5, started_by=admin)
    assert not Simulation.objects.exists()


def test_a_second_click_goes_on_with_the_first_one(demo: Project, admin: User) -> None:
    first = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=5, started_by=admin)
    assert simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=5, started_by=admin) == first


def test_a_message_that_comes_twice_makes_no_more_labels(demo: Project, admin: User) -> None:
    simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=5, started_by=admin)
    simulations.run(simulation.pk)
    simulations.run(simulation.pk)
    assert Demonstration.objects.count() == 5


def test_stopped_in_the_middle_they_keep_what_is_in(
    demo: Project, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=30, started_by=admin)
    work = annotators.work

    def stop_after_a_slice(*args: object, **kwargs: object) -> int:
        done = work(*args, **kwargs)  # type: ignore[arg-type]
        simulations.stop(demo, actor=admin)
        return done

    monkeypatch.setattr(annotators, "work", stop_after_a_slice)
    simulations.run(simulation.pk)
    simulation.refresh_from_db()
    assert simulation.status == Status.STOPPED
    assert Demonstration.objects.count() == simulations.SLICE


def test_another_worker_goes_on_where_a_silent_one_stood(
    demo: Project, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=20, started_by=admin)
    long_ago = timezone.now() - timedelta(hours=1)
    Simulation.objects.update(status=Status.RUNNING, done=12, touched_at=long_ago)
    asked = []
    monkeypatch.setattr(doorbell, "ring_for_simulation", asked.append)
    reconciler.ring_for_simulations()
    reconciler.ring_for_simulations()  # it waits for the sweep after, since it has just been touched
    Simulation.objects.update(touched_at=long_ago)
    reconciler.ring_for_simulations()
    assert simulation in asked
    simulations.run(simulation.pk)
    assert Demonstration.objects.count() == 8


def test_an_error_is_told_and_not_tried_for_ever(demo: Project, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=5, started_by=admin)

    def fail(*_args: object, **_kwargs: object) -> int:
        raise annotators.Refused("a demonstration that was sent twice was stored twice")

    monkeypatch.setattr(annotators, "work", fail)
    simulations.run(simulation.pk)
    simulation.refresh_from_db()
    assert simulation.status == Status.FAILED
    assert "stored twice" in simulation.error


def test_the_page_starts_follows_and_stops_them(client: Client, demo: Project, admin: User) -> None:
    client.force_login(admin)
    page = reverse("training:simulation", args=[demo.slug])
    client.post(page, {"kind": "demonstration", "wanted": 10})
    simulation = Simulation.objects.get()
    Simulation.objects.update(done=4)
    shown = client.get(page, headers={"HX-Request": "true"})
    assert "4 of 10" in shown.content.decode()
    assert "HX-Refresh" not in shown
    client.post(reverse("training:stop-simulation", args=[demo.slug]))
    simulation.refresh_from_db()
    assert simulation.status == Status.STOPPED
    assert client.get(page, headers={"HX-Request": "true"})["HX-Refresh"] == "true"


@pytest.mark.parametrize("sent", [{}, {"kind": "review", "wanted": 3}, {"kind": "ranking", "wanted": "0"}])
def test_a_form_that_says_nonsense_starts_nothing(
    client: Client, demo: Project, admin: User, sent: dict[str, object]
) -> None:
    client.force_login(admin)
    client.post(reverse("training:simulation", args=[demo.slug]), sent)
    assert not Simulation.objects.exists()


def test_the_people_are_the_same_ones_every_time(demo: Project, admin: User) -> None:
    for _again in range(2):
        simulation = simulations.start(demo, kind=Kind.DEMONSTRATION, wanted=2, started_by=admin)
        simulations.run(simulation.pk)
    assert Member.objects.filter(project=demo, is_simulated=True).count() == 8
    assert Demonstration.objects.count() == 4
