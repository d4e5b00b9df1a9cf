"""Figures of a model: its metrics and its config, in an order and in words that people can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion
from training.services.pages.progress import Reading
from training.services.run_files import summaries
from training.stages.metric import DATASET_METRICS, Metric, Words
from training.stages.number_format import number


def readings(model: ModelVersion) -> list[Reading]:
    """Every metric in the order of the stages; those of one kind that carry a number come last."""
    metrics, steps = model.metrics, model.run.step if model.run else 0
    named = [key for key in stages.all_metrics() if key in metrics]
    keys = (*named, *sorted(set(metrics) - set(named)))
    return [reading(key, metrics[key])._replace(span=summaries.steps_in_words(key, steps)) for key in keys]


def reading(key: str, value: Any) -> Reading:
    """One metric as a page shows it."""
    metric = _metric(key)
    if metric is None:
        return Reading(_label(key), _plain(value), "")
    shown = metric.show(value) if isinstance(value, int | float) else _plain(value)
    return Reading(metric.label, shown, metric.unit, meaning=metric.meaning)


def labels(keys: Iterable[str]) -> dict[str, str]:
    """What each of `keys` is called; with its stage, where several would be called the same."""
    plain = {key: str(_label(key)) for key in keys}
    times = Counter(plain.values())
    return {key: label if times[label] == 1 else _with_stage(key, label) for key, label in plain.items()}


def _label(key: str) -> Words:
    metric = _metric(key)
    return metric.label if metric else DATASET_METRICS.get(key, key)


def _with_stage(key: str, label: str) -> str:
    stage = next((stage for stage in stages.DEFINITIONS if key in stage.shown_metrics), None)
    return _("%(label)s (%(stage)s)") % {"label": label, "stage": stage.label} if stage else label


def _metric(key: str) -> Metric | None:
    return stages.all_metrics().get(key) or _numbered(key)


def _numbered(key: str) -> Metric | None:
    """A metric whose name ends in a number, which its label then says."""
    for stage in stages.DEFINITIONS:
        for beginning, metric in stage.numbered_metrics.items():
            count = key.removeprefix(beginning)
            if key.startswith(beginning) and count.isdecimal():
                return replace(metric, label=metric.label % {"number": int(count)})
    return None


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
