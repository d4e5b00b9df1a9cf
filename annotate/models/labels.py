"""What demonstrations and rankings have in common: both are labels, append-only, corrected by a newer version.

Which labels a round may train on is said here, once: see LabelQuerySet.trainable().
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import ClassVar, Self, TypeVar

from django.db import models
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.members import Member
from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.work import Assignment

LabelT = TypeVar("LabelT", bound="AbstractLabel")


class Verdict(models.TextChoices):
    """What a reviewer says of a label."""

    ACCEPT = "accept", _("accepted")
    RETURN = "return", _("returned")


class LeftOut(StrEnum):
    """Why no round uses a label. Where several reasons hold, the first one counts."""

    SUPERSEDED = "superseded"  # its correction counts instead
    SIMULATED = "simulated"  # the project trains on people's labels only
    WITHDRAWN = "withdrawn"  # the prompt was withdrawn, or the author asked to be forgotten
    RETURNED = "returned"  # it waits for its correction


class LabelQuerySet(models.QuerySet[LabelT]):
    def for_user(self, user: User) -> Self:
        """The labels that `user` wrote, and those of projects where `user` reviews."""
        return self.filter(
            Q(annotator__user=user, annotator__removed_at=None) | Q(project__in=Project.objects.reviewed_by(user))
        )

    def written_by(self, user: User) -> Self:
        """The labels that `user` wrote, in projects where the membership lasts."""
        return self.filter(annotator__user=user, annotator__removed_at=None)

    def corrections_of(self, label: AbstractLabel) -> Self:
        """The next version of `label`: one, or none."""
        return self.filter(supersedes=label)

    def of_split(self, split: str) -> Self:
        """Labels of prompts on that side of the split."""
        return self.filter(**{f"{self.model.path_to_prompt}__split": split})

    def newest(self) -> Self:
        """Labels that no correction has superseded."""
        return self.filter(superseded_by=None)

    def returned(self) -> Self:
        """Labels that a reviewer sent back, as the newest review says."""
        return self._with_newest_verdict().filter(newest_verdict=Verdict.RETURN)

    def unreviewed(self) -> Self:
        """Labels that wait for a first review; those of withdrawn prompts and of people who were erased need none."""
        is_active = Q(**{f"{self.model.path_to_prompt}__withdrawn_at": None})
        return self.newest().filter(is_active, reviews=None, annotator__erased_at=None)

    def trainable(self) -> Self:
        """What a round may use: the labels that nothing in LeftOut speaks against."""
        return self._with_left_out().filter(left_out="")

    def with_status(self) -> Self:
        """Each label with what has become of it: `verdict` of the newest review, None before the first one, and
        `reason`, the LeftOut that keeps it out of training, "" where none does."""
        return self._with_left_out().annotate(verdict=F("newest_verdict"), reason=F("left_out"))

    def count_left_out(self) -> Counter[str]:
        """How many labels each LeftOut keeps out of training."""
        reasons = self._with_left_out().exclude(left_out="").order_by().annotate(reason=F("left_out"))
        return Counter(dict(reasons.values_list("reason").annotate(Count("pk"))))

    def _with_left_out(self) -> Self:
        """Each label with `left_out`: the LeftOut that keeps it out of training, or "" where none does."""
        is_withdrawn = Q(annotator__erased_at__isnull=False) | Q(
            **{f"{self.model.path_to_prompt}__withdrawn_at__isnull": False}
        )
        reason = Case(
            When(superseded_by__isnull=False, then=Value(LeftOut.SUPERSEDED)),
            When(annotator__is_simulated=True, project__trains_on_simulated=False, then=Value(LeftOut.SIMULATED)),
            When(is_withdrawn, then=Value(LeftOut.WITHDRAWN)),
            When(newest_verdict=Verdict.RETURN, then=Value(LeftOut.RETURNED)),
            default=Value(""),
            output_field=models.CharField(),
        )
        return self._with_newest_verdict().alias(left_out=reason)

    def _with_newest_verdict(self) -> Self:
        same = self.model._default_manager.filter(pk=OuterRef("pk")).order_by("-reviews__pk")
        return self.alias(newest_verdict=Subquery(same.values("reviews__verdict")[:1]))


class AbstractLabel(models.Model):
    """One person's judgement. A row is never changed; a correction is a new row that supersedes it."""

    path_to_prompt: ClassVar[str]  # as a lookup spells it

    project = models.ForeignKey(Project, models.PROTECT, related_name="%(class)ss")
    annotator = models.ForeignKey(Member, models.PROTECT, related_name="%(class)ss")
    assignment = models.ForeignKey(Assignment, models.PROTECT, related_name="%(class)ss")
    submission_id = models.UUIDField()  # made in the browser: a replay is recognised by it
    supersedes = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="superseded_by")
    flags = models.JSONField(default=list, blank=True)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["annotator", "submission_id"], name="%(class)s_submission_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["project", "created_at"], name="%(class)s_by_time")]
