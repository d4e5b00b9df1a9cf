"""Notices to members about rounds. Called inside the transaction of the transition.

Annotators learn only that there is something to rank: not which model wrote it, nor how the training is doing.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Kind, Role, WorkItem
from annotate.services import notices
from training.models import Round, Run
from training.services.run_files import judges_decision
from training.services.run_files.reader import RunFiles
from training.stages import Stage


def started(round: Round) -> None:
    """`round` has been opened."""
    text = _("Round %(number)d has started.") % {"number": round.number}
    _tell_admins(round, "round.started", text)


def ended(round: Round) -> None:
    """`round` is over. A cancelled one is no news: a person did it, and the audit says who."""
    if round.status == Round.Status.FAILED:
        text = _("Round %(number)d has failed: %(reason)s")
        reason = round.error.strip().partition("\n")[0]
        _tell_admins(round, "round.failed", text % {"number": round.number, "reason": reason})
    elif round.status == Round.Status.SUCCEEDED:
        finished = _("Round %(number)d is finished.") % {"number": round.number}
        asked = _("Review the result and decide whether to promote the model.")
        _tell_admins(round, "round.finished", " ".join([finished, *_why_ppo_ended(round), asked]))
        _ask_for_rankings(round)


def held(run: Run) -> None:
    """`run` waits for a person, and with it its round."""
    values = {
        "stage": run.get_stage_display(),
        "number": run.round.number if run.round else 0,
        "reason": run.error.strip().partition("\n")[0],
    }
    if run.round:
        text = _("Round %(number)d is on hold at %(stage)s and needs attention: %(reason)s") % values
    else:
        text = _("A run (%(stage)s) is on hold and needs attention: %(reason)s") % values
    address = reverse("training:run", args=[run.project.slug, run.pk])
    notices.tell(run.project, kind="run.held", text=text, address=address, role=Role.ADMIN)


def _why_ppo_ended(round: Round) -> Iterator[str]:
    """Sentences where it was not because its iterations were done, or where an earlier policy was published."""
    for run in round.runs.succeeded().filter(stage=Stage.PPO):
        files = RunFiles(run)
        if judges_decision.stopped_at_limit(files):
            yield _("PPO stopped at its KL limit.")
        if decided := judges_decision.in_words(files):
            yield decided


def _ask_for_rankings(round: Round) -> None:
    waiting = WorkItem.objects.filter(project=round.project, kind=Kind.RANKING, status=WorkItem.Status.OPEN).count()
    if waiting:
        text = ngettext(
            "%(count)d set of answers is waiting to be ranked.",
            "%(count)d sets of answers are waiting to be ranked.",
            waiting,
        )
        address = reverse("annotate:rank", args=[round.project.slug])
        notices.tell(round.project, kind="rankings.wanted", text=text % {"count": waiting}, address=address)


def _tell_admins(round: Round, kind: str, text: str) -> None:
    address = reverse("training:round", args=[round.project.slug, round.number])
    actor = round.opened_by if kind == "round.started" else None  # the one who pressed the button needs no notice
    notices.tell(round.project, kind=kind, text=text, address=address, role=Role.ADMIN, actor=actor)
