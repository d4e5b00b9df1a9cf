"""Downloads: a worker packs a model into one file and reports how far it is; after a day the file is deleted.

The row is the job, as with runs: a lost message is rung again, and a packer that went silent is replaced. An adapter
can be had in two forms: merged with its base, as other programs read it, or alone, as it lies on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from annotate.models import User
from annotate.services import audit
from training import doorbell
from training.models import Download, IllegalMove, LostRace, ModelVersion
from training.rlhf import endings
from training.rlhf.run.manifest import LeadsOut, visible_files
from training.services.machines.workers import REPLACED_AFTER
from training.services.registry import merging, model_versions

KEPT = timedelta(days=1)
REPORT_S = 0.5  # between two reports of progress
RESERVE = 256 * 1024 * 1024  # bytes that stay free: labels must be stored whatever is packed

Status = Download.Status
logger = logging.getLogger(__name__)


class NoWeights(Exception):
    """The model's weights cannot be had; the message says why."""


class Offer(NamedTuple):
    """A form in which a model can be had, and the newest download of it, if somebody has asked."""

    is_merged: bool
    download: Download | None


def offers(model: ModelVersion) -> list[Offer]:
    """What the page of `model` offers, first what other programs read."""
    newest = {one.is_merged: one for one in model.downloads.exclude(status=Status.DELETED).order_by("pk")}
    forms = (True, False) if model.stands_on_id else (False,)
    return [Offer(is_merged, newest.get(is_merged)) for is_merged in forms]


def ask(model: ModelVersion, *, asked_by: User, adapter_alone: bool = False) -> Download:
    """Have `model` packed; a download that is there or under way is used again.

    An adapter is merged with its base, unless `adapter_alone`. Raises NoWeights.
    """
    if not model.has_weights:
        raise NoWeights(_("The weights of %(model)s have been deleted.") % {"model": model.name})
    is_merged = model.stands_on is not None and not adapter_alone
    if is_merged and (reason := model_versions.why_base_missing(model)):
        raise NoWeights(reason)
    try:
        with transaction.atomic():
            size = sum(path.stat().st_size for path in visible_files(model.directory))
            total = merging.expected_bytes(model) if is_merged else size
            download = Download.objects.create(
                project=model.project, model_version=model, is_merged=is_merged, asked_by=asked_by, total=total
            )
            audit.record("model.packed", actor=asked_by, project=model.project, subject=download.name)
            doorbell.ring_for_download(download)
    except IntegrityError:
        return Download.objects.live().get(model_version=model, is_merged=is_merged)
    except LeadsOut as error:
        raise NoWeights(_("This model could not be packed: %(reason)s.") % {"reason": error.strerror}) from error
    return download


def pack(download_pk: int) -> None:
    """Pack what waits under this id; a message that comes twice or late finds nothing to do."""
    download = Download.objects.filter(pk=download_pk, status=Status.WAITING).first()
    if download is None:
        return
    with contextlib.suppress(LostRace, IllegalMove):
        download.move_to(Status.PACKING, fence=F("fence") + 1, touched_at=Now(), done=0, error="")
        fence = download.fence
        try:
            _write(download)
        except merging.Stopped:
            download.move_to(Status.WAITING, under=fence)
        except (OSError, merging.NotMerged) as error:
            logger.warning("download %s failed", download.pk, exc_info=True)
            download.move_to(Status.FAILED, under=fence, error=_explain(download, error))
        else:
            download.move_to(Status.READY, under=fence, done=download.total, total=download.total, touched_at=Now())


def ring_again() -> None:
    """Ring for what waits, and queue again what a silent packer held."""
    for download in Download.objects.filter(status=Status.PACKING, touched_at__lt=Now() - REPLACED_AFTER):
        with contextlib.suppress(LostRace):
            download.move_to(Status.WAITING)
    for download in Download.objects.filter(status=Status.WAITING, touched_at__lt=Now() - doorbell.UNHEARD_AFTER):
        Download.objects.filter(pk=download.pk).update(touched_at=Now())
        doorbell.ring_for_download(download)


