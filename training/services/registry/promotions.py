"""Promotions: which policy a project serves. Only a person promotes; going back is promoting an older one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import AuditEvent, Project, User
from annotate.services import audit
from training.models import ModelVersion, Promotion

ROLLED_BACK = "model.rolled_back"  # a rollback in the audit table, recorded right after its row


class NotAPolicy(Exception):
    """A reward model, or one whose weights are gone; the message says so."""


class AlreadyChampion(Exception):
    """The project serves the model already; the message says so."""

    def __init__(self, model: ModelVersion) -> None:
        super().__init__(_("%(model)s is already the champion.") % {"model": model.name})


class ChampionChanged(Exception):
    """Somebody promoted another model meanwhile: `champion` is served now."""

    def __init__(self, champion: ModelVersion) -> None:
        super().__init__(_("Someone has made %(model)s the champion in the meantime.") % {"model": champion.name})
        self.champion = champion


@dataclass(frozen=True, kw_only=True)
class ChampionPeriod:
    """One entry of the history: which model was champion, from when until when, and why."""

    model: ModelVersion
    since: datetime
    until: datetime | None  # None: it is the champion now
    promotion: Promotion | None  # None: the base model, which nobody had to promote
    is_rollback: bool = False


def champion(project: Project) -> ModelVersion | None:
    """The policy that `project` serves: the one promoted last, at first the base model."""
    newest = Promotion.objects.filter(project=project).select_related("model_version__stands_on").first()
    return newest.model_version if newest else _base(project)


def predecessor(project: Project) -> ModelVersion | None:
    """What `project` served before its champion; None when there has been only one."""
    now = champion(project)
    earlier = Promotion.objects.filter(project=project).exclude(model_version=now).select_related("model_version")
    newest = earlier.first()
    if newest:
        return newest.model_version
    base = _base(project)
    return base if base != now else None


def history(project: Project) -> list[ChampionPeriod]:
    """The champions of `project`, newest first."""
    until: datetime | None = None
    champions = []
    rows = Promotion.objects.filter(project=project).select_related("model_version__stands_on", "promoted_by")
    rollbacks = AuditEvent.objects.filter(project=project, action=ROLLED_BACK).values_list("created_at", flat=True)
    for row in rows:
        is_rollback = any(row.created_at <= moment and (until is None or moment < until) for moment in rollbacks)
        champions.append(
            ChampionPeriod(
                model=row.model_version, since=row.created_at, until=until, promotion=row, is_rollback=is_rollback
            )
        )
        until = row.created_at
    base = _base(project)
    if base and (until is None or base.created_at < until):
        champions.append(ChampionPeriod(model=base, since=base.created_at, until=until, promotion=None))
    return champions


@transaction.atomic
def promote(model: ModelVersion, *, promoted_by: User, reason: str) -> Promotion:
    """From now on the project of `model` serves it. Raises NotAPolicy or AlreadyChampion."""
    return _set_champion(model, promoted_by, reason, "model.promoted")


@transaction.atomic
def roll_back(project: Project, *, seen: ModelVersion, promoted_by: User, reason: str) -> Promotion:
    """Serve again what was served before `seen`, the champion that the person saw and wants to replace.

    Raises ChampionChanged when another one has been promoted meanwhile, and NotAPolicy.
    """
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)  # of two who press at once the second waits
    now, before = champion(project), predecessor(project)
    if now and now != seen:
        raise ChampionChanged(now)
    if before is None:
        raise NotAPolicy(_("There is no earlier champion to roll back to."))
    return _set_champion(before, promoted_by, reason, ROLLED_BACK)


def _set_champion(model: ModelVersion, promoted_by: User, reason: str, action: str) -> Promotion:
    # Pruning takes the same lock: weights are either served or deleted, never both.
    Project.objects.select_for_update(no_key=True).get(pk=model.project_id)
    model.refresh_from_db(fields=["weights_deleted_at"])
    if not model.can_answer:
        raise NotAPolicy(_("%(model)s cannot answer prompts.") % {"model": model.name})
    before = champion(model.project)
    if before == model:
        raise AlreadyChampion(model)
    promotion = Promotion.objects.create(
        project=model.project, model_version=model, promoted_by=promoted_by, reason=reason
    )
    audit.record(
        action,
        actor=promoted_by,
        project=model.project,
        subject=model.name,
        before=before.name if before else None,
        reason=reason,
    )
    return promotion


def _base(project: Project) -> ModelVersion | None:
    return ModelVersion.objects.bases().filter(project=project).order_by("number").last()
