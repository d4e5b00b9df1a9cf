"""Figures of a model: its metrics and its config, in an order and in words that people can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion
from training.services.pages.progress import Reading
from training.services.run_files import judges_decision, summaries
from training.services.run_files.reader import RunFiles
from training.stages.metric import DATASET_METRICS, Metric, Words
from training.stages.number_format import number


class Figures(NamedTuple):
    """The metrics of a model; those that were measured `at` a step every so often are of the policy that it is."""

    metrics: dict[str, Any]
    at: int | None  # None where the last step's policy is the model, and where nothing else is known

    def span(self, key: str, steps: int) -> str:
        """Over which of its run's steps the figure goes, in words."""
        if self.at is not None and summaries.is_remeasured(key):
            return _("at step %(step)d, which was published") % {"step": self.at}
        return summaries.steps_in_words(key, steps)


def figures(model: ModelVersion) -> Figures:
    """The figures of a model: its run may have gone on after the policy that it published."""
    measured = judges_decision.measured_of_published(RunFiles(model.run)) if model.run else None
    if measured is None:
        return Figures(model.metrics, None)
    return Figures(model.metrics | measured.figures, measured.step)


def readings(model: ModelVersion) -> list[Reading]:
    """Every metric in the order of the stages; those of one kind that carry a number come last."""
    found, steps = figures(model), model.run.step if model.run else 0
    named = [key for key in stages.all_metrics() if key in found.metrics]
    keys = (*named, *sorted(set(found.metrics) - set(named)))
    return [reading(key, found.metrics[key])._replace(span=found.span(key, steps)) for key in keys]


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
