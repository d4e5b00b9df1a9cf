"""What a record of an import says: a conversation that ends with a user turn, with its ids and its group.

Unknown keys are left out and reported. One that is nearly one of ours is refused instead: a misspelt group would decide
for good, and silently, on which side of the split its prompts stand.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _

from annotate.services.text import (
    MESSAGE_LIMIT,
    NAME_LIMIT,
    BadText,
    clean_filled_text,
    clean_text,
    control_count,
    json_depth,
    repair_json,
    repair_text,
)

METADATA_LIMIT = 10_000  # characters, as JSON
METADATA_DEPTH = 20
FIELD_LIMIT = 1000
TURN_LIMIT = 500  # turns of one conversation
ROLES = ("system", "user", "assistant")
KEYS = ("messages", "text", "external_id", "group", "metadata")
SIMILAR = 0.88  # ratio of difflib: "grup" and "external-id" are close to our keys, "source" and "tags" are not


class BadRecord(ValueError):
    """A line that is no prompt; the message says why."""


@dataclass
class Conversation:
    """A prompt to be, and what was changed or left out while it was read."""

    messages: list[dict[str, str]] = field(default_factory=list)
    external_id: str = ""
    group: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    ignored: list[tuple[str, str]] = field(default_factory=list)  # ("prompt" or "turn", the key's name)
    empty_system_turns: int = 0
    control_characters: int = 0  # that became white space
    metadata_is_repaired: bool = False


def read(body: Any) -> Conversation:
    """The conversation that `body`, parsed JSON, describes. Raises BadRecord or BadText."""
    if not isinstance(body, dict):
        raise BadRecord(_("This is not a JSON object."))
    conversation = Conversation()
    _note_unknown_keys(conversation, body)
    _read_turns(conversation, body)
    conversation.external_id = _name(conversation, body, "external_id")
    conversation.group = _name(conversation, body, "group")
    _read_metadata(conversation, body.get("metadata"))
    return conversation


def _note_unknown_keys(conversation: Conversation, body: dict[str, Any]) -> None:
    if len(body) > FIELD_LIMIT:
        raise BadRecord(
            _("There are %(given)d fields; at most %(limit)d are allowed.") % {"given": len(body), "limit": FIELD_LIMIT}
        )
    for key in body:
        if key in KEYS:
            continue
        if meant := _meant(key[:100]):
            raise BadRecord(
                _("Unknown field “%(key)s”. Did you mean “%(meant)s”?") % {"key": _shown(key), "meant": meant}
            )
        conversation.ignored.append(("prompt", _shown(key)))


@lru_cache(maxsize=1000)
def _meant(key: str) -> str:
    """Which of KEYS was meant by one that nearly is it; empty where none was."""
    plain = key.casefold().replace("-", "_").replace(" ", "_")
    return next(iter(difflib.get_close_matches(plain, KEYS, n=1, cutoff=SIMILAR)), "")


def _read_turns(conversation: Conversation, body: dict[str, Any]) -> None:
    if "messages" in body and "text" in body:
        raise BadRecord(_("Give either “text” or “messages”, not both."))
    if "text" in body:
        conversation.messages = [{"role": "user", "content": _content(conversation, body["text"])}]
        return
    if "messages" not in body:
        raise BadRecord(_without_words(body))
    turns = body["messages"]
    if not isinstance(turns, list) or not turns:
        raise BadRecord(_("“messages” must be a list of turns."))
    if len(turns) > TURN_LIMIT:
        raise BadRecord(
            _("The conversation has %(given)d turns; at most %(limit)d are allowed.")
            % {"given": len(turns), "limit": TURN_LIMIT}
        )
    for number, turn in enumerate(turns, 1):
        _read_turn(conversation, number, turn)
    if not conversation.messages or conversation.messages[-1]["role"] != "user":
        raise BadRecord(_("The conversation must end with a user turn."))
    if any(message["role"] == "system" for message in conversation.messages[1:]):
        raise BadRecord(_("Only the first turn can be a system turn."))


def _without_words(body: dict[str, Any]) -> str:
    if not body:
        return _("Give either “text” or “messages”.")
    there = ", ".join(f"“{_shown(key)}”" for key in list(body)[:5])
    return _("Give either “text” or “messages”. Found only %s.") % there


def _read_turn(conversation: Conversation, number: int, turn: Any) -> None:
    if not isinstance(turn, dict) or turn.get("role") not in ROLES or "content" not in turn:
        raise BadRecord(_("Turn %d: each turn needs “content” and a “role” (system, user or assistant).") % number)
    if turn["role"] == "system" and _is_empty(turn["content"]):
        conversation.empty_system_turns += 1
        return
    try:
        content = _content(conversation, turn["content"])
    except BadText as error:
        raise BadText(_("Turn %(number)d: %(error)s") % {"number": number, "error": error}) from None
    conversation.messages.append({"role": turn["role"], "content": content})
    conversation.ignored += [("turn", _shown(key)) for key in turn if key not in ("role", "content")]


def _is_empty(content: Any) -> bool:
    return content is None or (isinstance(content, str) and not content.strip())


def _content(conversation: Conversation, text: Any) -> str:
    content = clean_filled_text(text, limit=MESSAGE_LIMIT)
    conversation.control_characters += control_count(text)
    return content


def _name(conversation: Conversation, body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        is_deep = json_depth(value) > METADATA_DEPTH  # json.dumps() calls itself for each level
        given = "[…]" if is_deep else repair_text(json.dumps(value, ensure_ascii=False)[:60])[0]
        raise BadRecord(_("“%(key)s” must be a string in quotes, not %(given)s.") % {"key": key, "given": given})
    try:
        name = clean_text(value, limit=NAME_LIMIT).strip()
    except BadText as error:
        raise BadText(_("“%(key)s”: %(error)s") % {"key": key, "error": error}) from None
    conversation.control_characters += control_count(value)
    return name


def _read_metadata(conversation: Conversation, given: Any) -> None:
    if not isinstance(given, dict | None):
        raise BadRecord(_("“metadata” must be a JSON object."))
    if json_depth(given) > METADATA_DEPTH:
        raise BadRecord(_("“metadata” is nested too deeply; at most %d levels are allowed.") % METADATA_DEPTH)
    conversation.metadata = repair_json(given or {})
    conversation.metadata_is_repaired = conversation.metadata != (given or {})
    if len(json.dumps(conversation.metadata)) > METADATA_LIMIT:
        raise BadRecord(_("“metadata” is too large; at most %d characters are allowed.") % METADATA_LIMIT)


def _shown(key: str) -> str:
    return repair_text(key[:100])[0]
