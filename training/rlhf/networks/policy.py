"""The policy: a causal language model that continues text, loaded from and saved as a transformers directory.

It derives positions from the mask, keeps fp32 weights, and always runs without dropout, so that two forward passes over
the same batch are bitwise equal. Its linear layers may run in bf16; the logits are fp32.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel

from ..data.batching import Batch
from ..data.chat import Chat
from ..exits import InvalidInput
from ..logprobs import logprobs_of
from . import selftest
from .transformer import ForwardPass, default_device, load_network, runs_in_bf16


class Policy(nn.Module):
    """A causal language model over the ids that text can have; the embedding's padding beyond them is cut off."""

    def __init__(self, network: PreTrainedModel, vocab_size: int, dtype: str) -> None:
        super().__init__()
        rows: int = network.get_input_embeddings().num_embeddings  # type: ignore[assignment]
        if vocab_size > rows:
            raise InvalidInput(
                "the model's tokenizer has more tokens than its embedding: use the tokenizer it was trained with",
                kind="tokenizer_larger",
                tokens=vocab_size,
                embedding=rows,
            )
        self.network = network.eval()
        self.vocab_size = vocab_size
        self.bf16 = runs_in_bf16(network, dtype)
        self.cache_drops_rows = True  # single rows can leave its cache; the self-test finds out where they cannot
        self._forward_pass = ForwardPass(network)
        self.to(default_device())

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, T, V) fp32 logits; those at column t are about token t + 1."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            output = self._forward_pass(tokens, attention, use_cache=False)
        logits: Tensor = output.logits[..., : self.vocab_size].float()
        return logits

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        device: torch.device = self.network.device
        return device

    def new_cache(self) -> Cache:
        """An empty cache for `next_logits`."""
        return DynamicCache(config=self.network.config)

    def next_logits(self, tokens: Tensor, attention: Tensor, cache: Cache) -> Tensor:
        """(B, V) fp32 logits after `tokens` (B, N), which follow what `cache` holds.

        `attention` (B, T) covers the cached tokens and `tokens`.
        """
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            output = self._forward_pass(tokens, attention, cache=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1, : self.vocab_size].float()
        return logits


def token_logprobs(policy: nn.Module, batch: Batch) -> Tensor:
    """(B, T) nats: log-probability of each token given those before it; 0 at column 0."""
    return logprobs_of(policy(batch.tokens, batch.attention), batch.tokens)


def load_policy(directory: Path, chat: Chat, dtype: str) -> Policy:
    """The policy in a transformers directory, once it has passed its self-test.

    Raises InvalidInput where it is unsafe or incomplete, or fails the self-test.
    """
    policy, _unused = read_policy(directory, chat, dtype)
    selftest.check(policy, chat)
    return policy


def read_policy(directory: Path, chat: Chat, dtype: str) -> tuple[Policy, list[str]]:
    """The policy before its self-test, and the names of weights in its files that it does not use.

    Raises InvalidInput where it is unsafe or incomplete.
    """
    network, unused = load_network(AutoModelForCausalLM, directory)
    return Policy(network, chat.vocab_size, dtype), unused


def save_policy(policy: Policy, chat: Chat, directory: Path) -> None:
    """Write a transformers directory that any other program can load."""
    policy.network.save_pretrained(directory)
    chat.save(directory)
