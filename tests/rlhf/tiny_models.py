"""Random models of three families, small enough for any test, that differ in all that is easily got wrong.

llama  template with BOS and role tokens, own padding token, untied embedding
qwen2  ChatML template, padding is EOS, tied embedding that is larger than the tokenizer
gpt2   no template, no padding token, BOS is EOS, tied embedding, absolute positions, dropout in its config
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("llama", "qwen2", "gpt2")
CONTEXT = 192

SENTENCES = [
    "How do I treat my headache? Drink water and rest.",
    "How do I boil an egg? Put it into boiling water for eight minutes.",
    "Where does the rain come from? From the clouds, which come from the sea.",
    "User: What is a fox? Assistant: A small wild dog with a red coat.",
]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROLE_TOKENS = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(family: str, directory: Path, seed: int = 0) -> Path:
    """Write a random model of this family into `directory`."""
    tokenizer = TOKENIZERS[family]()
    torch.manual_seed(seed)
    network = NETWORKS[family](len(tokenizer))
    network.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def bpe(special: list[str], bos: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def _llama_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe(special, bos="<s>"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=ROLE_TOKENS,
    )


def _qwen2_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def _gpt2_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe(["<|endoftext|>"]), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def _llama(vocab: int) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _qwen2(vocab: int) -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocab + 24,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )
    )


def _gpt2(vocab: int) -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT))


TOKENIZERS = {"llama": _llama_tokenizer, "qwen2": _qwen2_tokenizer, "gpt2": _gpt2_tokenizer}
NETWORKS = {"llama": _llama, "qwen2": _qwen2, "gpt2": _gpt2}
