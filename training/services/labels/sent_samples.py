"""Sent samples: two answers to one prompt that an admin has people rank, a policy's and that of the model before it."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.models import Prompt, Slate, User
from annotate.services import audit, slates
from annotate.services.slates import BadSlate, NewCompletion
from annotate.services.text import MESSAGE_LIMIT, clean_text, repair_text
from training.models import Run, SentSample


class AlreadySent(BadSlate):
    """People have been asked about these two."""


def why_not_sent(prompt: Prompt | None, *texts: str) -> str:
    """Why people cannot be asked to rank `texts`, two answers to `prompt`; empty where they can."""
    if prompt is None:
        return _("The prompt no longer exists.")
    if prompt.withdrawn_at:
        return _("The prompt is withdrawn. No one is asked about it any more.")
    if len({clean_text(repair_text(text)[0], limit=MESSAGE_LIMIT) for text in texts}) < len(texts):
        return _("The two answers are the same, so there is nothing to rank.")
    return ""


def send(run: Run, *, prompt_id: str, answer: NewCompletion, reference: NewCompletion, sent_by: User) -> Slate:
    """Ask people to rank `answer` and `reference`, which `run` wrote, without saying which is which.

    Raises AlreadySent, or BadSlate where they cannot be ranked.
    """
    known = Prompt.objects.filter(project=run.project)
    prompt = known.filter(pk=prompt_id).first() if prompt_id.isdecimal() else None
    reason = why_not_sent(prompt, answer.text, reference.text)
    if prompt is None or reason:
        raise BadSlate(reason)
    completions = [one._replace(text=repair_text(one.text)[0]) for one in (answer, reference)]
    digest = SentSample.digest_of(prompt_id, answer.text, reference.text)
    try:
        with transaction.atomic():
            priority = -run.round.number if run.round else 0
            slate = slates.add(run.project, prompt=prompt, completions=completions, priority=priority).slate
            SentSample.objects.create(project=run.project, run=run, digest=digest, slate=slate, sent_by=sent_by)
            facts = {"slate": slate.pk, "prompt": prompt.pk}
            audit.record("sample.sent", actor=sent_by, project=run.project, subject=str(run), **facts)
    except IntegrityError:
        raise AlreadySent(_("People have been asked to rank these two already.")) from None
    return slate
