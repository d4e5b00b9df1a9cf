"""Accounts as a whole: closed and opened again, and who is a site admin. What a person handed out ends with it."""

from __future__ import annotations

from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from annotate.models import Assignment, SignInLink, User
from annotate.services import audit, tokens, work


class LastSiteAdmin(Exception):
    """An installation keeps at least one site admin who can sign in."""


@transaction.atomic
def close(user: User, *, actor: User | None) -> None:
    """Shut `user` out: sessions, tokens and links end now, labels stay. Raises LastSiteAdmin."""
    locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not locked.is_active:
        return
    _keep_a_site_admin(locked)
    tokens.revoke_all(user, actor=actor)
    User.objects.filter(pk=user.pk).update(is_active=False)
    _revoke_links(user)
    for assignment in Assignment.objects.filter(annotator__user=user, status=Assignment.Status.HELD):
        with suppress(work.NotHolder):  # handed in at this very moment
            work.release(assignment)
    audit.record("account.closed", actor=actor, subject=user.email)


@transaction.atomic
def reopen(user: User, *, actor: User | None) -> None:
    """Let `user` sign in again, with the password and the memberships from before. Tokens stay revoked."""
    if User.objects.filter(pk=user.pk, is_active=False).update(is_active=True):
        audit.record("account.reopened", actor=actor, subject=user.email)


@transaction.atomic
def make_site_admin(user: User, *, actor: User | None) -> None:
    """From now on `user` sees and steers every project."""
    if User.objects.filter(pk=user.pk, is_superuser=False).update(is_superuser=True, is_staff=True):
        audit.record("account.made_site_admin", actor=actor, subject=user.email)


@transaction.atomic
def end_site_admin(user: User, *, actor: User | None) -> None:
    """From now on `user` is what the memberships say; unused links that this person made end. Raises LastSiteAdmin."""
    locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not locked.is_superuser:
        return
    _keep_a_site_admin(locked)
    User.objects.filter(pk=user.pk).update(is_superuser=False, is_staff=False)
    _revoke_links(user)
    audit.record("account.ended_site_admin", actor=actor, subject=user.email)


def _revoke_links(user: User) -> None:
    """Links that `user` handed out, and those that were made for this person."""
    usable = SignInLink.objects.usable()
    (usable.filter(created_by=user) | usable.filter(email=user.email, project=None)).update(revoked_at=timezone.now())


def _keep_a_site_admin(user: User) -> None:
    # All of them in one order: two who close each other at the same moment queue up, and the second is refused.
    admins = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").select_for_update(no_key=True)
    if user.is_superuser and not [admin for admin in admins if admin.pk != user.pk]:
        raise LastSiteAdmin
