"""What became of an import: what came in, what was left out or changed, and what to do about it.

Lists stop after LISTED entries and are counted from there on: a report does not grow with the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Prompt, Split
from annotate.services.importing.conversations import Conversation

LISTED = 100  # lines of each list in a report
KEYS_LISTED = 50  # different keys that are named


@dataclass
class Shapes:
    """Which roles and orders occur among the prompts of an import: what a chat template may not take."""

    prompts: int = 0
    with_system: int = 0
    with_two_users_in_a_row: int = 0
    with_two_assistants_in_a_row: int = 0
    beginning_with_assistant: int = 0  # after the system turn, where there is one

    def count(self, messages: list[dict[str, str]]) -> None:
        roles = [message["role"] for message in messages]
        self.prompts += 1
        if roles[0] == "system":
            self.with_system += 1
            roles = roles[1:]
        self.beginning_with_assistant += roles[0] == "assistant"
        pairs = set(pairwise(roles))
        self.with_two_users_in_a_row += ("user", "user") in pairs
        self.with_two_assistants_in_a_row += ("assistant", "assistant") in pairs


class NearDuplicate(NamedTuple):
    """A new prompt that is almost an earlier one."""

    line: int
    prompt: Prompt
    like: Prompt
    follows: bool  # to that one's side of the split: its own group stands on the other


@dataclass
class Imported:
    """What became of an import."""

    created: int = 0
    existing: int = 0
    withdrawn: int = 0  # of the existing ones: no one is asked about them
    train: int = 0  # of the created ones
    heldout: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)  # {"line", "error"}
    rejected_count: int = 0
    near_duplicates: list[dict[str, Any]] = field(default_factory=list)  # {"line", "prompt", "like", "note"}
    near_duplicate_count: int = 0
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)  # by ("prompt" or "turn", the key's name)
    unnamed_ignored: int = 0  # keys beyond those that are named
    empty_system_turns: int = 0
    control_characters: int = 0  # that became white space
    repaired_metadata: int = 0
    stopped: str = ""  # why the rest was not read
    remarks: list[str] = field(default_factory=list)
    shapes: Shapes = field(default_factory=Shapes)

    def reject(self, line: int, error: str, *, stops: bool = False) -> None:
        """Note a line that did not come in; `stops`: it is the last one, and what follows was not read."""
        if stops:
            self.stopped = error
        self.rejected_count += 1
        if len(self.rejected) < LISTED:
            self.rejected.append({"line": line, "error": error})

    def note_created(self, prompt: Prompt) -> None:
        self.created += 1
        if prompt.split == Split.TRAIN:
            self.train += 1
        else:
            self.heldout += 1

    def note_existing(self, prompt: Prompt) -> None:
        self.existing += 1
        self.withdrawn += prompt.withdrawn_at is not None

    def note_near_duplicate(self, found: NearDuplicate) -> None:
        """Note a prompt that came in although it is almost an earlier one; both are stored by now."""
        self.near_duplicate_count += 1
        if len(self.near_duplicates) < LISTED:
            line, prompt, like, _follows = found
            row = {"line": line, "prompt": prompt.pk, "like": like.pk, "note": _near_duplicate_in_words(found)}
            self.near_duplicates.append(row)

    def note_changes(self, conversation: Conversation) -> None:
        """Count what was changed or left out of a prompt that is in."""
        self.shapes.count(conversation.messages)
        self.empty_system_turns += conversation.empty_system_turns
        self.control_characters += conversation.control_characters
        self.repaired_metadata += conversation.metadata_is_repaired
        for key in conversation.ignored:
            if key in self.ignored or len(self.ignored) < KEYS_LISTED:
                self.ignored[key] += 1
            else:
                self.unnamed_ignored += 1

    @property
    def is_in_part(self) -> bool:
        """Whether there is anything of it in the project now."""
        return self.created + self.existing > 0

    @property
    def refused(self) -> list[dict[str, Any]]:
        """What was rejected for what it says; why the rest was not read is in `stopped`."""
        return self.rejected[: self.refused_count]

    @property
    def refused_count(self) -> int:
        return self.rejected_count - bool(self.stopped)

    @property
    def changes(self) -> list[str]:
        """What was left out or changed, a sentence each."""
        return list(self._changes())

    def _changes(self) -> Iterator[str]:
        for (where, key), count in sorted(self.ignored.items()):
            yield _ignored_in_turn(key, count) if where == "turn" else _ignored_in_prompt(key, count)
        if count := self.unnamed_ignored:
            yield unnamed_in_words(count)
        if count := self.empty_system_turns:
            yield ngettext("%d empty system turn was left out.", "%d empty system turns were left out.", count) % count
        if count := self.control_characters:
            yield controls_in_words(count)
        if count := self.repaired_metadata:
            yield (
                ngettext(
                    "The metadata of %d prompt had characters or numbers that cannot be stored; they were replaced.",
                    "The metadata of %d prompts had characters or numbers that cannot be stored; they were replaced.",
                    count,
                )
                % count
            )
        if count := self.withdrawn:
            yield (
                ngettext(
                    "%d of the existing prompts is withdrawn, so no one is asked about it.",
                    "%d of the existing prompts are withdrawn, so no one is asked about them.",
                    count,
                )
                % count
            )


def controls_in_words(count: int) -> str:
    return (
        ngettext(
            "%d control character was replaced with white space.",
            "%d control characters were replaced with white space.",
            count,
        )
        % count
    )


def unnamed_in_words(count: int) -> str:
    """Of the fields beyond the KEYS_LISTED that are named."""
    return ngettext("%d more unknown field was ignored.", "%d more unknown fields were ignored.", count) % count


def _ignored_in_turn(key: str, count: int) -> str:
    sentence = ngettext(
        "“%(key)s” was ignored in %(count)d turn: a turn has only role and content.",
        "“%(key)s” was ignored in %(count)d turns: a turn has only role and content.",
        count,
    )
    return sentence % {"key": key, "count": count}


def _ignored_in_prompt(key: str, count: int) -> str:
    sentence = ngettext(
        "“%(key)s” was ignored in %(count)d prompt. Put anything you want to keep into “metadata”.",
        "“%(key)s” was ignored in %(count)d prompts. Put anything you want to keep into “metadata”.",
        count,
    )
    return sentence % {"key": key, "count": count}


def _near_duplicate_in_words(found: NearDuplicate) -> str:
    _line, prompt, like, follows = found
    question = " ".join(like.question.split())
    values = {"name": like.name, "question": question[:60] + ("…" if len(question) > 60 else ""), "group": prompt.group}
    if not follows:
        return _("Added. It is a near-duplicate of prompt %(name)s, “%(question)s”.") % values
    if prompt.split == Split.HELDOUT:
        sentence = _(
            "Added. It is a near-duplicate of prompt %(name)s, “%(question)s”, so it is held out like that one, "
            "although its group “%(group)s” is for training."
        )
    else:
        sentence = _(
            "Added. It is a near-duplicate of prompt %(name)s, “%(question)s”, so it is used for training like "
            "that one, although its group “%(group)s” is held out."
        )
    return sentence % values
