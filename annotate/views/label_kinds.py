"""What differs between the two kinds of label on their pages: form, templates, service.

The views of assignments and of corrections are the same for both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.urls import reverse

from annotate.forms.demonstrations import DemonstrationForm
from annotate.forms.labels import LabelForm
from annotate.forms.rankings import RankingForm
from annotate.models import Assignment, Demonstration, Kind, Label, Project, Ranking
from annotate.services import demonstrations, rankings


class LabelKind(Protocol):
    """How labels of one kind are shown, drafted, submitted and corrected."""

    folder: str  # of its templates below annotate/
    page: str  # name of the address where the next piece of this kind is handed out
    model: type[Label]

    def form(self, assignment: Assignment, data: Any = None, *, stored: dict[str, Any] | None = None) -> LabelForm:
        """The form for the assignment's subject, filled from `data`, else from `stored`."""

    def stored(self, label: Label) -> dict[str, Any]:
        """`label` in the shape of a draft."""

    def submit(self, assignment: Assignment, cleaned: Mapping[str, Any]) -> Label: ...

    def correct(self, label: Label, cleaned: Mapping[str, Any]) -> Label:
        """Store a newer version: what the form does not show (a program may have sent it) stays as it was."""


class DemonstrationKind:
    folder, page, model = "demonstrations", "annotate:write", Demonstration

    def form(
        self, assignment: Assignment, data: Any = None, *, stored: dict[str, Any] | None = None
    ) -> DemonstrationForm:
        return DemonstrationForm(data, stored=stored)

    def stored(self, label: Demonstration) -> dict[str, Any]:
        return {"text": label.text}

    def submit(self, assignment: Assignment, cleaned: Mapping[str, Any]) -> Demonstration:
        return demonstrations.submit(assignment, submission_id=cleaned["submission_id"], text=cleaned["text"])

    def correct(self, label: Demonstration, cleaned: Mapping[str, Any]) -> Demonstration:
        return demonstrations.correct(
            label,
            annotator=label.annotator,
            submission_id=cleaned["submission_id"],
            text=cleaned["text"],
            flags=label.flags,
            note=label.note,
        )


class RankingKind:
    folder, page, model = "rankings", "annotate:rank", Ranking

    def form(self, assignment: Assignment, data: Any = None, *, stored: dict[str, Any] | None = None) -> RankingForm:
        slate = assignment.item.slate
        assert slate is not None  # only ranking work is ranked
        completions = {completion.pk: completion for completion in slate.completions.all()}
        return RankingForm(data, completions=[completions[pk] for pk in assignment.card_order], stored=stored)

    def stored(self, label: Ranking) -> dict[str, Any]:
        return {"places": dict(label.placements.values_list("completion", "place")), "note": label.note}

    def submit(self, assignment: Assignment, cleaned: Mapping[str, Any]) -> Ranking:
        return rankings.submit(
            assignment, submission_id=cleaned["submission_id"], places=cleaned["places"], note=cleaned["note"]
        )

    def correct(self, label: Ranking, cleaned: Mapping[str, Any]) -> Ranking:
        placements = label.placements.all()
        return rankings.correct(
            label,
            annotator=label.annotator,
            submission_id=cleaned["submission_id"],
            places=cleaned["places"],
            ratings={each.completion_id: each.rating for each in placements if each.rating is not None},
            flags={each.completion_id: each.flags for each in placements},
            note=cleaned["note"],
        )


LABEL_KINDS: dict[str, LabelKind] = {
    Kind.DEMONSTRATION: DemonstrationKind(),  # type: ignore[dict-item]  # takes labels of its own kind only
    Kind.RANKING: RankingKind(),  # type: ignore[dict-item]
}


def next_address(kind: str, project: Project) -> str:
    """Where the next piece of this kind is handed out."""
    return reverse(LABEL_KINDS[kind].page, args=[project.slug])


def template_path(kind: str, name: str) -> str:
    """The template `name` of the pages of this kind."""
    return f"annotate/{LABEL_KINDS[kind].folder}/{name}.html"
