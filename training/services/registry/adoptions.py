"""Adoptions: each folder of BASE_MODELS_DIR is examined by a worker before a project can choose it.

The row is the job, the message only a doorbell: a lost one is rung again, and what a silent worker held waits again. An
examination is about the folder as it was; when its files change, it is examined again, and projects that have chosen
it keep the copy that was adopted.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError, Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import User
from training import doorbell, presets
from training.models import Adoption, IllegalMove, LostRace, Worker, note
from training.presets import Preset
from training.services.machines.workers import REPLACED_AFTER
from training.services.registry import adoption_words, model_folders
from training.services.registry.model_folders import Unreadable

TASK = "training.adopt.v1"
MOST_DEATHS = 3  # of workers, after which a person must ask for another try
LARGEST_CONTEXT = 10_000_000  # tokens: more is a slip of the keyboard

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
    obstacle: str = ""  # in words, why it cannot be read
    latest: Adoption | None = None  # the newest examination
    settled: Adoption | None = None  # the newest that says whether it can be used, if it is still as it was then
    has_worker: bool = True  # one that will examine it

    @property
    def state(self) -> str:
        """The status of its newest examination, or one of adoption_words' own."""
        if self.obstacle:
            return adoption_words.UNREADABLE
        if self.latest is None:
            return adoption_words.NEW
        if not self.latest.is_live and self.latest.fingerprint != self.fingerprint:
            return adoption_words.CHANGED
        return self.latest.status

    @property
    def adopted(self) -> Adoption | None:
        """What a project gets that chooses the folder, also while the folder is examined again."""
        return self.settled if self.settled and self.settled.status == Status.ADOPTED else None

    @property
    def report(self) -> dict[str, Any]:
        """What the engine has measured of the folder as it is now; empty before it has."""
        return self.settled.report if self.settled else {}

    @property
    def preset(self) -> Preset | None:
        """What a project gets with it; None where no project can choose it."""
        return presets.for_size(self.adopted.report.get("parameters", 0)) if self.adopted else None

    @property
    def other_presets(self) -> list[Preset]:
        """What the project's admins can choose instead, because it is for models of the same size."""
        return presets.others_for_size_of(self.preset) if self.preset else []

    @property
    def is_examined(self) -> bool:
        """Whether the folder as it is now has been examined, or will be."""
        return self.state not in (adoption_words.NEW, adoption_words.CHANGED)


def folders() -> list[Folder]:
    """Every folder of BASE_MODELS_DIR, by name."""
    names = model_folders.names()
    known: dict[str, list[Adoption]] = {}
    for adoption in Adoption.objects.filter(folder__in=map(model_folders.printable, names)).order_by("-pk"):
        known.setdefault(adoption.folder, []).append(adoption)
    has_worker = Worker.objects.alive("default").exists()
    return [_folder(name, known.get(name, []), has_worker) for name in names]


def find(name: str) -> Folder:
    """The folder `name`. Raises UnknownFolder."""
    if name not in model_folders.names():
        raise UnknownFolder(_("BASE_MODELS_DIR has no folder “%(name)s”.") % {"name": name})
    known = Adoption.objects.filter(folder=name).order_by("-pk")
    return _folder(name, list(known), Worker.objects.alive("default").exists())


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
    """Have a worker examine the folder `name`, as create_pending says."""
    with transaction.atomic():
        adoption = create_pending(name, context=context, asked_by=asked_by)
        transaction.on_commit(lambda: _ring(adoption))
    return adoption


