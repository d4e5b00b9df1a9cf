"""Simulated people: members who are marked as such. A program plays them, by API tokens or right here."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from annotate.models import ApiToken, Assignment, Kind, Member, Project, Role, User
from annotate.services import demonstrations, rankings, work
from annotate.services.people import members, tokens
from training.tiny.desks import Label, Piece

NUMBER = 8
DAYS = 7  # a token's life: longer than any simulation


@transaction.atomic
def join(project: Project, *, number: int = NUMBER) -> list[Member]:
    """Make sure that `project` has `number` simulated annotators, and return them."""
    return [_join(project, index) for index in range(1, number + 1)]


@transaction.atomic
def invite(project: Project, *, number: int) -> list[str]:
    """Make sure that `project` has `number` simulated annotators, and return a fresh token for each."""
    return [_token(member) for member in join(project, number=number)]


class LocalDesk:
    """The desk of a simulated member in this very process."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._held: dict[int, Assignment] = {}  # by id

    def claim(self, kind: str) -> Piece | None:
        assignment = work.claim(self.member.project, annotator=self.member, kind=kind).assignment
        if assignment is None:
            return None
        self._held[assignment.pk] = assignment
        return Piece(
            id=assignment.pk,
            kind=assignment.kind,
            question=assignment.item.subject_prompt.question,
            draft_version=assignment.draft_version,
            texts=_texts(assignment),
        )

    def skip(self, piece: Piece, reason: str) -> None:
        work.skip(self._held.pop(piece.id), reason=reason)

    def save_draft(self, piece: Piece, label: Label) -> None:
        work.save_draft(self._held[piece.id], draft=label, version=piece.draft_version)

    def submit(self, piece: Piece, label: Label, submission_id: UUID) -> int:
        assignment = self._held[piece.id]
        if piece.kind == Kind.DEMONSTRATION:
            return demonstrations.submit(assignment, submission_id=submission_id, text=label["text"]).pk
        places = {int(key): place for key, place in label["places"].items()}
        return rankings.submit(assignment, submission_id=submission_id, places=places).pk


def _texts(assignment: Assignment) -> dict[str, str]:
    """The answers that are ranked, in an order that does not depend on the draw of letters."""
    slate = assignment.item.slate
    return dict(sorted((str(one.pk), one.text) for one in slate.completions.all())) if slate else {}


def _join(project: Project, index: int) -> Member:
    email = f"simulated-{index}@{project.slug}.example"
    user = User.objects.filter(email=email).first()
    if user is None:
        user = User.objects.create_user(email, name=f"Simulated annotator {index}")
    member = members.join(project, user=user, role=Role.ANNOTATOR)
    Member.objects.filter(pk=member.pk).update(is_simulated=True)
    member.is_simulated = True
    return member


def _token(member: Member) -> str:
    assert member.user is not None  # it has just joined
    scopes = [ApiToken.Scope.READ, ApiToken.Scope.ANNOTATE]
    return tokens.make(member.user, name="simulation", scopes=scopes, days=DAYS).secret
