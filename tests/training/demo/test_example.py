"""The example: finished rounds that a fresh installation comes with, and that one button removes."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks

from annotate.models import AuditEvent, Project, User
from tests.factories import make_member, make_project, make_ranking, make_user
from tests.training import machine
from training.models import ModelVersion, Round, Run, TrainingSettings
from training.rlhf.run import manifest
from training.services.demo import example
from training.services.demo import project as demo_project
from training.services.demo.project_tables import tables
from training.services.registry import promotions

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LARGEST_BYTES = 9_000_000


@pytest.fixture
def loaded(data_dir: Path) -> Project:
    return example.load()


@pytest.fixture
def site_admin() -> User:
    return make_user(is_site_admin=True)


def test_it_is_small() -> None:
    assert example.ARCHIVE.stat().st_size <= LARGEST_BYTES


def test_all_pages_of_its_rounds_are_there(client: Client, loaded: Project, site_admin: User) -> None:
    client.force_login(site_admin)
    slug = loaded.slug
    pages = [reverse(f"training:{name}", args=[slug]) for name in ("rounds", "models", "models-history", "questions")]
    pages += [reverse("training:round", args=[slug, round.number]) for round in loaded.rounds.all()]
    pages += [reverse("training:run", args=[slug, run.pk]) for run in loaded.runs.all()]
    pages += [reverse("training:model", args=[slug, model.pk]) for model in loaded.model_versions.all()]
    pages += [reverse(f"annotate:{name}", args=[slug]) for name in ("project", "prompts", "reviews", "members")]
    ppo = loaded.runs.get(stage="ppo")
    pages.append(reverse("training:run-step", args=[slug, ppo.pk, 1]))
    for page in pages:
        assert client.get(page).status_code == 200, page


def test_it_says_what_two_rounds_have_changed(client: Client, loaded: Project, site_admin: User) -> None:
    client.force_login(site_admin)
    assert [round.status for round in loaded.rounds.order_by("number")] == [Round.Status.SUCCEEDED] * 2
    shown = client.get(reverse("training:round", args=[loaded.slug, 2])).content.decode()
    assert "According to the independent judge" in shown
    assert "out of range: healthy 60" not in shown
    assert promotions.champion(loaded).kind == "ppo"
    models = client.get(reverse("training:models", args=[loaded.slug])).content.decode()
    assert "Promoted by Simulated admin" in models


def test_its_weights_are_those_that_the_engine_wrote(loaded: Project) -> None:
    models = list(ModelVersion.objects.filter(project=loaded))
    assert {model.kind for model in models} == {"base", "sft", "reward", "watcher", "ppo"}
    assert all(manifest.verifies(model.directory) for model in models)


def test_it_is_marked_and_nobody_but_site_admins_meets_it(client: Client, loaded: Project, data_dir: Path) -> None:
    demo_project.create(has_answers=False)
    for email, sees in (("admin", True), ("annotator", False)):
        client.force_login(User.objects.get(email=f"{email}@roundtable.example"))
        assert (loaded.name in client.get(reverse("annotate:home")).content.decode()) == sees
    client.force_login(User.objects.get(email=demo_project.SITE_ADMIN))
    assert "This is an example project" in client.get(reverse("annotate:project", args=[loaded.slug])).content.decode()


def test_rows_made_afterwards_get_ids_of_their_own(loaded: Project) -> None:
    project = make_project()
    make_ranking(make_member(project))
    machine.queue_run(project)
    assert Project.objects.count() == 2


def test_one_button_removes_all_of_it_and_nothing_else(
    client: Client,
    loaded: Project,
    site_admin: User,
    data_dir: Path,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    other = make_ranking(make_member(make_project())).project
    before = {table.model: table.rows(other).count() for table in tables()}
    client.force_login(site_admin)
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("training:remove-example", args=[loaded.slug]))
    assert {table.model.__name__: table.rows(loaded).count() for table in tables()} == dict.fromkeys(
        (table.model.__name__ for table in tables()), 0
    )
    assert {table.model: table.rows(other).count() for table in tables()} == before
    assert [path for folder in ("runs", "models", "snapshots") for path in (data_dir / folder).iterdir()] == []
    assert client.get(reverse("annotate:project", args=[loaded.slug])).status_code == 404
    assert loaded.name not in client.get(reverse("annotate:home")).content.decode()
    assert AuditEvent.objects.filter(action="project.removed", actor=site_admin, project=loaded).exists()
    assert not User.objects.filter(email__endswith="@example.example").exists()


def test_what_people_judged_is_never_removed(client: Client, site_admin: User) -> None:
    ranking = make_ranking(make_member(make_project()))
    TrainingSettings.objects.create(project=ranking.project, purpose=TrainingSettings.Purpose.DEMO)
    client.force_login(site_admin)
    client.post(reverse("training:remove-example", args=[ranking.project.slug]))
    ranking.refresh_from_db()


def test_it_is_not_removed_while_something_trains_in_it(loaded: Project, site_admin: User) -> None:
    machine.queue_run(loaded)
    with pytest.raises(example.NotRemoved):
        example.remove(loaded, actor=site_admin)
    assert Run.objects.filter(project=loaded).exists()


def test_it_is_loaded_only_before_there_is_any_project(data_dir: Path) -> None:
    make_project()
    with pytest.raises(example.NotLoaded):
        example.load()
    assert Project.objects.count() == 1


def test_every_table_that_belongs_to_a_project_is_found() -> None:
    names = {table.model.__name__ for table in tables()}
    assert {"Placement", "Completion", "Sample", "Snapshot_rankings", "SignInLink", "Review", "Notice"} <= names
    assert not {"AuditEvent", "Project", "User", "Worker", "Adoption"} & names


def test_with_an_empty_database_it_takes_the_place_of_the_one_that_is_there(data_dir: Path) -> None:
    with transaction.atomic():
        first = example.load()
        transaction.set_rollback(True)
    others = data_dir / "models/of-another-database"
    others.mkdir()
    damaged = next(data_dir.glob("models/*/model.safetensors"))
    damaged.write_bytes(b"")
    loaded = example.load()
    assert loaded.slug == first.slug
    assert all(manifest.verifies(model.directory) for model in loaded.model_versions.all())
    assert others.exists()


def test_without_room_for_it_the_demo_project_is_made_all_the_same(data_dir: Path) -> None:
    (data_dir / "snapshots").write_text("not a folder")
    out, errors = StringIO(), StringIO()
    call_command("create_demo_project", stdout=out, stderr=errors)
    assert "The example project could not be loaded" in errors.getvalue()
    assert [project.slug for project in Project.objects.all()] == [demo_project.SLUG]
