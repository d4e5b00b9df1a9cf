"""PostgreSQL or Redis goes away, comes back, goes silent or loses a reply, while people write and engines train."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from celery import current_app
from django.conf import settings

from annotate.models import Member, Project
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import FAST, Processes, product_times, wait_until
from tests.faults.proxy import Mode, Proxy
from tests.faults.toy_project import make_toy_project
from tests.faults.writer import Writer, served
from tests.training import machine
from tests.web_server import database_url
from training.models import Round, Run, Worker
from training.rlhf import exits
from training.services.run_files import directories, metrics
from training.services.running import reconciler, rounds
from training.stages import Stage

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.usefixtures("both_servers")]

PATIENCE_S = 60.0
LONGER_THAN_A_LEASE_S = float(FAST["ROUNDTABLE_RUN_LEASE_S"]) + 2
PPO_ITERATIONS = 100_000  # of the tiny model: more than any machine does in five minutes
Status = Run.Status


@pytest.fixture
def postgres() -> Iterator[Proxy]:
    proxy = Proxy(database_url())
    yield proxy
    proxy.close()


@pytest.fixture
def sweepers_way() -> Iterator[Proxy]:
    proxy = Proxy(database_url())
    yield proxy
    proxy.close()


@pytest.fixture
def redis() -> Iterator[Proxy]:
    proxy = Proxy(settings.REDIS_URL)
    yield proxy
    proxy.close()


def forget_everything() -> None:
    """What a Redis without persistence has after its restart."""
    with current_app.connection(settings.REDIS_URL) as broker:
        broker.default_channel.client.flushdb()


@pytest.fixture
def writer(project: Project, postgres: Proxy, redis: Proxy) -> Iterator[Writer]:
    writer = Writer(project)
    with served(DATABASE_URL=postgres.url, REDIS_URL=redis.url) as site:
        writer.claim_at(site)
        yield writer


def test_an_answer_whose_acknowledgement_got_lost_is_stored_once(
    writer: Writer, invariants: Invariants, postgres: Proxy
) -> None:
    postgres.fatal = b"COMMIT"
    assert writer.hand_in() >= 500
    assert not postgres.fatal
    assert writer.stored == [writer.answer["text"]]
    assert writer.hand_in() in (200, 201)
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    invariants.check()


def test_an_answer_handed_in_while_the_database_restarts_is_taken_afterwards(
    writer: Writer, invariants: Invariants, postgres: Proxy
) -> None:
    postgres.mode = Mode.REFUSE
    assert writer.hand_in() >= 500
    assert writer.stored == []
    postgres.mode = Mode.OPEN
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    invariants.check()


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SWALLOW], ids=["refused", "swallowed"])
def test_an_answer_needs_no_broker(writer: Writer, invariants: Invariants, redis: Proxy, mode: Mode) -> None:
    redis.mode = mode
    assert writer.hand_in() in (200, 201)
    assert writer.stored == [writer.answer["text"]]
    invariants.check()


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SWALLOW], ids=["refused", "swallowed"])
def test_a_worker_keeps_its_run_though_nobody_could_reach_the_database_for_longer_than_a_lease(
    processes: Processes,
    project: Project,
    invariants: Invariants,
    points: Failpoints,
    postgres: Proxy,
    sweepers_way: Proxy,
    mode: Mode,
) -> None:
    """The sweep, which has its own way to the database here, is back before the worker can speak."""
    processes.environment = {"DATABASE_URL": sweepers_way.url, "ROUNDTABLE_RUN_HEARTBEAT_S": "10"}  # so it is patient
    processes.worker("default")
    processes.beat()
    processes.environment = {"DATABASE_URL": postgres.url}
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    processes.supervisor()
    points.wait_for_pause(armed)
    wait_until(Worker.objects.filter(queue="default").exists, within=PATIENCE_S)

    postgres.mode = sweepers_way.mode = mode
    points.resume(armed)
    output = round.runs.get().directory / "attempts/1/output"
    wait_until(output.exists, within=PATIENCE_S)  # the engine went on to its end meanwhile
    time.sleep(LONGER_THAN_A_LEASE_S)
    assert round.runs.get().status == Status.RUNNING
    sweepers_way.mode = Mode.OPEN
    wait_until(round.runs.exclude(doubted_at=None).exists, within=PATIENCE_S)
    postgres.mode = Mode.OPEN
    wait_until(round.runs.filter(status=Status.SUCCEEDED).exists, within=PATIENCE_S)
    processes.stop_all()
    reconciler.sweep()
    run = round.runs.get()
    assert (run.attempt, run.fence) == (1, 1)
    invariants.check(says="succeeded")


@pytest.mark.parametrize("seconds", [LONGER_THAN_A_LEASE_S, pytest.param(60, marks=pytest.mark.soak)])
def test_runs_start_after_redis_was_a_black_hole_and_came_back_empty(
    processes: Processes,
    project: Project,
    invariants: Invariants,
    redis: Proxy,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes.environment = {"REDIS_URL": redis.url}
    others = [make_toy_project() for _ in range(4)]
    for process in (lambda: processes.worker("gpu"), lambda: processes.worker("default"), processes.beat):
        process()
    first = rounds.open(project, opened_by=None)
    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)

    redis.mode = Mode.SWALLOW
    with monkeypatch.context() as patch:
        patch.setattr(current_app.conf, "broker_write_url", redis.url)
        queued = [rounds.open(other, opened_by=None) for other in others]  # nobody hears the doorbell
    time.sleep(seconds)
    forget_everything()
    redis.mode = Mode.OPEN
    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)
    processes.stop_all()
    for round in (first, *queued):
        round.refresh_from_db()
        assert round.status == Round.Status.SUCCEEDED
    assert set(Run.objects.values_list("attempt", flat=True)) == {1}
    invariants.check(says="succeeded")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_real_ppo_goes_on_through_five_minutes_without_a_database(
    processes: Processes, teaching: Project, judge: Member, postgres: Proxy
) -> None:
    """With leases, heartbeats and sweeps as people have them."""
    machine.rank_new_slates(judge, 4)
    training = teaching.training_settings
    training.overrides["ppo"] |= {"iterations": PPO_ITERATIONS, "checkpoint_seconds": 60}
    training.save()
    invariants = Invariants(teaching)
    processes.environment = product_times() | {"DATABASE_URL": postgres.url}
    round = rounds.open(teaching, opened_by=None)
    for process in (lambda: processes.worker("gpu"), lambda: processes.worker("default"), processes.beat):
        process()
    ppo = round.runs.filter(stage=Stage.PPO)
    wait_until(ppo.filter(step__gte=2).exists, within=300)

    postgres.mode = Mode.REFUSE
    run = ppo.get()
    before = run.step
    time.sleep(300)
    done = metrics.read(directories.attempt(run.directory, run.fence)).rows[-1].step
    assert ppo.get().status == Status.RUNNING
    assert before + 2 < done < PPO_ITERATIONS
    postgres.mode = Mode.OPEN
    wait_until(ppo.filter(step__gte=done).exists, within=PATIENCE_S)

    rounds.cancel(round, actor=invariants.admin().user)
    wait_until(ppo.filter(status=Status.CANCELLED).exists, within=90)
    processes.stop_all()
    run = ppo.get()
    assert (run.attempt, run.fence, run.exit_code) == (1, 1, exits.Interrupted.code)
    invariants.check(says="cancelled")


@pytest.mark.parametrize("line", ["engine-ended", "publishing-taken"], ids=["acknowledgement", "transaction"])
def test_a_result_is_published_once_by_its_worker_though_the_connection_is_lost_meanwhile(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints, postgres: Proxy, line: str
) -> None:
    processes.environment = {"DATABASE_URL": postgres.url}
    armed = points.arm(line, "pause")
    round = rounds.open(project, opened_by=None)
    supervisor = processes.supervisor()
    points.wait_for_pause(armed)
    if line == "engine-ended":
        postgres.fatal = b"COMMIT"
    else:
        postgres.mode = Mode.REFUSE
        time.sleep(0.5)  # until the connection is cut
        postgres.mode = Mode.OPEN
    points.resume(armed)
    wait_until(round.runs.filter(status=Status.SUCCEEDED).exists, within=PATIENCE_S)
    wait_until(lambda: round.refresh_from_db() or not round.is_active, within=PATIENCE_S)
    assert supervisor.poll() is None
    processes.stop_all()
    run = round.runs.get()
    assert (run.attempt, run.fence) == (1, 1)
    invariants.check(says="succeeded")
