"""Things that tests need, made the way the product makes them: through the services."""

from __future__ import annotations

import itertools
from uuid import uuid4

from django.utils.text import slugify

from annotate.models import Assignment, Demonstration, Kind, Member, Project, Prompt, Ranking, Role, Slate, User
from annotate.services import demonstrations, prompts, rankings, slates, work
from annotate.services.people import tokens
from annotate.services.slates import NewCompletion

_numbers = itertools.count(1)


def make_user(email: str = "", *, is_site_admin: bool = False, **fields: object) -> User:
    email = email or f"person{next(_numbers)}@example.org"
    create = User.objects.create_superuser if is_site_admin else User.objects.create_user
    return create(email, **fields)


def make_project(name: str = "", **fields: object) -> Project:
    """A project whose prompts are all for training, unless `heldout_share` says otherwise."""
    name = name or f"Project {next(_numbers)}"
    return Project.objects.create(**{"name": name, "slug": slugify(name), "heldout_share": 0.0} | fields)


def make_member(project: Project | None = None, *, role: str = Role.ANNOTATOR, **fields: object) -> Member:
    fields.setdefault("user", make_user())
    return Member.objects.create(project=project or make_project(), role=role, **fields)


def make_prompt(project: Project, text: str = "", **fields: object) -> Prompt:
    """A prompt, with its demonstration to write."""
    record = {"text": text or f"Question {next(_numbers)}?"} | fields
    return prompts.add_one(project, record)[0]


def make_slate(project: Project, *, completions: int = 3, prompt: Prompt | None = None, priority: int = 0) -> Slate:
    """A slate with texts that tell its completions apart, open for ranking."""
    texts = [NewCompletion(f"Answer {next(_numbers)}") for _ in range(completions)]
    prompt = prompt or make_prompt(project)
    return slates.add(project, prompt=prompt, completions=texts, priority=priority).slate


def make_assignment(annotator: Member, kind: str = Kind.RANKING, *, completions: int = 3) -> Assignment:
    """Fresh work in `annotator`'s hands."""
    if kind == Kind.RANKING:
        make_slate(annotator.project, completions=completions)
    else:
        make_prompt(annotator.project)
    assignment = work.claim(annotator.project, annotator=annotator, kind=kind).assignment
    assert assignment is not None
    return assignment


def make_demonstration(annotator: Member, text: str = "Rest, and drink water.") -> Demonstration:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    return demonstrations.submit(assignment, submission_id=uuid4(), text=text)


def make_ranking(annotator: Member, places: list[int | None] | None = None) -> Ranking:
    """A ranking; `places` go to the completions in the order of their ids."""
    places = places or [1, 2, 3]
    assignment = make_assignment(annotator, completions=len(places))
    said = dict(zip(sorted(assignment.card_order), places, strict=True))
    return rankings.submit(assignment, submission_id=uuid4(), places=said)


def make_token(user: User, *scopes: str) -> str:
    """The secret of a token with `scopes`; all of them when none is named."""
    return tokens.make(user, name="test", scopes=scopes or ("read", "annotate", "admin"), days=1).secret


def bearer(user: User, *scopes: str) -> dict[str, str]:
    """Headers with which a request speaks for `user`."""
    return {"Authorization": f"Bearer {make_token(user, *scopes)}"}
