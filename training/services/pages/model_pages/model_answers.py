"""Answers of two models side by side: what both wrote to the same held-out prompts, read from the evaluations.

Where one evaluation had both of them answer, one independent judge or one reward model scored both, so that there is a
win rate. Answers from two evaluations are shown without one: rewards of different reward models cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from training.models import ModelVersion, Question, Round, Run
from training.rlhf.exits import InvalidInput
from training.services.planning import plans
from training.services.running import results
from training.stages import ParentRole, Stage
from training.stages.planning import PlannedParent

JUDGES = (ParentRole.REWARD, ParentRole.WATCHER)  # score answers, and write none
MOST_EVALUATIONS = 50  # the newest, that are searched for answers of the two
MOST_QUESTIONS = 5  # that both have answered


class Source(NamedTuple):
    """An evaluation in which a model answered, and as what."""

    run: Run
    role: str


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What two models answered, the older one before the newer. Without `answers` nothing common is stored."""

    before: ModelVersion
    after: ModelVersion
    answers: list[dict[str, Any]] = field(default_factory=list)  # as in a round's result
    win_rate: Sequence[float] | None = None  # value, low, high
    figure: str = ""  # the win rate's name in a result, which says what kind of model judged
    judge: str = ""  # the name of that model
    rounds: list[int] = field(default_factory=list)  # whose evaluations asked
    questions: list[Question] = field(default_factory=list)  # of admins, that both have answered

    @property
    def mute(self) -> list[ModelVersion]:
        """Those of the two that write no answers."""
        return [model for model in (self.before, self.after) if not model.is_policy]

    @property
    def can_be_asked(self) -> bool:
        return self.before.can_answer and self.after.can_answer


def compare(*models: ModelVersion) -> SideBySide:
    """Both of `models` side by side."""
    before, after = sorted(models, key=lambda model: model.pk)
    pair = SideBySide(before=before, after=after, questions=_questions(before, after))
    evaluations = _evaluations(before)
    sources = [_sources(evaluations, model) for model in (before, after)]
    for old, new in _candidates(*sources):
        try:
            found = _read(old, new)
        except (OSError, InvalidInput):
            continue
        if found["answers"]:
            return replace(pair, **found)
    return pair


def _evaluations(model: ModelVersion) -> list[Run]:
    done = Run.objects.succeeded().filter(project=model.project_id, stage=Stage.EVALUATION, round__isnull=False)
    return list(done.select_related("round", "round__result").order_by("-pk")[:MOST_EVALUATIONS])


def _sources(evaluations: list[Run], model: ModelVersion) -> list[Source]:
    """Where `model` answered, the newest first."""
    found = []
    for run in evaluations:
        roles = [role for role, parent in _parents(run).items() if run.round and _is(parent, model, run.round)]
        found += [Source(run, role) for role in roles if role not in JUDGES]
    return found


def _candidates(old: list[Source], new: list[Source]) -> list[tuple[Source, Source]]:
    """Where to look: evaluations in which both answered, then the newest one of each."""
    shared = [(one, other) for one in old for other in new if one.run == other.run]
    return [*shared, *list(zip(old[:1], new[:1], strict=False))]


def _read(old: Source, new: Source) -> dict[str, Any]:
    rounds = sorted({run.round.number for run in (old.run, new.run) if run.round})
    if old.run != new.run:
        before, after = (results.of_role(results.read_answers(each.run), each.role) for each in (old, new))
        pairs = results.pairs_to_read(results.by_prompt(before=before, after=after), new.run)["answers"]
        return {"rounds": rounds, "answers": _unscored(pairs)}
    if stored := _stored(old, new):
        rates = {name: stored.figure(name).get("after") for name in results.JUDGES}
        return {"rounds": rounds, "answers": stored.answers, **_win_rate(rates, new.run)}
    rows = results.read_answers(new.run)
    answers = results.by_prompt(before=results.of_role(rows, old.role), after=results.of_role(rows, new.role))
    rates = {name: results.win_rate(answers, new.run, score) for name, score in results.JUDGES.items()}
    pairs = results.pairs_to_read(answers, new.run)["answers"]
    return {"rounds": rounds, "answers": pairs, **_win_rate(rates, new.run)}


def _stored(old: Source, new: Source) -> Any:
    """The result of the round, where it compares these two; it outlives the files."""
    parents = _parents(new.run)
    before = ParentRole.PARENT if ParentRole.PARENT in parents else ParentRole.REFERENCE
    compares_them = (old.role, new.role) == (before, ParentRole.POLICY)
    return getattr(new.run.round, "result", None) if compares_them else None


def _unscored(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    scores = ("before_reward", "after_reward", "before_judged", "after_judged")
    return [pair | dict.fromkeys(scores) for pair in answers]


def _parents(run: Run) -> dict[str, PlannedParent]:
    assert run.round is not None
    stages = plans.load(run.round).stages
    return next((stage.parents for stage in stages if stage.stage == Stage.EVALUATION), {})


def _win_rate(rates: dict[str, Sequence[float] | None], run: Run) -> dict[str, Any]:
    """The one of `rates` to show: by the independent judge where there was one, else by the reward model."""
    figure = next((name for name in results.JUDGES if rates[name]), "win_rate")
    judge = _parents(run).get(ParentRole.WATCHER if figure == "watcher_win_rate" else ParentRole.REWARD)
    return {"win_rate": rates[figure], "figure": figure, "judge": judge.name if judge else ""}


def _is(parent: PlannedParent, model: ModelVersion, round: Round) -> bool:
    """Whether the plan of `round` meant `model`, by its row or by the stage of the round that made it."""
    if parent.model_version:
        return parent.model_version == model.pk
    return model.run is not None and model.run.round_id == round.pk and model.run.stage == parent.stage


def _questions(before: ModelVersion, after: ModelVersion) -> list[Question]:
    answered = Question.objects.filter(project=before.project_id)
    for model in (before, after):
        answered = answered.filter(answers__model_version=model, answers__run__status=Run.Status.SUCCEEDED)
    return list(answered.distinct().order_by("-pk")[:MOST_QUESTIONS])
