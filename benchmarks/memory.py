"""Counts what SFT, the reward model and PPO need at the defaults, on a GPU, for sequences of 512 tokens.

Nothing is loaded and no GPU is needed: see training/rlhf/memory_count/. Prints the peak of each moment in GiB.

    python benchmarks/memory.py [--models 0.5B,1.5B,3B,7B,8B] [--stages sft,reward,ppo] [--checkpointing off,on]
                                [--adapter-rank 16] [--processes 1]

With an adapter rank, LoRA is counted, from adapters on one base. With more processes than one, the networks are
sharded, and the numbers are those of each process.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from transformers import Qwen2Config  # noqa: E402

from training.rlhf.config import (  # noqa: E402
    STAGES,
    LearningConfig,
    Parent,
    PPOConfig,
    PretrainingConfig,
    RewardConfig,
    SFTConfig,
    trunk_role,
)
from training.rlhf.data.chat import Chat, Rendered  # noqa: E402
from training.rlhf.data.records import Document  # noqa: E402
from training.rlhf.memory_count import longest, report, stages  # noqa: E402
from training.rlhf.memory_count.peaks import Peak  # noqa: E402
from training.rlhf.model_folder.adapter_files import Shape  # noqa: E402
from training.rlhf.stages.pretraining import learn_tokenizer  # noqa: E402
from training.rlhf.stages.reward import Slate  # noqa: E402

PROMPT = RESPONSE = 256  # tokens
SLATE = 4  # answers
# Hidden size, size of the MLP, layers, heads, key-value heads, vocabulary, tied embedding: those of Qwen2, at 3B of
# Qwen2.5, and at 8B of Llama 3.
MODELS = {
    "0.5B": (896, 4864, 24, 14, 2, 151_936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151_936, True),
    "3B": (2048, 11008, 36, 16, 2, 151_936, True),
    "7B": (3584, 18944, 28, 28, 4, 152_064, False),
    "8B": (4096, 14336, 32, 32, 8, 128_256, False),
}


def shape(model: str) -> Qwen2Config:
    """The architecture of a model of this size, with the layers of Qwen2."""
    hidden, mlp, layers, heads, groups, vocabulary, tied = MODELS[model]
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        tie_word_embeddings=tied,
    )


def chat_of(model: str) -> Chat:
    """Any tokenizer, taken to have as many tokens as the model."""
    chat = learn_tokenizer([Document(messages=[], text="a")], PretrainingConfig(seed=0))
    chat.vocab_size = MODELS[model][5]
    return chat


def read(cfg: SFTConfig | RewardConfig | PPOConfig) -> longest.Longest:
    """A stage's records, all of them as long."""
    prompts = [[number] + [1] * (PROMPT - 1) for number in range(1024)]
    if isinstance(cfg, PPOConfig):
        return longest.of_prompts(prompts, cfg)
    sequences = [Rendered(prompt, [2] * RESPONSE) for prompt in prompts]
    if isinstance(cfg, SFTConfig):
        return longest.of_demonstrations(sequences, cfg)
    return longest.of_slates([Slate([one] * SLATE, [list(range(SLATE))]) for one in sequences], [], cfg)


def count(model: str, stage: str, checkpointing: str, adapter_rank: int, processes: int) -> list[Peak]:
    """The peaks of a stage whose parents are whole models, or with a rank adapters on one base."""
    roles = STAGES[stage].required_parents
    trunks = {trunk_role(role) for role in roles} if adapter_rank else set()
    parents = dict.fromkeys(roles | trunks, Parent(path="", manifest_sha256=""))
    options = {"activation_checkpointing": checkpointing, "adapter_rank": adapter_rank, "processes": processes}
    options |= {"sharding": "on" if processes > 1 else "off"}
    cfg = STAGES[stage](seed=0, parents=parents, **options)  # type: ignore[arg-type]
    assert isinstance(cfg, SFTConfig | RewardConfig | PPOConfig)
    adapters = dict.fromkeys(roles, Shape(adapter_rank, LearningConfig.adapter_alpha)) if adapter_rank else {}
    return stages.count(cfg, dict.fromkeys(parents, shape(model)), chat_of(model), read(cfg), "cuda", adapters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--stages", default="sft,reward,ppo")
    parser.add_argument("--checkpointing", default="off,on")
    parser.add_argument("--adapter-rank", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    for model in options.models.split(","):
        for stage in options.stages.split(","):
            for value in options.checkpointing.split(","):
                peaks = count(model, stage, value, options.adapter_rank, options.processes)
                print(f"{model} {stage}, activation_checkpointing {value}", *report.table(peaks), sep="\n", flush=True)


if __name__ == "__main__":
    main()
