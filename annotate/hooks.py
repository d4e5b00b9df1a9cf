"""What annotate asks of the app that trains on its labels, and tells it. That app registers itself: it is not imported.

Judgement outlives any training method, so annotate works with nothing registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from django.db.models import QuerySet
from django.forms import ModelForm

from annotate.models import Demonstration, Project, Ranking, Role, User
from annotate.services.importing.reports import Shapes
from annotate.services.project_overview.parts import TrainingOverview


class Readiness(Protocol):
    """How far the next round is."""

    sentence: str  # translated; shown on the home page, the rank page and the rounds page
    missing: int  # labels still needed; 0: there are enough of them


class ProjectForm(Protocol):
    """Makes the form of the app's own settings of `project`, which may not be stored yet; it has a `title`."""

    def __call__(self, data: Any = None, *, project: Project) -> ModelForm[Any]: ...


class Panel(NamedTuple):
    """Something that the app has to say at the top of a project's pages."""

    template: str  # rendered with `guide`, which is the content
    content: Any


@dataclass(frozen=True)
class Writer:
    """What wrote a completion."""

    name: str  # as sft-1
    round: int | None = None  # its number
    sampling: Mapping[str, Any] = field(default_factory=dict)  # what the app knows of how it was written, as JSON


@dataclass(frozen=True, kw_only=True)
class FrozenLabels:
    """The labels that a round froze."""

    round: int  # its number
    frozen_at: datetime
    demonstrations: QuerySet[Demonstration]
    rankings: QuerySet[Ranking]
    prompts: Callable[[], Iterator[int]]  # their ids; raises OSError where the files are gone
    prompt_count: int


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
    project_form: ProjectForm  # shown on the project's settings page; saved in the same transaction
    # The panel of those of the projects that have one, by their ids, for a person in the given role.
    panels: Callable[[Mapping[Project, Role], User], Mapping[int, Panel]]
    # Of the slates with these ids: what wrote each completion, by its id; those that are not there were made elsewhere.
    writers: Callable[[Sequence[int]], Mapping[int, Writer]]
    frozen_labels: Callable[[Project], list[FrozenLabels]]  # of every round, the newest first


_trainer: Trainer | None = None


def register(trainer: Trainer) -> None:
    """Called once, when the app that trains is ready."""
    global _trainer
    _trainer = trainer


def readiness(project: Project) -> Readiness | None:
    """What is still missing before the next round can train; None without training."""
    return readiness_of([project]).get(project.pk)


def readiness_of(projects: Sequence[Project]) -> Mapping[int, Readiness]:
    """The readiness of those of `projects` that are trained, by their ids."""
    return _trainer.readiness(projects) if _trainer else {}


def labels_withdrawn(kind: str, label_ids: Iterable[int]) -> None:
    """Say that labels of `kind` must not be used any more."""
    if _trainer:
        _trainer.labels_withdrawn(kind, list(label_ids))


def prompts_remarks(project: Project, shapes: Shapes) -> list[str]:
    """What there is to say about the prompts of an import; shown in the import's report."""
    return _trainer.prompts_remarks(project, shapes) if _trainer else []


def panels(roles: Mapping[Project, Role], user: User) -> Mapping[int, Panel]:
    """What is shown at the top of home and overview, for `user` in that role, by the projects' ids."""
    return _trainer.panels(roles, user) if _trainer else {}


def overview(project: Project) -> TrainingOverview:
    """What training adds to the overview of `project`; nothing without training."""
    return _trainer.overview(project) if _trainer else TrainingOverview()


def project_form(data: Any, project: Project) -> ModelForm[Any] | None:
    """The form of the training settings of `project`; None without training."""
    return _trainer.project_form(data, project=project) if _trainer else None


def writers(slate_ids: Sequence[int]) -> Mapping[int, Writer]:
    """What wrote the completions of slates, by the completions' ids, where a model of ours did."""
    return _trainer.writers(slate_ids) if _trainer else {}


def frozen_labels(project: Project) -> list[FrozenLabels]:
    """What each round of `project` froze, the newest first."""
    return _trainer.frozen_labels(project) if _trainer else []
