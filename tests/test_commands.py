"""What holds for every `manage.py` command of ours."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand

ROOT = Path(__file__).resolve().parent.parent


def commands() -> Iterator[tuple[str, BaseCommand]]:
    for path in sorted(ROOT.glob("*/management/commands/[!_]*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield path.stem, importlib.import_module(module).Command()


def test_every_number_on_the_command_line_has_a_range() -> None:
    options = [(name, option) for name, one in commands() for option in one.create_parser("manage.py", name)._actions]
    own = [(name, option) for name, option in options if option.dest != "verbosity"]
    numbers = [(name, option.dest) for name, option in own if option.type in (int, float) and not option.choices]
    assert len(own) > 50
    assert numbers == []


@pytest.mark.parametrize(
    "line",
    [
        "api_token a@example.org --days -5",
        "api_token a@example.org --days 0",
        "api_token a@example.org --days 99999999",
        "prune --days -1 --yes",
        "prune --days 99999999",
        "create_demo_project --seed -1",
        "create_demo_project --completions 10",
        "simulated_annotators demo --number -1",
        "simulate --url http://localhost --project demo --tokens no-file --shuffle nan",
        "adopt ours --context 0",
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_done(line: str) -> None:
    with pytest.raises(CommandError, match="is not between"):
        call_command(*line.split())
