"""Who did what, when: rows are added, and the database itself refuses to change or delete them.

One change is allowed, once a row: a person who is erased is taken out of it (actor and subject), and nothing else.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models.people import User
from annotate.models.projects import Project

SUBJECT_LIMIT = 120  # characters


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def for_user(self, user: User) -> AuditEventQuerySet:
        """Events of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def of_site(self) -> AuditEventQuerySet:
        """Events that belong to no project: sign-ins, tokens, accounts."""
        return self.filter(project=None)

    def naming(self, user: User) -> AuditEventQuerySet:
        """Events that `user` caused, or that are about this person's address."""
        return self.filter(actor=user) | self.about(user)

    def about(self, user: User) -> AuditEventQuerySet:
        """Events about the address of `user`, as far as a subject has room for it."""
        return self.filter(subject__iexact=user.email[:SUBJECT_LIMIT])


class AuditEvent(models.Model):
    """Something that mattered: an invitation, a withdrawal, a round's transition, a promotion."""

    project = models.ForeignKey(Project, models.PROTECT, null=True, blank=True, related_name="audit_events")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    action = models.CharField(max_length=60)  # noun.verb, as round.started
    subject = models.CharField(max_length=SUBJECT_LIMIT, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    is_erased = models.BooleanField(default=False)  # it named somebody who asked to be forgotten
    created_at = models.DateTimeField(default=timezone.now)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["project", "-created_at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
