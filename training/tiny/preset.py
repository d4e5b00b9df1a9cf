"""What the tiny model and its world need instead of the engine's defaults; docs/benchmarks.md says why."""

from typing import Any

HELDOUT_SHARE = 0.25  # of the phrasings: 268, which no training data contains
CORPUS_SIZE = 18_000  # conversations
DEMONSTRATIONS = 150  # that people write before the first round
SLATES_PER_ROUND = 600
SIMULATED_K = 9  # answers in a set that simulated people rank: they do not tire as people do
# The demo project, in which people rank, too: sets that one reads in half a minute, and enough of them for a round.
DEMO_K = 4
DEMO_SLATES = 360

# {stage: {field of its config: value}}: the `overrides` of a project that is taught from the tiny base.
PRESET: dict[str, dict[str, Any]] = {
    "pretraining": {"vocab_size": 2048, "context": 128, "tokens": 1_000_000, "batch_size": 16, "learning_rate": 4e-3},
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
}
