"""Who works here: users, their memberships, and the two ways in that are no password (links and API tokens)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.projects import Project


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A person known by `email`. Without a password the person comes in by a one-time link."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A site admin: may create projects and see every one."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person. `is_superuser` makes a site admin; everything else is a role in a project."""

    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(default=timezone.now)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()

    def __str__(self) -> str:
        return self.name or self.email


class Role(models.TextChoices):
    """What a member may do; each role contains the ones before it."""

    ANNOTATOR = "annotator", _("annotator")
    REVIEWER = "reviewer", _("reviewer")
    ADMIN = "admin", _("project admin")

    @classmethod
    def at_least(cls, role: str) -> list[str]:
        """The roles that contain `role`."""
        return cls.values[cls.values.index(role) :]


class MemberQuerySet(models.QuerySet["Member"]):
    def for_user(self, user: User) -> MemberQuerySet:
        """Members of the projects that `user` administers, and the own memberships."""
        return self.filter(Q(user=user) | Q(project__in=Project.objects.administered_by(user)))

    def active(self) -> MemberQuerySet:
        """Members who still take part."""
        return self.filter(removed_at=None)


class Member(models.Model):
    """A user in a project. A removed member stays as the author of what was judged."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="members")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="memberships")
    role = models.CharField(max_length=9, choices=Role, default=Role.ANNOTATOR)
    is_simulated = models.BooleanField(default=False, help_text=_("A program that plays an annotator."))
    wants_mail = models.BooleanField(default=False, help_text=_("Notices come by mail, too."))
    removed_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True, help_text=_("The labels must not train any more."))
    created_at = models.DateTimeField(default=timezone.now)

    objects = MemberQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "user"], name="member_once_per_project"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="member_role_known"),
        ]

    def __str__(self) -> str:
        # Who has left stays as the author, but no page names them.
        return str(self.user) if self.user and not self.removed_at else str(_("former member"))

    def may(self, role: str) -> bool:
        """Whether this member's role contains `role`."""
        return self.removed_at is None and self.role in Role.at_least(role)


class SignInLinkQuerySet(models.QuerySet["SignInLink"]):
    def for_user(self, user: User) -> SignInLinkQuerySet:
        """Invitations to the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def usable(self) -> SignInLinkQuerySet:
        """Links that still open the door."""
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=timezone.now())


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


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def for_user(self, user: User) -> ApiTokenQuerySet:
        """The own tokens."""
        return self.filter(user=user)

    def usable(self) -> ApiTokenQuerySet:
        """Tokens that still open the door."""
        return self.filter(revoked_at=None, expires_at__gt=timezone.now(), user__is_active=True)


class ApiToken(models.Model):
    """A secret for programs: 256 random bits, of which only the SHA-256 and a prefix are kept."""

    class Scope(models.TextChoices):
        READ = "read", _("read")
        ANNOTATE = "annotate", _("annotate")
        ADMIN = "admin", _("administer")

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=80)
    prefix = models.CharField(max_length=12)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
