"""Reviews: a reviewer accepts a label or returns it with a comment. The newest review of a label counts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.models.demonstrations import Demonstration
from annotate.models.labels import Verdict
from annotate.models.members import Member
from annotate.models.rankings import Ranking


class Review(models.Model):
    """A reviewer's verdict on one label. No one reviews their own label."""

    demonstration = models.ForeignKey(Demonstration, models.PROTECT, null=True, blank=True, related_name="reviews")
    ranking = models.ForeignKey(Ranking, models.PROTECT, null=True, blank=True, related_name="reviews")
    reviewer = models.ForeignKey(Member, models.PROTECT, related_name="reviews")
    verdict = models.CharField(max_length=6, choices=Verdict)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(demonstration__isnull=False, ranking__isnull=True)
                | Q(demonstration__isnull=True, ranking__isnull=False),
                name="review_of_one_label",
            ),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="review_verdict_known"),
            models.CheckConstraint(condition=~Q(verdict="return") | ~Q(comment=""), name="review_return_has_a_comment"),
        ]
        indexes: ClassVar = [models.Index(fields=["verdict"], name="review_by_verdict")]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.reviewer}"
