"""Template tags of the training pages: words for stages, roles and counts, figures, spans of time, addresses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training import stages
from training.models import Result, Run
from training.rlhf.config import Limits
from training.services.pages.outcome import FIGURES, FigureWords
from training.services.pages.round_strip import COLLECT, FREEZE, OPEN, Cell
from training.services.pages.schedule import Job, Schedule, Wait
from training.services.planning import memory_words
from training.services.planning.memory_plan import StageMemory
from training.services.running import word_diffs
from training.stages.number_format import typed
from training.stages.remedies import Remedy

register = template.Library()

MOST_HOURS = 48  # of a time span; longer ones are told in days
CELLS = {  # of a strip, that are no stage
    COLLECT: gettext_lazy("Collect labels"),
    FREEZE: gettext_lazy("Snapshot"),
    OPEN: gettext_lazy("New answers"),
}
COUNTS = {
    "demonstrations": gettext_lazy("answers"),
    "rankings": gettext_lazy("rankings"),
    "watcher_rankings": gettext_lazy("rankings kept for it"),
    "new_demonstrations": gettext_lazy("new"),
    "new_rankings": gettext_lazy("new"),
    "tied_rankings": gettext_lazy("all tied"),
    "heldout_rankings": gettext_lazy("held-out rankings"),
    "prompts": gettext_lazy("prompts"),
    "heldout_prompts": gettext_lazy("held-out prompts"),
    "slates": gettext_lazy("sets of answers"),
    "heldout_slates": gettext_lazy("sets for held-out prompts"),
}
CELL_PAGES = {COLLECT: "annotate:project", OPEN: "annotate:rank"}  # of the cells that are no stage


@register.simple_tag
def remedy_url(remedy: Remedy, slug: str) -> str:
    """Where a remedy leads in a project; empty where there are words alone."""
    return remedy.url(slug)


@register.simple_tag
def cell_url(cell: Cell, slug: str) -> str:
    """Where a cell of the strip leads: to its run, to a page of the project, or to its part of the same page."""
    if cell.run:
        return reverse("training:run", args=[slug, cell.run.pk])
    if cell.name in CELL_PAGES:
        return reverse(CELL_PAGES[cell.name], args=[slug])
    return "#snapshot" if cell.name == FREEZE else f"#stage-{cell.name}"


@register.simple_tag
def job_of(schedule: Schedule, run: Run) -> Job | None:
    """What the schedule says of `run`; None where that is over."""
    return schedule.job_of(run)


@register.filter
def job_name(job: Job) -> str:
    """What a job is, as far as the reader may know."""
    if not job.is_visible:
        return _("a run of another project")
    names = {"stage": stage_label(job.stage), "project": job.project.name}
    if job.round:
        return _("%(stage)s of round %(number)d in “%(project)s”") % {"number": job.round.number, **names}
    if job.run and job.run.answers_question:
        return _("answers to a question in “%(project)s”") % names
    return _("%(stage)s in “%(project)s”") % names


@register.filter
def wait_words(wait: Wait) -> str:
    """What a run waits for, how much is left of it, and how many runs are taken after it and before that run."""
    words = job_name(wait.first)
    if wait.first.estimate:
        words = _("%(job)s (about %(left)s left)") % {"job": words, "left": about(wait.first.estimate.left)}
    if wait.more:
        words = _("%(jobs)s and %(number)d more") % {"jobs": words, "number": wait.more}
    return words


@register.filter
def joined(pieces: Iterable[tuple[str, str]]) -> str:
    """The whole text of a comparison's pieces: (kind, text)."""
    return word_diffs.joined(pieces)


@register.filter
def figure_words(name: str) -> FigureWords:
    """What a figure of a result is called, and what it means."""
    return FIGURES[name]


@register.filter
def figure(result: Result, name: str) -> dict[str, Any]:
    return result.figure(name)


@register.filter
def figure_value(interval: list[float | None] | None, name: str) -> str:
    """A figure with its interval in brackets, as far as there is one."""
    return FIGURES[name].show(interval)


@register.filter
def figure_change(interval: list[float | None] | None, name: str) -> str:
    """A change with its interval; its sign says which way it goes."""
    return FIGURES[name].show(interval, sign="+")


@register.filter
def memory_fits(stage: StageMemory) -> str:
    """Where a stage of a plan fits, in words."""
    return memory_words.where(stage)


@register.filter("typed")
def typed_value(value: Any) -> str:
    """A setting as people type it."""
    return typed(value)


@register.filter("limits")
def limits_words(limits: Limits) -> str:
    """Which numbers a setting may have; empty for one that is chosen from a list."""
    least, most = limits.at_least, limits.at_most
    if least is not None and most is not None:
        return _("%(least)s to %(most)s") % {
            "least": number_format(least, force_grouping=True),
            "most": number_format(most, force_grouping=True),
        }
    if least is not None and limits.below is not None:
        return _("%(least)s or more, below %(below)s") % {"least": typed(least), "below": typed(limits.below)}
    if limits.above is not None:
        return _("above %(number)s") % {"number": typed(limits.above)}
    return _("%(number)s or more") % {"number": typed(least)} if least is not None else ""


@register.filter
def last_turn(messages: list[dict[str, str]]) -> str:
    """The text with which a conversation ends."""
    return messages[-1]["content"]


@register.filter
def stage_label(stage: str) -> str:
    return str(stages.find(stage).label)


@register.filter
def cell_label(name: str) -> str:
    """The name of a strip's cell: short, since there are nine in a row."""
    return str(CELLS[name] if name in CELLS else stages.find(name).short_label)


@register.filter
def about(length: timedelta) -> str:
    """A time span as an estimate, without a precision that it does not have."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return _("%(seconds)d s") % {"seconds": seconds}
    if seconds < 5400:
        return _("%(minutes)d min") % {"minutes": round(seconds / 60)}
    return span(length)


@register.filter
def stage_purpose(stage: str) -> str:
    """What the stage does, in one sentence."""
    return str(stages.find(stage).purpose)


@register.filter
def role_label(role: str, stage: str = "") -> str:
    """What a model is to a run; `stage` makes it plainer where it is known."""
    return stages.find(stage).role_label(role) if stage else str({**stages.TRUNKS, **stages.ROLES}.get(role, role))


@register.filter
def count_label(name: str) -> str:
    return str(COUNTS.get(name, name.replace("_", " ")))


@register.filter
def age(moment: datetime) -> str:
    """How long ago `moment` was."""
    return span(timezone.now() - moment)


@register.filter
def duration(job: Any) -> str:
    """How long a round or run has taken, from its start to its end or to now."""
    return span((job.finished_at or timezone.now()) - (job.started_at or job.created_at))


@register.filter("span_text")
def span(length: timedelta) -> str:
    """A time span in the one or two units that a reader needs."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 60:
        return _("%(seconds)d s") % {"seconds": seconds}
    if seconds < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    if seconds < MOST_HOURS * 3600:
        return _("%(hours)d h %(minutes)d min") % {"hours": seconds // 3600, "minutes": seconds % 3600 // 60}
    return _("%(days)d d %(hours)d h") % {"days": seconds // 86400, "hours": seconds % 86400 // 3600}
