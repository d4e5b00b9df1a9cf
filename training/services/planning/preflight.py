"""Pre-flight: what speaks against starting the round now, and what to know before, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

from django.template.defaultfilters import filesizeformat
from django.utils.formats import time_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Project, User
from training import stages
from training.models import Examination, ModelVersion, Run, TrainingSettings, Worker
from training.rlhf.config import RunConfig
from training.rlhf.model_folder.findings import BLOCK, LEVELS, NOTE, WARN
from training.services.planning import (
    adapters,
    capacity,
    examination_words,
    examinations,
    memory_counts,
    memory_plan,
    memory_words,
    plans,
)
from training.services.planning.adapters import Existing
from training.services.planning.estimates import History
from training.services.planning.failure_rules import rule_of
from training.services.planning.memory_plan import MemoryPlan, PlanChanged
from training.services.planning.plans import Plan
from training.services.planning.record_links import RecordLink
from training.services.registry.adoption_words import LEVEL_LABELS
from training.services.registry.configs import BadSettings
from training.services.run_files import config_fields
from training.services.run_files.config_fields import SettingLink
from training.stages import Stage
from training.stages.metric import Words
from training.stages.remedies import Remedy

MANY_TIES = 0.2  # share of the rankings that have nothing to say
FEW_HELDOUT_RANKINGS = 30
NO_MEMORY = MemoryPlan()  # of a project without a base model


class Line(NamedTuple):
    """One thing to know before the round is started."""

    level: str
    text: str
    remedy: Remedy
    records: list[RecordLink] = []  # that it is about, or some of them
    settings: list[SettingLink] = []  # by which it is fixed, besides the remedy

    @property
    def level_label(self) -> Words:
        return LEVEL_LABELS[self.level]

    def __str__(self) -> str:
        named = ", ".join(record.label for record in self.records)
        return f"{self.text} ({named})" if named else self.text


class Facts(NamedTuple):
    """What the lines follow from, read once for all of them."""

    training: TrainingSettings
    base: ModelVersion | None
    history: History
    alive: list[Worker]  # the gpu-workers that are there, with their runs


class Preflight(NamedTuple):
    """The lines, the gravest first, and the examination that some come from; `is_awaited`: a worker does it."""

    lines: list[Line]
    examination: Examination | None = None
    is_awaited: bool = False
    memory: MemoryPlan = NO_MEMORY

    @property
    def blocks(self) -> list[Line]:
        return [line for line in self.lines if line.level == BLOCK]

    @property
    def only_waits(self) -> bool:
        """Whether nothing but the label check, which a worker does, keeps the round from starting."""
        return self.is_awaited and [line.remedy for line in self.blocks] == [Remedy.EXAMPLES]


def gather(project: Project) -> Facts:
    """What the lines about a round of `project` follow from."""
    return Facts(
        training=TrainingSettings.objects.get(project=project),
        base=ModelVersion.objects.bases().filter(project=project).first(),
        history=History([project.pk]),
        alive=list(Worker.objects.alive("gpu").select_related("run")),
    )


def check(project: Project, plan: Plan, facts: Facts) -> Preflight:
    """Everything to know about `plan` before it is started; asks a worker for an examination where there is none."""
    existing = adapters.existing(plan)
    if missing := list(_missing_bases(existing)):  # without which no stage has a config
        return Preflight([*_obstacle(project, plan, facts), *missing])
    try:
        stage_configs = _configs(plan, facts)
        examination, memory = None, memory_of(project, plan, facts, existing)
        if facts.base:
            key = examinations.key_of(project, plan, facts.training)
            examination = examinations.current(project, Examination.Kind.RECORDS, key)
    except BadSettings as refusal:
        return Preflight([*_obstacle(project, plan, facts), _refused(refusal)])
    is_awaited = examination is not None and examinations.is_awaited(examination)
    lines = [
        *_obstacle(project, plan, facts),
        *_adapters(plan, stage_configs, existing),
        *_examined(None if is_awaited and plan.obstacle else examination, is_awaited=is_awaited),
        *_ties(plan),
        *([] if plan.obstacle else [*_left_out(plan), *_heldout(plan)]),  # which follow from what blocks already
        *_disk(plan, stage_configs, facts),
        *_memory(memory, facts.alive),
        _time(project, plan, facts.history),
        _worker(project, facts.alive),
        *_processes(stage_configs, facts.alive),
    ]
    return Preflight(sorted(lines, key=lambda line: LEVELS.index(line.level)), examination, is_awaited, memory)


def memory_of(project: Project, plan: Plan, facts: Facts, existing: Existing) -> MemoryPlan:
    """What each stage of `plan` needs beside what the gpu-workers have. Raises BadSettings."""
    if facts.base is None:
        return NO_MEMORY
    return memory_plan.build(project, plan, facts.base, _configs(plan, facts), facts.training, facts.alive, existing)


def refusal(project: Project, plan: Plan) -> str:
    """Why the round must not start now, as far as it is known without asking a worker; empty where it may."""
    facts, existing = gather(project), adapters.existing(plan)
    if missing := list(_missing_bases(existing)):
        return str(missing[0])
    try:
        stage_configs = _configs(plan, facts)
        key = examinations.key_of(project, plan, facts.training)
        examination = examinations.find(project, Examination.Kind.RECORDS, key)
    except BadSettings as refused:
        return str(refused)
    is_awaited = examination is not None and examinations.is_awaited(examination)
    lines = [
        *_adapters(plan, stage_configs, existing),
        *_examined(examination, is_awaited=is_awaited),
        *_disk(plan, stage_configs, facts),
    ]
    return next((str(line) for line in lines if line.level == BLOCK), "")


def use_lighter_settings(project: Project, *, shown: str, actor: User) -> list[str]:
    """Store the settings with which the next round fits, which a person was shown; return those that have changed.

    Raises PlanChanged where these are others by now, else what settings_changes.change does.
    """
    training = TrainingSettings.objects.filter(project=project).exists()
    try:
        plan = plans.draft(project) if training else None
        memory = memory_of(project, plan, gather(project), adapters.existing(plan)) if plan else NO_MEMORY
    except BadSettings as refusal:
        raise PlanChanged from refusal
    return memory_plan.use_settings(project, memory, shown=shown, actor=actor)


def _configs(plan: Plan, facts: Facts) -> dict[str, RunConfig]:
    """The config of each stage of the plan. Raises BadSettings."""
    return memory_counts.make_configs(plan, facts.training, facts.base) if facts.base else {}


def _refused(refusal: BadSettings) -> Line:
    """A setting that the engine does not take; where it is none of the page's, the page says which there are."""
    text = _("A stage has settings that are not valid: %(text)s.") % {"text": refusal}
    return Line(BLOCK, text, Remedy.TRAINING, settings=config_fields.links(refusal.stage, [refusal.field]))


