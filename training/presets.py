"""Presets: values of the stages' settings for a size of base model, each with where they come from.

A project has one preset. The engine's defaults lie below it, the project's own values above it; they are combined in
training/services/registry/configs.py. Values that nobody has tried here say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import format_lazy
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
    largest: float  # parameters of the largest base model that it suits; others for the same size have the same
    is_measured: bool  # whether whole rounds were trained with it, and measured
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # {stage: {field of its config: value}}
    sources: tuple[Source, ...] = ()


_INSTRUCT_GPT = Source(
    what=_("SFT and reward model"),
    where=_(
        "Learning rates and batch sizes follow InstructGPT for 1.3B and 6B (Ouyang et al. 2022, appendix C): "
        "SFT 9.65e-6 with 32 demonstrations, reward model 9e-6 with 64 sets of answers for one epoch. SFT "
        "uses 3 epochs instead of 16. Not benchmarked."
    ),
)
_BATCHES = Source(
    what=_("PPO"),
    where=_(
        "512 answers per step, 64 per update, each used once: InstructGPT (Ouyang et al. 2022, appendix C) and "
        "Llama 2 (Touvron et al. 2023, section 3). Critic learning rate 9e-6: InstructGPT. Beta 0.05: Stiennon et al. "
        "2020, Huang et al. 2024 for 1B to 6.9B, and Tulu 3 (Lambert et al. 2024) for 8B with verifiable rewards; "
        "Llama 2 7B used 0.01. Answers of up to 256 tokens are a choice made here; OpenRLHF's examples for 8B allow "
        "1,024. Not benchmarked."
    ),
)
_FROM_ONE_BILLION = Source(
    what=_("PPO learning rate"),
    where=_("1e-6 as in Llama 2 (Touvron et al. 2023); Huang et al. 2024 used 3e-6 for 1B to 6.9B. Not benchmarked."),
)


def _full(*, sft: float, policy: float, supervised_tokens: int, ppo_tokens: int) -> dict[str, dict[str, Any]]:
    """Full fine-tuning with the learning rates of SFT and of PPO's policy, and batch tokens that fit a GPU."""
    supervised = {"max_response": 256, "batch_tokens": supervised_tokens}
    return {
        "sft": {"epochs": 3, "batch_size": 32, "learning_rate": sft, **supervised},
        "reward": {"epochs": 1, "batch_size": 64, "learning_rate": 9e-6, **supervised},
        "watcher": {"epochs": 1, "batch_size": 64, "learning_rate": 9e-6, **supervised},
        "ppo": {
            "rollout_size": 512,
            "minibatch_size": 64,
            "learning_rate": policy,
            "value_learning_rate": 9e-6,
            "beta": 0.05,
            "max_response": 256,
            "batch_tokens": ppo_tokens,
        },
    }


def _lora(*, policy: float) -> dict[str, dict[str, Any]]:
    """LoRA with the learning rate of PPO's policy; adapters of the same shape, on which the next stage can go on."""
    values = _full(sft=1e-4, policy=policy, supervised_tokens=8192, ppo_tokens=8192)
    values["reward"]["learning_rate"] = values["watcher"]["learning_rate"] = 1e-4
    values["ppo"]["value_learning_rate"] = 9e-5
    return {stage: own | {"adapter_rank": 16, "adapter_alpha": 32.0} for stage, own in values.items()}


def _lora_preset(full: Preset, *, suits: Words, policy: float, rate: Words, memory: Words) -> Preset:
    """The preset with adapters for the base models of a preset that trains all weights."""
    return Preset(
        name=f"{full.name}-lora",
        label=format_lazy("{size} LoRA", size=full.label),
        suits=suits,
        largest=full.largest,
        is_measured=False,
        values={**full.values, **_lora(policy=policy)},  # of stages that train nothing, those of the other preset
        sources=(
            _ADAPTERS,
            _LORA_RATES,
            Source(what=_("PPO learning rate"), where=rate),
            _BATCHES_OF_LORA,
            Source(what=_("batch tokens"), where=memory),
        ),
    )


