"""What both sides of benchmarks/engine.py do: a random model and the token ids of its texts, written into a folder.

Each word of the vocabulary is one token, so that a text has as many tokens whoever encodes it, and an answer that was
sampled is encoded as it was sampled. All lengths are drawn from one seed.

    python -m benchmarks.speed.work FOLDER --work sft --params 4M [--smoke]
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

ROWS_PER_BATCH = 16  # of SFT
EPISODES, NEW_TOKENS = 64, 48  # of generation and PPO


class Work(NamedTuple):
    """A work, and how often each side repeats it: steps before the clock starts, and timed ones."""

    stage: str
    unit: str
    ours: tuple[int, int]
    # The peer's SFT sorts 25 batches by length at a time, so only 25 steps are a fair sample of them.
    peer: tuple[int, int]
    completions: int = 0  # of a ranking
    rankings: int = 0  # in a step
    prompt: tuple[int, int] = (8, 32)  # tokens, the fewest and the most
    answer: tuple[int, int] = (10, 60)
    samples: int = 1  # answers to each prompt
    stop_chance: float = 0.0  # of each sampled token
    peer_parts: int = 1  # into which the peer has to cut a step, since all of it at once needs too much memory


WORKS = {
    "sft": Work("sft", "tokens/s", (5, 40), (25, 25), answer=(21, 128)),
    "reward4": Work("reward", "pairs/s", (3, 15), (2, 6), 4, rankings=8, prompt=(6, 10)),
    "reward9": Work("reward", "pairs/s", (3, 15), (1, 3), 9, rankings=4, prompt=(6, 10)),
    "reward9-long": Work(
        "reward", "pairs/s", (1, 3), (1, 1), 9, rankings=4, prompt=(256, 256), answer=(48, 48), peer_parts=8
    ),
    "ppo": Work("ppo", "episodes/s", (1, 4), (1, 3)),
    "generation": Work("generation", "new tokens/s", (2, 6), (1, 3)),
    "generation4": Work("generation", "new tokens/s", (1, 2), (1, 1), samples=4),
    # At this chance the mean answer is half as long as the longest.
    "generation-half": Work("generation", "new tokens/s", (2, 8), (1, 4), stop_chance=0.0333),
}


class Shape(NamedTuple):
    """Of a Llama with separate input and output embeddings."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    vocabulary: int


SHAPES = {
    "0.5M": Shape(128, 2, 4, 344, 512),
    "4M": Shape(256, 4, 4, 688, 2048),
    "40M": Shape(640, 6, 10, 1712, 8192),
}
CONTEXT = 512
SPECIAL = ("<pad>", "<eos>", "<unk>", "<answer>")
PAD, EOS, UNKNOWN, ANSWER = range(4)
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% else %}<answer>{% endif %}"
    "{% endfor %}"
)


def write(folder: Path, name: str, params: str, *, smoke: bool) -> None:
    """The model into `folder`/model, and job.json: what each side has to do with it."""
    work, shape = WORKS[name], SHAPES[params]
    write_model(folder / "model", shape, work.stop_chance)
    job = job_of(work, shape.vocabulary)
    if smoke:
        job |= {"ours": (1, 1), "peer": (1, 1), "new_tokens": 8}
    (folder / "job.json").write_text(json.dumps(job))


def job_of(work: Work, vocabulary: int) -> dict[str, Any]:
    """What a side has to do, with random texts of a vocabulary of this size."""
    return {
        **work._asdict(),
        "rows": rows(work, vocabulary, random.Random(0)),
        "batch": ROWS_PER_BATCH,
        "pairs": work.rankings * work.completions * (work.completions - 1) // 2,
        "new_tokens": NEW_TOKENS,
    }


def rows(work: Work, vocabulary: int, draw: random.Random) -> list[Any]:
    """The texts of SFT, {prompt, completions} of rankings with the best first, or prompts; all as token ids."""

    def text(lengths: tuple[int, int]) -> list[int]:
        return [draw.randrange(len(SPECIAL), vocabulary) for _ in range(draw.randint(*lengths))]

    def prompt() -> list[int]:
        fewest, most = work.prompt
        return [*text((fewest - 1, most - 1)), ANSWER]

    if work.stage == "sft":
        return [text(work.answer) for _ in range(100 * ROWS_PER_BATCH)]
    if work.stage == "reward":
        return [
            {"prompt": prompt(), "completions": [text(work.answer) for _ in range(work.completions)]}
            for _ in range(work.rankings * 20)
        ]
    return [prompt() for _ in range(EPISODES)]


def write_model(directory: Path, shape: Shape, stop_chance: float) -> None:
    """A random Llama whose answers end at each token by about `stop_chance`, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), shape.vocabulary))]
    words_to_ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(words_to_ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<answer>"],
        chat_template=TEMPLATE,
    ).save_pretrained(directory)
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            intermediate_size=shape.mlp,
            vocab_size=shape.vocabulary,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=None,
        )
    )
    set_stop_chance(network, stop_chance)
    network.save_pretrained(directory)


def set_stop_chance(network: Any, chance: float) -> None:
    """Give the end token about this probability after any text; 0 means that no answer ever ends.

    A Llama has no bias at its output. Here the first number of every embedding is 1, no layer adds to it, and the row
    of the end token reads nothing else.
    """
    import torch

    with torch.no_grad():
        network.model.embed_tokens.weight[:, 0] = 1.0
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        texts = torch.randint(len(SPECIAL), network.config.vocab_size, (16, NEW_TOKENS))
        states = network.model(texts).last_hidden_state.flatten(0, 1)  # (N, hidden)
        end = network.lm_head.weight[EOS]
        end.zero_()
        logits = network.lm_head(states)  # (N, V)
        others = torch.cat([logits[:, :EOS], logits[:, EOS + 1 :]], dim=1).logsumexp(dim=1)  # (N,)
        wanted = -50.0 if chance == 0 else torch.logit(torch.tensor(chance)).item() + others.mean().item()
        end[0] = wanted / states[:, 0].mean()


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", choices=WORKS, required=True)
    parser.add_argument("--params", choices=SHAPES, required=True)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    write(options.folder, options.work, options.params, smoke=options.smoke)


if __name__ == "__main__":
    main()
