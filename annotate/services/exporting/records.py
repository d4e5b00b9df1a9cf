"""What a line of each file says.

Files are made to be loaded by `datasets`, which takes the types of all columns from the first ten megabytes. So a
column has one type in every line: where there is none, a text is empty and a number 0; what may have any shape (flags,
metadata) is JSON as text. Names that TRL gives a meaning (prompt, chosen, rejected, completion, messages) have it here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import combinations
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils.crypto import salted_hmac

from annotate import hooks
from annotate.hooks import Writer
from annotate.models import Completion, Placement
from annotate.models.labels import LabelQuerySet, LeftOut
from annotate.services.exporting.selection import Row, Selection, in_chunks
from annotate.services.rankings import letters

Record = dict[str, Any]
Completions = dict[int, Record]  # of some slates, by their ids

ELSEWHERE = Writer("elsewhere")  # no model of this project wrote it
PROMPT_FIELDS = ("pk", "messages", "external_id", "group", "split")
LABEL_FIELDS = (
    "pk", "annotator", "annotator__erased_at", "annotator__is_simulated", "assignment__is_extra", "superseded_by",
    "supersedes", "verdict", "reason", "note", "created_at",
)  # fmt: skip
ABOUT_PROMPT = ("external_id", "group", "metadata", "split")
ABOUT_LABEL = (
    "annotator", "is_simulated", "is_extra", "is_current", "supersedes", "review", "left_out", "flags", "note",
    "created_at",
)  # fmt: skip
COLUMNS = {
    "demonstrations": ("demonstration_id", "prompt_id", "messages", *ABOUT_PROMPT, *ABOUT_LABEL),
    "rankings": ("ranking_id", "slate_id", "prompt_id", "prompt", "completions", *ABOUT_PROMPT, *ABOUT_LABEL),
    "comparisons": (
        "ranking_id", "slate_id", "prompt_id", "prompt", "chosen", "rejected", "chosen_id", "rejected_id",
        "chosen_place", "rejected_place", "chosen_written_by", "rejected_written_by", *ABOUT_PROMPT, *ABOUT_LABEL,
    ),
    "prompts": ("prompt_id", "prompt", *ABOUT_PROMPT, "left_out", "created_at"),
    "completions": (
        "completion_id", "slate_id", "prompt_id", "prompt", "completion", "finish_reason", "written_by", "round",
        "sampling", *ABOUT_PROMPT, "left_out", "created_at",
    ),
}  # fmt: skip


def demonstrations(selection: Selection) -> Iterator[Record]:
    """A line for each answer that a person wrote: the conversation with the answer at its end."""
    fields = (*LABEL_FIELDS, "text", *_of_prompt("prompt"))
    texts = {"flags_text": _as_text("flags"), "metadata_text": _as_text("prompt__metadata")}
    for chunk in in_chunks(selection.demonstrations().with_status(), *fields, **texts):
        for row in chunk:
            answer = {"role": "assistant", "content": row["text"]}
            yield {
                "demonstration_id": row["pk"],
                "prompt_id": row["prompt__pk"],
                "messages": [*row["prompt__messages"], answer],
                **_about_prompt(row, "prompt"),
                **_about_label(row),
            }


def rankings(selection: Selection) -> Iterator[Record]:
    """A line for each ranking: every completion with its place, its rating and what wrote it."""
    for row, judged in _judged(selection.rankings().with_status()):
        yield {
            "ranking_id": row["pk"],
            "slate_id": row["slate"],
            "prompt_id": row["slate__prompt__pk"],
            "prompt": row["slate__prompt__messages"],
            "completions": judged,
            **_about_prompt(row, "slate__prompt"),
            **_about_label(row),
        }


def comparisons(selection: Selection) -> Iterator[Record]:
    """A line for each pair of a ranking of which one was placed better; ties and “cannot judge” give none."""
    for ranking in rankings(selection):
        placed = sorted((one for one in ranking.pop("completions") if one["place"]), key=lambda one: one["place"])
        for chosen, rejected in combinations(placed, 2):
            if chosen["place"] != rejected["place"]:
                yield ranking | {
                    "chosen": _answer(chosen["text"]),
                    "rejected": _answer(rejected["text"]),
                    "chosen_id": chosen["completion_id"],
                    "rejected_id": rejected["completion_id"],
                    "chosen_place": chosen["place"],
                    "rejected_place": rejected["place"],
                    "chosen_written_by": chosen["written_by"],
                    "rejected_written_by": rejected["written_by"],
                }


def prompts(selection: Selection) -> Iterator[Record]:
    fields = (*PROMPT_FIELDS, "withdrawn_at", "created_at")
    for chunk in selection.prompts(*fields, metadata_text=_as_text("metadata")):
        for row in chunk:
            yield {
                "prompt_id": row["pk"],
                "prompt": row["messages"],
                **_about_prompt(row),
                "left_out": _withdrawn(row["withdrawn_at"]),
                "created_at": _time(row["created_at"]),
            }


def completions(selection: Selection) -> Iterator[Record]:
    """A line for each completion in a slate, ranked or not."""
    fields = ("pk", "created_at", "prompt__withdrawn_at", *_of_prompt("prompt"))
    for chunk in in_chunks(selection.slates(), *fields, metadata_text=_as_text("prompt__metadata")):
        slates = {row["pk"]: row for row in chunk}
        for pk, found in _completions(slates).items():
            slate = slates[found["slate_id"]]
            writer = found["writer"]
            yield {
                "completion_id": pk,
                "slate_id": found["slate_id"],
                "prompt_id": slate["prompt__pk"],
                "prompt": slate["prompt__messages"],
                "completion": _answer(found["text"]),
                "finish_reason": found["finish_reason"],
                "written_by": writer.name,
                "round": writer.round or 0,
                "sampling": _ENCODE(dict(writer.sampling)),
                **_about_prompt(slate, "prompt"),
                "left_out": _withdrawn(slate["prompt__withdrawn_at"]),
                "created_at": _time(slate["created_at"]),
            }


def pseudonym(member_pk: int) -> str:
    """What a member is called in files: the same in every file of the project, and never a name.

    A hash under the installation's secret key: without that, the few ids that there are could all be tried. Members
    belong to one project, so a person has another pseudonym in another project. A new SECRET_KEY gives new pseudonyms.
    """
    return f"person-{salted_hmac('annotate.export', str(member_pk), algorithm='sha256').hexdigest()[:16]}"


_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
_cached_pseudonym = lru_cache(maxsize=1024)(pseudonym)


def _judged(labels: LabelQuerySet[Any]) -> Iterator[tuple[Row, list[Record]]]:
    """Each ranking's row with its completions, in the order of their ids, as it judges them."""
    fields = (*LABEL_FIELDS, "slate", "assignment__card_order", *_of_prompt("slate__prompt"))
    texts = {"flags_text": _as_text("flags"), "metadata_text": _as_text("slate__prompt__metadata")}
    for chunk in in_chunks(labels, *fields, **texts):
        found = _completions({row["slate"] for row in chunk})
        places: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        placements = Placement.objects.filter(ranking__in=[row["pk"] for row in chunk]).order_by("completion")
        said = placements.values_list("ranking", "completion", "place", "rating", _as_text("flags"))
        for ranking, *placement in said:
            places[ranking].append(tuple(placement))
        for row in chunk:
            shown = letters(row["assignment__card_order"])
            yield (
                row,
                [
                    _placed(pk, found[pk], shown.get(pk, ""), place, rating, flags)
                    for pk, place, rating, flags in places[row["pk"]]
                ],
            )


