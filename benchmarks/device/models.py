"""Random models of the Qwen2 shape, written on the spot, and records that every stage can read."""

import random
from itertools import product
from pathlib import Path
from string import ascii_letters
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks.device.lines import DEVICE, Record

CONTEXT = 1024
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD, EOS = 0, 2
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class QwenShape(NamedTuple):
    """Of a Qwen2 whose input and output embeddings are tied."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    mlp: int
    vocabulary: int = 143_000  # of the tokenizer: all strings of up to three letters are a little fewer than Qwen's
    embeddings: int = 151_936  # rows, as Qwen has them


SHAPES = {
    "0.5B": QwenShape(896, 24, 14, 2, 4864),
    "1.5B": QwenShape(1536, 28, 12, 2, 8960),
    # As wide as 0.5B, so that the same kernels run, but quick to write and to read.
    "2-layers": QwenShape(896, 2, 14, 2, 4864, 8000, 8192),
    "tiny": QwenShape(64, 2, 4, 2, 128, 500, 512),
}


def write_model(directory: Path, shape: QwenShape) -> Path:
    """A random model in bf16, as such models are published, and its tokenizer."""
    disable_progress_bar()
    write_tokenizer(directory, shape.vocabulary)
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.mlp,
        vocab_size=shape.embeddings,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    with torch.device(DEVICE):
        network = Qwen2ForCausalLM(config)
    network.bfloat16().save_pretrained(directory)
    return directory


def write_tokenizer(directory: Path, vocabulary: int) -> None:
    """A tokenizer of Qwen2's kind, with ChatML: all bytes, then pairs of letters, then three letters.

    Any ids that a random model samples make a text of about as many ids.
    """
    pairs = list(product(ascii_letters, ascii_letters))
    triples = [("".join(pair), letter) for pair in pairs for letter in ascii_letters]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [*pairs, *triples][: vocabulary - len(SPECIAL) - len(alphabet)]
    tokens = [*SPECIAL, *alphabet, *map("".join, merges)]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(numbers, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[EOS], pad_token=SPECIAL[PAD], chat_template=CHATML
    ).save_pretrained(directory)


class Texts:
    """Random records, whose prompts and answers have so many words."""

    def __init__(self, prompt_words: int, answer_words: int) -> None:
        self._prompt_words, self._answer_words = prompt_words, answer_words
        self._draw = random.Random(0)

    def prompts(self, count: int) -> list[Record]:
        """Prompts to answer."""
        return [{"id": number, "messages": self._question()} for number in range(count)]

    def demonstrations(self, count: int) -> list[Record]:
        """Prompts with an answer each."""
        return [{**prompt, "response": self._text(self._answer_words)} for prompt in self.prompts(count)]

    def rankings(self, count: int) -> list[Record]:
        """Prompts with four ranked answers each."""
        return [
            {
                "slate_id": number,
                "prompt_id": number,
                "messages": self._question(),
                "completions": [{"text": self._text(self._answer_words), "finish_reason": "stop"} for _ in range(4)],
                "judgements": [{"id": number, "annotator": "a", "round": 1, "places": [1, 2, 3, 3]}],
            }
            for number in range(count)
        ]

    def _question(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._text(self._prompt_words)}]

    def _text(self, words: int) -> str:
        """So many words of two letters: with the space before it, each is two tokens of either tokenizer."""
        return " ".join("".join(self._draw.choices("abcd", k=2)) for _ in range(words))
