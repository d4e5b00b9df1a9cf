"""Prompts come in, and leave the queue again. Importing the same file twice adds nothing, and refuses nothing new.

A text is there once. What comes again may bring the external id that it lacked; its group stays, since that decided
whether it is held out.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import hooks
from annotate.models import Kind, Project, Prompt, Ranking, Split, User, WorkItem
from annotate.services import audit, queue
from annotate.services.splits import split_of
from annotate.services.text import (
    MESSAGE_LIMIT,
    NAME_LIMIT,
    BadText,
    clean_filled_text,
    clean_text,
    conversation_hash,
    repair_json,
    repair_text,
)

BATCH = 500  # prompts per transaction: others get their turn in between, and a broken import is simply repeated
METADATA_LIMIT = 10_000  # characters, as JSON
ROLES = ("system", "user", "assistant")


class BadRecord(ValueError):
    """A line that is no prompt; the message says why."""


@dataclass(frozen=True)
class Record:
    """One line of an import, not looked at yet: `body` is parsed JSON, or the sentence why it is none."""

    line: int
    body: Any


@dataclass
class Imported:
    """What became of an import; `rejected` holds {"line", "error"}."""

    created: int = 0
    existing: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)  # of each good record, new or not


def records_from_jsonl(data: bytes) -> list[Record]:
    """A record for every line of `data` that is not blank, numbered from 1."""
    return [Record(number, _parsed(line)) for number, line in enumerate(data.splitlines(), 1) if line.strip()]


def records_from_paste(text: str) -> list[Record]:
    """A record for every line of `text` that is not blank: each is one question."""
    return [Record(number, {"text": line.strip()}) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def records_from_list(bodies: Iterable[Any]) -> list[Record]:
    """A record for every item of a JSON list, numbered from 1."""
    return [Record(number, body) for number, body in enumerate(bodies, 1)]


def add(project: Project, records: Iterable[Record]) -> Imported:
    """Add each good record as a prompt, with a demonstration to write where it is for training."""
    outcome = Imported()
    for batch in _batches(_readable(project, records, outcome)):
        _add_batch(project, batch, outcome)
    outcome.rejected.sort(key=lambda rejection: rejection["line"])
    return outcome


@transaction.atomic
def withdraw(prompt: Prompt, *, actor: User) -> None:
    """Ask for nothing about `prompt` any more; what was judged is kept, but no later round uses it."""
    if Prompt.objects.filter(pk=prompt.pk, withdrawn_at=None).update(withdrawn_at=timezone.now()):
        queue.withdraw(WorkItem.objects.filter(Q(prompt=prompt) | Q(slate__prompt=prompt)))
        hooks.labels_withdrawn("demonstration", prompt.demonstrations.values_list("pk", flat=True))
        hooks.labels_withdrawn("ranking", Ranking.objects.filter(slate__prompt=prompt).values_list("pk", flat=True))
        audit.record("prompt.withdrawn", actor=actor, project=prompt.project, subject=f"prompt {prompt.pk}")
    prompt.refresh_from_db()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _readable(project: Project, records: Iterable[Record], outcome: Imported) -> Iterator[tuple[int, Prompt]]:
    for record in records:
        try:
            yield record.line, _prompt(project, record.body)
        except (BadRecord, BadText) as error:
            outcome.rejected.append({"line": record.line, "error": str(error)})


def _prompt(project: Project, body: Any) -> Prompt:
    """The unsaved prompt that `body` describes. Raises BadRecord or BadText."""
    if not isinstance(body, dict):
        raise BadRecord(_("This is not a JSON object."))
    if unknown := sorted(set(body) - {"messages", "text", "external_id", "group", "metadata"}):
        raise BadRecord(_("Unknown field: %s") % repair_text(", ".join(unknown)[:200])[0])
    messages = _messages(body)
    text_hash = conversation_hash(messages)
    group = _name(body, "group") or text_hash
    return Prompt(
        project=project,
        messages=messages,
        text_hash=text_hash,
        external_id=_name(body, "external_id") or None,
        group=group,
        split=split_of(group, project.heldout_share),
        metadata=_metadata(body),
    )


def _messages(body: dict[str, Any]) -> list[dict[str, str]]:
    if ("messages" in body) == ("text" in body):
        raise BadRecord(_("Give either “text” or “messages”."))
    if "text" in body:
        return [{"role": "user", "content": clean_filled_text(body["text"], limit=MESSAGE_LIMIT)}]
    if not isinstance(body["messages"], list) or not body["messages"]:
        raise BadRecord(_("“messages” must be a list of turns."))
    messages = [_message(message) for message in body["messages"]]
    if messages[-1]["role"] != "user":
        raise BadRecord(_("The conversation must end with a turn of the user."))
    if any(message["role"] == "system" for message in messages[1:]):
        raise BadRecord(_("A system turn may only stand first."))
    return messages


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
        raise BadRecord(_("Each turn needs “content” and a “role” that is system, user or assistant."))
    return {"role": message["role"], "content": clean_filled_text(message["content"], limit=MESSAGE_LIMIT)}


def _name(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(_("“%s” must be text.") % key)
    return clean_text(value, limit=NAME_LIMIT).strip()


def _metadata(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("metadata")
    if not isinstance(given, dict | None):
        raise BadRecord(_("“metadata” must be a JSON object."))
    try:
        metadata: dict[str, Any] = repair_json(given or {})
        size = len(json.dumps(metadata))
    except RecursionError:
        raise BadRecord(_("“metadata” is nested too deeply.")) from None
    if size > METADATA_LIMIT:
        raise BadRecord(_("“metadata” is too large: at most %d characters fit.") % METADATA_LIMIT)
    return metadata


def _batches(prompts: Iterator[tuple[int, Prompt]]) -> Iterator[list[tuple[int, Prompt]]]:
    while batch := list(itertools.islice(prompts, BATCH)):
        yield batch


@transaction.atomic
def _add_batch(project: Project, batch: list[tuple[int, Prompt]], outcome: Imported) -> None:
    # Imports into one project queue up here; NO KEY lets claims refer to the project meanwhile.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    by_hash, by_external_id = _stored(project, [prompt for _line, prompt in batch])
    new: list[Prompt] = []
    newly_named: list[Prompt] = []
    for line, prompt in batch:
        known = by_hash.get(prompt.text_hash)
        if refusal := _refusal(prompt, known, by_external_id.get(prompt.external_id)):
            outcome.rejected.append({"line": line, "error": refusal})
            continue
        if known is None:
            known = by_hash[prompt.text_hash] = prompt
            new.append(prompt)
        else:
            outcome.existing += 1
            if prompt.external_id and not known.external_id:
                known.external_id = prompt.external_id
                newly_named.append(known)
        if known.external_id:
            by_external_id[known.external_id] = known
        outcome.prompts.append(known)
    Prompt.objects.bulk_create(new)
    Prompt.objects.bulk_update(newly_named, ["external_id"])
    queue.open_items(project, Kind.DEMONSTRATION, [prompt for prompt in new if prompt.split == Split.TRAIN])
    outcome.created += len(new)


def _refusal(prompt: Prompt, known: Prompt | None, named: Prompt | None) -> str:
    """Why `prompt` cannot come in beside `known` (same text) and `named` (same external id); empty where it can."""
    if named and named.text_hash != prompt.text_hash:
        return _("This external id belongs to a prompt with other text.")
    if known is None:
        return ""
    if prompt.external_id and known.external_id and prompt.external_id != known.external_id:
        return _("This text is there already, with the external id “%s”.") % known.external_id
    if prompt.group not in (prompt.text_hash, known.group):
        return _(
            "This text is there already, in another group or in none. A prompt keeps the group by which it was "
            "decided whether it is held out."
        )
    return ""


def _stored(project: Project, prompts: list[Prompt]) -> tuple[dict[str, Prompt], dict[str | None, Prompt]]:
    """The project's prompts that share a text or an external id with `prompts`, by either."""
    hashes = {prompt.text_hash for prompt in prompts}
    names = {prompt.external_id for prompt in prompts if prompt.external_id}
    stored = list(project.prompts.filter(Q(text_hash__in=hashes) | Q(external_id__in=names)))
    return (
        {prompt.text_hash: prompt for prompt in stored},
        {prompt.external_id: prompt for prompt in stored if prompt.external_id},
    )
