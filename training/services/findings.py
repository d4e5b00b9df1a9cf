"""Findings: what the engine's examination found, in words. What it means is in training/rlhf/examination.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.models import Stage

Numbers = dict[str, Any]


def words(kind: str, numbers: Numbers) -> str:
    """The finding as a sentence with its number."""
    return SENTENCES[kind](numbers)


def mends(kind: str) -> str:
    """Where it is mended: see preflight.Line.mend."""
    return MENDS[kind]


def _empty(numbers: Numbers) -> str:
    sentence = ngettext(
        "%(count)d answer is empty once it is turned into tokens (answer %(ids)s). It would teach silence.",
        "%(count)d answers are empty once they are turned into tokens (answers %(ids)s). They would teach silence.",
        numbers["count"],
    )
    return sentence % {"count": numbers["count"], "ids": ", ".join(numbers["ids"])}


def _rewritten(numbers: Numbers) -> str:
    sentence = ngettext(
        "The chat template writes %(count)d answer otherwise than it would be trained (answer %(ids)s).",
        "The chat template writes %(count)d answers otherwise than they would be trained (answers %(ids)s).",
        numbers["count"],
    )
    return sentence % {"count": numbers["count"], "ids": ", ".join(numbers["ids"])}


def _too_long(numbers: Numbers) -> str:
    return _(
        "%(stage)s: %(dropped)d of %(of)d texts are too long for the model's context of %(context)d tokens "
        "and are left out."
    ) % (numbers | {"stage": Stage(numbers["stage"]).label})


SENTENCES: dict[str, Callable[[Numbers], str]] = {
    "template": lambda numbers: _("The model's chat template or tokenizer cannot be used: %(text)s.") % numbers,
    "templates_differ": lambda numbers: (
        _("Models of this round write conversations differently: %(models)s.")
        % {"models": " ≠ ".join(numbers["models"])}
    ),
    "template_rewrites": _rewritten,
    "empty_answer": _empty,
    "end_not_trained": lambda numbers: (
        _(
            "Padding and end are the same token, %(token)s, and the end is masked away with the padding in "
            "%(lost)d of %(of)d answers: the model would never learn to stop."
        )
        % numbers
    ),
    "pad_is_end": lambda numbers: (
        ngettext(
            "Padding and end are the same token, %(token)s. That does no harm here: "
            "the end is trained in the %(of)d answer that ends.",
            "Padding and end are the same token, %(token)s. That does no harm here: "
            "the end is trained in all %(of)d answers that end.",
            numbers["of"],
        )
        % numbers
    ),
    "too_long": _too_long,
    "cut": lambda numbers: (
        ngettext(
            "%(cut)d of %(of)d answers is longer than an answer may be: it is cut, and has no end to learn.",
            "%(cut)d of %(of)d answers are longer than an answer may be: they are cut, and have no end to learn.",
            numbers["cut"],
        )
        % numbers
    ),
    "pairs": lambda numbers: (
        ngettext(
            "The rankings give %(pairs)d pair to learn from.",
            "The rankings give %(pairs)d pairs to learn from.",
            numbers["pairs"],
        )
        % numbers
    ),
}
MENDS = {
    "template": "model_files",
    "templates_differ": "model_files",
    "template_rewrites": "labels",
    "empty_answer": "labels",
    "end_not_trained": "model_files",
    "pad_is_end": "model_files",
    "too_long": "prompts",
    "cut": "labels",
    "pairs": "examples",
}
