"""What demonstrations and rankings have in common: both are labels, append-only, corrected by a newer version."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from annotate.models.people import Member
from annotate.models.projects import Project
from annotate.models.work import Assignment

if TYPE_CHECKING:
    from annotate.models.demonstrations import Demonstration
    from annotate.models.people import User
    from annotate.models.rankings import Ranking

LabelT = TypeVar("LabelT", "Demonstration", "Ranking")


class LabelQuerySet(models.QuerySet[LabelT]):
    def for_user(self, user: User) -> Self:
        """The own labels, and those of projects where `user` reviews."""
        return self.filter(
            Q(annotator__user=user, annotator__removed_at=None) | Q(project__in=Project.objects.reviewed_by(user))
        )

    def newest(self) -> Self:
        """Labels that no correction has superseded."""
        return self.filter(superseded_by=None)

    def returned(self) -> Self:
        """Labels that a reviewer sent back, as the newest review says."""
        from annotate.models.reviews import Review

        return self.filter(Exists(Review.objects.returning(self.model, OuterRef("pk"))))

    def trainable(self) -> Self:
        """What a round may use: newest, not returned, author not erased, simulated only where the project says so."""
        from annotate.models.reviews import Review

        returned = Review.objects.returning(self.model, OuterRef("pk"))
        return self.newest().filter(
            ~Exists(returned),
            Q(annotator__is_simulated=False) | Q(project__trains_on_simulated=True),
            annotator__erased_at=None,
        )


class AbstractLabel(models.Model):
    """One person's judgement. A row is never changed; a correction is a new row that supersedes it."""

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
