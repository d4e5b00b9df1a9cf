"""A project for the toy engine: every stage of its rounds takes a fraction of a second."""

from __future__ import annotations

import json

from django.conf import settings

from annotate.models import Project, Prompt, Split
from tests.factories import make_member, make_project
from tests.training import machine
from training.models import ModelVersion, Round

BASE = "toy"  # the folder of BASE_MODELS_DIR
SHORT = {"checkpoint_seconds": 0, "threads": 1}


def make_toy_project(*, of_every_stage: bool = False) -> Project:
    """A project with a base model and labels: its first round trains SFT alone, or has one run `of_every_stage`."""
    folder = settings.BASE_MODELS_DIR / BASE
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    project = make_project()
    overrides = dict.fromkeys(("sft", "reward", "evaluation", "sampling"), SHORT)
    overrides["ppo"] = SHORT | {"iterations": 12}
    machine.make_settings(
        project, base_model=BASE, slates_per_round=2 * of_every_stage, overrides=overrides, demonstrations_minimum=1
    )
    machine.make_base(project)
    judge = make_member(project)
    machine.write_demonstrations(judge, 2)
    if of_every_stage:
        machine.rank_new_slates(judge, 3)
        project.heldout_share = 0.5
        project.save()
        while not Prompt.objects.filter(project=project, split=Split.HELDOUT).exists():
            machine.make_prompts(project, 1)
    return project


def done_by(round: Round) -> str:
    """Which attempt did each step of the model that `round` has published."""
    model = ModelVersion.objects.get(run__round=round)
    return "".join(json.loads((model.directory / "model.safetensors").read_text()))
