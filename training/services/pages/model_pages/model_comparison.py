"""Differences between models, side by side: figures, settings that are not the same, labels that came and went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from django.utils.translation import gettext as _

from annotate.models import Kind, Split
from training import stages
from training.models import ModelVersion, Snapshot
from training.services.pages.model_pages import lineage, model_metrics
from training.services.pages.model_pages.model_metrics import Figures
from training.services.run_files import config_fields, summaries

MOST = 5  # models side by side that a person can still follow
NOTHING = "–"


class Row(NamedTuple):
    """One thing, and what each model says about it."""

    name: str
    unit: str  # and over which steps
    values: list[str]
    meaning: str = ""  # in a sentence


class Settings(NamedTuple):
    """What differs between the settings of models that one stage made; `rows` have a value for each of them."""

    models: list[ModelVersion]
    rows: list[Row]


class Labels(NamedTuple):
    """The labels of one kind that a model learned from, against those of the first model."""

    number: int
    added: int
    removed: int


def compare_figures(models: list[ModelVersion]) -> list[Row]:
    """Every metric that one of `models` has."""
    figures = [model_metrics.figures(model) for model in models]
    known = {key: None for one in figures for key in one.metrics}
    ordered = [key for key in stages.all_metrics() if key in known]
    ordered += sorted(set(known) - set(ordered))
    return [_figure(key, label, figures) for key, label in model_metrics.labels(ordered).items()]


def compare_settings(models: list[ModelVersion]) -> list[Settings]:
    """The settings in which models of one kind differ; those of other stages have other meanings."""
    kinds = [kind for kind, number in Counter(model.kind for model in models).items() if number > 1]
    return [_settings([model for model in models if model.kind == kind]) for kind in kinds]


def without_counterpart(models: list[ModelVersion]) -> list[ModelVersion]:
    """Those of `models` whose kind no other one has, so that their settings can be compared with nothing."""
    numbers = Counter(model.kind for model in models)
    return [model for model in models if numbers[model.kind] == 1]


def compare_labels(models: list[ModelVersion]) -> dict[str, list[Labels | None]]:
    """By kind of label: what each model learned from, compared with the first; None where it learned from none."""
    taught = [{each.kind: each.snapshot for each in lineage.teachers(model)} for model in models]
    return {kind: _against_the_first(kind, [one.get(kind) for one in taught]) for kind in Kind.values}


def _settings(models: list[ModelVersion]) -> Settings:
    described = [{field.name: field for field in config_fields.describe(model.config)} for model in models]
    fields = {name: field for one in described for name, field in one.items()}
    rows = [
        Row(
            str(field.label),
            str(field.unit),
            [one[name].value if name in one else NOTHING for one in described],
            str(field.meaning),
        )
        for name, field in fields.items()
    ]
    return Settings(models, [row for row in rows if len(set(row.values)) > 1])


def _figure(key: str, label: str, figures: Sequence[Figures]) -> Row:
    readings = [model_metrics.reading(key, one.metrics[key]) if key in one.metrics else None for one in figures]
    first = next(reading for reading in readings if reading)
    rule = summaries.rule_in_words(key)
    if summaries.is_remeasured(key) and all(one.at is not None for one in figures if key in one.metrics):
        rule = _("of the published policy")
    unit = ", ".join(filter(None, [str(first.unit), rule]))
    values = [reading.value if reading else NOTHING for reading in readings]
    return Row(label, unit, values, str(first.meaning))


def _against_the_first(kind: str, snapshots: list[Snapshot | None]) -> list[Labels | None]:
    taught = [_label_ids(kind, snapshot) if snapshot else None for snapshot in snapshots]
    return [_difference(ids, taught[0]) if ids is not None else None for ids in taught]


def _difference(ids: set[int], first: set[int] | None) -> Labels:
    if first is None:
        return Labels(number=len(ids), added=0, removed=0)
    return Labels(number=len(ids), added=len(ids - first), removed=len(first - ids))


def _label_ids(kind: str, snapshot: Snapshot) -> set[int]:
    if kind == Kind.DEMONSTRATION:
        return set(snapshot.demonstrations.values_list("pk", flat=True))
    trained = snapshot.rankings.filter(slate__prompt__split=Split.TRAIN)  # what is held out only measures
    return set(trained.values_list("pk", flat=True))
