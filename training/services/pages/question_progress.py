"""How far the answers to a question are: what each model does right now, or what it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.models import Answer, Run
from training.services.pages.schedule import WAITING
from training.services.run_files.reader import RunFiles


@dataclass(frozen=True, kw_only=True)
class AnswerProgress:
    """One model's answer, and in a sentence what it is waiting for or doing; empty once it is over."""

    answer: Answer
    sentence: str


def describe(answers: list[Answer]) -> list[AnswerProgress]:
    """Each of `answers`, which are of one question, with what it does."""
    waiting = list(Run.objects.in_order().filter(status__in=WAITING).values_list("pk", flat=True))
    return [AnswerProgress(answer=answer, sentence=_sentence(answer.run, waiting)) for answer in answers]


def longest_answer(answers: list[Answer]) -> int | None:
    """The most tokens that each of `answers` to one question may have; None where the run's directory is gone."""
    return RunFiles(answers[0].run).config.get("max_response") if answers else None


def _sentence(run: Run, waiting: list[int]) -> str:
    if run.status in WAITING:
        return _place_in_queue(waiting.index(run.pk) if run.pk in waiting else 0)
    if run.status == Run.Status.HELD:
        return _("On hold: needs attention. The run page says what to do.")
    if run.status != Run.Status.RUNNING:
        return ""
    return _("On %(worker)s: %(doing)s.") % {"worker": run.owner, "doing": RunFiles(run).phase or _("writing answers")}


def _place_in_queue(ahead: int) -> str:
    if not ahead:
        return _("Waiting for a worker, first in the queue.")
    return ngettext(
        "Waiting in the queue behind %(number)d other run.", "Waiting in the queue behind %(number)d other runs.", ahead
    ) % {"number": ahead}
