"""`manage.py demo`: the whole circle, unattended, in a throw-away installation; what `make demo` runs."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management import numbers
from training.tiny.demo import SHUFFLE, Demo, DemoFailed, summary, table
from training.tiny.installation import Installation

WORTHWHILE = 0.55  # the gold win rate against SFT below which the circle has not taught anything


class Command(BaseCommand):
    help = "Run rounds with simulated annotators on a real server with real workers. The last line of output is JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=numbers.seed, default=0)
        parser.add_argument("--rounds", type=int, default=2, choices=range(2, 10), metavar="ROUNDS")
        parser.add_argument("--annotators", type=numbers.between(1, 1000), default=8)
        parser.add_argument("--shuffle", type=numbers.share, default=SHUFFLE, help="share of rankings that are random")

    def handle(self, *, seed: int, rounds: int, annotators: int, shuffle: float, **_options: Any) -> None:
        signal.signal(signal.SIGTERM, _leave)
        began = time.monotonic()
        try:
            with Installation() as installation:
                demo = Demo(installation, seed=seed, people=annotators, shuffle=shuffle, say=self._say)
                demo.prepare()
                self._say(f"Roundtable is running at {installation.url} until this command ends.")
                reports = demo.play(rounds)
        except DemoFailed as failure:
            raise CommandError(str(failure)) from None
        except KeyboardInterrupt:
            sys.exit("Stopped. All temporary files have been removed.")
        for line in table(reports):
            self._say(line)
        self._say(json.dumps(summary(seed, reports, time.monotonic() - began)))
        if reports[-1]["gold_win_rate_vs_sft"] <= WORTHWHILE:
            sys.exit(1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _leave(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # through the `with` block, which leaves nothing behind
