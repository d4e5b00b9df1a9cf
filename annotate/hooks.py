"""What annotate asks of the app that trains on its labels, and tells it. That app registers itself: it is not imported.

Judgement outlives any training method, so annotate works with nobody registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.forms import ModelForm

from annotate.models import Project
from annotate.services.importing.reports import Shapes
from annotate.services.overview_parts import TrainingOverview


class Readiness(Protocol):
    """How far the next round is."""

    sentence: str  # translated; stands on the home page, the rank page and the rounds page
    missing: int  # labels still needed; 0: there are enough of them


class ProjectForm(Protocol):
    """Makes the form of the app's own settings of `project`, which may not be stored yet; it has a `title`."""

    def __call__(self, data: Any = None, *, project: Project) -> ModelForm[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The app that trains on the labels."""

    # The readiness of those of the projects that it trains, by their ids: a page that shows many asks once.
    readiness: Callable[[Sequence[Project]], Mapping[int, Readiness]]
    # Told the kind and the ids of labels that must not be used any more.
    labels_withdrawn: Callable[[str, Iterable[int]], None]
    # What it has to say about prompts that were imported, by the roles and orders among them: translated sentences.
    prompts_remarks: Callable[[Project, Shapes], list[str]]
    # What it has to say on a project's overview: decisions that wait, charts, the workers; its words are translated.
    overview: Callable[[Project], TrainingOverview]
    project_form: ProjectForm  # stands on the project's settings page; saved in the same transaction


_trainer: Trainer | None = None


def register(trainer: Trainer) -> None:
    """Called once, when the app that trains is ready."""
    global _trainer
    _trainer = trainer


def readiness(project: Project) -> Readiness | None:
    """What is still missing before the next round can train; None when nobody trains it."""
    return readiness_of([project]).get(project.pk)


def readiness_of(projects: Sequence[Project]) -> Mapping[int, Readiness]:
    """The readiness of those of `projects` that somebody trains, by their ids."""
    return _trainer.readiness(projects) if _trainer else {}


def labels_withdrawn(kind: str, label_ids: Iterable[int]) -> None:
    """Say that labels of `kind` must not be used any more."""
    if _trainer:
        _trainer.labels_withdrawn(kind, list(label_ids))


def prompts_remarks(project: Project, shapes: Shapes) -> list[str]:
    """What there is to say about the prompts of an import; it stands in the import's report."""
    return _trainer.prompts_remarks(project, shapes) if _trainer else []


def overview(project: Project) -> TrainingOverview:
    """What training adds to the overview of `project`; nothing when nobody trains."""
    return _trainer.overview(project) if _trainer else TrainingOverview()


def project_form(data: Any, project: Project) -> ModelForm[Any] | None:
    """The form of the training settings of `project`; None when nobody trains."""
    return _trainer.project_form(data, project=project) if _trainer else None
