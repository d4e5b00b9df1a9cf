"""Estimates: how long a stage will take, and what says so. Where nothing does there is no estimate.

A stage under way is estimated from its own pace; one that waits, from the last time that the project did it in one
go, and from how much more often its settings have it do the same now. Where the project never did, another project
says it that trains the same base model on about as much. A run that was interrupted does not count: how long it stood
still is no part of what a stage takes. A PPO that is to be watched takes longer than one that was not: gauge_time.py
says how much.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from django.db.models import Case, Max, Q, QuerySet, Value, When
from django.utils.translation import gettext as _

from training import stages
from training.models import Round, Run, TrainingSettings
from training.rlhf.config import PPOConfig, RunConfig
from training.services.planning import gauge_time, plans
from training.services.registry import configs
from training.services.run_files.reader import RunFiles
from training.stages import Stage
from training.stages.planning import ParentRole, StagePlan

PACE_FROM = 0.1  # the share of its steps after which a stage's own pace says more than the last time
SIMILAR = 2.0  # times as much work at most, or as little, is about as much
KINDS = 2 * len(stages.DEFINITIONS)  # of runs in a project: each stage, in a round or by itself
# Settings that say how often a stage does the same.
REPEATS: dict[str, tuple[str, ...]] = {Stage.PPO: ("iterations", "rollout_size")}
REPEATS_ELSE = ("epochs", "draws", "k")
MOST_OF_OTHERS = 200  # runs of other projects that are looked at, the newest of each project and stage


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long something takes in all, how much of that is left, and what that is estimated from."""

    whole: timedelta
    left: timedelta
    basis: str
    earlier: Run | None = None  # that took so long
    remark: str = ""  # whether it has what an independent judge takes, in a sentence


class History:
    """How long each stage took the last time, for all that a page estimates, in a fixed number of queries.

    `projects` are those that the page is about. Stages of rounds are kept apart from other runs: an answer to a single
    question is a sampling, too.
    """

    def __init__(self, projects: Collection[int]) -> None:
        own = set(projects)
        self.newest: dict[tuple[int, str, bool], Run] = {}
        self.by_base_model: dict[tuple[str, str, bool], list[Run]] = {}
        runs = list(_newest_of_each(own))
        seen = own | {run.project_id for run in runs}
        self.settings = {one.project_id: one for one in TrainingSettings.objects.filter(project__in=seen)}
        for run in runs:
            kind = run.stage, run.round_id is not None
            if run.project_id in own:
                self.newest[run.project_id, *kind] = run
            if base_model := self._base_model(run.project_id):
                self.by_base_model.setdefault((base_model, *kind), []).append(run)

    def last_time(self, project: int, stage: str, *, in_round: bool, amount: int | None = None) -> Estimate | None:
        """What `stage` will take if it goes as it went last; `amount`: of what it will work on."""
        run = self.newest.get((project, stage, in_round))
        if run is None:
            return self._elsewhere(project, stage, in_round, amount)
        basis = _("as in round %(number)d") % {"number": run.round.number} if run.round else _("as last time")
        return _taking(run, basis)

    def of_planned(self, project: int, stage: StagePlan) -> Estimate | None:
        """What a stage of a round of `project` will take that has no run yet."""
        amount = stages.find(stage.stage).number(stage.counts)
        known = self.last_time(project, stage.stage, in_round=True, amount=amount)
        if known is None:
            return None
        config = self._config(project, stage.stage)
        known = _repeated(known, stage.stage, vars(config) if config else {})
        if stage.stage == Stage.PPO and ParentRole.WATCHER in stage.parents:
            return _watched(known, config if isinstance(config, PPOConfig) else None, amount)
        return known

    def estimate(self, run: Run, *, now: datetime) -> Estimate | None:
        """What is left of `run`; None where nothing is known, where it is over, and where it waits for a person."""
        if run.status in Run.FINISHED or run.status == Run.Status.HELD:
            return None
        own = RunFiles(run).pace
        if own and own.step >= PACE_FROM * own.total:
            return Estimate(whole=own.of_step * own.total, left=own.left, basis=_("at its current pace"))
        amount = amount_of(run.round, run.stage)
        earlier = self.last_time(run.project_id, run.stage, in_round=run.round_id is not None, amount=amount)
        earlier = earlier and _repeated(earlier, run.stage, RunFiles(run).config)
        if earlier and run.stage == Stage.PPO:
            config = gauge_time.config_of(RunFiles(run))
            earlier = _watched(earlier, config, amount) if config and config.is_watched else earlier
        return earlier and replace(earlier, left=_left(run, earlier.whole, now))

    def _base_model(self, project: int) -> str:
        settings = self.settings.get(project)
        return settings.base_model if settings else ""

    def _config(self, project: int, stage: str) -> RunConfig | None:
        """What the next run of a stage of `project` will be told; None where its settings are refused."""
        try:
            return configs.check(self.settings[project], stage)
        except (KeyError, configs.BadSettings):
            return None

    def _elsewhere(self, project: int, stage: str, in_round: bool, amount: int | None) -> Estimate | None:
        """What other projects say: the one whose amount of work is the nearest, if it is about as much."""
        known = self.by_base_model.get((self._base_model(project), stage, in_round), [])
        similar = [(ratio, run) for run in known if (ratio := _ratio(amount_of(run.round, stage), amount)) <= SIMILAR]
        if not similar:
            return None
        return _taking(min(similar, key=itemgetter(0))[1], _("as in another project"))


