"""Adoptions: each folder of BASE_MODELS_DIR is examined by a worker before a project can choose it.

The row is the job, the message only a doorbell: a lost one is rung again, and what a silent worker held goes back. An
examination is about the folder as it was; when its files change, it is examined again, and projects that have chosen
it keep the copy that was adopted.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError, Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import User
from training import doorbell
from training.models import Adoption, IllegalMove, LostRace, note
from training.services.machines import workers
from training.services.registry import adoption_words, model_folders
from training.services.registry.model_folders import Unreadable

TASK = "training.adopt.v1"
UNHEARD_AFTER = timedelta(seconds=15)  # a message may be lost
HEARTBEAT_S = 10.0
SILENT_AFTER = timedelta(minutes=2)  # then another worker may take it
MOST_DEATHS = 3  # of workers, before nobody tries again until a person asks
LARGEST_CONTEXT = 10_000_000  # tokens: nobody means more

Status = Adoption.Status
logger = logging.getLogger(__name__)


class UnknownFolder(Exception):
    """BASE_MODELS_DIR has no such folder."""


class NotAdopted(Exception):
    """No project can use the folder as it is now; the message says why."""


class UnderWay(Exception):
    """A worker is examining the folder with another context; the message says so."""


@dataclass(frozen=True)
class Folder:
    """A folder of BASE_MODELS_DIR and what is known of it."""

    name: str
    fingerprint: str = ""
    is_quiet: bool = True
    obstacle: str = ""  # in words, why nobody can look into it
    latest: Adoption | None = None  # the newest examination
    verdict: Adoption | None = None  # the newest that ended with one, if that was about the folder as it is now
    has_worker: bool = True  # somebody is there who will examine it

    @property
    def state(self) -> str:
        """A status of its newest examination, or new, changed, unreadable."""
        if self.obstacle:
            return "unreadable"
        if self.latest is None:
            return "new"
        if not self.latest.is_live and self.latest.fingerprint != self.fingerprint:
            return "changed"
        return self.latest.status

    @property
    def adopted(self) -> Adoption | None:
        """What a project gets that chooses the folder; it stays to be had while somebody looks again."""
        return self.verdict if self.verdict and self.verdict.status == Status.ADOPTED else None

    @property
    def is_examined(self) -> bool:
        """Whether the folder as it is now has been looked at, or will be."""
        return self.state not in ("new", "changed")


def folders() -> list[Folder]:
    """Every folder of BASE_MODELS_DIR, by name."""
    names = model_folders.names()
    known: dict[str, list[Adoption]] = {}
    for adoption in Adoption.objects.filter(folder__in=map(model_folders.printable, names)).order_by("-pk"):
        known.setdefault(adoption.folder, []).append(adoption)
    has_worker = workers.alive("default").exists()
    return [_folder(name, known.get(name, []), has_worker) for name in names]


def find(name: str) -> Folder:
    """The folder `name`. Raises UnknownFolder."""
    if name not in model_folders.names():
        raise UnknownFolder(_("BASE_MODELS_DIR has no folder “%(name)s”.") % {"name": name})
    known = Adoption.objects.filter(folder=name).order_by("-pk")
    return _folder(name, list(known), workers.alive("default").exists())


def adopted(name: str) -> Adoption:
    """What a project gets that chooses the folder `name`. Raises UnknownFolder or NotAdopted."""
    folder = find(name)
    if folder.adopted is None:
        raise NotAdopted(adoption_words.why_not(folder))
    return folder.adopted


def stated_context(name: str) -> int | None:
    """What the operator has last stated of the folder's context. Raises UnknownFolder."""
    latest = find(name).latest
    return latest.context if latest else None


def ask(name: str, *, context: int | None, asked_by: User | None = None) -> Adoption:
    """Have a worker examine the folder `name`; see write_down."""
    with transaction.atomic():
        adoption = write_down(name, context=context, asked_by=asked_by)
        transaction.on_commit(lambda: _ring(adoption))
    return adoption


@transaction.atomic
def write_down(name: str, *, context: int | None, asked_by: User | None = None) -> Adoption:
    """The examination of the folder `name` that is to be done next: a new one, or the one that waits already.

    `context` is what the operator states for a model whose config says none.
    Raises UnknownFolder, Unreadable, or UnderWay where a worker is at it with another context.
    """
    folder = find(name)
    if folder.obstacle:
        raise Unreadable(folder.obstacle)
    try:
        with transaction.atomic():
            made = Adoption.objects.create(
                folder=name, fingerprint=folder.fingerprint, context=context, asked_by=asked_by
            )
    except IntegrityError:
        return _join(name, context)
    note(made, "asked", actor=asked_by, **({"context": context} if context else {}))
    return made


def take(pk: int, *, worker: str) -> Adoption | None:
    """The adoption `pk` for `worker` to do; None where it is done or not to be done yet: one is done at a time."""
    adoption = Adoption.objects.filter(pk=pk, status=Status.PENDING).first()
    if adoption is None:
        return None
    try:
        fingerprint = model_folders.look(adoption.folder).fingerprint
    except Unreadable:
        fingerprint = adoption.fingerprint
    with suppress(LostRace, IllegalMove, IntegrityError), transaction.atomic():
        adoption.move_to(
            Status.RUNNING,
            actor=adoption.asked_by,
            fence=F("fence") + 1,
            fingerprint=fingerprint,
            worker=worker[:200],
            started_at=Now(),
            heartbeat_at=Now(),
            error="",
        )
        return adoption
    return None


