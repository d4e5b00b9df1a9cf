"""Presets: values of the stages' settings for a size of base model, each with where they come from.

A project has one preset. The engine's defaults lie below it, the project's own values above it; they are combined in
training/services/registry/configs.py. Values that nobody has tried here say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _

from training.stages.metric import Words


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where values of a preset come from."""

    what: Words  # the settings that are meant
    where: Words  # a sentence: what was measured, or who published it


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values for base models of about one size; what is not named has the engine's default."""

    name: str  # as it is stored, and as the API calls it
    label: Words
    suits: Words  # one sentence: for which base models
    largest: float  # parameters of the largest base model that it is suggested for
    is_measured: bool  # whether whole rounds were trained with it, and measured
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # {stage: {field of its config: value}}
    sources: tuple[Source, ...] = ()


_SUPERVISED = Source(
    what=_("SFT and reward model"),
    where=_(
        "Learning rates and batch sizes follow InstructGPT for 1.3B and 6B (Ouyang et al. 2022, appendix C): "
        "SFT 9.65e-6 with 32 demonstrations, reward model 9e-6 with 64 sets of answers for one epoch. SFT "
        "uses 3 epochs instead of 16. Not benchmarked."
    ),
)
_PPO = Source(
    what=_("PPO"),
    where=_(
        "512 answers per step, 64 per update, each used once, and a critic learning rate of 9e-6, as in "
        "InstructGPT (Ouyang et al. 2022, appendix C), which does not give the policy's learning rate and "
        "diverged above 8e-6. 3e-6 and beta 0.05: Huang et al. 2024, for 1B to 6.9B. From 1B, 1e-6 as in "
        "Llama 2 (Touvron et al. 2023). Not benchmarked."
    ),
)

TINY = Preset(
    name="tiny",
    label=_("Tiny"),
    suits=_("For the built-in tiny model and other models of up to 50 million parameters."),
    largest=5e7,
    is_measured=True,
    values={
        "sft": {"epochs": 4, "batch_size": 8, "learning_rate": 2e-4, "max_response": 64},
        "reward": {"epochs": 3, "batch_size": 4, "learning_rate": 5e-4, "max_response": 64},
        "ppo": {
            "iterations": 40,
            "rollout_size": 64,
            "minibatch_size": 32,
            "max_response": 64,
            "learning_rate": 5e-4,
            "value_learning_rate": 5e-4,
            "beta": 0.2,
            "kl_limit": 4.0,
        },
        "evaluation": {"draws": 4, "max_response": 64, "batch_tokens": 65_536},
        "sampling": {"max_response": 64, "batch_tokens": 65_536},
    },
    sources=(
        Source(
            what=_("all values"),
            where=_(
                "Benchmarked with the built-in model: on seeds 0 to 2 the first PPO policy wins 72% of pairs against "
                "SFT at a KL of 1.2 nats per answer (see docs/benchmarks.md). A starting point for other models of "
                "this size."
            ),
        ),
    ),
)
HALF_BILLION = Preset(
    name="0.5B",
    label=_("0.5B"),
    suits=_("For base models of about half a billion parameters, on one GPU with 80 GB."),
    largest=1e9,
    is_measured=False,
    values={
        "sft": {"epochs": 3, "batch_size": 32, "learning_rate": 1e-5, "max_response": 256},
        "reward": {"epochs": 1, "batch_size": 64, "learning_rate": 9e-6, "max_response": 256},
        "ppo": {
            "rollout_size": 512,
            "minibatch_size": 64,
            "learning_rate": 3e-6,
            "value_learning_rate": 9e-6,
            "beta": 0.05,
            "max_response": 256,
            "batch_tokens": 8192,
        },
    },
    sources=(
        _SUPERVISED,
        _PPO,
        Source(
            what=_("batch tokens"),
            where=_("8,192 in PPO: an estimated peak of 49 GiB for Qwen2-0.5B. Not measured on a GPU."),
        ),
    ),
)
ONE_AND_A_HALF_BILLION = Preset(
    name="1.5B",
    label=_("1.5B"),
    suits=_("For base models of about 1.5 billion parameters, on one GPU with 80 GB."),
    largest=3e9,
    is_measured=False,
    values={
        "sft": {"epochs": 3, "batch_size": 32, "learning_rate": 1e-5, "max_response": 256, "batch_tokens": 4096},
        "reward": {"epochs": 1, "batch_size": 64, "learning_rate": 9e-6, "max_response": 256, "batch_tokens": 4096},
        "ppo": {
            "rollout_size": 512,
            "minibatch_size": 64,
            "learning_rate": 1e-6,
            "value_learning_rate": 9e-6,
            "beta": 0.05,
            "max_response": 256,
            "batch_tokens": 2048,
        },
    },
    sources=(
        _SUPERVISED,
        _PPO,
        Source(
            what=_("batch tokens"),
            where=_(
                "2,048 in PPO: an estimated peak of 66 GiB for Qwen2-1.5B (8,192 would need 100 GiB). 4,096 in SFT "
                "and the reward model, which hold fewer copies of the weights. Not measured on a GPU."
            ),
        ),
    ),
)
DEFAULTS = Preset(
    name="defaults",
    label=_("Engine defaults"),
    suits=_("For base models of any other size: the engine's built-in values."),
    largest=float("inf"),
    is_measured=False,
    sources=(
        Source(
            what=_("all values"),
            where=_(
                "Chosen for about a billion parameters, based on InstructGPT (Ouyang et al. 2022). Not benchmarked."
            ),
        ),
    ),
)

# The smaller ones first: the first that is large enough for a base model is suggested.
PRESETS = {preset.name: preset for preset in (TINY, HALF_BILLION, ONE_AND_A_HALF_BILLION, DEFAULTS)}


def for_size(parameters: int) -> Preset:
    """The preset to suggest for a base model with that many parameters; 0 where nobody has counted them."""
    return next(preset for preset in PRESETS.values() if parameters <= preset.largest) if parameters else DEFAULTS


def choices() -> list[tuple[str, Words]]:
    """Name and label of each preset, for a model's field."""
    return [(preset.name, preset.label) for preset in PRESETS.values()]
