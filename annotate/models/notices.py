"""Notices: what happened in a project that a member should know, one row for each person."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.models.members import Member
from annotate.models.people import User


class NoticeQuerySet(models.QuerySet["Notice"]):
    def for_user(self, user: User) -> NoticeQuerySet:
        """The notices for `user`, of the projects that they are still a member of."""
        return self.filter(member__user=user, member__removed_at=None)

    def unread(self) -> NoticeQuerySet:
        return self.filter(read_at=None)


class Notice(models.Model):
    """One sentence for one member, with the page where it can be acted on."""

    member = models.ForeignKey(Member, models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=60)  # noun.verb, such as round.failed
    text = models.TextField()
    address = models.CharField(max_length=300, blank=True)  # a path of this site
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)
    # Mail: wanted when the notice was made, tried and refused for good this often, sent at last.
    wants_mail = models.BooleanField(default=False)
    mail_tries = models.PositiveSmallIntegerField(default=0)
    mail_refusals = models.PositiveSmallIntegerField(default=0)
    mailed_at = models.DateTimeField(null=True, blank=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["member"], condition=Q(read_at=None), name="notice_unread"),
            models.Index(fields=["id"], condition=Q(wants_mail=True, mailed_at=None), name="notice_mail_due"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.member}"