def beat(adoption: Adoption) -> bool:
    """A sign of life of the worker that holds `adoption`; False where it holds it no longer."""
    mine = Adoption.objects.filter(pk=adoption.pk, status=Status.RUNNING, fence=adoption.fence)
    return bool(mine.update(heartbeat_at=Now()))


def adopt(adoption: Adoption, report: Mapping[str, Any], model: Path) -> None:
    """Take `model`, the sealed directory that the engine has made, as what `adoption` is about. Raises LostRace."""
    with transaction.atomic():
        # The move comes first: from here on nobody else brings a directory of this name.
        _settle(adoption, Status.ADOPTED, report=report, sha256=report["sha256"])
        shutil.rmtree(adoption.directory, ignore_errors=True)  # a crash came before the commit
        adoption.directory.parent.mkdir(parents=True, exist_ok=True)
        model.rename(adoption.directory)
    _forget_superseded(adoption)


def refuse(adoption: Adoption, report: Mapping[str, Any], sentence: str) -> None:
    """The engine has said that the folder cannot be used. Raises LostRace."""
    _settle(adoption, Status.REFUSED, report=report, sha256=report.get("sha256") or "", error=sentence)
    _forget_superseded(adoption)


def fail(adoption: Adoption, sentence: str) -> None:
    """Nobody knows what the folder is worth, and why. Raises LostRace."""
    _settle(adoption, Status.FAILED, error=sentence)


def give_back(adoption: Adoption) -> None:
    """The worker is told to stop: another one begins anew. Raises LostRace."""
    adoption.move_to(Status.PENDING, under=adoption.fence, rung_at=None)


def ring_next() -> None:
    """Ring for the one that has waited longest, if none is being done."""
    if Adoption.objects.filter(status=Status.RUNNING).exists():
        return
    if waiting := Adoption.objects.filter(status=Status.PENDING).order_by("pk").first():
        _ring(waiting)


def ring_again() -> None:
    """Ring where the message was lost."""
    unheard = Q(rung_at=None) | Q(rung_at__lt=Now() - UNHEARD_AFTER)
    if Adoption.objects.filter(unheard, status=Status.PENDING).exists():
        ring_next()


def reclaim() -> None:
    """Take back what a silent worker held."""
    silent = Adoption.objects.filter(status=Status.RUNNING, heartbeat_at__lt=Now() - SILENT_AFTER)
    for adoption in silent:
        with suppress(LostRace):
            if adoption.deaths + 1 < MOST_DEATHS:
                adoption.move_to(Status.PENDING, under=adoption.fence, deaths=F("deaths") + 1, rung_at=None)
            else:
                fail(adoption, _died_again())


def ask_for_changed() -> None:
    """Have every folder examined that is new or has changed, once nothing is written there any more."""
    for folder in folders():
        if folder.is_quiet and not folder.is_examined:
            ask(folder.name, context=folder.latest.context if folder.latest else None)


def _folder(name: str, known: list[Adoption], has_worker: bool) -> Folder:
    """`known` are its examinations, the newest first."""
    try:
        state = model_folders.look(name)
    except Unreadable as unreadable:
        return Folder(model_folders.printable(name), obstacle=str(unreadable))
    verdict = next((one for one in known if one.status in Adoption.SETTLED), None)
    if verdict and verdict.fingerprint != state.fingerprint:
        verdict = None
    latest = next(iter(known), None)
    return Folder(name, state.fingerprint, state.is_quiet, latest=latest, verdict=verdict, has_worker=has_worker)


def _join(name: str, context: int | None) -> Adoption:
    """The live examination of the folder, which gets `context` as long as nobody has begun. Raises UnderWay."""
    Adoption.objects.filter(folder=name, status=Status.PENDING).update(context=context)
    live = Adoption.objects.live().get(folder=name)
    if live.context != context:
        raise UnderWay(_("“%(name)s” is being examined right now: state its context afterwards.") % {"name": name})
    return live


def _settle(adoption: Adoption, status: str, **changes: Any) -> None:
    adoption.move_to(status, under=adoption.fence, actor=adoption.asked_by, finished_at=Now(), **changes)


def _forget_superseded(adoption: Adoption) -> None:
    """Delete the earlier examinations of the folder that no model came from, and what they had adopted."""
    earlier = Adoption.objects.filter(folder=adoption.folder, pk__lt=adoption.pk, model_versions=None)
    for one in earlier:
        with suppress(ProtectedError, IntegrityError):  # a project has chosen it this moment
            one.delete()
            shutil.rmtree(one.directory, ignore_errors=True)


def _ring(adoption: Adoption) -> None:
    doorbell.ask(TASK, adoption.pk)
    Adoption.objects.filter(pk=adoption.pk).update(rung_at=Now())


def _died_again() -> str:
    return _(
        "Its worker died %(number)d times while it examined the folder, most likely for want of memory. "
        "Give it more, or choose a smaller model; then examine it again."
    ) % {"number": MOST_DEATHS}
