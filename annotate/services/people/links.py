"""One-time links: how people without a password sign in. Whoever creates one passes it on; nothing here sends email."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import NamedTuple

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from annotate.models import Project, Role, SignInLink, User
from annotate.services import audit
from annotate.services.people import members

LIFETIMES = {
    SignInLink.Purpose.SIGN_IN: timedelta(days=1),
    SignInLink.Purpose.INVITATION: timedelta(days=14),
    SignInLink.Purpose.PASSWORD_RESET: timedelta(days=1),
}


class LinkSpent(Exception):
    """The link was used or revoked, has expired, or never was."""


class SignInFirst(Exception):
    """The invited person has an account already, and an invitation must not open it to anyone who has the link."""


class MadeLink(NamedTuple):
    link: SignInLink
    secret: str  # kept nowhere: only its hash is stored


@transaction.atomic
def make(
    email: str,
    *,
    purpose: str,
    created_by: User | None = None,
    project: Project | None = None,
    role: str = Role.ANNOTATOR,
) -> MadeLink:
    """A link for `email`. An older unused one for the same purpose and project stops working."""
    email = email.strip().lower()
    SignInLink.objects.filter(email=email, purpose=purpose, project=project).revoke()
    secret = secrets.token_urlsafe(32)
    link = SignInLink.objects.create(
        token_hash=_hash(secret),
        purpose=purpose,
        email=email,
        project=project,
        role=role,
        created_by=created_by,
        expires_at=timezone.now() + LIFETIMES[SignInLink.Purpose(purpose)],
    )
    audit.record("link.made", actor=created_by, project=project, subject=email, purpose=purpose, role=role)
    return MadeLink(link, secret)


def path_of(secret: str) -> str:
    """Where the link's page is, below the site's address."""
    return reverse("annotate:link", args=[secret])


def find(secret: str) -> SignInLink:
    """The link that `secret` opens. Raises LinkSpent."""
    link = SignInLink.objects.usable().filter(token_hash=_hash(secret)).select_related("project").first()
    if link is None:
        raise LinkSpent
    return link


@transaction.atomic
def consume(secret: str, *, signed_in: User | None = None) -> User:
    """Use up the link and return the person whom it lets in; an invitation makes the account and the membership.

    Raises LinkSpent, or SignInFirst when an invited person has an account and is not `signed_in` to it.
    """
    link = find(secret)
    person = User.objects.filter(email=link.email).first()
    return _join(link, person, signed_in) if link.project else _enter(link, person)


@transaction.atomic
def revoke(link: SignInLink, *, actor: User) -> None:
    """The link opens nothing any more."""
    if SignInLink.objects.filter(pk=link.pk).revoke():
        audit.record("link.revoked", actor=actor, project=link.project, subject=link.email, purpose=link.purpose)


def _join(link: SignInLink, person: User | None, signed_in: User | None) -> User:
    assert link.project
    if person and person != signed_in:
        raise SignInFirst
    _use_up(link)
    if person is None:
        person, _ = User.objects.get_or_create(email=link.email, defaults={"password": make_password(None)})
    members.join(link.project, user=person, role=link.role)
    return person


def _enter(link: SignInLink, person: User | None) -> User:
    if person is None or not person.is_active:
        raise LinkSpent
    _use_up(link)
    audit.record("link.used", actor=person, subject=person.email, purpose=link.purpose)
    if link.purpose == SignInLink.Purpose.PASSWORD_RESET:
        person.set_unusable_password()  # ends every session that began with the old one
        person.save(update_fields=["password"])
        # Someone who knew the old password may have requested other links.
        SignInLink.objects.into_account(person.email).revoke()
    return person


def _use_up(link: SignInLink) -> None:
    if not SignInLink.objects.usable().filter(pk=link.pk).update(used_at=timezone.now()):
        raise LinkSpent


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
