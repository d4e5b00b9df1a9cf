"""The settings of the stages in words: what each is called, what it does, and what it costs.

Units, limits and defaults are the engine's: training/rlhf/config.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from training import stages
from training.stages.metric import Words
from training.stages.number_format import typed

HIDDEN = ("schema", "stage", "parents")
SET_ELSEWHERE = (*HIDDEN, "seed", "k")  # by the project's own settings


class Field(NamedTuple):
    label: Words
    meaning: Words
    cost: Words = ""  # in memory, time or disk; empty where it makes no difference


class SavedField(NamedTuple):
    """A field with the value that a run was started with."""

    name: str
    label: Words
    meaning: Words
    unit: Words
    value: str


class SettingLink(NamedTuple):
    """A setting of a stage, where something leads to it."""

    stage: str
    name: str

    @property
    def anchor(self) -> str:
        """The id of its row on the page of training settings."""
        return f"{self.stage}-{self.name}"

    @property
    def label(self) -> str:
        words = {"setting": words_of(self.stage, self.name).label, "stage": stages.find(self.stage).label}
        return _now("%(setting)s (%(stage)s)") % words


UNITS: dict[str, Words] = {  # of the fields in training/rlhf/config.py
    "": "",
    "answers": _("answers"),
    "demonstrations per step": _("answers that people wrote, per step"),
    "documents per step": _("texts per step"),
    "nats per answer": _("nats per answer"),
    "reward": _("σ of the reward"),
    "reward per nat": _("σ of the reward per nat"),
    "seconds": _("seconds"),
    "share of the steps": _("share of the steps"),
    "slates per step": _("sets of answers per step"),
    "tokens": _("tokens"),
}
TIME = _("Time grows with it.")
TIME_AND_MEMORY = _("Time and memory grow with it.")
FREE = _("Costs nothing.")

FIELDS: dict[str, Field] = {
    "seed": Field(_("seed"), _("Every random draw of the run follows from it."), FREE),
    "threads": Field(
        _("threads"),
        _("Processor threads that compute; sums depend on it in their last digits."),
        _("More are quicker, up to the processor's cores."),
    ),
    "dtype": Field(
        _("number format"),
        _("How exactly the networks compute: fp32 or bf16; auto takes what suits the machine."),
        _("bf16 takes less time and memory where the machine computes with it."),
    ),
    "batch_tokens": Field(
        _("tokens at once"),
        _("How many tokens go through a network at a time."),
        _("Memory grows with it; more is quicker."),
    ),
    "checkpoint_seconds": Field(
        _("seconds between checkpoints"),
        _("How much work a crash can cost at most."),
        _("Fewer seconds write to the disk more often."),
    ),
    "vocab_size": Field(_("vocabulary"), _("Pieces of text that the tokenizer knows."), TIME_AND_MEMORY),
    "hidden_size": Field(_("width"), _("Numbers that stand for one token inside the model."), TIME_AND_MEMORY),
    "layers": Field(_("layers"), _("How many steps the model thinks in."), TIME_AND_MEMORY),
    "heads": Field(_("attention heads"), _("How many places a layer looks at, at the same time."), FREE),
    "mlp_size": Field(_("inner width"), _("Numbers in the middle of a layer."), TIME_AND_MEMORY),
    "context": Field(_("context"), _("The most tokens that the model reads at once."), TIME_AND_MEMORY),
    "tokens": Field(_("tokens to read"), _("How much text the model reads in all."), TIME),
    "warmup": Field(_("warm-up"), _("Share of the steps in which the learning rate still rises."), FREE),
    "epochs": Field(
        _("passes"),
        _("How often all of the data is gone through."),
        _("Time grows with it; too many, and the labels are learnt by heart."),
    ),
    "batch_size": Field(
        _("examples per step"),
        _("How many examples one step of learning looks at."),
        _("More take fewer steps; memory stays the same."),
    ),
    "learning_rate": Field(
        _("learning rate"),
        _("How far one step moves the weights at most."),
        _("Costs nothing; too high, and the model is spoilt."),
    ),
    "max_response": Field(
        _("longest answer"),
        _("Tokens that an answer may have."),
        _("Time and memory grow with it, and prompts have less room."),
    ),
    "reward.max_response": Field(
        _("longest answer"),
        _("Tokens of the context that a prompt must leave free for answers."),
        _("Prompts have less room."),
    ),
    "iterations": Field(_("steps"), _("How often the policy writes answers and learns from them."), TIME),
    "rollout_size": Field(
        _("answers per step"),
        _("How many answers the policy writes before it learns from them."),
        _("The time of a step grows with it."),
    ),
    "minibatch_size": Field(
        _("answers per update"),
        _("How many of these answers one update looks at."),
        _("Fewer make more updates, and take a little longer."),
    ),
    "value_learning_rate": Field(
        _("critic's learning rate"),
        _("How far one step moves the critic at most."),
        _("Costs nothing; too high, and the critic is spoilt."),
    ),
    "beta": Field(
        _("price of distance (beta)"), _("Reward lost for each nat that the policy moves from the SFT."), FREE
    ),
    "clip": Field(_("clip"), _("The largest change of a token's probability that one step rewards."), FREE),
    "value_clip": Field(_("critic's clip"), _("The largest change of the critic's guess that one step rewards."), FREE),
    "gamma": Field(_("gamma"), _("What a reward is worth one token later; 1 is the same."), FREE),
    "lam": Field(_("lambda"), _("How far ahead an advantage looks instead of trusting the critic."), FREE),
    "missing_eos_penalty": Field(_("price of not ending"), _("Reward lost by an answer that does not end."), FREE),
    "kl_limit": Field(
        _("distance limit"),
        _("Nats per answer at which PPO stops and keeps the policy before."),
        _("A higher one lets PPO go on for longer."),
    ),
    "shown_samples": Field(
        _("answers kept to read"), _("How many answers of each step are kept for this page."), _("A little disk.")
    ),
    "draws": Field(_("answers per prompt"), _("How many answers to each held-out prompt are measured."), TIME),
    "k": Field(
        _("answers in a set"),
        _("How many answers people rank together."),
        _("The time of sampling, and of those who rank."),
    ),
}


def words_of(stage: str, name: str) -> Field:
    """The words of a field; what it means to `stage`, where that differs."""
    return FIELDS.get(f"{stage}.{name}") or FIELDS.get(name) or Field(name.replace("_", " "), "")


def links(stage: str, names: Iterable[str]) -> list[SettingLink]:
    """Those of `names` that are settings of `stage`."""
    known = {field.name for field in dataclasses.fields(stages.find(stage).config)} - set(SET_ELSEWHERE)
    return [SettingLink(stage, name) for name in names if name in known]


def describe(config: dict[str, Any]) -> Iterator[SavedField]:
    """The fields of a saved config that a person may want to know, in the engine's order."""
    for name, value in config.items():
        if name not in HIDDEN:
            stage = config.get("stage", "")
            words = words_of(stage, name)
            yield SavedField(name, words.label, words.meaning, unit_of(stage, name), show(value))


def unit_of(stage: str, name: str) -> Words:
    """The unit of a setting of `stage`, as people read it."""
    fields = {field.name: field for field in dataclasses.fields(stages.find(stage).config)} if stage else {}
    return UNITS[fields[name].metadata.get("unit", "")] if name in fields else ""


def show(value: Any) -> str:
    """A setting's value as people read it."""
    if isinstance(value, bool):
        return _now("yes") if value else _now("no")
    return typed(value)