def amount_of(round: Round | None, stage: str) -> int | None:
    """How much `stage` of `round` works on, by its plan; None for what belongs to no round, or counts nothing."""
    planned = plans.load(round).stages if round and round.plan else []
    counts: Mapping[str, int] = next((one.counts for one in planned if one.stage == stage), {})
    return stages.find(stage).number(counts)


def _taking(run: Run, basis: str) -> Estimate | None:
    """What takes as long as `run` did."""
    if run.started_at is None or run.finished_at is None:
        return None
    took = run.finished_at - run.started_at
    return Estimate(whole=took, left=took, basis=basis, earlier=run)


def _repeated(known: Estimate, stage: str, settings: Mapping[str, Any]) -> Estimate:
    """What takes as much longer than `known` as `settings` have the stage do the same more often."""
    earlier = RunFiles(known.earlier).config if known.earlier else {}
    times = math.prod(
        settings[name] / earlier[name]
        for name in REPEATS.get(stage, REPEATS_ELSE)
        if all(isinstance(one.get(name), int) and one[name] > 0 for one in (settings, earlier))
    )
    if times == 1:
        return known
    basis = _("%(basis)s, at the present settings") % {"basis": known.basis}
    return replace(known, whole=known.whole * times, left=known.left * times, basis=basis)


def _watched(known: Estimate, config: PPOConfig | None, prompts: int | None) -> Estimate:
    """What a PPO takes that is watched as `config` says, with `prompts` train prompts, by what is known of PPO."""
    if config and not config.gauge_every:
        return known  # the settings do without the judge
    more = None
    if config and known.earlier:
        more = gauge_time.added_to(known.earlier, config, config.gauge_prompts if prompts is None else prompts)
    if more is None:
        remark = _("The trial of the reward and the independent judge's measurements come on top.")
        return replace(known, remark=remark)
    if not more:
        remark = _("This includes the trial of the reward and the independent judge's measurements.")
        return replace(known, remark=remark)
    minutes = {"minutes": max(1, math.ceil(more / timedelta(minutes=1)))}
    remark = _(
        "This includes at most %(minutes)d min for the trial of the reward and the independent judge's measurements, "
        "which the earlier PPO did without."
    )
    basis = _("%(basis)s, plus trial and measurements") % {"basis": known.basis}
    return replace(known, whole=known.whole + more, left=known.left + more, basis=basis, remark=remark % minutes)


def _newest_of_each(own: Collection[int]) -> QuerySet[Run]:
    """The newest finished run of each project and stage: those of the projects `own`, then as many as are looked at."""
    done = Run.objects.succeeded().filter(attempt__lte=1, retry_of=None).exclude(started_at=None)
    kinds = done.annotate(in_round=Q(round__isnull=False)).order_by().values("project", "stage", "in_round")
    newest = Run.objects.filter(pk__in=kinds.annotate(newest=Max("pk")).values("newest"))
    is_foreign = Case(When(project__in=own, then=Value(0)), default=Value(1))
    ordered = newest.select_related("round").defer("metrics", "error", "ending").order_by(is_foreign, "-pk")
    return ordered[: len(own) * KINDS + MOST_OF_OTHERS]


def _ratio(one: int | None, other: int | None) -> float:
    """How many times as much the larger is; 1 where both count nothing."""
    if one is None and other is None:
        return 1.0
    if not one or not other:
        return float("inf")
    return max(one, other) / min(one, other)


def _left(run: Run, whole: timedelta, now: datetime) -> timedelta:
    """How much is left of a run that takes `whole`; of one that has stood still since its start, by its steps."""
    if run.status == Run.Status.RUNNING and run.started_at and run.attempt <= 1:
        return max(whole - (now - run.started_at), timedelta())
    return whole * (1 - run.step / run.total) if run.total else whole
