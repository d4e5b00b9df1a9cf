"""A gpu worker without Celery, as a process: `python -m tests.faults.supervisor NAME [--clock-ahead SECONDS]`.

It takes the queued runs in their order until it is killed, or drained by SIGTERM. SIGUSR1 sets its clock right.
"""

from __future__ import annotations

import argparse
import signal
import time
from datetime import UTC, datetime, timedelta

import django
import time_machine
from django.db import Error as DatabaseFailure
from django.db import close_old_connections

django.setup()

from training import engine_process, runner  # noqa: E402  (reads the models)
from training.models import Run  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--clock-ahead", type=float, default=0.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _signum, _frame: engine_process.draining.set())
    if options.clock_ahead:
        shift = time_machine.travel(datetime.now(UTC) + timedelta(seconds=options.clock_ahead))
        shift.start()
        signal.signal(signal.SIGUSR1, lambda _signum, _frame: shift.stop())
    while not engine_process.draining.is_set():
        work(options.name)


def work(name: str) -> None:
    try:
        if run := Run.objects.filter(status=Run.Status.QUEUED).order_by("pk").first():
            runner.supervise(run.pk, owner=name)
    except DatabaseFailure:
        close_old_connections()
    time.sleep(0.05)


if __name__ == "__main__":
    main()
