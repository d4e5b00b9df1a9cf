"""Which rows an export takes, and reading them a few hundred at a time.

Rows are read in the order of their ids, each few hundred in a query of its own: no transaction stays open while a slow
client takes its file, so no one who labels waits for it. Labels submitted meanwhile are left to the next export.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import models
from django.db.models import Exists, Expression, OuterRef, QuerySet
from django.utils.translation import gettext_lazy as _

from annotate.hooks import FrozenLabels
from annotate.models import Completion, Demonstration, Project, Prompt, Ranking, Slate
from annotate.models.labels import LabelQuerySet, LabelT

ROWS = 500  # read at once

Row = dict[str, Any]


class Labels(models.TextChoices):
    """Which labels of a project are taken. Prompts and slates have no versions: `all` of them are the current ones."""

    CURRENT = "current", _("Current labels")
    TRAINABLE = "trainable", _("Labels used for training")
    ALL = "all", _("All versions")


@dataclass(frozen=True)
class Selection:
    """What is taken of a project: `labels` as they are now, or exactly those that a round froze.

    Labels of erased people must not be used any more: they are included only in the snapshot that froze them.
    """

    project: Project
    labels: str = Labels.CURRENT
    frozen: FrozenLabels | None = None

    def demonstrations(self) -> LabelQuerySet[Demonstration]:
        of_project = Demonstration.objects.filter(project=self.project)
        return self._taken(of_project, self.frozen.demonstrations if self.frozen else None)

    def rankings(self) -> LabelQuerySet[Ranking]:
        of_project = Ranking.objects.filter(project=self.project)
        return self._taken(of_project, self.frozen.rankings if self.frozen else None)

    def slates(self) -> QuerySet[Slate]:
        """The slates whose completions are taken: of a round, those that its rankings judge."""
        slates = Slate.objects.filter(project=self.project)
        if self.frozen:
            return slates.filter(Exists(self.frozen.rankings.filter(slate=OuterRef("pk"))))
        return slates.filter(prompt__withdrawn_at=None) if self.labels == Labels.TRAINABLE else slates

    def prompts(self, *fields: str, **expressions: Expression) -> Iterator[list[Row]]:
        """The prompts' rows. Raises OSError if the files of a round no longer exist."""
        prompts = Prompt.objects.filter(project=self.project)
        if self.frozen is None:
            taken = prompts.active() if self.labels == Labels.TRAINABLE else prompts
            yield from in_chunks(taken, *fields, **expressions)
            return
        pks = self.frozen.prompts()
        while chunk := list(islice(pks, ROWS)):
            yield list(prompts.filter(pk__in=chunk).order_by("pk").values(*fields, **expressions))

    def count(self) -> dict[str, int]:
        """How many lines each kind of file has. Comparisons are not counted: that would mean deriving them all."""
        return {
            "demonstrations": self.demonstrations().count(),
            "rankings": self.rankings().count(),
            "prompts": self._prompt_count(),
            "completions": Completion.objects.filter(slate__in=self.slates()).count(),
        }

    def _prompt_count(self) -> int:
        if self.frozen:
            return self.frozen.prompt_count
        prompts = Prompt.objects.filter(project=self.project)
        return (prompts.active() if self.labels == Labels.TRAINABLE else prompts).count()

    def _taken(self, of_project: LabelQuerySet[LabelT], frozen: QuerySet[LabelT] | None) -> LabelQuerySet[LabelT]:
        if frozen is not None:
            return of_project.filter(Exists(frozen.filter(pk=OuterRef("pk"))))
        if self.labels == Labels.TRAINABLE:
            return of_project.trainable()
        kept = of_project.filter(annotator__erased_at=None)
        return kept if self.labels == Labels.ALL else kept.newest()


def in_chunks(rows: QuerySet[Any], *fields: str, **expressions: Expression) -> Iterator[list[Row]]:
    """The values of `fields`, "pk" among them, and of `expressions`, by rising ids, as lists of up to ROWS."""
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return
    ordered, last = rows.filter(pk__lte=newest).order_by("pk"), 0
    while chunk := list(ordered.filter(pk__gt=last).values(*fields, **expressions)[:ROWS]):
        yield chunk
        last = chunk[-1]["pk"]
