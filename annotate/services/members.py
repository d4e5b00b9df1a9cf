"""Members: joining a project, changing the role, leaving. Labels stay when their author leaves."""

from __future__ import annotations

from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from annotate import hooks
from annotate.models import Assignment, Demonstration, Member, Project, Ranking, Role, SignInLink, User
from annotate.services import audit, work


class LastAdmin(Exception):
    """A project keeps at least one admin."""


@transaction.atomic
def join(project: Project, *, user: User, role: str) -> Member:
    """Make `user` a member with at least `role`; who had left comes back as the same member, with that role."""
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
        _revoke_invitations(member)
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    audit.record(
        "member.role_changed", actor=actor, project=member.project, subject=_name(member), before=before, after=role
    )


@transaction.atomic
def remove(member: Member, *, actor: User) -> None:
    """End the membership; what the member judged stays and goes on training, without a name. Raises LastAdmin."""
    _leave(member)
    audit.record("member.removed", actor=actor, project=member.project, subject=_name(member))


@transaction.atomic
def erase(member: Member, *, actor: User) -> None:
    """Remove `member` and the labels from later rounds; models that used them are marked. Raises LastAdmin."""
    _leave(member)
    for model in (Demonstration, Ranking):
        ids = model.objects.filter(annotator=member).values_list("pk", flat=True)
        hooks.labels_withdrawn(str(model._meta.model_name), ids)
    member.erased_at, member.user = timezone.now(), None
    member.save(update_fields=["erased_at", "user"])
    # The event carries no name: that the person was here is what was asked to be forgotten.
    audit.record("member.erased", actor=actor, project=member.project, subject=_name(member))


def _leave(member: Member) -> None:
    _keep_an_admin(member)
    for assignment in Assignment.objects.filter(annotator=member, status=Assignment.Status.HELD):
        with suppress(work.NotHolder):  # handed in at this very moment
            work.release(assignment)
    _revoke_invitations(member)
    member.removed_at = timezone.now()
    member.save(update_fields=["removed_at"])


def _revoke_invitations(member: Member) -> None:
    """An older invitation, left unused, must not give back what is taken from `member` now."""
    if member.user:
        invitations = SignInLink.objects.usable().filter(project=member.project_id, email=member.user.email)
        invitations.update(revoked_at=timezone.now())


def _keep_an_admin(member: Member) -> None:
    # The project's row serialises two admins who remove each other at the same moment; work goes on meanwhile.
    Project.objects.select_for_update(no_key=True).get(pk=member.project_id)
    others = Member.objects.active().filter(project=member.project, role=Role.ADMIN).exclude(pk=member.pk)
    if member.role == Role.ADMIN and not others.exists():
        raise LastAdmin


def _name(member: Member) -> str:
    return member.user.email if member.user else f"#{member.pk}"
