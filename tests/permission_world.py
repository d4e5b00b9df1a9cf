"""A project with one of everything, and the six kinds of people who may come to its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from annotate.models import Kind, Notice, Role, User, WorkItem
from annotate.services.people import links, tokens
from tests.factories import (
    make_assignment,
    make_demonstration,
    make_member,
    make_project,
    make_prompt,
    make_slate,
    make_user,
)
from tests.training import engine_files, evaluated
from training.models import Download, ModelVersion, Question, Run, Snapshot, TrainingSettings
from training.services.running import results

PEOPLE = ("anonymous", "outsider", "annotator", "reviewer", "admin", "site_admin")


@dataclass
class World:
    """Whom to be, and the values that addresses are built from."""

    people: dict[str, User | None] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)  # API tokens with every scope
    values: dict[str, object] = field(default_factory=dict)


def make_world() -> World:
    """Everything that belongs to somebody belongs to the annotator."""
    world = World()
    project = make_project("Everyday questions")
    members = {role: make_member(project, role=role) for role in Role.values}
    world.people = {role: member.user for role, member in members.items()}
    world.people |= {"anonymous": None, "outsider": make_user(), "site_admin": make_user(is_site_admin=True)}
    make_member(user=world.people["outsider"], role=Role.ADMIN)  # of a project of their own
    made = {name: tokens.make(user, name="t", scopes=["read", "annotate", "admin"], days=1)
            for name, user in world.people.items() if user}  # fmt: skip
    world.secrets = {name: token.secret for name, token in made.items()}
    annotator = members["annotator"]
    make_demonstration(annotator)
    invitation = links.make("new@example.org", purpose="invitation", project=project, created_by=world.people["admin"])
    world.values = {
        "project": project.slug,
        "label": annotator.demonstrations.get().pk,
        "ranking_work": make_assignment(annotator, Kind.RANKING).pk,
        "demonstration_work": make_assignment(annotator, Kind.DEMONSTRATION).pk,
        "own_token": made["annotator"].token.pk,
        "notice": Notice.objects.create(member=annotator, kind="rankings.wanted", text="Rank!").pk,
        "member": make_member(project).pk,
        "person": world.people["outsider"].pk,
        "prompt": make_prompt(project).pk,
        "invitation": invitation.link.pk,
        "secret": invitation.secret,
        "escalated": _escalated(annotator.project).pk,
    } | _training(project)
    return world


def _escalated(project) -> WorkItem:
    item = make_slate(project).work_item
    WorkItem.objects.filter(pk=item.pk).update(status=WorkItem.Status.ESCALATED)
    return item


def _training(project) -> dict[str, object]:
    TrainingSettings.objects.create(project=project)
    judged = make_prompt(project)
    old = evaluated.make_round(project, {judged: ("Rest.", "Drink water.")})
    results.load(old)
    model = ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    run = engine_files.make_run(project, status=Run.Status.FAILED)
    engine_files.write_origin(run)
    engine_files.write_samples(run, 1, prompt_id=str(project.prompts.earliest("pk").pk))
    values = {"round": old.number, "judged_prompt": judged.pk, "model": model.pk, "run": run.pk, "step": 1, "index": 0}
    return values | _around(model)


def _around(model: ModelVersion) -> dict[str, object]:
    """What people make of models: an SFT with its snapshot, a packed file, a question; and a folder for a new one."""
    snapshot = Snapshot.objects.create(project=model.project, files={}, counts={}, sha256="0" * 64)
    sft = ModelVersion.objects.create(
        project=model.project, kind="sft", number=1, parent=model, snapshot=snapshot, manifest_sha256="0" * 64
    )
    download = Download.objects.create(project=model.project, model_version=sft, status="ready", total=0)
    download.path.parent.mkdir(parents=True, exist_ok=True)
    download.path.touch()
    question = Question.objects.create(project=model.project, text="Why?")
    folder = settings.BASE_MODELS_DIR / "looked-at"
    folder.mkdir(parents=True, exist_ok=True)
    return {"sft": sft.pk, "download": download.pk, "question": question.pk, "folder": folder.name}


def routes() -> dict[str, URLPattern]:
    """Every address that the site answers, by name, the Django admin's apart."""
    return dict(_named(get_resolver(), ()))


def _named(resolver: URLResolver, spaces: tuple[str, ...]) -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield ":".join([*spaces, entry.name or str(entry.pattern)]), entry
        elif entry.namespace != "admin":
            yield from _named(entry, (*spaces, entry.namespace) if entry.namespace else spaces)
