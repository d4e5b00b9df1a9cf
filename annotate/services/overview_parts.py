"""The parts of a project's overview that the app that trains adds to annotate's own (see annotate/hooks.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.services.charts import Chart

Words = str | Promise


class Urgency(IntEnum):
    """How much stands still until somebody decides; the most urgent first."""

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
    """Something that a person has to decide or do, in a sentence, and the page where it is done."""

    urgency: Urgency
    text: str
    address: str
    action: str  # what the link says


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The labels of one kind on the way to the next round."""

    label: str
    done: int  # that no round has used yet
    wanted: int  # before the round can start; 0: it starts without
    most: int  # `done` is not counted beyond this

    @property
    def shown(self) -> int:
        """`done` as far as the bar goes."""
        return min(self.done, self.wanted)

    @property
    def is_more(self) -> bool:
        return self.done >= self.most


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A worker that is alive, and what it does."""

    name: str
    device: str
    doing: str
    address: str = ""  # of the page where it can be watched


@dataclass(frozen=True, kw_only=True)
class TrainingOverview:
    """What training has to say on a project's overview."""

    sentence: str = ""  # how far the next round is
    running: str = ""  # what trains now, and the page where it can be watched
    running_address: str = ""
    progress: list[Progress] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    workers: list[WorkerState] = field(default_factory=list)
