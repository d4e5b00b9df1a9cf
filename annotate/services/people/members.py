"""Members: joining a project, changing the role, leaving. Labels stay when their author leaves."""

from __future__ import annotations

from contextlib import suppress

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from annotate import hooks
from annotate.models import LABELS, Assignment, Member, Project, Role, SignInLink, User
from annotate.services import audit, work


class LastAdmin(Exception):
    """A project keeps at least one admin who can sign in."""


@transaction.atomic
def join(project: Project, *, user: User, role: str) -> Member:
    """Make `user` a member with at least `role`; a former member comes back as the same one, with that role."""
    member, is_new = Member.objects.select_for_update(no_key=True).get_or_create(
        project=project, user=user, defaults={"role": role}
    )
    if not is_new and member.may(role):
        return member
    member.role, member.removed_at = role, None
    member.save(update_fields=["role", "removed_at"])
    audit.record("member.joined", actor=user, project=project, subject=user.email, role=role)
    return member


@transaction.atomic
def change_role(member: Member, *, role: str, actor: User) -> None:
    """Give `member` another role. Raises LastAdmin."""
    if role != Role.ADMIN:
        _keep_an_admin(member)
    if role not in Role.at_least(member.role):
        _revoke_links(member)
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    audit.record(
        "member.role_changed", actor=actor, project=member.project, subject=_name(member), before=before, after=role
    )


@transaction.atomic
def remove(member: Member, *, actor: User) -> None:
    """End the membership; the member's labels stay and are still trained on, without a name. Raises LastAdmin."""
    _leave(member)
    audit.record("member.removed", actor=actor, project=member.project, subject=_name(member))


@transaction.atomic
def erase(member: Member, *, actor: User) -> None:
    """Remove `member`, unless that was done before, and the labels from later rounds; models that used them are marked.

    Raises LastAdmin.
    """
    user = member.user
    if not member.removed_at:
        _leave(member)
    for kind, model in LABELS.items():
        hooks.labels_withdrawn(kind, model.objects.filter(annotator=member).values_list("pk", flat=True))
    member.assignments.update(review_state=Assignment.ReviewState.NONE)  # no one needs to review them any more
    member.erased_at, member.user = timezone.now(), None
    member.save(update_fields=["erased_at", "user"])
    if user:
        _forget(user, member)
    # The event carries no name: that the person was here is what was asked to be forgotten.
    audit.record("member.erased", actor=actor, project=member.project, subject=_name(member))


def _leave(member: Member) -> None:
    _keep_an_admin(member)
    for assignment in Assignment.objects.held().filter(annotator=member):
        with suppress(work.NotHolder):  # submitted at this very moment
            work.release(assignment)
    _revoke_links(member)
    member.removed_at = timezone.now()
    member.save(update_fields=["removed_at"])


def _revoke_links(member: Member) -> None:
    """Neither an older invitation to `member` nor one that `member` handed out gives back what is taken away now."""
    if member.user:
        of_member = Q(email=member.user.email) | Q(created_by=member.user)
        SignInLink.objects.filter(of_member, project=member.project_id).revoke()


def _forget(user: User, member: Member) -> None:
    """Take the address out of what was written about this person in the project, and where no project holds it."""
    elsewhere = Member.objects.filter(user=user).exclude(pk=member.pk).exists() or user.is_superuser
    audit.forget(user, project=member.project, also_outside=not elsewhere)
    links = SignInLink.objects.filter(project=member.project, email=user.email)
    links.update(email=f"erased-{member.pk}@roundtable.invalid")


def _keep_an_admin(member: Member) -> None:
    # The project's row serialises two admins who remove each other at the same moment; work goes on meanwhile.
    Project.objects.select_for_update(no_key=True).get(pk=member.project_id)
    admins = Member.objects.active().filter(project=member.project, role=Role.ADMIN, user__is_active=True)
    others = admins.exclude(pk=member.pk)
    if member.role == Role.ADMIN and not others.exists():
        raise LastAdmin


def _name(member: Member) -> str:
    return member.user.email if member.user else f"#{member.pk}"