def _obstacle(project: Project, plan: Plan, facts: Facts) -> Iterator[Line]:
    if not plan.obstacle:
        return
    yield Line(BLOCK, plan.obstacle, Remedy.MEMBERS if facts.base else Remedy.SETTINGS)


def _missing_bases(existing: Existing) -> Iterator[Line]:
    for text in adapters.missing_bases(existing):
        yield Line(BLOCK, text, Remedy.MODEL_FILES)


def _adapters(plan: Plan, stage_configs: dict[str, RunConfig], existing: Existing) -> Iterator[Line]:
    """Stages that would go on from an adapter of another shape."""
    for conflict in adapters.conflicts(plan, stage_configs, existing):
        settings = config_fields.links(conflict.stage, ["adapter_rank", "adapter_alpha"])
        yield Line(BLOCK, conflict.text, Remedy.TRAINING, settings=settings)


def _examined(examination: Examination | None, *, is_awaited: bool) -> Iterator[Line]:
    if examination is None:
        return
    if is_awaited:
        yield Line(BLOCK, _awaited(examination), Remedy.EXAMPLES)
    elif examination.status == Examination.Status.PENDING:
        yield Line(WARN, _("The labels have not been checked: no worker has started the check."), Remedy.WORKER)
    if examination.status == Examination.Status.FAILED:
        yield _failed(examination)
    for finding in examination.findings:
        kind, numbers = finding["kind"], finding["numbers"]
        named = examination_words.records(examination.project, kind, numbers)
        text, settings = examination_words.sentence(kind, numbers), examination_words.settings(kind, numbers)
        yield Line(finding["level"], text, examination_words.REMEDIES[kind], named, settings)


