"""Good input for every address that takes any: what a form or a program sends there, and what must be so beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password

from annotate.models import Assignment, Kind, Project, Prompt, User
from tests.permission_world import World
from tests.training import engine_files
from training.models import (
    Examination,
    ModelVersion,
    Probe,
    Promotion,
    Question,
    Round,
    Run,
    Simulation,
    TrainingSettings,
    Worker,
)
from training.presets import TINY
from training.services.planning import adapters, plans, preflight
from training.services.planning.memory_plan import MemoryPlan

Body = dict[str, Any] | list[Any]
SUBMISSION = str(UUID(int=7))
PASSWORD, NEW_PASSWORD = "seven green bicycles", "eight blue bicycles"


def _ranking(world: World) -> dict[int, int]:
    """A place for each answer of the ranking that the annotator holds."""
    order = Assignment.objects.get(pk=world.values["ranking_work"]).card_order
    return {pk: place for place, pk in enumerate(reversed(order), 1)}


def _typed_ranking(world: World) -> Body:
    places = {f"place-{pk}": str(place) for pk, place in _ranking(world).items()}
    return {"submission_id": SUBMISSION, "draft_version": "0", **places}


PROJECT = {
    "name": "Another one",
    "demonstration_seats": 1,
    "ranking_seats": 2,
    "heldout_percent": 10,
    "training-base_model": "tiny",
    "training-completions_per_slate": 4,
    "training-slates_per_round": 10,
    "training-demonstrations_minimum": 5,
    "training-rankings_minimum": 5,
    "training-ppo_start": "sft",
}
ANSWER = {"submission_id": SUBMISSION, "draft_version": "0", "text": "Rest, and drink water."}

# By (method, route); where nothing is said, nothing has to be sent.
BODIES: dict[tuple[str, str], Body | Callable[[World], Body]] = {
    ("POST", "annotate:save-draft"): _typed_ranking,
    ("POST", "annotate:submit"): _typed_ranking,
    ("POST", "annotate:skip"): {"choice": "knowledge"},
    ("POST", "annotate:correct"): ANSWER,
    ("POST", "annotate:save-correction"): ANSWER,
    ("POST", "annotate:preview"): {"text": "*Rest*"},
    ("POST", "training:simulation"): {"kind": "ranking", "wanted": 3},
    ("POST", "annotate:account"): {"name": "Ada", "time_zone": "UTC"},
    ("POST", "annotate:make-token"): {"name": "import", "scopes": ["read"], "days": "30"},
    ("POST", "annotate:create-project"): PROJECT,
    ("POST", "annotate:settings"): PROJECT,
    ("POST", "annotate:edit-guidelines"): {"text": "Be kind.", "before": ""},
    ("POST", "annotate:invite"): {"email": "grace@example.org", "role": "annotator"},
    ("POST", "annotate:change-role"): {"role": "reviewer"},
    ("POST", "annotate:add-prompts"): {"paste": "Why is the sky blue?"},
    ("POST", "annotate:record-review"): {"verdict": "accept"},
    ("POST", "training:settings"): {"before": f'{{"ppo-beta": {TINY.values["ppo"]["beta"]}}}', "ppo-beta": "0.2"},
    ("POST", "training:settings-preset"): {"preset": "0.5B", "seen": "tiny"},
    ("POST", "training:rounds-make-fit"): lambda world: {"shown": _memory(world).shown},
    ("POST", "training:run-change"): lambda world: _config(world),
    ("POST", "training:models-roll-back"): lambda world: {"reason": "It rambles.", "seen": world.values["sft"]},
    ("POST", "training:model-promote"): {"reason": "It wins."},
    ("POST", "training:questions"): lambda world: {"text": "What helps?", "models": [world.values["sft"]]},
    ("POST", "account_login"): lambda world: {"login": world.people["outsider"].email, "password": PASSWORD},
    ("POST", "account_change_password"): {
        "oldpassword": PASSWORD,
        "password1": NEW_PASSWORD,
        "password2": NEW_PASSWORD,
    },
    ("POST", "account_set_password"): {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD},
    ("POST", "annotate-api:prompts"): [{"text": "Why is the sky blue?"}],
    ("POST", "annotate-api:slates"): {"prompt": {"text": "Why?"}, "completions": [{"text": "a"}, {"text": "b"}]},
    ("POST", "annotate-api:claim"): {"kind": "ranking"},
    ("PUT", "annotate-api:draft"): {"draft": {"note": "hm"}, "draft_version": 0},
    ("POST", "annotate-api:demonstration"): {"submission_id": SUBMISSION, "text": "Rest, and drink water."},
    ("POST", "annotate-api:ranking"): lambda world: {
        "submission_id": SUBMISSION,
        "places": {str(pk): place for pk, place in _ranking(world).items()},
    },
    ("POST", "annotate-api:skip"): {"reason": "I do not know enough about this"},
    ("PATCH", "training-api:training-settings"): {"stages": {"ppo": {"beta": 0.2}}},
    ("POST", "training-api:model-promote"): {"reason": "It wins."},
}


def _config(world: World) -> Body:
    """The failed run's own config, with one setting changed."""
    from training.forms.configs import ConfigForm
    from training.services.run_files.reader import RunFiles

    form = ConfigForm(saved=RunFiles(Run.objects.get(pk=world.values["run"])).config)
    return {name: field.initial for name, field in form.fields.items()} | {"iterations": 3}


