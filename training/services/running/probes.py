"""Probes: which prompts the results of later rounds show whatever the scores say; see training.models.Probe."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import Prompt, User
from annotate.services import audit
from training.models import Probe, Round


class CannotWatch(Exception):
    """A prompt that no later round answers; the message says why."""


def before(round: Round) -> QuerySet[Probe]:
    """The probes that were seen in a round before `round`, in the order in which they were marked."""
    earlier = Probe.objects.filter(project=round.project_id, round__number__lt=round.number)
    return earlier.select_related("prompt").order_by("pk")


@transaction.atomic
def mark(prompt: Prompt, *, seen_in: Round, marked_by: User) -> None:
    """Watch `prompt` in the rounds after `seen_in`; nothing changes where it is watched already. Raises CannotWatch."""
    if prompt.withdrawn_at:
        raise CannotWatch(_("The prompt is withdrawn. Later rounds do not answer it."))
    found = {"round": seen_in, "marked_by": marked_by}
    _probe, is_new = Probe.objects.get_or_create(project=prompt.project, prompt=prompt, defaults=found)
    if is_new:
        subject = f"prompt {prompt.pk}"
        audit.record("probe.marked", actor=marked_by, project=prompt.project, subject=subject, round=seen_in.number)


@transaction.atomic
def withdraw(prompt: Prompt, *, actor: User) -> None:
    """No longer watch `prompt`; results that show it stay as they are."""
    number, _rows = Probe.objects.filter(project=prompt.project, prompt=prompt).delete()
    if number:
        audit.record("probe.withdrawn", actor=actor, project=prompt.project, subject=f"prompt {prompt.pk}")
