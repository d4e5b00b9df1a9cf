"""Prompts come in, and leave the queue again. Importing the same file twice adds nothing, and refuses nothing new.

A text is there once. What comes again may bring the external id that it lacked; its group stays, since that decided
whether it is held out. What is almost the same is another prompt, on the same side of the split as the first of its
kind: no one trains on what differs from a held-out prompt in case or spacing only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import hooks
from annotate.models import LABELS, Kind, Project, Prompt, Ranking, Split, User, WorkItem
from annotate.services import audit, queue, splits
from annotate.services.importing import conversations
from annotate.services.importing.conversations import BadRecord, Conversation
from annotate.services.importing.reports import Imported, NearDuplicate
from annotate.services.importing.sources import Record
from annotate.services.text import BadText, folded_hash, text_hash

# In one transaction: others get their turn in between, and a broken import is simply repeated.
BATCH = 500  # prompts
BATCH_CHARACTERS = 2_000_000


class Reading(NamedTuple):
    """A line as it was read. Its JSON is dropped: some of it may have been left out."""

    line: int
    conversation: Conversation | None
    error: str = ""  # why it is no prompt
    ends: bool = False


class NearDuplicates(NamedTuple):
    """The others that are almost a prompt."""

    one: Prompt  # the first of them, or where that is the prompt itself, the last
    number: int  # of all of them


def records_from_paste(text: str) -> list[Record]:
    """A record for every line of `text` that is not blank: each is one question."""
    return [Record(number, {"text": line.strip()}) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def records_from_list(bodies: Iterable[Any]) -> list[Record]:
    """A record for every one of `bodies`, which are parsed JSON, numbered from 1."""
    return [Record(number, body) for number, body in enumerate(bodies, 1)]


def add(project: Project, records: Iterable[Record], *, actor: User | None = None) -> Imported:
    """Add each good record as a prompt, with a demonstration to write where it is for training."""
    report = Imported()
    try:
        for batch in _batches(map(_reading, records)):
            _add_batch(project, batch, report)
    finally:  # what is in is on record, also where the rest of the file could not be read
        counts: dict[str, Any] = {"created": report.created, "existing": report.existing}
        audit.record("prompts.imported", actor=actor, project=project, rejected=report.rejected_count, **counts)
    if report.created or report.existing:
        if warning := splits.warning(project, **project.prompts.active().sides()):
            report.remarks.append(warning)
        report.remarks += hooks.prompts_remarks(project, report.shapes)
    return report


def add_one(project: Project, body: Any) -> tuple[Prompt, Imported]:
    """The prompt that `body` describes, added where its text is new, and the report. Raises BadRecord."""
    report = Imported()
    prompts = _add_batch(project, [_reading(Record(1, body))], report)
    if report.rejected:
        raise BadRecord(report.rejected[0]["error"])
    return prompts[0], report


@transaction.atomic
def withdraw(prompt: Prompt, *, actor: User) -> None:
    """Ask for nothing about `prompt` any more; what was judged is kept, but no later round uses it."""
    if Prompt.objects.filter(pk=prompt.pk, withdrawn_at=None).update(withdrawn_at=timezone.now()):
        queue.withdraw(WorkItem.objects.filter(Q(prompt=prompt) | Q(slate__prompt=prompt)))
        hooks.labels_withdrawn("demonstration", prompt.demonstrations.values_list("pk", flat=True))
        hooks.labels_withdrawn("ranking", Ranking.objects.filter(slate__prompt=prompt).values_list("pk", flat=True))
        audit.record("prompt.withdrawn", actor=actor, project=prompt.project, subject=f"prompt {prompt.pk}")
    prompt.refresh_from_db()


def label_counts(prompts: Sequence[Prompt]) -> dict[str, Counter[int]]:
    """How many labels each of `prompts` has in an export of current labels: by kind, then by the prompt's id."""
    found = {}
    for kind, model in LABELS.items():
        path = model.path_to_prompt
        labels = model.objects.newest().filter(**{f"{path}__in": prompts}, annotator__erased_at=None).order_by()
        found[kind] = Counter(dict(labels.values_list(path).annotate(Count("pk"))))
    return found


def near_duplicates_of(prompts: Sequence[Prompt]) -> dict[int, NearDuplicates]:
    """Those of `prompts`, which are of one project, that have near-duplicates which are not withdrawn, by their ids."""
    if not prompts:
        return {}
    active = Prompt.objects.active().filter(project=prompts[0].project_id)
    alike = active.filter(folded_hash__in={prompt.folded_hash for prompt in prompts}).order_by().values("folded_hash")
    kinds = {row["folded_hash"]: row for row in alike.annotate(n=Count("pk"), first=Min("pk"), last=Max("pk"))}
    named = Prompt.objects.in_bulk({kind[end] for kind in kinds.values() if kind["n"] > 1 for end in ("first", "last")})
    found = {}
    for prompt in prompts:
        kind = kinds.get(prompt.folded_hash)
        if kind and kind["n"] > 1:
            other = kind["last"] if kind["first"] == prompt.pk else kind["first"]
            found[prompt.pk] = NearDuplicates(named[other], kind["n"] - 1)
    return found