def _passwords(world: World) -> None:
    User.objects.update(password=make_password(PASSWORD))


def _no_passwords(world: World) -> None:
    User.objects.update(password=make_password(None))


def _an_active_round(world: World) -> None:
    Round.objects.filter(pk__isnull=False).update(status=Round.Status.RUNNING, finished_at=None)


def _enough_labels(world: World) -> None:
    TrainingSettings.objects.update(demonstrations_minimum=1, rankings_minimum=1)


def _too_little_memory(world: World) -> None:
    """A worker on which no stage of the plan fits, and settings with which all do."""
    _enough_labels(world)
    Worker.objects.create(name="gpu@small", queue="gpu", host="small", pid=1, memory=8_000_000_000)
    ladder = [{"settings": {}, "needed": 9_000_000_000}, {"settings": {"batch_tokens": 64}, "needed": 1}]
    counts = {"cpu": [{"run": stage.stage, "counted": ladder} for stage in _memory(world).stages]}
    Examination.objects.filter(kind="memory").update(status="done", counts=counts)


def _memory(world: World) -> MemoryPlan:
    project = Project.objects.get(slug=world.values["project"])
    plan = plans.draft(project)
    return preflight.memory_of(project, plan, preflight.gather(project), adapters.existing(plan))


def _a_checkpoint(world: World) -> None:
    engine_files.write_checkpoint(Run.objects.get(pk=world.values["run"]), 2)


def _held(world: World) -> None:
    Run.objects.filter(pk=world.values["run"]).update(status=Run.Status.HELD)


def _a_demo(world: World) -> None:
    TrainingSettings.objects.update(purpose=TrainingSettings.Purpose.DEMO)


def _a_simulation(world: World) -> None:
    project = Project.objects.get(slug=world.values["project"])
    Simulation.objects.create(project=project, kind=Kind.RANKING, wanted=3)


def _an_example(world: World) -> None:
    TrainingSettings.objects.update(purpose=TrainingSettings.Purpose.EXAMPLE)
    Run.objects.unfinished().update(status=Run.Status.CANCELLED)


def _a_probe(world: World) -> None:
    prompt = Prompt.objects.get(pk=world.values["judged_prompt"])
    seen_in = Round.objects.get(project=prompt.project, number=world.values["round"])
    Probe.objects.create(project=prompt.project, prompt=prompt, round=seen_in)


def _queued(world: World) -> None:
    """The run waits, between two others of its project."""
    run = Run.objects.get(pk=world.values["run"])
    others = [Run.objects.create(project=run.project, stage=run.stage) for _ in range(2)]
    Run.objects.filter(pk=run.pk).update(status=Run.Status.QUEUED, position=others[1].position)
    Run.objects.filter(pk=others[1].pk).update(position=others[1].position + 1)


def _weights(world: World) -> None:
    ModelVersion.objects.get(pk=world.values["model"]).directory.mkdir(parents=True, exist_ok=True)


def _answered(world: World) -> None:
    question = Question.objects.get(pk=world.values["question"])
    run = Run.objects.create(project=question.project, stage="sampling", status=Run.Status.SUCCEEDED)
    texts = [{"text": text, "finish_reason": "stop"} for text in ("Rest.", "Sleep.")]
    question.answers.create(model_version_id=world.values["sft"], run=run, texts=texts)


def _a_champion_before(world: World) -> None:
    for name in ("model", "sft"):
        model = ModelVersion.objects.get(pk=world.values[name])
        Promotion.objects.create(project=model.project, model_version=model, reason="It wins.")


# What must be so for the action to make sense.
CONDITIONS: dict[tuple[str, str], Callable[[World], None]] = {
    ("POST", "training:rounds-start"): _enough_labels,
    ("POST", "training:rounds-make-fit"): _too_little_memory,
    ("POST", "training-api:rounds"): _enough_labels,
    ("POST", "training:simulation"): _a_demo,
    ("POST", "training:stop-simulation"): _a_simulation,
    ("POST", "training:remove-example"): _an_example,
    ("POST", "training:round-cancel"): _an_active_round,
    ("POST", "training-api:round-cancel"): _an_active_round,
    ("POST", "training:pair-unwatch"): _a_probe,
    ("POST", "training:run-resume"): _a_checkpoint,
    ("POST", "training:run-first"): _queued,
    ("POST", "training:run-last"): _queued,
    ("POST", "training:run-cancel"): _queued,
    ("POST", "training:run-release"): _held,
    ("POST", "training:run-close"): _held,
    ("POST", "training:models-roll-back"): _a_champion_before,
    ("GET", "training:models-roll-back"): _a_champion_before,
    ("POST", "training:model-download"): _weights,
    ("POST", "training:question-rank"): _answered,
    ("POST", "account_login"): _passwords,
    ("GET", "account_set_password"): _no_passwords,
    ("POST", "account_set_password"): _no_passwords,
    ("GET", "account_change_password"): _passwords,
    ("POST", "account_change_password"): _passwords,
}

