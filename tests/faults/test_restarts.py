"""Real servers restart: Redis loses all that it knew, PostgreSQL what was not committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from celery import current_app

from annotate.models import Project
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes, wait_until
from tests.faults.servers import Postgres, Redis, postgres_with
from tests.faults.toy_project import make_toy_project
from tests.faults.writer import Site, Writer, served
from tests.web_server import database_url
from training.models import Round, Run
from training.services.running import rounds

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.usefixtures("both_servers")]

PATIENCE_S = 60.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(tmp_path)
    yield redis
    redis.kill()


@pytest.fixture
def site(redis: Redis) -> Iterator[Site]:
    with served(REDIS_URL=redis.url) as site:
        yield site


def test_runs_are_done_once_though_redis_restarts_empty_amid_them(
    processes: Processes,
    project: Project,
    invariants: Invariants,
    points: Failpoints,
    redis: Redis,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer(project)
    writer.claim_at(site)
    processes.environment = {"REDIS_URL": redis.url}
    for process in (lambda: processes.worker("gpu"), lambda: processes.worker("default"), processes.beat):
        process()
    armed = points.arm("toy-step", "pause", 5)
    with monkeypatch.context() as patch:
        patch.setattr(current_app.conf, "broker_write_url", redis.url)
        opened = [rounds.open(project, opened_by=None)]
        points.wait_for_pause(armed)
        opened += [rounds.open(make_toy_project(), opened_by=None) for _ in range(2)]  # whose messages get lost
        redis.kill()
        opened += [rounds.open(make_toy_project(), opened_by=None) for _ in range(2)]  # whose doorbell nobody hears
    assert writer.hand_in() in (200, 201)
    points.resume(armed)
    wait_until(opened[0].runs.filter(status=Run.Status.SUCCEEDED).exists, within=PATIENCE_S)
    time.sleep(2)  # so that the worker cannot ring for the next run either
    redis.start()
    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)
    processes.stop_all()
    assert set(Run.objects.values_list("status", "attempt")) == {(Run.Status.SUCCEEDED, 1)}
    assert Run.objects.count() == len(opened) == Round.objects.filter(status=Round.Status.SUCCEEDED).count()
    assert writer.stored == [writer.answer["text"]]
    invariants.check(says="succeeded")


def test_an_answer_on_its_way_while_postgres_restarts_is_stored_once(project: Project, invariants: Invariants) -> None:
    writer = Writer(project)
    with postgres_with(copied_from=database_url()) as postgres, served(DATABASE_URL=postgres.url) as site:
        writer.claim_at(site)
        replies: list[int] = []
        submission = threading.Thread(target=lambda: replies.append(writer.hand_in()))
        with closing(psycopg.connect(postgres.url)) as other:
            other.execute("LOCK TABLE annotate_demonstration IN EXCLUSIVE MODE")
            submission.start()
            wait_until(lambda: somebody_waits_for_a_lock(postgres), within=PATIENCE_S)
            postgres.control("restart")
        submission.join()
        assert replies[0] >= 500
        assert stored_in(postgres, writer) == []
        assert writer.hand_in() in (200, 201)
        assert writer.hand_in() in (200, 201)
        assert stored_in(postgres, writer) == [writer.answer["text"]]
    invariants.check()


def somebody_waits_for_a_lock(postgres: Postgres) -> bool:
    with psycopg.connect(postgres.url) as connection:
        return bool(connection.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchall())


def stored_in(postgres: Postgres, writer: Writer) -> list[str]:
    with psycopg.connect(postgres.url) as connection:
        sql = "SELECT text FROM annotate_demonstration WHERE annotator_id = %s"
        return [text for (text,) in connection.execute(sql, [writer.member.pk])]
