"""Two admins press the button at the same moment: one round, and both are taken to it."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from annotate.models import Project, Role
from tests.factories import make_member
from tests.faults.invariants import Invariants
from training.models import Round
from training.services.running import rounds

pytestmark = [pytest.mark.database]

REPEATS = 50


def test_two_admins_and_a_double_click_start_one_round(project: Project, invariants: Invariants) -> None:
    people = [make_member(project, role=Role.ADMIN).user for _ in range(2)]
    clients = [Client(), Client(), Client()]
    for client, person in zip(clients, [*people, people[0]], strict=True):
        client.force_login(person)
    address = reverse("training:rounds-start", args=[project.slug])
    for number in range(1, REPEATS + 1):
        assert press_at_once(clients, address) == {reverse("training:round", args=[project.slug, number])}
        rounds.cancel(Round.objects.active().get(), actor=people[0])
    assert Round.objects.count() == REPEATS
    invariants.check(says="cancelled")


def press_at_once(clients: list[Client], address: str) -> set[str]:
    """Where each of them is sent."""
    gate = threading.Barrier(len(clients))
    sent: list[str] = []

    def press(client: Client) -> None:
        try:
            gate.wait()
            sent.append(client.post(address)["Location"])
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(sent)
