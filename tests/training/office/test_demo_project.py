"""The demo project: what a newcomer finds after `make run`."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from annotate.models import Kind, Member, Project, Prompt, Role, User
from annotate.services import work
from training.models import Run
from training.services.office import demo_project
from training.stages import Stage
from training.tiny import preset, recipe, world

pytestmark = pytest.mark.django_db


def test_its_people_come_in_by_the_links_it_prints(client):
    out = StringIO()
    call_command("create_demo_project", stdout=out)
    links = dict(line.split("\t") for line in out.getvalue().splitlines())
    for email, name in demo_project.PEOPLE.items():
        client.post("/" + links[name].split("/", 3)[3])
        assert client.session["_auth_user_id"] == str(User.objects.get(email=email).pk)
    assert not any(user.has_usable_password() for user in User.objects.all())


def test_it_has_work_people_and_a_base_model_on_its_way(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        project = demo_project.create()
    roles = dict(Member.objects.values_list("user__email", "role"))
    assert roles == {
        "admin@roundtable.example": Role.ADMIN,
        "reviewer@roundtable.example": Role.REVIEWER,
        "annotator@roundtable.example": Role.ANNOTATOR,
    }
    annotator = Member.objects.get(role=Role.ANNOTATOR)
    assert work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    assert Run.objects.get(project=project).stage == Stage.PRETRAINING


def test_its_held_out_prompts_are_those_that_the_corpus_leaves_out():
    demo_project.create()
    for prompt in Prompt.objects.only("group", "split"):
        assert (prompt.split == "heldout") == recipe.is_held_out(prompt.group)


def test_the_first_answers_that_people_write_are_about_every_kind_of_question():
    project = demo_project.create()
    first = Prompt.objects.filter(project=project, split="train").order_by("pk")[: preset.DEMONSTRATIONS]
    assert {prompt.metadata["kind"] for prompt in first} == set(world.kinds())


def test_making_it_again_changes_nothing():
    before = demo_project.create()
    Member.objects.filter(role=Role.ANNOTATOR).update(role=Role.REVIEWER)
    counts = Prompt.objects.count(), User.objects.count()
    assert demo_project.create() == before
    assert (Prompt.objects.count(), User.objects.count()) == counts
    assert Project.objects.count() == 1
    assert not Member.objects.filter(role=Role.ANNOTATOR).exists()
