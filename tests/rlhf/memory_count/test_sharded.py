"""What is counted for a rank of a sharded stage."""

from pathlib import Path

import pytest
from transformers import Qwen2Config

from training.rlhf.config import Parent, PPOConfig
from training.rlhf.data.chat import Chat
from training.rlhf.memory_count import longest, stages

GIB = 1 << 30
VOCABULARY = 152_064
SEVEN_BILLION = Qwen2Config(
    vocab_size=VOCABULARY,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)


@pytest.mark.slow
def test_a_full_ppo_at_7b_takes_less_than_70_gib_of_each_of_eight_cards(models: dict[str, Path]) -> None:
    """At the defaults, with sequences of 512 tokens."""
    parents = dict.fromkeys(PPOConfig.required_parents, Parent(path="", manifest_sha256=""))
    cfg = PPOConfig(seed=0, parents=parents, processes=8, sharding="on", activation_checkpointing="on")
    chat = Chat.load(models["qwen2"])
    chat.vocab_size = VOCABULARY
    prompts = longest.of_prompts([[number] + [1] * 255 for number in range(1024)], cfg)
    peaks = stages.count(cfg, dict.fromkeys(parents, SEVEN_BILLION), chat, prompts, "cuda")
    assert max(peak.total for peak in peaks) < 70 * GIB