_ADAPTERS = Source(
    what=_("adapter rank and alpha"),
    where=_(
        "Rank 16 on all linear layers: Hugging Face's alignment handbook (Zephyr 7B). Dettmers et al. 2023 (QLoRA) "
        "found no effect of the rank once all layers have adapters; Schulman et al. 2025 (LoRA Without Regret) found "
        "that SFT on large data sets needs more, and that rank 1 is enough for reinforcement learning. Alpha 32: "
        "Schulman et al. Not benchmarked."
    ),
)
_LORA_RATES = Source(
    what=_("learning rates of SFT and reward model"),
    where=_(
        "About ten times those for all weights, as Schulman et al. 2025 (LoRA Without Regret) found best at every "
        "size. SFT 1e-4: Dettmers et al. 2023 (QLoRA) used 2e-4 for 7B and 13B and 1e-4 above, the alignment handbook "
        "2e-4 for 7B. Reward model 1e-4: TRL's example for 0.5B. Not benchmarked."
    ),
)
_LORA_RATE_OF_PPO = _(
    "1e-5: ten times that for all weights. StackLLaMA (Beeching et al. 2023) used 1.4e-5 for 7B. Not benchmarked."
)
_BATCHES_OF_LORA = Source(
    what=_("batch sizes and PPO"),
    where=_(
        "As for all weights: 32 demonstrations, 64 sets of answers, 512 answers per step, 64 per update (Ouyang et al. "
        "2022, appendix C), beta 0.05. Schulman et al. 2025 found that LoRA loses more with very large batches. Critic "
        "learning rate 9e-5: ten times InstructGPT's. Sun et al. 2023 trained PPO for LLaMA 7B with LoRA on two GPUs "
        "instead of eight, with better results than the published model that trained all weights. Not benchmarked."
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
        "reward": {
            "epochs": 5,
            "batch_size": 4,
            "learning_rate": 5e-4,
            "max_response": 64,
            "mismatch_coefficient": 0.6,
        },
        "watcher": {
            "epochs": 5,
            "batch_size": 4,
            "learning_rate": 5e-4,
            "max_response": 64,
            "mismatch_coefficient": 0.6,
        },
        "ppo": {
            "iterations": 60,
            "rollout_size": 128,
            "minibatch_size": 32,
            "epochs": 2,
            "max_response": 64,
            "learning_rate": 1e-4,
            "value_learning_rate": 2.5e-4,
            "beta": 0.03,
            "kl_limit": 4.0,
            "gauge_patience": 6,
        },
        "evaluation": {"draws": 4, "max_response": 64, "batch_tokens": 65_536},
        "sampling": {"max_response": 64, "batch_tokens": 65_536},
    },
    sources=(
        Source(
            what=_("all values"),
            where=_(
                "Benchmarked with the built-in model: on seeds 0 to 4 the first PPO policy wins 76% of pairs against "
                "SFT at a KL of 2.0 nats per answer (see docs/benchmarks.md). A starting point for other models of "
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
    values=_full(sft=1e-5, policy=3e-6, supervised_tokens=8192, ppo_tokens=8192),
    sources=(
        _INSTRUCT_GPT,
        _BATCHES,
        Source(
            what=_("PPO learning rate"),
            where=_(
                "3e-6: Huang et al. 2024, whose smallest model has 1B, and TRL's PPO examples. InstructGPT does not "
                "give its policy's learning rate and diverged above 8e-6. Not benchmarked."
            ),
        ),
        Source(
            what=_("batch tokens"),
            where=_(
                "8,192 everywhere. Counted for Qwen2-0.5B and 512 tokens an answer with its prompt: PPO peaks at 30 "
                "GiB, or at 18 GiB with activation checkpointing. Not measured on a GPU."
            ),
        ),
    ),
)
ONE_AND_A_HALF_BILLION = Preset(
    name="1.5B",
    label=_("1.5B"),
    suits=_("For base models of about 1.5 billion parameters, on one GPU with 80 GB."),
    largest=2e9,
    is_measured=False,
    values=_full(sft=1e-5, policy=1e-6, supervised_tokens=8192, ppo_tokens=8192),
    sources=(
        _INSTRUCT_GPT,
        _BATCHES,
        _FROM_ONE_BILLION,
        Source(
            what=_("batch tokens"),
            where=_(
                "8,192 everywhere. Counted for Qwen2-1.5B with activation checkpointing, which starts by itself where "
                "memory needs it: PPO peaks at 51 GiB, SFT at 27 GiB. Not measured on a GPU."
            ),
        ),
    ),
)
THREE_BILLION = Preset(
    name="3B",
    label=_("3B"),
    suits=_(
        "For base models of about 3 billion parameters. SFT and the reward model fit on one GPU with 80 GB; PPO needs "
        "one with 141 GB."
    ),
    largest=5e9,
    is_measured=False,
    values=_full(sft=1e-5, policy=1e-6, supervised_tokens=8192, ppo_tokens=8192),
    sources=(
        _INSTRUCT_GPT,
        _BATCHES,
        _FROM_ONE_BILLION,
        Source(
            what=_("batch tokens"),
            where=_(
                "8,192 everywhere. Counted for Qwen2.5-3B with activation checkpointing, which starts by itself where "
                "memory needs it: SFT peaks at 52 GiB, PPO at 99 GiB. Not measured on a GPU."
            ),
        ),
    ),
)
EIGHT_BILLION = Preset(
    name="8B",
    label=_("8B"),
    suits=_(
        "For base models of about 8 billion parameters. SFT and the reward model need a GPU with 141 GB; PPO does not "
        "fit on one GPU."
    ),
    largest=1e10,
    is_measured=False,
    values=_full(sft=5e-6, policy=5e-7, supervised_tokens=1024, ppo_tokens=1024)
    | {"evaluation": {"batch_tokens": 2048}, "sampling": {"batch_tokens": 2048}},
    sources=(
        Source(
            what=_("SFT and reward model"),
            where=_(
                "SFT 5e-6: Tulu 3 (Lambert et al. 2024) for Llama 3.1 8B, with 128 demonstrations per step; the 32 of "
                "InstructGPT's 6B (Ouyang et al. 2022, appendix C) suit fewer demonstrations. Reward model 9e-6 with "
                "64 sets of answers for one epoch: InstructGPT's 6B; Llama 2 7B used 1e-5, Tulu 3 8B 3e-6. Not "
                "benchmarked."
            ),
        ),
        _BATCHES,
        Source(
            what=_("PPO learning rate"),
            where=_(
                "5e-7 as in OpenRLHF's examples for Llama 3 8B, which use KL coefficient 0.01. Llama 2 7B used 1e-6, "
                "Tulu 3 8B 3e-7. Not benchmarked."
            ),
        ),
        Source(
            what=_("batch tokens"),
            where=_(
                "Counted for Llama 3 8B with activation checkpointing: SFT would peak at 130 GiB with 8,192, of which "
                "120 GiB are weights, gradients and optimiser; PPO would peak at 245 GiB. Not measured on a GPU."
            ),
        ),
    ),
)
HALF_BILLION_LORA = _lora_preset(
    HALF_BILLION,
    suits=_("LoRA for base models of about half a billion parameters, on one GPU with 16 GB."),
    policy=3e-5,
    rate=_("3e-5: ten times that for all weights. Not benchmarked."),
    memory=_(
        "8,192 everywhere. Counted for Qwen2-0.5B and 512 tokens an answer with its prompt: PPO peaks at 14 GiB, or at "
        "6 GiB with activation checkpointing. Not measured on a GPU."
    ),
)
ONE_AND_A_HALF_BILLION_LORA = _lora_preset(
    ONE_AND_A_HALF_BILLION,
    suits=_("LoRA for base models of about 1.5 billion parameters, on one GPU with 16 GB."),
    policy=1e-5,
    rate=_LORA_RATE_OF_PPO,
    memory=_(
        "8,192 everywhere. Counted for Qwen2-1.5B with activation checkpointing, which starts by itself where memory "
        "needs it: PPO peaks at 9 GiB, SFT at 6 GiB. Not measured on a GPU."
    ),
)
THREE_BILLION_LORA = _lora_preset(
    THREE_BILLION,
    suits=_("LoRA for base models of about 3 billion parameters, on one GPU with 24 GB."),
    policy=1e-5,
    rate=_LORA_RATE_OF_PPO,
    memory=_(
        "8,192 everywhere. Counted for Qwen2.5-3B with activation checkpointing, which starts by itself where memory "
        "needs it: PPO peaks at 13 GiB, SFT at 11 GiB. Not measured on a GPU."
    ),
)
EIGHT_BILLION_LORA = _lora_preset(
    EIGHT_BILLION,
    suits=_("LoRA for base models of about 8 billion parameters, on one GPU with 40 GB."),
    policy=5e-6,
    rate=_(
        "5e-6: ten times that for all weights. StackLLaMA (Beeching et al. 2023) used 1.4e-5 for 7B. Not benchmarked."
    ),
    memory=_(
        "8,192 where adapters train, 2,048 in evaluation and sampling. Counted for Llama 3 8B with activation "
        "checkpointing, which starts by itself where memory needs it: PPO peaks at 24 GiB, SFT at 23 GiB. Not "
        "measured on a GPU."
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

# The smaller ones first: the first that is large enough for a base model is suggested. A second preset for a size
# stands behind the one that is to be suggested.
PRESETS = {
    preset.name: preset
    for preset in (
        TINY,
        HALF_BILLION,
        HALF_BILLION_LORA,
        ONE_AND_A_HALF_BILLION,
        ONE_AND_A_HALF_BILLION_LORA,
        THREE_BILLION,
        THREE_BILLION_LORA,
        EIGHT_BILLION,
        EIGHT_BILLION_LORA,
        DEFAULTS,
    )
}


def for_size(parameters: int) -> Preset:
    """The preset to suggest for a base model with that many parameters; 0 where nobody has counted them."""
    return next(preset for preset in PRESETS.values() if parameters <= preset.largest) if parameters else DEFAULTS


def others_for_size_of(preset: Preset) -> list[Preset]:
    """The other presets for base models of the same size."""
    return [one for one in PRESETS.values() if one.largest == preset.largest and one is not preset]


def choices() -> list[tuple[str, Words]]:
    """Name and label of each preset, for a model's field."""
    return [(preset.name, preset.label) for preset in PRESETS.values()]
