"""Questions that annotate may ask another app without importing it; the other app registers its answers in ready().

Judgement outlives any training method, so annotate works with nothing registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from django.forms import ModelForm

    from annotate.models import Project
    from annotate.services.importing.reports import Shapes

LabelsWithdrawn = Callable[[str, Iterable[int]], None]


class Readiness(Protocol):
    """How far the next round is."""

    sentence: str  # translated; stands on the home page, the rank page and the rounds page
    missing: int  # labels still needed; 0: there are enough of them


class ReadinessOf(Protocol):
    """Answers for several projects at once: a page that shows many asks once."""

    def __call__(self, projects: Sequence[Project]) -> Mapping[int, Readiness]: ...


class ProjectForm(Protocol):
    """A form that adds another app's settings to a project's page, under its `title`; saved in the same transaction."""

    def __call__(self, data: object = None, *, project: Project | None = None) -> ModelForm: ...


class PromptsRemarks(Protocol):
    """What another app has to say about prompts that were imported, by the roles and orders among them."""

    def __call__(self, project: Project, shapes: Shapes) -> list[str]: ...  # translated sentences


_readiness: list[ReadinessOf] = []
_labels_withdrawn: list[LabelsWithdrawn] = []
_prompts_remarks: list[PromptsRemarks] = []
project_forms: list[ProjectForm] = []  # each saved form gets `.instance.project` set before save()


def register_readiness(answer: ReadinessOf) -> None:
    _readiness.append(answer)


def register_labels_withdrawn(listener: LabelsWithdrawn) -> None:
    _labels_withdrawn.append(listener)


def register_prompts_remarks(answer: PromptsRemarks) -> None:
    _prompts_remarks.append(answer)


def readiness(project: Project) -> Readiness | None:
    """What is still missing before the next round can train; None when nobody trains it."""
    return readiness_of([project]).get(project.pk)


def readiness_of(projects: Sequence[Project]) -> Mapping[int, Readiness]:
    """The readiness of those of `projects` that somebody trains, by their ids."""
    return _readiness[0](projects) if _readiness else {}


def labels_withdrawn(kind: str, label_ids: Iterable[int]) -> None:
    """Tell the listeners that labels of `kind` must not be used any more."""
    ids = list(label_ids)
    for listener in _labels_withdrawn:
        listener(kind, ids)


def prompts_remarks(project: Project, shapes: Shapes) -> list[str]:
    """What others have to say about the prompts of an import; they stand in its report."""
    return [remark for answer in _prompts_remarks for remark in answer(project, shapes)]
