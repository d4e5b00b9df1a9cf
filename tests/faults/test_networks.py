"""PostgreSQL or Redis goes away, comes back, goes silent or loses a reply, while people write and engines train."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from django.conf import settings
from django.db import connection

from annotate.models import Demonstration, Project
from tests.browser.servers import Server
from tests.factories import make_member, make_token
from tests.faults.failures import Failpoints
from tests.faults.processes import FAST, Machines, database_url, wait_until
from tests.faults.proxy import Mode, Proxy
from tests.faults.toy_project import make_toy_project
from tests.faults.witness import Witness
from tests.training import machine
from training.models import Round, Run
from training.services import reconciler, rounds

pytestmark = [pytest.mark.slow, pytest.mark.network]

PATIENCE_S = 60.0
LONGER_THAN_A_LEASE_S = float(FAST["ROUNDTABLE_RUN_LEASE_S"]) + 2
Status = Run.Status


@pytest.fixture(autouse=True)
def both_servers(transactional_db: None) -> None:
    if connection.vendor != "postgresql" or not settings.REDIS_URL:
        pytest.skip("needs DATABASE_URL and REDIS_URL of a PostgreSQL and a Redis server")


@pytest.fixture
def postgres() -> Iterator[Proxy]:
    proxy = Proxy(database_url())
    yield proxy
    proxy.close()


@pytest.fixture
def redis() -> Iterator[Proxy]:
    proxy = Proxy(settings.REDIS_URL)
    yield proxy
    proxy.close()


class Site(Server):
    """A web process with its own ways to the database and the broker."""

    def __init__(self, **ways: str) -> None:
        self.ways = ways
        super().__init__()

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self.ways


class Writer:
    """A person with one answer to hand in."""

    def __init__(self, site: Site, project: Project) -> None:
        machine.make_prompts(project, 1)
        self.site, self.member = site, make_member(project)
        self.token = make_token(self.member.user)
        status, claim = self._post(f"projects/{project.slug}/claim/", {"kind": "demonstration"})
        assert status == 200, claim
        self.address = f"assignments/{claim['assignment']['id']}/demonstration/"
        self.answer = {"submission_id": str(uuid4()), "text": f"Answer {uuid4()}"}

    def hand_in(self) -> int:
        """The status of the reply; 0 for none."""
        return self._post(self.address, self.answer)[0]

    @property
    def stored(self) -> list[str]:
        return list(Demonstration.objects.filter(annotator=self.member).values_list("text", flat=True))

    def _post(self, path: str, body: dict[str, str]) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.site.url}/api/v1/{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, error


def forget_everything() -> None:
    """What a Redis without persistence has after its restart."""
    with current_app.connection(settings.REDIS_URL) as broker:
        broker.default_channel.client.flushdb()


@pytest.fixture
def writer(project: Project, postgres: Proxy, redis: Proxy) -> Iterator[Writer]:
    site = Site(DATABASE_URL=postgres.url, REDIS_URL=redis.url)
    yield Writer(site, project)
    site.kill()


def test_an_answer_whose_acknowledgement_got_lost_is_stored_once(
    writer: Writer, witness: Witness, postgres: Proxy
) -> None:
    postgres.fatal = b"COMMIT"
    assert writer.hand_in() >= 500
    assert not postgres.fatal
    assert writer.stored == [writer.answer["text"]]
    assert writer.hand_in() in (200, 201)
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    witness.attest()


def test_an_answer_handed_in_while_the_database_restarts_is_taken_afterwards(
    writer: Writer, witness: Witness, postgres: Proxy
) -> None:
    postgres.mode = Mode.REFUSE
    assert writer.hand_in() >= 500
    assert writer.stored == []
    postgres.mode = Mode.OPEN
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    witness.attest()


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SWALLOW], ids=["refused", "swallowed"])
def test_an_answer_needs_no_broker(writer: Writer, witness: Witness, redis: Proxy, mode: Mode) -> None:
    redis.mode = mode
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    witness.attest()


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SWALLOW], ids=["refused", "swallowed"])
def test_training_goes_on_and_ends_well_though_the_database_was_away_for_longer_than_a_lease(
    machines: Machines, project: Project, witness: Witness, points: Failpoints, postgres: Proxy, mode: Mode
) -> None:
    machines.environment = {"DATABASE_URL": postgres.url}
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    machines.supervisor()
    points.wait_for_pause(armed)
    postgres.mode = mode
    points.resume(armed)
    output = round.runs.get().directory / "attempts/1/output"
    wait_until(output.exists, within=PATIENCE_S)  # the engine went on to its end meanwhile
    time.sleep(LONGER_THAN_A_LEASE_S)
    assert round.runs.get().status == Status.RUNNING
    postgres.mode = Mode.OPEN
    succeeded = round.runs.filter(status=Status.SUCCEEDED)
    wait_until(succeeded.exists, within=PATIENCE_S)
    machines.stop_all()
    reconciler.sweep()
    run = round.runs.get()
    assert (run.attempt, run.fence) == (1, 1)
    witness.attest(says="succeeded")


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SWALLOW], ids=["refused", "swallowed"])
def test_runs_start_after_redis_was_away_and_came_back_empty(
    machines: Machines, project: Project, witness: Witness, redis: Proxy, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.environment = {"REDIS_URL": redis.url}
    others = [make_toy_project() for _ in range(4)]
    for process in (lambda: machines.worker("gpu"), lambda: machines.worker("default"), machines.beat):
        process()
    first = rounds.open(project, opened_by=None)
    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)

    redis.mode = mode
    with monkeypatch.context() as patch:
        patch.setattr(current_app.conf, "broker_write_url", redis.url)
        queued = [rounds.open(other, opened_by=None) for other in others]  # nobody hears the doorbell
    time.sleep(LONGER_THAN_A_LEASE_S)
    forget_everything()
    redis.mode = Mode.OPEN
    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)
    machines.stop_all()
    for round in (first, *queued):
        round.refresh_from_db()
        assert round.status == Round.Status.SUCCEEDED
    assert set(Run.objects.values_list("attempt", flat=True)) == {1}
    witness.attest(says="succeeded")
