"""A project: one model being taught, and who may see it."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import Role, User


class ProjectQuerySet(models.QuerySet["Project"]):
    def for_user(self, user: User) -> ProjectQuerySet:
        """Projects that `user` is a member of; a site admin sees all."""
        return self._with_role(user, Role.ANNOTATOR)

    def reviewed_by(self, user: User) -> ProjectQuerySet:
        """Projects in which `user` is a reviewer or an admin."""
        return self._with_role(user, Role.REVIEWER)

    def administered_by(self, user: User) -> ProjectQuerySet:
        """Projects that `user` steers."""
        return self._with_role(user, Role.ADMIN)

    def not_removed(self) -> ProjectQuerySet:
        """All but an example that was removed, of which only the audit log is left."""
        return self.filter(removed_at=None)

    def _with_role(self, user: User, role: Role) -> ProjectQuerySet:
        if user.is_superuser:
            return self.not_removed()
        memberships = user.memberships.with_role(role)
        return self.not_removed().filter(pk__in=memberships.values("project"))


class Project(models.Model):
    """One model being taught: guidelines, members, prompts, labels, rounds, models."""

    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    guidelines = models.TextField(_("guidelines"), blank=True)
    demonstration_seats = models.PositiveSmallIntegerField(
        _("people who answer each prompt"), default=1, validators=[MinValueValidator(1), MaxValueValidator(9)]
    )
    ranking_seats = models.PositiveSmallIntegerField(
        _("people who rank each set of answers"), default=1, validators=[MinValueValidator(1), MaxValueValidator(9)]
    )
    # Fixed at creation: moving it later would carry trained-on prompts into the evaluation.
    heldout_share = models.FloatField(
        _("share of prompts held out"), default=0.1, validators=[MinValueValidator(0.0), MaxValueValidator(0.5)]
    )
    trains_on_simulated = models.BooleanField(_("train on simulated labels"), default=False)
    created_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)  # only its audit is left, and its name

    objects = ProjectQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(demonstration_seats__range=(1, 9)) & Q(ranking_seats__range=(1, 9)),
                name="project_seats_from_1_to_9",
            ),
            models.CheckConstraint(condition=Q(heldout_share__range=(0.0, 0.5)), name="project_heldout_share_sane"),
        ]

    def __str__(self) -> str:
        return self.name
