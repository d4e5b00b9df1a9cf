"""Faults in random order: rounds go on while everything around them is killed, frozen, wiped and duplicated.

The seed decides which fault comes next, but not when exactly it strikes.
"""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from celery import current_app
from django.db import connection, transaction
from django.db.models import Max

from annotate.models import Project
from tests.factories import make_member, make_token
from tests.faults.failpoints import Failpoints
from tests.faults.processes import FAST, Processes, empty_broker, kill_engine, wait_until
from tests.faults.toy_project import make_toy_project
from tests.training import machine
from tests.web_server import Server
from training import doorbell
from training.models import Round, Run, TrainingSettings
from training.services.running import rounds
from training.stages import Stage

PROJECTS = 6
PATIENCE_S = 120.0
FREEZE_S = float(FAST["ROUNDTABLE_RUN_LEASE_S"]) + 1.5
FAILPOINTS = ("engine-ended", "publishing-taken", "run-concluded", "sealed-filled", "sealed-complete", "sealed-renamed")


class RandomFaults:
    """Some projects, the processes that serve them, and the faults that strike these."""

    def __init__(self, processes: Processes, points: Failpoints, *, seed: int) -> None:
        self.random = random.Random(seed)
        self.processes, self.points = processes, points
        self.injected: Counter[str] = Counter()
        self.accepted: list[str] = []  # answers that the web process has acknowledged
        self.ranked = 0  # slates, likewise
        # Rounds of every other project go through all stages, those of the others train SFT alone.
        self.projects = [make_toy_project(of_every_stage=number % 2 == 0) for number in range(PROJECTS)]
        TrainingSettings.objects.update(rankings_minimum=1)
        self.tokens = {project.pk: make_token(make_member(project).user) for project in self.projects}
        self.web = Server()
        self.gpu = [processes.worker("gpu") for _ in range(2)]
        self.default, self.beat = processes.worker("default"), processes.beat()
        self.faults: list[Callable[[], object]] = [
            self.kill_engines,
            self.kill_gpu_worker,
            self.stop_gpu_worker,
            self.freeze_gpu_worker,
            self.kill_default_worker,
            self.kill_beat,
            self.kill_web,
            self.wipe_queues,
            self.duplicate_messages,
            self.kill_at_failpoint,
            self.hold_the_database,
            self.cut_database_connections,
        ]

    def run(self, number: int, *, seconds: float = 0.0) -> None:
        """Open `number` rounds, and more until `seconds` have passed; return when all are over."""
        until = time.monotonic() + seconds
        opened = 0
        while opened < number or time.monotonic() < until:
            opened += self.open_rounds()
            fault = self.random.choice(self.faults)
            self.injected[fault.__name__] += 1
            fault()
            time.sleep(self.random.uniform(0.2, 1.0))
        self.disarm()
        wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)

    def open_rounds(self) -> int:
        """New labels and a new round for every project that has none, asked for by two people at once."""
        opened = 0
        for project in self.projects:
            if Round.objects.active().filter(project=project).exists():
                continue
            self.write(project)
            self.rank(project)
            for _ in range(2):
                with suppress(rounds.RoundRunning, rounds.NotReady):
                    rounds.open(project, opened_by=None)
                    opened += 1
        return opened

    def write(self, project: Project) -> None:
        """Answer a prompt that waits; a new one may be held out, and is asked for no answer then."""
        assignment = None
        while assignment is None:
            machine.make_prompts(project, 1)
            assignment = self.claim(project, "demonstration")
        text = f"Answer {uuid4()}"
        self.hand_in(project, assignment, "demonstration", {"text": text})
        self.accepted.append(text)

    def rank(self, project: Project) -> None:
        """Rank what the last round has opened."""
        while assignment := self.claim(project, "ranking"):
            places = {completion["id"]: place for place, completion in enumerate(assignment["completions"], 1)}
            self.hand_in(project, assignment, "ranking", {"places": places})
            self.ranked += 1

    def claim(self, project: Project, kind: str) -> dict[str, Any] | None:
        assignment: dict[str, Any] | None = self.post(project, f"projects/{project.slug}/claim/", {"kind": kind})[
            "assignment"
        ]
        return assignment

    def hand_in(self, project: Project, assignment: dict[str, Any], kind: str, label: dict[str, Any]) -> None:
        submission = str(uuid4())
        for _ in range(self.random.choice([1, 1, 2])):  # sometimes the reply is lost, and the browser asks again
            self.post(project, f"assignments/{assignment['id']}/{kind}/", label | {"submission_id": submission})

    def post(self, project: Project, path: str, body: dict[str, Any]) -> Any:
        """Ask the web process, again and again until it answers."""
        request = urllib.request.Request(
            f"{self.web.url}/api/v1/{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.tokens[project.pk]}", "Content-Type": "application/json"},
        )
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
            except OSError:
                pass
            assert time.monotonic() < until
            time.sleep(0.2)

    def kill_engines(self) -> None:
        for run in Run.objects.filter(status=Run.Status.RUNNING):
            kill_engine(run.directory)

    def kill_gpu_worker(self) -> None:
        index = self.random.randrange(len(self.gpu))
        self.processes.kill(self.gpu[index])
        self.gpu[index] = self.processes.worker("gpu")

    def stop_gpu_worker(self) -> None:
        """A deploy."""
        index = self.random.randrange(len(self.gpu))
        self.gpu[index].terminate()
        self.gpu[index].wait(PATIENCE_S)
        self.gpu[index] = self.processes.worker("gpu")

    def freeze_gpu_worker(self) -> None:
        """Longer than its lease, so that another worker has taken over what it held."""
        frozen = self.processes.session(self.random.choice(self.gpu))
        for pid in frozen:
            self.processes.signal(pid, signal.SIGSTOP)
        time.sleep(FREEZE_S)
        for pid in frozen:
            self.processes.signal(pid, signal.SIGCONT)

    def kill_default_worker(self) -> None:
        self.processes.kill(self.default)
        self.default = self.processes.worker("default")

    def kill_beat(self) -> None:
        self.processes.kill(self.beat)
        self.beat = self.processes.beat()

    def kill_web(self) -> None:
        self.web.kill()
        self.web.start()

    def wipe_queues(self) -> None:
        empty_broker()

    def duplicate_messages(self) -> None:
        """Also for runs that are over."""
        newest = Run.objects.aggregate(Max("pk"))["pk__max"] or 0
        for pk in range(max(1, newest - 6), newest + 1):
            for _ in range(2):
                current_app.send_task(doorbell.TASK, args=[pk])

    def kill_at_failpoint(self) -> None:
        point = self.random.choice(FAILPOINTS)
        where = "attempts" if point.startswith("sealed") else self.random.choice(list(Stage))
        self.points.arm(point, "kill", where)

    def hold_the_database(self) -> None:
        """Nobody can write for a while."""
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("LOCK TABLE training_run IN EXCLUSIVE MODE")
            time.sleep(1.5)

    def cut_database_connections(self) -> None:
        """What a restart of PostgreSQL does to everybody who is connected; SQLite has no server to restart."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    def disarm(self) -> None:
        for armed in self.points.folder.glob("*.[0-9]*"):
            armed.unlink(missing_ok=True)
