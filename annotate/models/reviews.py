"""Reviews: a reviewer accepts a label or returns it with a comment. The newest review of a label counts."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.demonstrations import Demonstration
from annotate.models.people import Member
from annotate.models.rankings import Ranking


class Verdict(models.TextChoices):
    ACCEPT = "accept", _("accepted")
    RETURN = "return", _("returned")


class ReviewQuerySet(models.QuerySet["Review"]):
    def returning(self, label_model: type[models.Model], pk: Any) -> ReviewQuerySet:
        """The newest review of the label `pk`, if it returned the label; empty otherwise."""
        subject = str(label_model._meta.model_name)
        later = Review.objects.filter(pk__gt=models.OuterRef("pk"), **{subject: models.OuterRef(subject)})
        return self.filter(~models.Exists(later), verdict=Verdict.RETURN, **{subject: pk})


class Review(models.Model):
    """A reviewer's verdict on one label. Nobody reviews an own label."""

    demonstration = models.ForeignKey(Demonstration, models.PROTECT, null=True, blank=True, related_name="reviews")
    ranking = models.ForeignKey(Ranking, models.PROTECT, null=True, blank=True, related_name="reviews")
    reviewer = models.ForeignKey(Member, models.PROTECT, related_name="reviews")
    verdict = models.CharField(max_length=6, choices=Verdict)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ReviewQuerySet.as_manager()

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

    def __str__(self) -> str:
        return f"{self.verdict} by {self.reviewer}"
