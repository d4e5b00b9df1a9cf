"""The fields of a run's config in words: what each is called, and one sentence of what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _

from training.stages.metric import Words

HIDDEN = ("schema", "stage", "parents")


class Field(NamedTuple):
    label: Words
    meaning: Words


class SavedField(NamedTuple):
    """A field with the value that a run was started with."""

    name: str
    label: Words
    meaning: Words
    value: Any


FIELDS: dict[str, Field] = {
    "seed": Field(_("seed"), _("Determines every random draw of the run.")),
    "threads": Field(_("threads"), _("CPU threads used. Changes the last digits of results.")),
    "dtype": Field(_("number format"), _("fp32 is more precise, bf16 is faster, auto picks what suits the machine.")),
    "batch_tokens": Field(_("batch tokens"), _("Tokens processed at once. Lower values need less memory.")),
    "checkpoint_seconds": Field(_("seconds between checkpoints"), _("The most work a crash can lose, in seconds.")),
    "vocab_size": Field(_("vocabulary size"), _("Number of different tokens.")),
    "hidden_size": Field(_("hidden size"), _("Size of the vector for each token inside the model.")),
    "layers": Field(_("layers"), _("Number of transformer layers.")),
    "heads": Field(_("attention heads"), _("Attention heads per layer.")),
    "mlp_size": Field(_("MLP size"), _("Size of the hidden layer in each MLP.")),
    "context": Field(_("context length"), _("Most tokens the model can process at once.")),
    "tokens": Field(_("training tokens"), _("Tokens the model is trained on in total.")),
    "warmup": Field(_("warm-up"), _("Share of steps during which the learning rate rises to its peak.")),
    "epochs": Field(_("epochs"), _("Number of passes over the data.")),
    "batch_size": Field(_("batch size"), _("Examples per optimiser step.")),
    "learning_rate": Field(_("learning rate"), _("Peak learning rate of the optimiser.")),
    "max_response": Field(_("maximum answer length"), _("Most tokens an answer can have.")),
    "iterations": Field(_("PPO steps"), _("How many times the policy samples answers and is updated on them.")),
    "rollout_size": Field(_("rollout size"), _("Answers sampled per PPO step.")),
    "minibatch_size": Field(_("minibatch size"), _("Answers per optimiser step.")),
    "value_learning_rate": Field(_("critic learning rate"), _("Peak learning rate of the critic.")),
    "beta": Field(_("KL coefficient (beta)"), _("Reward subtracted per nat of KL from the SFT model.")),
    "clip": Field(_("clip range"), _("How far a token's probability ratio may move before it is clipped.")),
    "value_clip": Field(_("value clip range"), _("How far the critic's estimate may move before it is clipped.")),
    "gamma": Field(_("discount (gamma)"), _("Weight of a reward one token later. 1 means no discount.")),
    "lam": Field(_("GAE lambda"), _("1 relies on observed rewards, 0 on the critic's estimates.")),
    "missing_eos_penalty": Field(_("missing EOS penalty"), _("Reward subtracted from an answer that does not end.")),
    "kl_limit": Field(_("KL limit"), _("Nats per answer at which PPO stops and keeps the previous policy.")),
    "shown_samples": Field(_("samples kept"), _("Answers of each step kept for this page.")),
    "draws": Field(_("answers per prompt"), _("Answers measured for each held-out prompt.")),
    "k": Field(_("answers per set (K)"), _("Answers people rank together.")),
}


def describe(config: dict[str, Any]) -> Iterator[SavedField]:
    """The fields of a saved config that a person may want to know, in the engine's order."""
    for name, value in config.items():
        if name not in HIDDEN:
            label, meaning = FIELDS.get(name, Field(name.replace("_", " "), ""))
            yield SavedField(name, label, meaning, value)