def _awaited(examination: Examination) -> str:
    if examination.started_at is None:
        return _("The label check is about to start. The round can start when it is done.")
    since = time_format(localtime(examination.started_at), "TIME_FORMAT")
    return _("A worker has been checking the labels since %(time)s. The round can start when it is done.") % {
        "time": since
    }


def _failed(examination: Examination) -> Line:
    """An examination that came to no end, and why."""
    rule = rule_of(examination.ending.get("kind", ""))
    why = f"{rule.sentence} ({examination.error})" if examination.error else str(rule.sentence)
    return Line(WARN, _("The labels could not be checked: %(why)s") % {"why": why}, rule.remedy or Remedy.LOG)


def _left_out(plan: Plan) -> Iterator[Line]:
    """A reward model that is left out although there are rankings."""
    reward = plan.stage(Stage.REWARD)
    if reward.reason and reward.counts["rankings"]:
        yield Line(WARN, _("No reward model and no PPO: %(reason)s") % {"reason": reward.reason}, Remedy.SETTINGS)


def _ties(plan: Plan) -> Iterator[Line]:
    tied = plan.total("tied_rankings")
    rankings = plan.stage(Stage.REWARD).counts["rankings"] + plan.stage(Stage.WATCHER).counts["watcher_rankings"]
    if tied > MANY_TIES * rankings:
        text = ngettext(
            "%(tied)d of %(rankings)d rankings ranks all answers equally, so nothing is learned from it.",
            "%(tied)d of %(rankings)d rankings rank all answers equally, so nothing is learned from them.",
            tied,
        )
        yield Line(WARN, text % {"tied": tied, "rankings": rankings}, Remedy.GUIDELINES)


def _heldout(plan: Plan) -> Iterator[Line]:
    evaluation = plan.stage(Stage.EVALUATION)
    if evaluation.reason:
        remedy = Remedy.SETTINGS if evaluation.counts["heldout_prompts"] else Remedy.PROMPTS
        yield Line(WARN, _("The round will not be evaluated: %(reason)s") % {"reason": evaluation.reason}, remedy)
        return
    number = evaluation.counts["heldout_rankings"]
    if not plan.stage(Stage.REWARD).will_run:
        return
    if not number:
        yield Line(WARN, _("There are no held-out rankings, so the reward model will not be evaluated."), Remedy.RANK)
    elif number < FEW_HELDOUT_RANKINGS:
        text = ngettext(
            "The reward model is evaluated on %(number)d held-out ranking only: its accuracy will be a rough estimate.",
            "The reward model is evaluated on %(number)d held-out rankings only: its accuracy will be a rough "
            "estimate.",
            number,
        )
        yield Line(WARN, text % {"number": number}, Remedy.RANK)


def _disk(plan: Plan, stage_configs: dict[str, RunConfig], facts: Facts) -> Iterator[Line]:
    if facts.base is None:
        return
    needed, free = capacity.disk_bound(facts.base, plan, stage_configs), capacity.free_disk()
    sizes = {"needed": filesizeformat(needed), "free": filesizeformat(free)}
    if needed > free:
        yield Line(BLOCK, _("Not enough disk space: up to %(needed)s needed, %(free)s free.") % sizes, Remedy.DISK)
    else:
        yield Line(NOTE, _("Disk: up to %(needed)s needed, %(free)s free.") % sizes, Remedy.DISK)


def _memory(memory: MemoryPlan, alive: list[Worker]) -> Iterator[Line]:
    """What does not fit; else what the hungriest stage needs."""
    yield from _memory_count(memory)
    if not memory.stages:
        return
    for stage in memory.stages:
        if stage.is_counted and stage.lacks:
            settings = config_fields.links(stage.stage, stage.settings)
            yield Line(WARN, memory_words.does_not_fit(stage), Remedy.TRAINING, settings=settings)
    guessed = [stage for stage in memory.stages if not stage.is_counted]
    hungriest = max(guessed or memory.stages, key=attrgetter("needed"))
    sizes = {"needed": filesizeformat(hungriest.needed), "free": filesizeformat(memory.least)}
    if not memory.least or any(worker.memory is None for worker in alive):
        text = _("Memory: at most %(needed)s needed; not every gpu-worker has reported how much it has.")
        yield Line(NOTE, text % sizes, Remedy.QUEUE)
    elif guessed and hungriest.lacks:
        text = _("Memory may not be enough: at most %(needed)s needed, %(free)s free. Fewer batch tokens need less.")
        settings = config_fields.links(hungriest.stage, ["batch_tokens"])
        yield Line(WARN, text % sizes, Remedy.TRAINING, settings=settings)
    elif not any(stage.lacks for stage in memory.stages):
        text = _("Memory: at most %(needed)s needed, %(free)s free.")
        counted = _("Memory: %(needed)s needed (counted), %(free)s free.")
        yield Line(NOTE, (text if guessed else counted) % sizes, Remedy.TRAINING)


