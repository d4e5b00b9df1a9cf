"""The fields of a run's config in words: what each is called, and one sentence of what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from training.stages.metric import Words

HIDDEN = ("schema", "stage", "parents")


class Field(NamedTuple):
    label: Words
    meaning: Words
    unit: Words = ""  # where the label does not say it


class SavedField(NamedTuple):
    """A field with the value that a run was started with."""

    name: str
    label: Words
    meaning: Words
    unit: Words
    value: str


FIELDS: dict[str, Field] = {
    "seed": Field(_("seed"), _("Every random draw of the run follows from it.")),
    "threads": Field(_("threads"), _("Processor threads that compute; sums depend on it in their last digits.")),
    "dtype": Field(_("number format"), _("fp32 is exact, bf16 is quicker; auto takes what suits the machine.")),
    "batch_tokens": Field(_("tokens at once"), _("What goes through a network at a time: less needs less memory.")),
    "checkpoint_seconds": Field(_("seconds between checkpoints"), _("How much work a crash can cost at most.")),
    "vocab_size": Field(_("vocabulary"), _("Pieces of text that the tokenizer knows."), _("tokens")),
    "hidden_size": Field(_("width"), _("Numbers that stand for one token inside the model.")),
    "layers": Field(_("layers"), _("How many steps the model thinks in.")),
    "heads": Field(_("attention heads"), _("How many places a layer looks at, at the same time.")),
    "mlp_size": Field(_("inner width"), _("Numbers in the middle of a layer.")),
    "context": Field(_("context"), _("The most tokens that the model reads at once."), _("tokens")),
    "tokens": Field(_("tokens to read"), _("How much text the model reads in all.")),
    "warmup": Field(
        _("warm-up"), _("Share of the steps in which the learning rate still rises."), _("share of the steps")
    ),
    "epochs": Field(_("passes"), _("How often all of the data is gone through.")),
    "batch_size": Field(_("examples per step"), _("How many examples one step of learning looks at.")),
    "learning_rate": Field(_("learning rate"), _("How far one step moves the weights at most.")),
    "max_response": Field(_("longest answer"), _("Tokens that an answer may have."), _("tokens")),
    "iterations": Field(_("steps"), _("How often the policy writes answers and learns from them.")),
    "rollout_size": Field(_("answers per step"), _("How many answers the policy writes before it learns from them.")),
    "minibatch_size": Field(_("answers per update"), _("How many of these answers one update looks at.")),
    "value_learning_rate": Field(_("critic's learning rate"), _("How far one step moves the critic at most.")),
    "beta": Field(
        _("price of distance (beta)"), _("Reward lost for each nat that the policy moves from the SFT."), _("σ per nat")
    ),
    "clip": Field(_("clip"), _("The largest change of a token's probability that one step rewards.")),
    "value_clip": Field(
        _("critic's clip"), _("The largest change of the critic's guess that one step rewards."), _("σ")
    ),
    "gamma": Field(_("gamma"), _("What a reward is worth one token later; 1 is the same.")),
    "lam": Field(_("lambda"), _("How far ahead an advantage looks instead of trusting the critic.")),
    "missing_eos_penalty": Field(_("price of not ending"), _("Reward lost by an answer that does not end."), _("σ")),
    "kl_limit": Field(
        _("distance limit"), _("Nats per answer at which PPO stops and keeps the policy before."), _("nats per answer")
    ),
    "shown_samples": Field(_("answers kept to read"), _("How many answers of each step are kept for this page.")),
    "draws": Field(_("answers per prompt"), _("How many answers to each held-out prompt are measured.")),
    "k": Field(_("answers in a set"), _("How many answers people rank together.")),
}


def describe(config: dict[str, Any]) -> Iterator[SavedField]:
    """The fields of a saved config that a person may want to know, in the engine's order."""
    for name, value in config.items():
        if name not in HIDDEN:
            yield SavedField(name, *FIELDS.get(name, Field(name.replace("_", " "), "")), show(value))


def show(value: Any) -> str:
    """A setting's value as people read it: whole, without an exponent."""
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    return value if isinstance(value, str) else json.dumps(value)
