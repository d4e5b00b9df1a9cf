"""Words for what the training pages show: stages, roles, counts, spans of time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from training import stages
from training.models import ModelVersion, Result, Snapshot
from training.services.pages.round_strip import Cell
from training.stages.number_format import decimal, percent

register = template.Library()

CELLS = {  # of a strip, that are no stage
    "collect": gettext_lazy("Collect"),
    "freeze": gettext_lazy("Freeze"),
    "open": gettext_lazy("Open"),
}
COUNTS = {
    "demonstrations": gettext_lazy("answers"),
    "rankings": gettext_lazy("rankings"),
    "new_demonstrations": gettext_lazy("of them new"),
    "new_rankings": gettext_lazy("of them new"),
    "tied_rankings": gettext_lazy("without any preference"),
    "heldout_rankings": gettext_lazy("held-out rankings"),
    "prompts": gettext_lazy("prompts"),
    "heldout_prompts": gettext_lazy("held-out prompts"),
    "slates": gettext_lazy("sets of answers"),
    "heldout_slates": gettext_lazy("sets for held-out prompts"),
}

LEFT_OUT = {  # why a label is not in a snapshot
    "returned": gettext_lazy("returned"),
    "simulated": gettext_lazy("simulated"),
    "withdrawn": gettext_lazy("withdrawn"),
}
FIGURES = {  # {name: (what it is called, what it means, whether it is a share)}
    "reward": (
        gettext_lazy("reward"),
        gettext_lazy("what our reward model thinks: the policy was trained to raise it"),
        False,
    ),
    "length": (gettext_lazy("length"), gettext_lazy("tokens of an answer"), False),
    "stop_rate": (gettext_lazy("ends by itself"), gettext_lazy("share of answers that are not cut off"), True),
    "win_rate": (
        gettext_lazy("proxy win rate"),
        gettext_lazy("how often the reward model prefers the new answer"),
        True,
    ),
    "kl": (
        gettext_lazy("distance (KL)"),
        gettext_lazy("nats per answer away from the reference"),
        False,
    ),
    "accuracy": (gettext_lazy("accuracy"), "", True),
}
LEVELS = {
    "block": gettext_lazy("blocks"),
    "warn": gettext_lazy("warning"),
    "note": gettext_lazy("note"),
}
# Where a line of the pre-flight is mended: {key: (address, what is said)}. Without an address the words say it all.
REMEDIES = {
    "prompts": ("annotate:prompts", gettext_lazy("Prompts")),
    "settings": ("annotate:settings", gettext_lazy("Settings")),
    "rank": ("annotate:rank", gettext_lazy("Rank answers")),
    "members": ("annotate:members", gettext_lazy("Invite people")),
    "labels": ("annotate:reviews", gettext_lazy("Review answers")),
    "guidelines": ("annotate:edit-guidelines", gettext_lazy("Guidelines")),
    "queue": ("#queue", gettext_lazy("Queue")),
    "examples": ("#examples", gettext_lazy("Examples")),
    "base": ("#base-model", gettext_lazy("How far it is")),
    "disk": ("", gettext_lazy("“manage.py prune” shows which old weights can go; with --yes it deletes them.")),
    "model_files": ("", gettext_lazy("It is mended in the files of the base model.")),
    "overrides": (
        "",
        gettext_lazy(
            "The operator sets it in “overrides” of the training settings; a lower batch_tokens needs less memory."
        ),
    ),
    "log": ("", gettext_lazy("The gpu-worker's log says more.")),
    "worker": ("", gettext_lazy("Start one with “make run”, or look at its log.")),
}
CELL_PAGES = {"collect": "annotate:project", "open": "annotate:rank"}  # of the cells that are no stage


class Remedy(NamedTuple):
    """A link that leads to where something is mended, or the words that say where."""

    url: str
    text: str


@register.simple_tag
def remedy(key: str, slug: str) -> Remedy:
    """What helps against a line of the pre-flight."""
    address, text = REMEDIES[key]
    return Remedy(reverse(address, args=[slug]) if ":" in address else address, str(text))


@register.simple_tag
def cell_url(cell: Cell, slug: str) -> str:
    """Where a cell of the strip leads: to its run, to a page of the project, or to what the same page says of it."""
    if cell.run:
        return reverse("training:run", args=[slug, cell.run.pk])
    if cell.name in CELL_PAGES:
        return reverse(CELL_PAGES[cell.name], args=[slug])
    return "#snapshot" if cell.name == "freeze" else f"#stage-{cell.name}"


@register.filter
def joined(pieces: Iterable[tuple[str, str]]) -> str:
    """The text of which `pieces`, (kind, text), say what was kept and what was changed."""
    return "".join(text for _kind, text in pieces)


@register.filter
def labels_of(snapshot: Snapshot) -> str:
    """How many labels a snapshot holds, and how many it left out, and why."""
    counts = snapshot.counts
    written, ranked = counts.get("demonstrations", 0), counts.get("rankings", 0)
    held_out, left_out = counts.get("heldout_rankings", 0), counts.get("left_out", {})
    words = [
        ngettext("%(number)d answer", "%(number)d answers", written) % {"number": written},
        ngettext("%(number)d ranking", "%(number)d rankings", ranked) % {"number": ranked},
        ngettext("%(number)d held-out ranking", "%(number)d held-out rankings", held_out) % {"number": held_out},
    ]
    why = [f"{number} {LEFT_OUT[reason]}" for reason, number in left_out.items() if number]
    return ", ".join(words) + (_(" (left out: %(why)s)") % {"why": ", ".join(why)} if why else "")


@register.filter
def level_label(level: str) -> str:
    return str(LEVELS[level])


@register.filter
def figure_label(name: str) -> str:
    return str(FIGURES[name][0])


@register.filter
def figure_meaning(name: str) -> str:
    return str(FIGURES[name][1])


@register.filter
def figure(result: Result, name: str) -> dict[str, Any]:
    return result.figure(name)


@register.filter
def figure_value(interval: list[float | None] | None, name: str) -> str:
    """A figure with its interval in brackets, as far as there is one."""
    return _figure(interval, name, "")


@register.filter
def figure_change(interval: list[float | None] | None, name: str) -> str:
    """A change with its interval; which way it goes is said by its sign."""
    return _figure(interval, name, "+")


@register.filter
def last_turn(messages: list[dict[str, str]]) -> str:
    """What a conversation ends with."""
    return messages[-1]["content"]


def _figure(interval: list[float | None] | None, name: str, sign: str) -> str:
    if not interval:
        return "–"
    show = percent if FIGURES[name][2] else decimal
    shown = [show(number, sign=sign) for number in interval if number is not None]
    return (
        shown[0]
        if len(shown) < 3
        else _("%(value)s (%(low)s to %(high)s)") % dict(zip(("value", "low", "high"), shown, strict=True))
    )


@register.filter
def stage_label(stage: str) -> str:
    return str(stages.find(stage).label)


@register.filter
def cell_label(name: str) -> str:
    """The name of a strip's cell: short, since eight stand beside each other."""
    return str(CELLS[name] if name in CELLS else stages.find(name).short_label)


@register.filter
def span_text(length: timedelta) -> str:
    return span(length)


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
    return stages.find(stage).role_label(role) if stage else str(stages.ROLES.get(role, role))


@register.filter
def can_all_answer(models: Iterable[ModelVersion]) -> bool:
    """Whether each of them could be served: a reward model among them answers nothing."""
    return all(model.is_policy for model in models)


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


def span(length: timedelta) -> str:
    """A time span in the one or two units that a reader needs."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 60:
        return _("%(seconds)d s") % {"seconds": seconds}
    if seconds < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    return _("%(hours)d h %(minutes)d min") % {"hours": seconds // 3600, "minutes": seconds % 3600 // 60}
