"""The parts of a project's overview that the app that trains adds to annotate's own (see annotate/hooks.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.services.project_overview.charts import Chart

Words = str | Promise


class Urgency(IntEnum):
    """How much is blocked until someone decides; the most urgent first."""

    STOPPED = 0
    WAITING = 1
    OPEN = 2

    @property
    def label(self) -> Words:
        return {
            Urgency.STOPPED: _("stopped"),
            Urgency.WAITING: _("waiting"),
            Urgency.OPEN: _("open"),
        }[self]

    @property
    def badge(self) -> str:
        """The look of its badge, see components.css."""
        return {Urgency.STOPPED: "bad", Urgency.WAITING: "warning", Urgency.OPEN: "accent"}[self]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something a person has to decide or do, in one sentence, and the page for it."""

    urgency: Urgency
    text: str
    address: str
    action: str  # the text of the link


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The labels of one kind on the way to the next round."""

    label: str
    done: int  # labels that no round has used yet
    wanted: int  # needed before the round can start; 0: none
    most: int  # `done` is counted up to here

    @property
    def shown(self) -> int:
        """`done` as far as the bar goes."""
        return min(self.done, self.wanted)

    @property
    def is_more(self) -> bool:
        return self.done >= self.most


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A live worker and what it is doing."""

    name: str
    device: str
    doing: str
    address: str = ""  # of the page that shows its run


@dataclass(frozen=True, kw_only=True)
class TrainingOverview:
    """What training contributes to a project's overview."""

    sentence: str = ""  # how far the next round is
    running: str = ""  # what is running now, and its page
    running_address: str = ""
    progress: list[Progress] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    workers: list[WorkerState] = field(default_factory=list)
