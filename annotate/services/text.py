"""How people's and models' text is cleaned wherever it comes in.

Left out on purpose: normalising. What was written is stored as it was written, bidi marks and joiners included; only
the hash that finds near-duplicates folds.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

MESSAGE_LIMIT = 100_000  # characters of one turn, one answer or one completion
NOTE_LIMIT = 4_000
NAME_LIMIT = 200  # external ids, groups, flags
ID_LENGTH = 18  # digits that always fit into 64 bits

THINK, THOUGHT = "<think>", "</think>"  # the tags around a model's thought
# C0 and C1 controls except tab and line feed.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


class BadText(Exception):
    """A text that cannot be taken as it is; the message says what to do."""


def clean_text(text: str, *, limit: int) -> str:
    """`text` with LF line ends, and white space where control characters stood, so that words do not run together.

    Raises BadText for NUL, lone surrogates and more than `limit` characters.
    """
    if not isinstance(text, str):
        raise BadText(_("This must be text."))
    if _UNSTORABLE.search(text):
        raise BadText(_("The text has characters that cannot be stored (NUL or unpaired surrogates). Remove them."))
    cleaned = _without_controls(text)
    if len(cleaned) > limit:
        raise BadText(
            _("The text has %(length)d characters; at most %(limit)d are allowed. Shorten it.")
            % {"length": len(cleaned), "limit": limit}
        )
    return cleaned


def clean_filled_text(text: str, *, limit: int) -> str:
    """As clean_text; raises BadText, too, when nothing but white space is there."""
    cleaned = clean_text(text, limit=limit)
    if not cleaned.strip():
        raise BadText(_("The text is empty."))
    return cleaned


def clean_draft(draft: dict[str, Any]) -> dict[str, Any]:
    """`draft` made storable, and whole: it may hold what no one could submit, but not more than there is room for.

    Raises BadText rather than cut it short: a person whose draft is saved counts on every word of it.
    """
    repaired: dict[str, Any] = repair_json(draft)
    for value in repaired.values():
        if isinstance(value, str):
            clean_text(value, limit=MESSAGE_LIMIT)
    return repaired


class ThoughtAndAnswer(NamedTuple):
    """A model's text in its two parts; most have no thought."""

    thought: str
    answer: str


def split_thought(text: str) -> ThoughtAndAnswer:
    """What a model thought before it answered, and the answer. A thought that does not end is all there is to read."""
    before, begun, rest = text.partition(THINK)
    thought, ended, answer = rest.partition(THOUGHT)
    if before.strip() or not begun or not ended:
        return ThoughtAndAnswer("", text)
    return ThoughtAndAnswer(thought.strip(), answer.lstrip("\n"))


def repair_text(text: str) -> tuple[str, bool]:
    """`text` made storable, and whether it had to be changed: a model's output is repaired instead of refused."""
    repaired = _storable(text)[:MESSAGE_LIMIT]
    return repaired, repaired != text


def repair_json(value: Any) -> Any:
    """A JSON value that every database stores: strings repaired, infinite numbers (as of 1e999) left out.

    It calls itself for each level: what comes from outside has passed a limit of json_depth().
    """
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, list):
        return [repair_json(item) for item in value]
    if isinstance(value, dict):
        return {_storable(str(key)): repair_json(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def search_term(typed: str) -> str:
    """What was typed into a search box, without what no stored text has and PostgreSQL refuses to look for."""
    return _UNSTORABLE.sub("", typed).strip()


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a row: ASCII digits, few enough for 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= ID_LENGTH


def json_depth(value: Any) -> int:
    """How many levels of lists and objects `value` has."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def control_count(text: str) -> int:
    """How many characters of `text` clean_text() turns into white space; line ends are not among them."""
    return len(_CONTROLS.findall(_with_plain_line_ends(text)))


def text_hash(messages: Sequence[dict[str, str]]) -> str:
    """SHA-256 of the conversation as it is: equal for equal texts said by the same roles, and for nothing else."""
    return _hash([[message["role"], message["content"]] for message in messages])


def folded_hash(messages: Sequence[dict[str, str]]) -> str:
    """SHA-256 of the folded conversation: the same for texts that differ in case, spacing or composition only."""
    return _hash([[message["role"], _fold(message["content"])] for message in messages])


def _hash(turns: list[list[str]]) -> str:
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def _storable(text: str) -> str:
    return _without_controls(_UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def _without_controls(text: str) -> str:
    return _CONTROLS.sub(" ", _with_plain_line_ends(text))


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
