"""Members: who takes part in a project, as what, and the one-time links by which people come in."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import Role, User
from annotate.models.projects import Project


class MemberQuerySet(models.QuerySet["Member"]):
    def for_user(self, user: User) -> MemberQuerySet:
        """Members of the projects that `user` administers, and their own memberships."""
        return self.filter(Q(user=user) | Q(project__in=Project.objects.administered_by(user)))

    def active(self) -> MemberQuerySet:
        """Members who still take part."""
        return self.filter(removed_at=None)

    def former(self) -> MemberQuerySet:
        """Members who were removed and whose labels are still used."""
        return self.exclude(removed_at=None).filter(erased_at=None)

    def with_role(self, role: str) -> MemberQuerySet:
        """Members whose role contains `role`, and who still take part."""
        return self.active().filter(role__in=Role.at_least(role))

    def people(self) -> MemberQuerySet:
        """Members whom a message reaches: simulated ones read nothing, and of erased ones nothing is known."""
        return self.filter(is_simulated=False).exclude(user=None)


class Member(models.Model):
    """A user in a project. A removed member stays as the author of what was judged."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="members")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="memberships")
    role = models.CharField(max_length=9, choices=Role, default=Role.ANNOTATOR)
    is_simulated = models.BooleanField(default=False, help_text=_("A program that acts as an annotator."))
    wants_mail = models.BooleanField(default=False, help_text=_("Also sends notifications by email."))
    removed_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(
        null=True, blank=True, help_text=_("If set, labels of this member are not used for training.")
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects = MemberQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "user"], name="member_once_per_project"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="member_role_known"),
        ]

    def __str__(self) -> str:
        # People who have left stay as authors, but are named on the members page only, for their labels to be removed.
        return str(self.user) if self.user and not self.removed_at else str(_("former member"))

    def may(self, role: str) -> bool:
        """Whether this member's role contains `role`."""
        return self.removed_at is None and self.role in Role.at_least(role)


class SignInLinkQuerySet(models.QuerySet["SignInLink"]):
    def for_user(self, user: User) -> SignInLinkQuerySet:
        """Invitations to the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def usable(self) -> SignInLinkQuerySet:
        """Links that still sign someone in."""
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=timezone.now())

    def into_account(self, email: str) -> SignInLinkQuerySet:
        """Links that sign in to the account of `email`; an invitation to a project is none of them."""
        return self.filter(email=email, project=None)

    def revoke(self) -> int:
        """From now on these links open nothing. Returns how many still did."""
        return self.usable().update(revoked_at=timezone.now())


class SignInLink(models.Model):
    """A one-time way in without a password. Only the hash is kept; GET shows it, POST consumes it."""

    class Purpose(models.TextChoices):
        SIGN_IN = "sign_in", _("sign in")
        INVITATION = "invitation", _("invitation")
        PASSWORD_RESET = "password_reset", _("password reset")

    token_hash = models.CharField(max_length=64, unique=True)  # SHA-256, hex
    purpose = models.CharField(max_length=14, choices=Purpose)
    email = models.EmailField()
    # Set for invitations: where the person is invited to, and as what.
    project = models.ForeignKey(Project, models.CASCADE, null=True, blank=True, related_name="invitations")
    role = models.CharField(max_length=9, choices=Role, default=Role.ANNOTATOR)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = SignInLinkQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(purpose__in=["sign_in", "invitation", "password_reset"]), name="sign_in_link_purpose_known"
            ),
            models.CheckConstraint(
                condition=~Q(purpose="invitation") | Q(project__isnull=False), name="invitation_has_project"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} for {self.email}"