# Where an action leads to; everything else answers with a page, or with JSON.
LANDINGS: dict[tuple[str, str], str] = {
    # Parts of a page, read by themselves.
    ("GET", "training:simulation"): "annotate:project",
    ("POST", "training:simulation"): "annotate:project",
    ("POST", "training:stop-simulation"): "annotate:project",
    ("POST", "training:remove-example"): "annotate:home",
    ("GET", "training:rounds-next"): "training:rounds",
    ("GET", "training:round-live"): "training:round",
    ("GET", "training:run-live"): "training:run",
    ("GET", "training:run-curves"): "training:run",
    ("GET", "training:system-queue"): "training:system",
    ("GET", "training:question-live"): "training:question",
    ("GET", "training:base-model-live"): "training:base-models",
    ("GET", "training:model-download"): "training:model",
    ("POST", "training:base-model-examine"): "training:base-models",
    ("POST", "annotate:submit"): "annotate:rank",
    ("POST", "annotate:skip"): "annotate:rank",
    ("POST", "annotate:correct"): "annotate:my-work",
    ("POST", "annotate:leave-correction"): "annotate:my-work",
    ("POST", "annotate:account"): "annotate:account",
    ("POST", "annotate:revoke-token"): "annotate:account",
    ("POST", "annotate:check-tokens"): "annotate:account",
    ("POST", "annotate:read-notices"): "annotate:notices",
    ("POST", "annotate:open-notice"): "annotate:notices",
    ("POST", "annotate:choose-mail"): "annotate:account",
    ("POST", "annotate:link"): "annotate:welcome",
    ("GET", "annotate:welcome"): "annotate:home",  # everybody here has been welcomed
    ("POST", "annotate:welcome"): "annotate:home",
    ("POST", "annotate:decline-password"): "annotate:home",
    ("POST", "annotate:close-account"): "annotate:people",
    ("POST", "annotate:reopen-account"): "annotate:people",
    ("POST", "annotate:revoke-tokens"): "annotate:people",
    ("POST", "annotate:make-site-admin"): "annotate:people",
    ("POST", "annotate:end-site-admin"): "annotate:people",
    ("POST", "annotate:create-project"): "annotate:project",
    ("POST", "annotate:settings"): "annotate:settings",
    ("POST", "annotate:edit-guidelines"): "annotate:guidelines",
    ("POST", "annotate:revoke-invitation"): "annotate:members",
    ("POST", "annotate:change-role"): "annotate:members",
    ("POST", "annotate:remove-member"): "annotate:members",
    ("POST", "annotate:withdraw-prompt"): "annotate:prompts",
    ("POST", "annotate:record-review"): "annotate:reviews",
    ("POST", "annotate:settle"): "annotate:escalations",
    ("POST", "training:settings"): "training:settings",
    ("POST", "training:settings-preset"): "training:settings",
    ("GET", "annotate:next-review"): "annotate:review",
    ("POST", "training:rounds-start"): "training:round",
    ("POST", "training:rounds-make-fit"): "training:rounds",
    ("POST", "training:round-cancel"): "training:round",
    ("POST", "training:pair-rank"): "training:round",
    ("POST", "training:pair-watch"): "training:round",
    ("POST", "training:pair-unwatch"): "training:round",
    ("POST", "training:run-resume"): "training:run",
    ("POST", "training:run-repeat"): "training:run",
    ("POST", "training:run-change"): "training:run",
    ("POST", "training:run-release"): "training:run",
    ("POST", "training:run-close"): "training:run",
    ("POST", "training:run-first"): "training:run",
    ("POST", "training:run-last"): "training:run",
    ("POST", "training:run-cancel"): "training:run",
    ("POST", "training:run-send"): "training:run-step",
    ("POST", "training:models-roll-back"): "training:models",
    ("POST", "training:model-promote"): "training:models",
    ("POST", "training:model-download"): "training:model",
    ("POST", "training:question-rank"): "training:question",
    ("POST", "training:questions"): "training:question",
    ("POST", "account_login"): "annotate:home",
    ("POST", "account_change_password"): "annotate:check-tokens",  # everybody here has a token
    ("POST", "account_set_password"): "annotate:check-tokens",
    ("POST", "account_logout"): "account_login",
}
