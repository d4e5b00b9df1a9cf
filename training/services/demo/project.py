"""The demo project: the tiny world's questions, three people without passwords, and answers by simulated people."""

from __future__ import annotations

import random

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Project, Role, User
from annotate.services import projects, prompts
from annotate.services.importing.sources import Record
from annotate.services.people import members
from training.models import TrainingSettings
from training.services.demo import simulations
from training.services.registry import base_models
from training.tiny import preset, world

SLUG = "everyday-questions"  # what the name below becomes
SITE_ADMIN = "admin@roundtable.example"
PEOPLE = {
    SITE_ADMIN: "Demo admin",
    "reviewer@roundtable.example": "Demo reviewer",
    "annotator@roundtable.example": "Demo annotator",
}


def guidelines() -> str:
    return _(
        "# What a good answer is\n\n"
        "People ask about small everyday problems. A good answer leaves them with something they can do.\n\n"
        "1. **Stick to the question.** Every sentence helps with what was asked. No filler.\n"
        "2. **Say what to do, in order.** Use short steps that are easy to follow.\n"
        "3. **Ask before you advise** if the answer depends on something you do not know.\n"
        "4. **Mention risks** where harm is possible.\n"
        "5. **Be kind.** Do not blame anyone for not knowing.\n\n"
        "When you rank, think of the person who asked: which answer would you want to get? Answers that are equally "
        "good share a rank."
    )


@transaction.atomic
def create(
    *,
    seed: int = 0,
    completions_per_slate: int = preset.DEMO_K,
    slates_per_round: int = preset.DEMO_SLATES,
    has_answers: bool = True,
) -> Project:
    """The demo project with its people, trained from `seed`; if there is one already, it is left as it is.

    It has all the answers that a first round needs, so that one person can start it at once: `has_answers`.
    """
    admin, reviewer, annotator = (_person(email, name) for email, name in PEOPLE.items())
    stored = Project.objects.filter(slug=SLUG).first()
    if stored:
        return stored
    project = Project(
        name=_("Everyday questions"),
        guidelines=guidelines(),
        heldout_share=preset.HELDOUT_SHARE,
        trains_on_simulated=True,
    )
    projects.create(project, creator=admin)
    members.join(project, user=reviewer, role=Role.REVIEWER)
    members.join(project, user=annotator, role=Role.ANNOTATOR)
    prompts.add(project, _records(seed))
    TrainingSettings.objects.create(
        project=project,
        demonstrations_minimum=preset.DEMONSTRATIONS,
        slates_per_round=slates_per_round,
        completions_per_slate=completions_per_slate,
        seed=seed,
        purpose=TrainingSettings.Purpose.DEMO,
    )
    base_models.register(project)
    if has_answers:
        simulations.write_first_answers(project, number=preset.DEMONSTRATIONS, seed=seed)
    return project


def _person(email: str, name: str) -> User:
    user = User.objects.filter(email=email).first()
    if user:
        return user
    make = User.objects.create_superuser if email == SITE_ADMIN else User.objects.create_user
    # They come in by the links that the command prints: nothing is asked of them, and no password offered.
    return make(email, name=name, declined_password_at=timezone.now())


def _records(seed: int) -> list[Record]:
    """Every question, in an order in which neighbours differ: the first 150 to be answered are of every kind."""
    phrasings = random.Random(f"prompts {seed}").sample(world.phrasings(), k=len(world.phrasings()))
    return prompts.records_from_list(
        {
            "text": phrasing.text,
            "group": phrasing.group,
            "external_id": phrasing.group,
            "metadata": {"kind": phrasing.kind},
        }
        for phrasing in phrasings
    )
