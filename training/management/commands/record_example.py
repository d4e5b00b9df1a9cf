"""`manage.py record_example`: plays two rounds and records them as the example that a fresh installation comes with."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from annotate.management import numbers
from annotate.models import Project, Role, User
from training.models import Run, TrainingSettings
from training.services.demo import example
from training.tiny import preset
from training.tiny.demo import PROJECT, SHUFFLE, Demo
from training.tiny.installation import Installation

REASON = "Wins against the SFT policy on held-out prompts; twenty answers read side by side."


class Command(BaseCommand):
    help = "Play two rounds in a throw-away installation and record them as the example project. For developers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, default=example.ARCHIVE, help="archive to write")
        parser.add_argument("--seed", type=numbers.seed, default=1)
        parser.add_argument("--finished", action="store_true", help="record the demo project of this installation")

    def handle(self, *, output: Path, seed: int, finished: bool, **_options: Any) -> None:
        if finished:
            example.record(_as_example(Project.objects.get(slug=PROJECT)), output)
            return
        sizes = {"completions": preset.DEMO_K, "slates": preset.DEMO_SLATES}
        with Installation() as installation:
            demo = Demo(installation, seed=seed, people=8, shuffle=SHUFFLE, say=self.stdout.write, **sizes)
            demo.prepare()
            demo.play(2)
            newest = demo.admin.get(f"projects/{PROJECT}/models/")["results"]
            policy = next(model for model in newest if model["kind"] == "ppo")
            demo.admin.send("POST", f"projects/{PROJECT}/models/{policy['id']}/promote/", {"reason": REASON})
            installation.stop()
            installation.manage("record_example", "--finished", "--output", str(output.resolve()))
        self.stdout.write(f"Wrote {output}: {output.stat().st_size / 1e6:.1f} MB.")


def _as_example(project: Project) -> Project:
    """`project` under the name that the example has, without people's accounts and machine names."""
    project.name, project.slug = "Example: everyday questions", example.SLUG
    project.save()
    TrainingSettings.objects.filter(project=project).update(purpose=TrainingSettings.Purpose.EXAMPLE)
    people = project.members.filter(is_simulated=False)
    User.objects.filter(memberships__in=people.filter(role=Role.ADMIN)).update(name="Simulated admin")
    people.filter(role=Role.ADMIN).update(is_simulated=True)  # who started the rounds stays
    people.delete()
    for number, user in enumerate(User.objects.filter(memberships__project=project).order_by("pk"), start=1):
        user.email = f"simulated-{number}@{example.SLUG}.example"
        user.save()
    Run.objects.filter(project=project).update(owner="gpu-worker")
    return project
