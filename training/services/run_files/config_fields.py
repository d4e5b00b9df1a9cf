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
    "demonstrations per step": _("demonstrations per step"),
    "MB": _("MB"),
    "iterations": _("PPO steps"),
    "documents per step": _("texts per step"),
    "nats per answer": _("nats per answer"),
    "prompts": _("prompts"),
    "measurements": _("judgements"),
    "reward": _("σ (standard deviations of the reward)"),
    "reward per nat": _("σ per nat"),
    "seconds": _("seconds"),
    "share of the steps": _("share of the steps"),
    "slates per step": _("sets of answers per step"),
    "tokens": _("tokens"),
}
TIME = _("Higher values take more time.")
TIME_AND_MEMORY = _("Higher values take more time and memory.")
FREE = _("No cost.")
ROOM = Field(  # to the stages whose model scores answers and writes none
    _("maximum answer length"),
    _("Tokens of the context that a prompt must leave for answers."),
    _("Higher values leave less room for prompts."),
)

FIELDS: dict[str, Field] = {
    "seed": Field(_("seed"), _("Determines every random draw of the run."), FREE),
    "threads": Field(
        _("threads"),
        _("CPU threads of each process. Changes the last digits of results."),
        _("More are faster, up to the number of CPU cores."),
    ),
    "processes": Field(
        _("processes"),
        _("Processes that train the model together. Each has its own graphics card, or its own threads on a CPU."),
        _("More are faster. The run waits for a worker with that many graphics cards or CPU cores."),
    ),
    "dtype": Field(
        _("number format"),
        _("fp32 is more precise, bf16 is faster, auto picks what suits the machine."),
        _("bf16 takes less time and memory where the machine supports it."),
    ),
    "activation_checkpointing": Field(
        _("activation checkpointing"),
        _("Computes each layer twice instead of keeping its results. auto does so where memory would run out."),
        _("on takes less memory and about a third more time."),
    ),
    "adapter_rank": Field(
        _("adapter rank"),
        _("Trains a LoRA adapter of this rank in place of all weights. 0 trains all weights."),
        _("An adapter takes much less memory. Higher ranks take a little more, and can learn more."),
    ),
    "adapter_alpha": Field(
        _("adapter alpha"),
        _("How much the adapter counts: alpha divided by its rank. Has no effect with rank 0."),
        FREE,
    ),
    "sharding": Field(
        _("sharding"),
        _(
            "Cuts the networks into a part for each process instead of giving each process a whole copy. auto does so"
            " where a graphics card is too small for the copies."
        ),
        _(
            "on takes less memory of each card and more traffic between them. No effect with one process or with"
            " adapters."
        ),
    ),
    "batch_tokens": Field(
        _("batch tokens"), _("Tokens processed at once."), _("Higher values are faster and need more memory.")
    ),
    "cache_mb": Field(
        _("answer cache"),
        _("Memory for the answers that are written at the same time."),
        _("Higher values are faster and need more memory."),
    ),
    "checkpoint_seconds": Field(
        _("seconds between checkpoints"),
        _("The most work a crash can lose, in seconds."),
        _("Lower values write to the disk more often."),
    ),
    "vocab_size": Field(_("vocabulary size"), _("Number of different tokens."), TIME_AND_MEMORY),
    "hidden_size": Field(_("hidden size"), _("Size of the vector for each token inside the model."), TIME_AND_MEMORY),
    "layers": Field(_("layers"), _("Number of transformer layers."), TIME_AND_MEMORY),
    "heads": Field(_("attention heads"), _("Attention heads per layer."), FREE),
    "mlp_size": Field(_("MLP size"), _("Size of the hidden layer in each MLP."), TIME_AND_MEMORY),
    "context": Field(_("context length"), _("Most tokens the model can process at once."), TIME_AND_MEMORY),
    "tokens": Field(_("training tokens"), _("Tokens the model is trained on in total."), TIME),
    "warmup": Field(_("warm-up"), _("Share of steps during which the learning rate rises to its peak."), FREE),
    "epochs": Field(
        _("epochs"),
        _("Number of passes over the data."),
        _("Higher values take more time. Too many overfit."),
    ),
    "ppo.epochs": Field(
        _("passes over the answers"),
        _("How often PPO trains on the answers of a step before it samples new ones."),
        _("Higher values take more time, and move the policy further from the one that wrote the answers."),
    ),
    "batch_size": Field(
        _("batch size"),
        _("Examples per optimiser step."),
        _("Higher values make fewer steps. Memory stays the same."),
    ),
    "learning_rate": Field(
        _("learning rate"),
        _("Peak learning rate of the optimiser."),
        _("No cost, but too high a rate ruins the model."),
    ),
    "max_response": Field(
        _("maximum answer length"),
        _("Most tokens an answer can have."),
        _("Higher values take more time and memory, and leave less room for prompts."),
    ),
    "reward.max_response": ROOM,
    "watcher.max_response": ROOM,
    "iterations": Field(_("PPO steps"), _("How many times the policy samples answers and is updated on them."), TIME),
    "rollout_size": Field(
        _("rollout size"), _("Answers sampled per PPO step."), _("Higher values make each step slower.")
    ),
    "minibatch_size": Field(
        _("minibatch size"), _("Answers per optimiser step."), _("Lower values make more updates, a little slower.")
    ),
    "value_learning_rate": Field(
        _("critic learning rate"),
        _("Peak learning rate of the critic."),
        _("No cost, but too high a rate ruins the critic."),
    ),
    "beta": Field(_("KL coefficient (beta)"), _("Reward subtracted per nat of KL from the SFT model."), FREE),
    "kl_target": Field(
        _("KL target"),
        _("Beta goes up while the KL is above this, and down while it is below. 0 keeps beta as it is."),
        FREE,
    ),
    "kl_horizon": Field(
        _("KL horizon"),
        _("Answers after which a KL far from the target has changed beta by a fifth. No effect without a target."),
        FREE,
    ),
    "mismatch_coefficient": Field(
        _("answers to other prompts"),
        _(
            "Weight of learning that a set’s best answer, and a demonstration, beat a good answer to another prompt. 0"
            " leaves it out."
        ),
        _("Any weight above 0 adds one answer to every set, and a demonstration with one."),
    ),
    "ptx_coefficient": Field(
        _("demonstration mix (PPO-ptx)"),
        _("Weight of the loss on demonstrations in each update of the policy. 0 leaves them out."),
        _("Any weight above 0 takes about a quarter more time."),
    ),
    "ema_decay": Field(
        _("weight average (EMA)"),
        _(
            "How much of the average of the policy’s weights stays at each step. The average is published. 0 publishes"
            " the last weights."
        ),
        _("Above 0 it takes one more copy of the weights in the computer’s memory."),
    ),
    "clip": Field(_("clip range"), _("How far a token's probability ratio may move before it is clipped."), FREE),
    "value_clip": Field(_("value clip range"), _("How far the critic's estimate may move before it is clipped."), FREE),
    "gamma": Field(_("discount (gamma)"), _("Weight of a reward one token later. 1 means no discount."), FREE),
    "lam": Field(_("GAE lambda"), _("1 relies on observed rewards, 0 on the critic's estimates."), FREE),
    "missing_eos_penalty": Field(
        _("missing EOS penalty"), _("Reward subtracted from an answer that does not end."), FREE
    ),
    "kl_limit": Field(
        _("KL limit"),
        _("Nats per answer at which PPO stops and keeps the previous policy."),
        _("A higher limit lets PPO run longer."),
    ),
    "gauge_every": Field(
        _("steps between judgements"),
        _(
            "How often the independent judge scores the policy. 0 turns off judge and trial: then nothing shows an"
            " exploited reward."
        ),
        _("Lower values take more time."),
    ),
    "gauge_prompts": Field(
        _("judged prompts"),
        _("Training prompts the policy answers for each judgement, always the same ones."),
        _("Higher values take more time and see smaller changes."),
    ),
    "gauge_patience": Field(
        _("patience"),
        _("Judgements in a row without a certain improvement after which PPO ends."),
        _("Higher values let PPO go on longer, and may let it exploit the reward."),
    ),
    "trial_answers": Field(
        _("answers of the trial"),
        _(
            "Before PPO, the policy gives so many answers to each of 64 prompts. PPO begins only if the independent"
            " judge prefers those the reward model picks. 0: no trial."
        ),
        _("Higher values take more time."),
    ),
    "early_stopping": Field(
        _("early stopping"),
        _(
            "Ends PPO once the independent judge sees no further improvement, and publishes the policy it liked best."
            " off publishes the last one."
        ),
        _("on may end PPO sooner."),
    ),
    "shown_samples": Field(_("samples kept"), _("Answers of each step kept for this page."), _("A little disk space.")),
    "draws": Field(_("answers per prompt"), _("Answers measured for each held-out prompt."), TIME),
    "k": Field(
        _("answers per set (K)"), _("Answers people rank together."), _("Sampling time, and people's time to rank.")
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