def _reading(record: Record) -> Reading:
    if record.error:
        return Reading(record.line, None, record.error, record.ends)
    try:
        return Reading(record.line, conversations.read(record.body))
    except (BadRecord, BadText) as error:
        return Reading(record.line, None, str(error))


def _batches(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    batch: list[Reading] = []
    characters = 0
    for reading in readings:
        batch.append(reading)
        if reading.conversation:
            characters += sum(len(message["content"]) for message in reading.conversation.messages)
        if len(batch) >= BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@transaction.atomic
def _add_batch(project: Project, batch: list[Reading], report: Imported) -> list[Prompt]:
    """Add what is good in `batch`; returns the prompt of each good record, new or not."""
    # Imports into one project queue up here; NO KEY lets claims refer to the project meanwhile.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    unsaved = [_unsaved(project, reading.conversation) if reading.conversation else None for reading in batch]
    stored = _stored(project, [prompt for prompt in unsaved if prompt])
    changes = Changes()
    prompts = []
    for reading, prompt in zip(batch, unsaved, strict=True):
        if reading.conversation is None or prompt is None:
            report.reject(reading.line, reading.error, stops=reading.ends)
        elif conflict := stored.conflict(prompt):
            report.reject(reading.line, conflict)
        else:
            prompts.append(_note(prompt, reading.line, stored, changes, report))
            report.note_changes(reading.conversation)
    Prompt.objects.bulk_create(changes.new)
    Prompt.objects.bulk_update(changes.newly_named, ["external_id"])
    queue.open_items(project, Kind.DEMONSTRATION, [prompt for prompt in changes.new if prompt.split == Split.TRAIN])
    for found in changes.near_duplicates:
        report.note_near_duplicate(found)
    return prompts


def _note(prompt: Prompt, line: int, stored: Stored, changes: Changes, report: Imported) -> Prompt:
    """`prompt`, noted as new, or the stored one that has its text."""
    known = stored.by_hash.get(prompt.text_hash)
    if known is None:
        if like := stored.by_folded_hash.get(prompt.folded_hash):
            changes.near_duplicates.append(NearDuplicate(line, prompt, like, follows=like.split != prompt.split))
            prompt.split = like.split
        changes.new.append(prompt)
        report.note_created(prompt)
        stored.remember(prompt)
        return prompt
    report.note_existing(known)
    if prompt.external_id and not known.external_id:
        known.external_id = prompt.external_id
        changes.newly_named.append(known)
        stored.remember(known)
    return known


@dataclass
class Changes:
    """What a batch adds."""

    new: list[Prompt] = field(default_factory=list)
    newly_named: list[Prompt] = field(default_factory=list)
    near_duplicates: list[NearDuplicate] = field(default_factory=list)


@dataclass
class Stored:
    """What the project has that bears on a batch, and what the batch has added so far."""

    by_hash: dict[str, Prompt] = field(default_factory=dict)
    by_external_id: dict[str, Prompt] = field(default_factory=dict)
    by_folded_hash: dict[str, Prompt] = field(default_factory=dict)  # the first one of each kind

    def remember(self, prompt: Prompt) -> None:
        self.by_hash[prompt.text_hash] = prompt
        self.by_folded_hash.setdefault(prompt.folded_hash, prompt)
        if prompt.external_id:
            self.by_external_id[prompt.external_id] = prompt

    def conflict(self, prompt: Prompt) -> str:
        """Why `prompt` clashes with what has its text or its external id; empty where it does not."""
        known = self.by_hash.get(prompt.text_hash)
        named = self.by_external_id.get(prompt.external_id or "")
        if named and named.text_hash != prompt.text_hash:
            return _("Another prompt already has this external id, with different text.")
        if known is None:
            return ""
        if prompt.external_id and known.external_id and prompt.external_id != known.external_id:
            return _("This prompt already exists with the external id “%s”.") % known.external_id
        if prompt.group not in (prompt.folded_hash, known.group):
            return _(
                "This prompt already exists in another group or in none. A prompt keeps its group, because the "
                "group decides whether it is held out."
            )
        return ""


def _stored(project: Project, prompts: list[Prompt]) -> Stored:
    stored = Stored()
    if not prompts:
        return stored
    names = {prompt.external_id for prompt in prompts if prompt.external_id}
    folded = {prompt.folded_hash for prompt in prompts}
    alike = project.prompts.filter(folded_hash__in=folded).order_by()
    firsts = alike.values("folded_hash").annotate(first=Min("pk")).values("first")
    same = Q(text_hash__in={prompt.text_hash for prompt in prompts}) | Q(external_id__in=names)
    for prompt in [*Prompt.objects.filter(pk__in=firsts), *project.prompts.filter(same)]:
        stored.remember(prompt)
    return stored


def _unsaved(project: Project, conversation: Conversation) -> Prompt:
    folded = folded_hash(conversation.messages)
    group = conversation.group or folded
    return Prompt(
        project=project,
        messages=conversation.messages,
        text_hash=text_hash(conversation.messages),
        folded_hash=folded,
        external_id=conversation.external_id or None,
        group=group,
        split=splits.split_of(group, project.heldout_share),
        metadata=conversation.metadata,
    )
