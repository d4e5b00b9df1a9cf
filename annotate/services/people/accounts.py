"""Accounts as a whole: closed and opened again, and who is a site admin. What a person handed out ends with it."""

from __future__ import annotations

from contextlib import suppress

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, SignInLink, User
from annotate.services import audit, work
from annotate.services.people import tokens

SIGN_INS_TO_OFFER = 2  # after which a password is offered
SITE_ADMINS = Q(is_superuser=True, is_active=True)


class LastSiteAdmin(Exception):
    """An installation keeps at least one site admin who can sign in."""


@transaction.atomic
def close(user: User, *, actor: User | None) -> None:
    """Shut `user` out: sessions, tokens and links end now, labels stay. Raises LastSiteAdmin."""
    locked = _lock(user)
    if not locked.is_active:
        return
    _keep_a_site_admin(locked)
    tokens.revoke_all(user, actor=actor)
    User.objects.filter(pk=user.pk).update(is_active=False)
    _end_sessions(user)
    _revoke_links(user)
    for assignment in Assignment.objects.held().filter(annotator__user=user):
        with suppress(work.NotHolder):  # submitted at this very moment
            work.release(assignment)
    audit.record("account.closed", actor=actor, subject=user.email)


@transaction.atomic
def change(user: User, *, changed: list[str]) -> None:
    """Store what `user` says about themselves, in the fields that `changed` names."""
    user.save(update_fields=changed)  # a full row would reopen an account that is being closed
    audit.record("account.changed", actor=user, subject=user.email, fields=sorted(changed))


@transaction.atomic
def welcome(user: User) -> None:
    """Store the name and the time zone that a newcomer gave; from now on `user` belongs here."""
    user.welcomed_at = timezone.now()
    user.save(update_fields=["name", "time_zone", "welcomed_at"])
    audit.record("account.welcomed", actor=user, subject=user.email)


def offers_password(user: User) -> bool:
    """Whether it is time to offer `user` a password: not before a label was submitted, or a second sign-in."""
    if user.has_usable_password() or user.declined_password_at:
        return False
    if Assignment.objects.submitted().filter(annotator__user=user).exists():
        return True
    return AuditEvent.objects.filter(actor=user, action="person.signed_in").count() >= SIGN_INS_TO_OFFER


def decline_password(user: User) -> None:
    """Offer `user` no password any more; the account page has the button all the same."""
    User.objects.filter(pk=user.pk).update(declined_password_at=timezone.now())


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
    locked = _lock(user)
    if not locked.is_superuser:
        return
    _keep_a_site_admin(locked)
    User.objects.filter(pk=user.pk).update(is_superuser=False, is_staff=False)
    _revoke_links(user)
    audit.record("account.ended_site_admin", actor=actor, subject=user.email)


def _revoke_links(user: User) -> None:
    """Links that `user` handed out, and those that were made for this person."""
    SignInLink.objects.filter(created_by=user).revoke()
    SignInLink.objects.into_account(user.email).revoke()


def _end_sessions(user: User) -> None:
    """Not only as long as the account is closed: a session that is left somewhere must not wake up with it."""
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get(SESSION_KEY) == str(user.pk):
            session.delete()


def _lock(user: User) -> User:
    """Lock `user` and every site admin, in one order: two who close each other queue up, and the second is refused."""
    concerned = User.objects.filter(Q(pk=user.pk) | SITE_ADMINS).order_by("pk")
    return next(one for one in concerned.select_for_update(no_key=True) if one.pk == user.pk)


def _keep_a_site_admin(user: User) -> None:
    if user.is_superuser and not User.objects.filter(SITE_ADMINS).exclude(pk=user.pk).exists():
        raise LastSiteAdmin
