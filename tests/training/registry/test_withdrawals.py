"""What is taken back marks the snapshots and models that it went into, whoever takes it back and however."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotate.models import Demonstration, Label, Member, Project, Ranking, Verdict
from annotate.services import prompts, reviews
from annotate.services.people import members
from tests.factories import make_demonstration, make_member, make_ranking
from tests.training import machine
from training.models import ModelVersion

pytestmark = [pytest.mark.django_db, pytest.mark.database]

TakeBack = Callable[[Label, Member], None]


def erase_the_author(label: Label, admin: Member) -> None:
    members.erase(label.annotator, actor=admin.user)


def withdraw_the_prompt(label: Label, admin: Member) -> None:
    prompts.withdraw(label.prompt if isinstance(label, Demonstration) else label.slate.prompt, actor=admin.user)


def return_the_label(label: Label, admin: Member) -> None:
    reviews.record(label, reviewer=admin, verdict=Verdict.RETURN, comment="Shorter, please.")


def accept_the_label(label: Label, admin: Member) -> None:
    reviews.record(label, reviewer=admin, verdict=Verdict.ACCEPT)


def marked_after(take_back: TakeBack, label: Label, admin: Member) -> tuple[set[str], set[str]]:
    """(snapshots, models) that are marked, by name, when there are some that `label` went into and some it did not."""
    project = label.project
    other = (make_demonstration if isinstance(label, Demonstration) else make_ranking)(make_member(project))
    names = {}
    for name, used in (("with", label), ("without", other)):
        snapshot = machine.make_snapshot(project)
        (snapshot.demonstrations if isinstance(used, Demonstration) else snapshot.rankings).add(used)
        sft = machine.make_model(project, "sft", snapshot=snapshot)
        names[snapshot.pk] = name
        names[sft.name] = f"sft {name}"
        names[machine.make_model(project, "ppo", parent=sft).name] = f"ppo {name}"
    take_back(label, admin)
    snapshots = {names[pk] for pk in project.snapshots.filter(uses_withdrawn_labels=True).values_list("pk", flat=True)}
    return snapshots, {names[model.name] for model in ModelVersion.objects.filter(uses_withdrawn_labels=True)}


@pytest.mark.parametrize("take_back", [erase_the_author, withdraw_the_prompt, return_the_label])
@pytest.mark.parametrize("make", [make_demonstration, make_ranking])
def test_a_label_that_is_taken_back_marks_what_it_went_into(
    project: Project, admin: Member, annotator: Member, make: Callable[[Member], Label], take_back: TakeBack
) -> None:
    label = make(annotator)
    assert marked_after(take_back, label, admin) == ({"with"}, {"sft with", "ppo with"})
    usable = Demonstration.objects if isinstance(label, Demonstration) else Ranking.objects
    assert usable.filter(pk=label.pk).exists(), "what was judged is kept"


def test_an_accepted_label_marks_nothing(project: Project, admin: Member, annotator: Member) -> None:
    assert marked_after(accept_the_label, make_ranking(annotator), admin) == (set(), set())
