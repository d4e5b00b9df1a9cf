"""The pages about rounds, each put together by one function: what a round shows, and the list with the next plan."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from annotate.models import LeftOut, Project, User
from training.models import ModelVersion, Round, Run, TrainingSettings, Worker
from training.presets import PRESETS, Preset
from training.services.labels import trainable_labels
from training.services.labels.trainable_labels import Readiness
from training.services.pages import cadence, outcome, progress, round_strip, schedule, timelines
from training.services.pages.cadence import Cadence
from training.services.pages.outcome import Outcome
from training.services.pages.progress import StageProgress
from training.services.pages.round_strip import Strip
from training.services.pages.schedule import Schedule
from training.services.planning import plans, preflight
from training.services.planning.memory_plan import StageMemory
from training.services.planning.plans import Plan
from training.services.planning.preflight import Facts, Preflight
from training.services.registry import training_settings
from training.services.registry.training_settings import Setting
from training.stages import Words
from training.stages.planning import StagePlan

SNAPSHOT_COUNTS = {
    "demonstrations": ngettext_lazy("%(number)d answer", "%(number)d answers", "number"),
    "rankings": ngettext_lazy("%(number)d ranking", "%(number)d rankings", "number"),
    "watcher_rankings": ngettext_lazy(
        "%(number)d ranking for the independent judge", "%(number)d rankings for the independent judge", "number"
    ),
    "heldout_rankings": ngettext_lazy("%(number)d held-out ranking", "%(number)d held-out rankings", "number"),
}
LEFT_OUT: dict[str, Words] = {  # why a label is not in a snapshot
    LeftOut.RETURNED: gettext_lazy("returned"),
    LeftOut.SIMULATED: gettext_lazy("simulated"),
    LeftOut.WITHDRAWN: gettext_lazy("withdrawn"),
}


@dataclass(frozen=True, kw_only=True)
class RoundPage:
    """The page of one round."""

    round: Round
    runs: list[Run]
    strip: Strip
    stages: list[StageProgress]
    cadence: Cadence | None  # None for a round that needed no labels
    outcome: Outcome | None  # None until something was measured
    schedule: Schedule
    readiness: Readiness | None  # for the next round, once this one has succeeded

    @property
    def gpu_workers(self) -> list[Worker]:
        return self.schedule.alive

    @property
    def is_moving(self) -> bool:
        """Something on the page may still change by itself."""
        return self.round.is_active or any(run.status not in Run.FINISHED for run in self.runs)

    @property
    def labels(self) -> str:
        """How many labels the round's snapshot holds, and how many it left out, and why."""
        counts = self.round.snapshot.counts if self.round.snapshot else {}
        numbers = {name: counts.get(name, 0) for name in SNAPSHOT_COUNTS}
        shown = [name for name in numbers if numbers[name] or name != "watcher_rankings"]  # few projects have a judge
        held = ", ".join(SNAPSHOT_COUNTS[name] % {"number": numbers[name]} for name in shown)
        why = [f"{number} {LEFT_OUT[reason]}" for reason, number in counts.get("left_out", {}).items() if number]
        return held + (_(" (left out: %(why)s)") % {"why": ", ".join(why)} if why else "")


@dataclass(frozen=True, kw_only=True)
class NextRound:
    """What a round opened now would do, and what speaks against it."""

    plan: Plan
    readiness: Readiness | None
    strip: Strip
    preflight: Preflight
    differing: dict[str, list[Setting]]  # the settings of each stage that differ from the preset
    preset: Preset

    @property
    def stages(self) -> list[tuple[StagePlan, list[Setting], StageMemory | None]]:
        """Each stage of the plan, the settings by which it differs from the preset, and the memory that it needs."""
        memory = {stage.stage: stage for stage in self.preflight.memory.stages}
        return [
            (stage, self.differing.get(stage.stage, []) if stage.will_run else [], memory.get(stage.stage))
            for stage in self.plan.stages
        ]


@dataclass(frozen=True, kw_only=True)
class RoundsPage:
    """The page with all rounds of a project."""

    rounds: QuerySet[Round]  # the newest first
    active: Round | None
    failed: Round | None  # the newest, if it failed: an older one never goes on
    next: NextRound | None  # None while a round is running, and for a project that does not train
    schedule: Schedule

    @property
    def gpu_workers(self) -> list[Worker]:
        return self.schedule.alive


def build(round: Round, reader: User) -> RoundPage:
    """The page of `round` as `reader` may see it."""
    plan, files = plans.load(round), progress.load_runs(round)
    runs = [each.run for each in files]
    times = timelines.measure(runs)
    queue = schedule.forecast(reader, round.project)
    has_succeeded = round.status == Round.Status.SUCCEEDED
    return RoundPage(
        round=round,
        runs=runs,
        strip=round_strip.build(round, runs, times, queue),
        stages=progress.pair_stages(plan.stages, files, is_over=not round.is_active, lost=queue.lost),
        cadence=cadence.measure(round, runs, times),
        outcome=outcome.build(round, progress.newest_policy(runs)),
        schedule=queue,
        readiness=trainable_labels.readiness(round.project) if has_succeeded else None,
    )


def build_overview(project: Project, reader: User) -> RoundsPage:
    """The page with the rounds of `project` as `reader` may see it."""
    rounds = Round.objects.for_user(reader).filter(project=project).order_by("-number")
    newest = rounds.first()
    active = newest if newest and newest.is_active else None
    # Made outside the pages, a project may lack settings: it does not train until an admin saves some.
    training = TrainingSettings.objects.filter(project=project).first()
    queue = schedule.forecast(reader, project)
    return RoundsPage(
        rounds=rounds.select_related("opened_by", "result"),
        active=active,
        failed=newest if newest and newest.status == Round.Status.FAILED else None,
        next=_next_round(project, training, queue) if training and not active else None,
        schedule=queue,
    )


def _next_round(project: Project, training: TrainingSettings, queue: Schedule) -> NextRound:
    readiness = trainable_labels.readiness(project)
    plan = plans.draft_from(project, training, readiness)
    base = ModelVersion.objects.bases().filter(project=project).first()
    missing = readiness.missing if readiness else 0
    return NextRound(
        plan=plan,
        readiness=readiness,
        strip=round_strip.build_planned(project, plan, queue.history, missing=missing),
        differing=training_settings.differing(training),
        preset=PRESETS[training.preset],
        preflight=preflight.check(
            project, plan, Facts(training=training, base=base, history=queue.history, alive=queue.alive)
        ),
    )