def _placed(pk: int, completion: Record, letter: str, place: int | None, rating: int | None, flags: str) -> Record:
    return {
        "completion_id": pk,
        "text": completion["text"],
        "finish_reason": completion["finish_reason"],
        "written_by": completion["writer"].name,
        "round": completion["writer"].round or 0,
        "letter": letter,
        "place": place,
        "rating": rating or 0,
        "flags": _text(flags),
    }


def _completions(slates: Collection[int]) -> Completions:
    """The completions of `slates` (ids), with what wrote them."""
    rows = Completion.objects.filter(slate__in=slates).order_by("pk")
    found = {
        pk: {"slate_id": slate, "text": text, "finish_reason": finish_reason}
        for pk, slate, text, finish_reason in rows.values_list("pk", "slate", "text", "finish_reason")
    }
    writers = hooks.writers(list(slates))
    for pk, completion in found.items():
        completion["writer"] = writers.get(pk, ELSEWHERE)
    return found


def _of_prompt(path: str) -> tuple[str, ...]:
    return tuple(f"{path}__{field}" for field in PROMPT_FIELDS)


def _about_prompt(row: Row, path: str = "") -> Record:
    before = f"{path}__" if path else ""
    return {
        "external_id": row[f"{before}external_id"] or "",
        "group": row[f"{before}group"],
        "metadata": _text(row["metadata_text"]),
        "split": row[f"{before}split"],
    }


def _about_label(row: Row) -> Record:
    is_erased = row["annotator__erased_at"] is not None
    return {
        "annotator": "" if is_erased else _cached_pseudonym(row["annotator"]),
        "is_simulated": row["annotator__is_simulated"],
        "is_extra": row["assignment__is_extra"],
        "is_current": row["superseded_by"] is None,
        "supersedes": row["supersedes"] or 0,
        "review": row["verdict"] or "",
        "left_out": row["reason"],
        "flags": _text(row["flags_text"]),
        "note": row["note"],
        "created_at": _time(row["created_at"]),
    }


def _withdrawn(at: datetime | None) -> str:
    return LeftOut.WITHDRAWN.value if at else ""


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _as_text(field: str) -> Cast:
    """A JSON field as the database writes it: most have nothing in them, which costs nothing to read that way."""
    return Cast(field, TextField())


def _text(value: str) -> str:
    """What `_as_text` gave, written in one way whatever the database."""
    return value if value in ("[]", "{}") else _ENCODE(json.loads(value))
