"""Simulated people: members who are marked as such, and the API tokens by which a program plays them."""

from __future__ import annotations

from django.db import transaction

from annotate.models import ApiToken, Member, Project, Role, User
from annotate.services.people import members, tokens

DAYS = 7  # a token's life: longer than any simulation


@transaction.atomic
def invite(project: Project, *, number: int) -> list[str]:
    """Make sure that `project` has `number` simulated annotators, and return a fresh token for each."""
    return [_token(_annotator(project, index)) for index in range(1, number + 1)]


def _annotator(project: Project, index: int) -> User:
    email = f"simulated-{index}@{project.slug}.example"
    user = User.objects.filter(email=email).first()
    if user is None:
        user = User.objects.create_user(email, name=f"Simulated annotator {index}")
    member = members.join(project, user=user, role=Role.ANNOTATOR)
    Member.objects.filter(pk=member.pk).update(is_simulated=True)
    return user


def _token(user: User) -> str:
    scopes = [ApiToken.Scope.READ, ApiToken.Scope.ANNOTATE]
    return tokens.make(user, name="simulation", scopes=scopes, days=DAYS).secret
