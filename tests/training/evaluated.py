"""Rounds that are evaluated: what the old and the new policy answered, in the files that an engine leaves."""

from __future__ import annotations

import json

from django.utils import timezone

from annotate.models import Project, Prompt
from tests.training import machine
from training.models import Round, Run
from training.services.planning.plans import Plan, PlannedParent, StagePlan
from training.stages import Stage

Answers = dict[Prompt, tuple[str, str]]  # the old one and the new one
ROLES = ("reference", "policy")  # who wrote them


def make_round(project: Project, answers: Answers) -> Round:
    """A round that is through, whose reward model prefers all new answers, and whose judge all old ones."""
    number = project.rounds.count() + 1
    names = {"policy": f"ppo-{number}", "reference": "sft-1", "reward": "reward-1", "watcher": "watcher-1"}
    parents = {role: PlannedParent(name=name) for role, name in names.items()}
    stages = [StagePlan(stage=Stage.EVALUATION, parents=parents), StagePlan(stage=Stage.SAMPLING, reason="It is over.")]
    plan = Plan(number=number, obstacle="", stages=stages)
    done = {"status": Round.Status.SUCCEEDED, "finished_at": timezone.now()}
    made = Round.objects.create(project=project, number=number, plan=plan.to_json(), **done)
    run = machine.queue_run(project, Stage.EVALUATION, round=made, status=Run.Status.SUCCEEDED)
    (run.directory / "data").mkdir(parents=True)
    asked = [{"id": prompt.pk, "messages": prompt.messages} for prompt in answers]
    (run.directory / "data/heldout_prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    rows = [
        _row(prompt, role, text) for prompt, texts in answers.items() for role, text in zip(ROLES, texts, strict=True)
    ]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    return made


def _row(prompt: Prompt, role: str, text: str) -> dict[str, object]:
    is_new = role == "policy"
    return {
        "prompt_id": prompt.pk,
        "index": 0,
        "policy": role,
        "text": text,
        "n_tokens": 4,
        "logprob": -3.0,
        "reward": 1.0 if is_new else 0.0,
        "watcher": 0.0 if is_new else 1.0,
        "finish_reason": "length" if is_new else "stop",
        "kl": 1.0 if is_new else None,
    }