def _memory_count(memory: MemoryPlan) -> Iterator[Line]:
    """That memory is being counted, or why it was not."""
    count = memory.count
    if count is None:
        return
    if count.status == Examination.Status.FAILED:
        text = _("Memory could not be counted: %(why)s The figures are upper bounds. It is tried again in ten minutes.")
        yield Line(WARN, text % {"why": memory_words.not_counted(count.ending)}, Remedy.LOG)
    elif memory.is_awaited:
        text = _("A worker is counting what each stage needs. Until then, the figures for memory are upper bounds.")
        yield Line(NOTE, text, Remedy.TRAINING)
    elif count.status == Examination.Status.PENDING:
        text = _("Memory has not been counted: no worker has started. The figures are upper bounds.")
        yield Line(NOTE, text, Remedy.WORKER)
    for stage in memory.stages:
        if stage.refusal:
            said = {"stage": stages.find(stage.stage).label, "why": memory_words.not_counted(stage.refusal)}
            text = _("The memory of %(stage)s could not be counted: %(why)s The figure is an upper bound.")
            yield Line(WARN, text % said, Remedy.LOG)


def _time(project: Project, plan: Plan, history: History) -> Line:
    known = [history.of_planned(project.pk, stage) for stage in plan.stages if stage.will_run]
    estimates = [one for one in known if one]
    if not known or len(estimates) < len(known):
        return Line(NOTE, _("Time: unknown, because some of these stages have not run here before."), Remedy.SETTINGS)
    minutes = sum((one.whole for one in estimates), timedelta()) / timedelta(minutes=1)
    counted = {"minutes": max(1, round(minutes)), "basis": estimates[-1].basis}
    said = [_("Time: about %(minutes)d min, %(basis)s.") % counted, *(one.remark for one in estimates if one.remark)]
    return Line(NOTE, " ".join(said), Remedy.SETTINGS)


def _worker(project: Project, alive: list[Worker]) -> Line:
    """Who holds the worker. Another project is not named: the reader may not know of it."""
    if not alive:
        return Line(WARN, _("No gpu-worker is running. The round would wait for one."), Remedy.WORKER)
    holders = [worker.run for worker in alive if worker.run and worker.run.status == Run.Status.RUNNING]
    if len(holders) < len(alive):
        return Line(NOTE, _("A gpu-worker is free: %(device)s.") % {"device": alive[0].device}, Remedy.QUEUE)
    own = next((run for run in holders if run.project_id == project.pk), None)
    if own:
        text = _("The gpu-worker is running %(stage)s of this project.")
        return Line(NOTE, text % {"stage": own.get_stage_display()}, Remedy.QUEUE)
    return Line(WARN, _("The gpu-worker is running another project. This round would wait in the queue."), Remedy.QUEUE)


def _processes(stage_configs: dict[str, RunConfig], alive: list[Worker]) -> Iterator[Line]:
    """A stage that wants more processes than any worker has room for: it would wait for ever."""
    wanted, stage = max(((config.processes, stage) for stage, config in stage_configs.items()), default=(1, ""))
    offered = [worker.processes for worker in alive if worker.processes is not None]
    if len(offered) < len(alive) or not alive or wanted <= max(offered):
        return
    text = _(
        "%(stage)s wants %(wanted)d processes, and no gpu-worker has more than %(most)d graphics cards or CPU cores: "
        "it would wait until one with %(wanted)d starts."
    )
    said = text % {"stage": stages.find(stage).label, "wanted": wanted, "most": max(offered)}
    yield Line(WARN, said, Remedy.TRAINING, settings=config_fields.links(stage, ["processes"]))
