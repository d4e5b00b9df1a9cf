"""Figures of a model: its metrics and its config, in an order and in words that people can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from training.services.metric_names import INTAKE, METRICS, NUMBERED, Metric
from training.services.progress import Reading

# Where the files lie is said by the parents' names; the rest of a config may be compared field by field.
NO_FIELDS_OF_INTEREST = {"schema", "parents"}


def of_model(metrics: Mapping[str, Any]) -> list[Reading]:
    """Every metric in the order of the stages; those of one kind that carry a number come last."""
    named = [key for key in METRICS if key in metrics]
    return [reading(key, metrics[key]) for key in (*named, *sorted(set(metrics) - set(named)))]


def reading(key: str, value: Any) -> Reading:
    """One metric as a page shows it."""
    metric = METRICS.get(key) or _numbered(key)
    if metric is None:
        return Reading(INTAKE.get(key, key), _plain(value), "")
    return Reading(metric.label, metric.show(value) if isinstance(value, int | float) else _plain(value), metric.unit)


def _numbered(key: str) -> Metric | None:
    """The accuracy among pairs so many ranks apart, or on the answers of a round."""
    for beginning, label in NUMBERED.items():
        if key.startswith(beginning):
            number = key.removeprefix(beginning)
            return replace(METRICS["heldout/reward_accuracy"], label=str(label) % {"number": number})
    return None


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a stage's config as text."""
    chosen = {name: value for name, value in config.items() if name not in NO_FIELDS_OF_INTEREST}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in chosen.items()}
