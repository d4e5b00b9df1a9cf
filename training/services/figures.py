"""Figures of a model: its metrics and its config, in an order and in words that people can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from training.services.metric_names import METRICS
from training.services.progress import Reading

# Where the files lie is said by the parents' names; the rest of a config may be compared field by field.
NO_FIELDS_OF_INTEREST = {"schema", "parents"}


def of_model(metrics: Mapping[str, Any]) -> list[Reading]:
    """Every metric that has a name for people, in the order of the stages; then the others by their own."""
    named = [key for key in METRICS if key in metrics]
    return [reading(key, metrics[key]) for key in (*named, *sorted(set(metrics) - set(named)))]


def reading(key: str, value: Any) -> Reading:
    """One metric as a page shows it."""
    metric = METRICS.get(key)
    shown = metric.show(value) if metric and isinstance(value, int | float) else _plain(value)
    return Reading(metric.label if metric else key, shown, metric.unit if metric else "")


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a stage's config as text."""
    chosen = {name: value for name, value in config.items() if name not in NO_FIELDS_OF_INTEREST}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in chosen.items()}