def delete_old() -> None:
    """Delete downloads that are a day old, and what packers left that were killed."""
    for download in Download.objects.filter(status__in=(Status.READY, Status.FAILED), touched_at__lt=Now() - KEPT):
        with contextlib.suppress(LostRace):
            download.path.unlink(missing_ok=True)  # first: a row that says deleted is never swept again
            download.move_to(Status.DELETED)
    folder = Path(settings.DATA_DIR) / "downloads"
    for draft in folder.glob(".*.draft"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > KEPT.total_seconds():
                draft.unlink()
    merging.discard_leftovers()


def _write(download: Download) -> None:
    """The tar under a temporary name, then under its own. Raises OSError, and what merging.merged does."""
    folder, report = download.path.parent, _reporter(download)
    folder.mkdir(parents=True, exist_ok=True)
    _require_room(download)
    draft = folder / f".{uuid4()}.draft"
    with _content(download, report) as directory:
        try:
            # Weights do not compress; a plain tar is as quick as the disk.
            with tarfile.open(draft, "w") as tar:
                for path in visible_files(directory):
                    with path.open("rb") as source:
                        member = tarfile.TarInfo(f"{download.name}/{path.name}")
                        member.size = path.stat().st_size
                        tar.addfile(member, _Counted(source, report))
            draft.replace(download.path)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _content(download: Download, report: Callable[[int], None]) -> Iterator[Path]:
    """The directory that is packed. Raises what merging.merged does."""
    if not download.is_merged:
        yield download.model_version.directory
        return
    with merging.merged(download, lambda: report(0)) as directory:
        download.total = sum(path.stat().st_size for path in visible_files(directory))
        if shutil.disk_usage(directory).free < download.total + RESERVE:
            raise OSError(errno.ENOSPC, "not enough room")
        yield directory


def _require_room(download: Download) -> None:
    """Raises OSError where the disk is too full to begin."""
    if shutil.disk_usage(download.path.parent).free < _needed(download) + RESERVE:
        raise OSError(errno.ENOSPC, "not enough room")


def _needed(download: Download) -> int:
    """The bytes that packing takes: a merged model lies beside its file meanwhile."""
    return download.total * (2 if download.is_merged else 1)


class _Counted:
    """A file that reports how much of it has been read."""

    def __init__(self, source: BinaryIO, report: Callable[[int], None]) -> None:
        self.source, self.report = source, report

    def read(self, size: int = -1) -> bytes:
        block = self.source.read(size)
        self.report(len(block))
        return block


def _reporter(download: Download) -> Callable[[int], None]:
    """Counts bytes and stores the number now and then. Raises LostRace when another packer has taken over."""
    stored_at = time.monotonic()

    def report(size: int) -> None:
        nonlocal stored_at
        download.done += size
        if time.monotonic() - stored_at > REPORT_S:
            stored_at = time.monotonic()
            held = Download.objects.filter(pk=download.pk, status=Status.PACKING, fence=download.fence)
            if not held.update(done=download.done, total=download.total, touched_at=Now()):
                raise LostRace(f"download {download.pk} is no longer packed here")

    return report


def _explain(download: Download, error: OSError | merging.NotMerged) -> str:
    if isinstance(error, merging.NotMerged):
        return str(error)
    if not endings.is_disk_full(error):
        return _("The files could not be read: %(reason)s.") % {"reason": error.strerror or type(error).__name__}
    free = shutil.disk_usage(download.path.parent).free
    return _(
        "Not enough disk space: packing needs %(needed)s in addition to the %(reserve)s kept free for people's "
        "labels, but only %(free)s is free. Free up space, then try again."
    ) % {
        "needed": filesizeformat(_needed(download)),
        "reserve": filesizeformat(RESERVE),
        "free": filesizeformat(free),
    }
