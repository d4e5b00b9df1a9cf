"""Who did what, when: rows are added, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models.projects import Project

if TYPE_CHECKING:
    from annotate.models.people import User


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def for_user(self, user: User) -> AuditEventQuerySet:
        """Events of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))


class AuditEvent(models.Model):
    """One deed that mattered: an invitation, a withdrawal, a round's transition, a promotion."""

    project = models.ForeignKey(Project, models.PROTECT, null=True, blank=True, related_name="audit_events")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    action = models.CharField(max_length=60)  # noun.verb, as round.started
    subject = models.CharField(max_length=120, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["project", "-created_at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
