"""`manage.py simulate`: simulated annotators at work on a running server, through its REST API."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from annotate.management.numbers import LARGEST, between, seed, share
from training.tiny import annotators
from training.tiny.annotators import Behaviour


class Command(BaseCommand):
    help = "Run simulated annotators that write, rank and skip, sometimes late or twice. Prints what they did as JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", required=True, help="address of the server")
        parser.add_argument("--project", required=True, help="the project's slug")
        parser.add_argument(
            "--tokens", type=Path, required=True, nargs="+", metavar="FILE", help="API tokens, one per line"
        )
        people, pieces, noise = between(1, LARGEST), between(0, LARGEST), between(0.0, 100.0)
        parser.add_argument("--annotators", type=people, help="number of tokens to use (default: all)")
        parser.add_argument("--demonstrations", type=pieces, default=0, help="maximum number of answers to write")
        parser.add_argument("--rankings", type=pieces, default=0, help="maximum number of sets to rank")
        parser.add_argument("--seed", type=seed, default=0)
        parser.add_argument(
            "--noise", type=noise, default=Behaviour.noise, help="standard deviation of each person's preferences"
        )
        parser.add_argument(
            "--shuffle", type=share, default=Behaviour.shuffle, help="share of rankings that are random"
        )

    def handle(self, **options: Any) -> None:
        secrets = [line for path in options["tokens"] for line in path.read_text("utf-8").split()]
        people = annotators.assemble(
            options["url"],
            secrets[: options["annotators"]],
            project=options["project"],
            behaviour=Behaviour(noise=options["noise"], shuffle=options["shuffle"]),
            seed=options["seed"],
        )
        annotators.work(people, "demonstration", wanted=options["demonstrations"])
        annotators.work(people, "ranking", wanted=options["rankings"])
        self.stdout.write(json.dumps(annotators.total(people)))
