"""The lineage as a picture: where each box stands and how each line runs, in the units of an SVG.

A row is a round, a column a kind of thing, so that a line to the right means "was made from" and a line back to the
left means "people judged these, and the next round learned from it".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Project
from training import stages
from training.models import ModelVersion
from training.services.pages.model_pages.lineage import RANKED, LineageRound
from training.stages.metric import Words
from training.stages.number_format import percent

WIDTH, HEIGHT = 158, 48  # of a box: a note of 24 letters fits
STEP_X, STEP_Y = 182, 100  # from one column, one row, to the next
LEFT, TOP = 92, 36  # room for the names of rows and columns
BEND = 10  # radius of a line's corners
LANE, LANE_BACK = 20, 36  # above a row: where lines to it run, from models and from ranked answers
LABELS, ANSWERS = "labels", "answers"  # the columns that hold no models


@dataclass(frozen=True)
class Box:
    """One thing; (x, y) is its upper left corner."""

    x: int
    y: int
    title: str
    note: str
    kind: str
    address: str = ""

    @property
    def middle(self) -> int:
        return self.x + WIDTH // 2

    @property
    def right(self) -> int:
        return self.x + WIDTH

    @property
    def bottom(self) -> int:
        return self.y + HEIGHT

    @property
    def title_y(self) -> int:
        return self.y + (20 if self.note else HEIGHT // 2 + 5)

    @property
    def note_y(self) -> int:
        return self.y + 37


class Line(NamedTuple):
    """An arrow from one box to another."""

    path: str  # the d of an SVG path
    is_back: bool  # from answers to the labels that people made of them


@dataclass
class Picture:
    """Everything that the template draws."""

    boxes: dict[str, Box] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    rows: list[tuple[str, int]] = field(default_factory=list)  # the name of a row, and the height of its middle
    box_width: int = WIDTH
    box_height: int = HEIGHT

    @property
    def width(self) -> int:
        return LEFT + (len(_columns()) - 1) * STEP_X + WIDTH + 4

    @property
    def height(self) -> int:
        return TOP + (len(self.rows) - 1) * STEP_Y + HEIGHT + 12

    @property
    def columns(self) -> list[tuple[str, int]]:
        """The name of each column and where its middle is."""
        return [(str(name), LEFT + index * STEP_X + WIDTH // 2) for index, name in enumerate(_columns().values())]


def draw(
    project: Project, rounds: list[LineageRound], base_models: list[ModelVersion], champion: ModelVersion | None
) -> Picture:
    """The picture of `rounds`, below the base model that they started from."""
    picture = Picture()
    champion_pk = champion.pk if champion else None
    if base_models:
        picture.rows.append((_("Start"), TOP + HEIGHT // 2))
        _place_model(picture, project, base_models[-1], 0, champion_pk)
    for round in rounds:
        row = len(picture.rows)
        picture.rows.append((_("Round %(number)d") % {"number": round.number}, TOP + row * STEP_Y + HEIGHT // 2))
        _place(picture, project, round, row, champion_pk)
    for round in rounds:
        picture.lines.extend(_lines(picture, round))
    for before, after in pairwise(rounds):
        picture.lines.extend(_line(picture, f"answers {before.number}", f"labels {after.number}"))
    return picture


def _place(picture: Picture, project: Project, round: LineageRound, row: int, champion_pk: int | None) -> None:
    if round.snapshot:
        counts = round.snapshot.counts
        written, ranked = counts.get("demonstrations", 0), round.snapshot.train_rankings
        note = ngettext("%(written)d answer, %(ranked)d ranked", "%(written)d answers, %(ranked)d ranked", written)
        note %= {"written": written, "ranked": ranked}
        address = reverse("training:round", args=[project.slug, round.number])
        name = str(round.snapshot)
        picture.boxes[f"labels {round.number}"] = Box(*_corner(LABELS, row), name, note, "data", address)
    for model in round.models:
        _place_model(picture, project, model, row, champion_pk)
    if round.slates:
        title = ngettext("%(number)d set", "%(number)d sets", round.slates) % {"number": round.slates}
        note = _("by %(models)s") % {"models": ", ".join(round.writers)}
        picture.boxes[f"answers {round.number}"] = Box(*_corner(ANSWERS, row), title, note, "data")


def _place_model(picture: Picture, project: Project, model: ModelVersion, row: int, champion_pk: int | None) -> None:
    is_champion = model.pk == champion_pk
    address = reverse("training:model", args=[project.slug, model.pk])
    kind = "model is-champion" if is_champion else "model"
    note = _("champion") if is_champion else _note(model)
    picture.boxes[model.name] = Box(*_corner(model.kind, row), model.name, note, kind, address)


def _note(model: ModelVersion) -> str:
    """The one thing to know about a model at a glance."""
    if model.weights_deleted_at:
        return _("weights deleted")
    for metric, sentence in (
        ("reward/accuracy", _("fits %(share)s of rankings")),
        ("watcher/win_rate", _("wins %(share)s (judge)")),
        ("proxy/win_rate", _("proxy wins %(share)s")),
    ):
        if metric in model.metrics:
            return sentence % {"share": percent(model.metrics[metric])}
    return _("adapter of %(base)s") % {"base": model.stands_on.name} if model.stands_on else ""


def _columns() -> dict[str, Words]:
    """The columns in their order: labels, the kinds of model that a round makes, answers."""
    kinds = {stage.kind: stage.short_label for stage in stages.DEFINITIONS if stage.plan and stage.makes_model}
    return {LABELS: _("Labels"), **kinds, ANSWERS: _("Answers to rank")}


def _corner(column: str, row: int) -> tuple[int, int]:
    columns = list(_columns())
    index = columns.index(column) if column in columns else 1  # a base model stands where the first models do
    return LEFT + index * STEP_X, TOP + row * STEP_Y


def _lines(picture: Picture, round: LineageRound) -> Iterator[Line]:
    for model in round.models:
        parents = (model.parent, model.reward, model.reference, model.watcher)
        for parent in {each.name for each in parents if each}:
            yield from _line(picture, parent, model.name)
        if model.kind in (ModelVersion.Kind.SFT, *RANKED):
            yield from _line(picture, f"labels {round.number}", model.name)
    for writer in round.writers:
        yield from _line(picture, writer, f"answers {round.number}")


def _line(picture: Picture, origin: str, goal: str) -> Iterator[Line]:
    """The line between two boxes; none where one of them is older than the picture."""
    if origin in picture.boxes and goal in picture.boxes:
        start, end = picture.boxes[origin], picture.boxes[goal]
        is_back = end.x < start.x
        lane = LANE_BACK if is_back else LANE
        yield Line(_same_row(start, end) if start.y == end.y else _down(start, end, lane), is_back)


def _same_row(start: Box, end: Box) -> str:
    """To the right: straight to a neighbour, in an arc over the boxes between."""
    if end.x - start.x == STEP_X:
        return f"M{start.right} {start.y + HEIGHT // 2}H{end.x}"
    lift = start.y - 16
    return f"M{start.middle + 30} {start.y}C{start.right} {lift} {end.x} {lift} {end.middle - 30} {end.y}"


def _down(start: Box, end: Box, lane: int) -> str:
    """Down to the lane above the row, along it, and into the box."""
    gap = end.y - lane
    if start.x == end.x:
        return f"M{start.middle} {start.bottom}V{end.y}"
    bend = BEND if end.x > start.x else -BEND
    return (
        f"M{start.middle} {start.bottom}V{gap - BEND}q0 {BEND} {bend} {BEND}"
        f"H{end.middle - bend}q{bend} 0 {bend} {BEND}V{end.y}"
    )
