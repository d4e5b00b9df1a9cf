"""Slates come in from a policy or from elsewhere; nothing here learns who or what wrote a completion."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import Completion, FinishReason, Kind, Project, Prompt, Slate, User, WorkItem
from annotate.services import audit, prompts, queue
from annotate.services.text import MESSAGE_LIMIT, clean_text


class BadSlate(Exception):
    """Completions that cannot be judged together; the message says why."""


class NewCompletion(NamedTuple):
    text: str
    finish_reason: str = FinishReason.STOP.value


class NewSlate(NamedTuple):
    prompt: Prompt
    completions: Sequence[NewCompletion]


class AddedSlate(NamedTuple):
    slate: Slate
    completions: list[Completion]  # in the order in which they were given


@transaction.atomic
def add(
    project: Project,
    *,
    prompt: Prompt,
    completions: Sequence[NewCompletion],
    priority: int = 0,
    actor: User | None = None,
) -> AddedSlate:
    """Open one slate for ranking; `actor` is who sent it, if a person did. Raises BadSlate or BadText."""
    added = add_many(project, [NewSlate(prompt, completions)], priority=priority)[0]
    if actor:
        audit.record("slate.added", actor=actor, project=project, subject=str(added.slate), prompt=prompt.pk)
    return added


@transaction.atomic
def add_with_prompt(
    project: Project, *, record: Any, completions: Sequence[NewCompletion], actor: User | None = None
) -> tuple[AddedSlate, list[str]]:
    """Open one slate for the prompt that `record` describes, word for word, adding it where it is new.

    Returns, too, what was left out or changed of the prompt, and what it is almost the same as.
    Raises BadRecord, BadSlate or BadText; then the prompt is not added either.
    """
    prompt, report = prompts.add_one(project, record)
    notes = [*report.changes, *(likeness["note"] for likeness in report.near_duplicates)]
    return add(project, prompt=prompt, completions=completions, actor=actor), notes


@transaction.atomic
def add_many(project: Project, new_slates: Iterable[NewSlate], *, priority: int = 0) -> list[AddedSlate]:
    """Open slates for ranking, all or none; a lower `priority` is handed out first. Raises BadSlate or BadText."""
    new_slates = list(new_slates)
    if any(new.prompt.withdrawn_at for new in new_slates):
        raise BadSlate(_("The prompt is withdrawn."))
    slates = Slate.objects.bulk_create(Slate(project=project, prompt=new.prompt) for new in new_slates)
    added = [AddedSlate(slate, _unsaved(slate, new.completions)) for slate, new in zip(slates, new_slates, strict=True)]
    Completion.objects.bulk_create(
        completion for _slate, completions in added for completion in random.sample(completions, len(completions))
    )
    queue.open_items(project, Kind.RANKING, slates, priority=priority)
    return added


def withdraw(slates: QuerySet[Slate]) -> int:
    """Ask no one to rank `slates` any more; submitted rankings stay. Returns how many were still wanted."""
    return queue.withdraw(WorkItem.objects.filter(slate__in=slates))


def _unsaved(slate: Slate, completions: Sequence[NewCompletion]) -> list[Completion]:
    if not Slate.SMALLEST <= len(completions) <= Slate.LARGEST:
        raise BadSlate(
            _("A slate needs %(smallest)d to %(largest)d completions, not %(given)d.")
            % {"smallest": Slate.SMALLEST, "largest": Slate.LARGEST, "given": len(completions)}
        )
    return [
        Completion(slate=slate, text=clean_text(text, limit=MESSAGE_LIMIT), finish_reason=FinishReason(finish_reason))
        for text, finish_reason in completions
    ]