@transaction.atomic
def create_pending(name: str, *, context: int | None, asked_by: User | None = None) -> Adoption:
    """The pending examination of the folder `name`: a new one, or the one that there is.

    `context` is what the operator states for a model whose config says none.
    Raises UnknownFolder, Unreadable, or UnderWay where a worker does it with another context.
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
        return _use_pending(name, context)
    note(made, "asked", actor=asked_by, **({"context": context} if context else {}))
    return made


def claim(pk: int, *, worker: str) -> Adoption | None:
    """The adoption `pk` for `worker` to do; None where it is done or not to be done yet: one is done at a time."""
    adoption = Adoption.objects.pending().filter(pk=pk).first()
    if adoption is None:
        return None
    try:
        fingerprint = model_folders.inspect(adoption.folder).fingerprint
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


def heartbeat(adoption: Adoption) -> bool:
    """Store that the worker which holds `adoption` is alive; False where it holds it no longer."""
    held = Adoption.objects.running().filter(pk=adoption.pk, fence=adoption.fence)
    return bool(held.update(heartbeat_at=Now()))


def adopt(adoption: Adoption, report: Mapping[str, Any], model: Path) -> None:
    """The folder can be used: keep `model`, the sealed copy that the engine has made. Raises LostRace."""
    with transaction.atomic():
        # The move comes first: from here on no other worker makes a directory of this name.
        _settle(adoption, Status.ADOPTED, report=report, sha256=report["sha256"])
        shutil.rmtree(adoption.directory, ignore_errors=True)  # a crash came before the commit
        adoption.directory.parent.mkdir(parents=True, exist_ok=True)
        model.rename(adoption.directory)
    _delete_superseded(adoption)


def refuse(adoption: Adoption, report: Mapping[str, Any], sentence: str) -> None:
    """The folder cannot be used, says the engine. Raises LostRace."""
    _settle(adoption, Status.REFUSED, report=report, sha256=report.get("sha256") or "", error=sentence)
    _delete_superseded(adoption)


def fail(adoption: Adoption, sentence: str) -> None:
    """The examination came to no end; `sentence` says why. Raises LostRace."""
    _settle(adoption, Status.FAILED, error=sentence)


def requeue(adoption: Adoption) -> None:
    """The worker is stopping: another one starts over. Raises LostRace."""
    adoption.move_to(Status.PENDING, under=adoption.fence, rung_at=None)


def ring_next() -> None:
    """Ring for the one that has waited longest, if none is being done."""
    if Adoption.objects.running().exists():
        return
    if waiting := Adoption.objects.pending().first():
        _ring(waiting)


def ring_again() -> None:
    """Ring where the message was lost."""
    unheard = Q(rung_at=None) | Q(rung_at__lt=Now() - doorbell.UNHEARD_AFTER)
    if Adoption.objects.pending().filter(unheard).exists():
        ring_next()


def reclaim() -> None:
    """Queue again what a silent worker held; after several deaths, fail it."""
    for adoption in Adoption.objects.running().filter(heartbeat_at__lt=Now() - REPLACED_AFTER):
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
        state = model_folders.inspect(name)
    except Unreadable as unreadable:
        return Folder(model_folders.printable(name), obstacle=str(unreadable))
    settled = next((one for one in known if one.status in Adoption.SETTLED), None)
    if settled and settled.fingerprint != state.fingerprint:
        settled = None
    latest = next(iter(known), None)
    return Folder(name, state.fingerprint, state.is_quiet, latest=latest, settled=settled, has_worker=has_worker)


def _use_pending(name: str, context: int | None) -> Adoption:
    """The live examination of the folder; it gets `context` unless a worker has begun. Raises UnderWay."""
    Adoption.objects.pending().filter(folder=name).update(context=context)
    live = Adoption.objects.live().get(folder=name)
    if live.context != context:
        raise UnderWay(_("“%(name)s” is being checked right now. Set its context afterwards.") % {"name": name})
    return live


def _settle(adoption: Adoption, status: str, **changes: Any) -> None:
    adoption.move_to(status, under=adoption.fence, actor=adoption.asked_by, finished_at=Now(), **changes)


def _delete_superseded(adoption: Adoption) -> None:
    """Delete the earlier examinations of the folder that no model came from, and what they had adopted."""
    earlier = Adoption.objects.filter(folder=adoption.folder, pk__lt=adoption.pk, model_versions=None)
    for one in earlier:
        with suppress(ProtectedError, IntegrityError):  # a project has chosen it just now
            one.delete()
            shutil.rmtree(one.directory, ignore_errors=True)


def _ring(adoption: Adoption) -> None:
    doorbell.ask(TASK, adoption.pk)
    Adoption.objects.filter(pk=adoption.pk).update(rung_at=Now())


def _died_again() -> str:
    return _(
        "The worker died %(number)d times while checking the folder, most likely because it ran out of "
        "memory. Give it more memory or choose a smaller model, then check again."
    ) % {"number": MOST_DEATHS}
