"""The demo project: what a newcomer finds after `make run`."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from annotate.models import Demonstration, Kind, Member, Project, Prompt, Role, User
from annotate.services import work
from deploy import prepare
from training.models import ModelVersion, Run
from training.services.demo import project as demo_project
from training.services.labels import trainable_labels
from training.services.planning import plans
from training.tiny import preset, recipe, world

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _data_dir(data_dir):
    """The built-in base model is copied into it."""


def test_its_people_come_in_by_the_links_it_prints(client):
    out = StringIO()
    call_command("create_demo_project", "--without-example", stdout=out)
    links = dict(line.split("\t") for line in out.getvalue().splitlines())
    for email, name in demo_project.PEOPLE.items():
        client.post("/" + links[name].split("/", 3)[3])
        assert client.session["_auth_user_id"] == str(User.objects.get(email=email).pk)
    assert not any(user.has_usable_password() for user in User.objects.all())


def test_it_has_work_people_and_a_base_model():
    project = demo_project.create(has_answers=False)
    roles = dict(Member.objects.values_list("user__email", "role"))
    assert roles == {
        "admin@roundtable.example": Role.ADMIN,
        "reviewer@roundtable.example": Role.REVIEWER,
        "annotator@roundtable.example": Role.ANNOTATOR,
    }
    annotator = Member.objects.get(role=Role.ANNOTATOR)
    assert work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    assert ModelVersion.objects.get(project=project).name == "base-1"
    assert not Run.objects.exists()


def test_one_person_can_start_round_1_at_once():
    project = demo_project.create()
    written = Demonstration.objects.select_related("annotator")
    assert len(written) == preset.DEMONSTRATIONS
    assert all(one.annotator.is_simulated for one in written)
    assert trainable_labels.readiness(project).missing == 0
    plan = plans.draft(project)
    assert not plan.obstacle
    assert [stage.stage for stage in plan.stages if stage.will_run] == ["sft", "evaluation", "sampling"]


def test_its_held_out_prompts_are_those_that_the_corpus_leaves_out():
    demo_project.create(has_answers=False)
    for prompt in Prompt.objects.only("group", "split"):
        assert (prompt.split == "heldout") == recipe.is_held_out(prompt.group)


def test_the_first_answers_that_people_write_are_about_every_kind_of_question():
    project = demo_project.create()
    first = Prompt.objects.filter(demonstrations__project=project)
    assert {prompt.metadata["kind"] for prompt in first} == set(world.kinds())


def test_making_it_again_changes_nothing():
    before = demo_project.create(has_answers=False)
    Member.objects.filter(role=Role.ANNOTATOR).update(role=Role.REVIEWER)
    counts = Prompt.objects.count(), User.objects.count()
    assert demo_project.create() == before
    assert (Prompt.objects.count(), User.objects.count()) == counts
    assert Project.objects.count() == 1
    assert not Member.objects.filter(role=Role.ANNOTATOR).exists()


def test_a_demo_that_cannot_be_made_keeps_nothing_from_starting(data_dir, capsys):
    (data_dir / "models").write_text("not a folder")
    prepare.offer_demo()
    printed = capsys.readouterr()
    assert "The demo project could not be created: " in printed.err
    assert printed.out == ""  # which `make run` reads links from
    assert not Project.objects.exists()
