"""The policy: a causal language model that continues text, loaded from and saved as a transformers directory.

It derives positions from the mask, keeps fp32 weights, and always runs without dropout, so that two forward passes over
the same batch are bitwise equal. Its linear layers may run in bf16; the logits are fp32.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel

from .. import sharding
from ..data.batching import Batch
from ..data.chat import Chat
from ..exits import InvalidInput
from ..logprobs import Read, in_chunks, logprobs_of, shift
from . import device, frozen, selftest, shapes
from .adapters import Adapter
from .head import head_of
from .transformer import ForwardPass, bf16_layers, load_network, runs_in_bf16
from .trunk import Trunk


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
        self.is_held = False  # its linear weights are in the dtype that they run in
        self._form: list[Policy] = []  # at most one: a sharded policy without its numbers; in a list, for it is no part
        device.place(self)
        self.trunk = Trunk(network.base_model)  # type: ignore[arg-type]
        self._head = head_of(network, self.trunk)
        if self._head:
            self.trunk.try_packing()

    def forward(self, batch: Batch, read: Read = logprobs_of, given: Tensor | None = None) -> Tensor:
        """(B, T), or (B, T, M): what `read` says of each answer token, 0 elsewhere; see `in_chunks`.

        `read` gets what is `given` (A, ...) of each answer token, which is the token itself unless it is told. A token
        that nothing precedes, at column 0, is not read.
        """
        answers = _predicted(batch)  # (B, T)
        given = batch.tokens[answers] if given is None else given
        count, more = len(given), shapes.padding(len(given), bf16=self.bf16)
        states, given = (shapes.padded(rows, more) for rows in (self.states(batch), given))
        numbers = in_chunks(read, self.logits_of, states, given, self.vocab_size)[:count]  # (A,) or (A, M)
        return numbers.new_zeros((*answers.shape, *numbers.shape[1:])).index_put((answers,), numbers)

    def states(self, batch: Batch) -> Tensor:
        """(A, width) that `logits_of` makes the logits of, which the A answer tokens of a batch are drawn from."""
        answers = _predicted(batch)  # (B, T)
        with self.autocast():
            if not self._head:
                return self._read_whole(batch.tokens, batch.attention)[:, :-1][answers[:, 1:]]
            before = (batch.attention.flatten().cumsum(0) - 1)[answers.flatten()] - 1  # (A,) in the row of real tokens
            return self.trunk.hidden(batch.tokens, batch.attention).index_select(0, before)

    def logits_of(self, states: Tensor) -> Tensor:
        """(A, V) fp32 logits of `states`."""
        with self.autocast():
            logits = self._head(states) if self._head else states
        return logits[..., : self.vocab_size].float()

    def logits(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, T, V) fp32 logits of a whole batch; those at column t are about token t + 1. Much memory: for tests."""
        with self.autocast():
            if not self._head:
                return self.logits_of(self._read_whole(tokens, mask))
            logits = self.logits_of(self.trunk.hidden(tokens, mask))  # (N, V)
        return logits.new_zeros((*tokens.shape, logits.shape[-1])).index_put((mask,), logits)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.network.device  # type: ignore[no-any-return]

    @property
    def has_head(self) -> bool:
        """Whether its head can be told apart from its trunk."""
        return self._head is not None

    def freeze(self) -> None:
        """It does not train: where it runs in bf16, it holds bf16 weights; see `frozen`."""
        self.network.requires_grad_(False)
        if self.bf16:
            self.is_held = frozen.hold_in_bf16(self.network, self.trunk)

    def with_adapter(self, adapter: Adapter) -> "Policy":
        """This policy with an adapter of its network. Its only parameters are the adapter's: the network is shared."""
        adapted = copy.copy(self)
        adapted._modules = {"adapter": adapter}
        vars(adapted)["network"] = self.network
        adapted.trunk = self.trunk.with_adapter(adapter)
        return adapted

    def shard(self) -> None:
        """Cut its weights over the ranks; see `sharding`. A copy for sampling is made of its form, without numbers."""
        copies = self._buffer_copies()
        for weight in self.parameters():
            copies[id(weight)] = nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
        self._form = [copy.deepcopy(self, copies)]
        sharding.shard(self)

    @property
    def needs_copy(self) -> bool:
        """Whether it samples with a copy."""
        return sharding.is_sharded(self) or (self.bf16 and not self.is_held)

    def for_sampling(self) -> "Policy":
        """The policy as it is now, for decoding: in bf16 a copy, whose weights are cast once and not at every token.

        Let go of it after sampling: gradients need its room. A policy that does not train has cast its weights
        already, and serves itself, as adapters' bases do. A sharded one is copied whole, so all ranks have to ask for
        it.
        """
        return self.copied() if self.needs_copy else self

    def copied(self) -> "Policy":
        """A whole copy of it as it is now, in the dtype that it samples in."""
        form = self._form[0] if self._form else self
        dtype = torch.bfloat16 if self.bf16 and not self.is_held else None
        copies = form._buffer_copies()
        for ours, theirs in zip(self.parameters(), form.parameters(), strict=True):
            weight = sharding.whole(ours.detach(), dtype).to(dtype or ours.dtype, copy=True)
            copies[id(theirs)] = nn.Parameter(weight, requires_grad=False)
        copied = copy.deepcopy(form, copies)
        copied.trunk.keep_activations()
        return copied

    def _buffer_copies(self) -> dict[int, Tensor]:
        """By the id of each; rotary frequencies are among them, and need all their bits."""
        return {id(buffer): buffer.clone() for buffer in self.buffers()}

    def new_cache(self) -> Cache:
        """An empty cache for `next_logits`."""
        return DynamicCache(config=self.network.config)

    def next_logits(self, tokens: Tensor, attention: Tensor, cache: Cache) -> Tensor:
        """(B, V) fp32 logits after `tokens` (B, N), which follow what `cache` holds.

        `attention` (B, T) covers the cached tokens and `tokens`.
        """
        self.trunk.activate()
        with self.autocast():
            output = self._forward_pass(tokens, attention, cache=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1, : self.vocab_size].float()
        return logits

    def _read_whole(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, T, V) logits where trunk and head cannot be told apart."""
        self.trunk.activate()
        logits: Tensor = self._forward_pass(tokens, mask, use_cache=False).logits
        return logits

    def autocast(self) -> torch.autocast:
        """The dtype of the linear layers, while it is entered."""
        return bf16_layers(self.device, enabled=self.bf16)


def _predicted(batch: Batch) -> Tensor:
    """(B, T) bool: the answer tokens that something precedes."""
    return batch.response & shift(batch.attention[:, :-1])


def token_logprobs(policy: nn.Module, batch: Batch) -> Tensor:
    """(B, T) nats: log-probability of each answer token given those before it; 0 elsewhere."""
    logprobs: Tensor = policy(batch)
    return logprobs


def load_policy(directory: Path, chat: Chat, dtype: str, *, trains: bool = True) -> Policy:
    """The policy in a transformers directory, once it has passed its self-test; frozen if it does not train.

    Raises InvalidInput where it is unsafe or incomplete, or fails the self-test.
    """
    policy, _unused = read_policy(directory, chat, dtype)
    selftest.check(policy, chat, trains=trains)
    return policy


def read_policy(directory: Path, chat: Chat, dtype: str) -> tuple[Policy, list[str]]:
    """The policy before its self-test, and the names of weights in its files that it does not use.

    Raises InvalidInput where it is unsafe or incomplete.
    """
    network, unused = load_network(AutoModelForCausalLM, directory)
    return Policy(network, chat.vocab_size, dtype), unused


def save_policy(policy: Policy, chat: Chat, directory: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write a transformers directory that any other program can load; of a policy with an adapter, the adapter.

    A sharded one is written with its gathered `state`.
    """
    if adapter := policy.trunk.adapter:
        adapter.save(directory)
        _save_ends(policy.network, chat, directory)
        chat.save(directory)
    else:
        save_network(policy.network, chat, directory, state)


def save_network(network: PreTrainedModel, chat: Chat, directory: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write a whole causal language model as a transformers directory."""
    network.save_pretrained(directory, state_dict=state)
    _save_ends(network, chat, directory)
    chat.save(directory)


def _save_ends(network: PreTrainedModel, chat: Chat, directory: Path) -> None:
    """Other programs end an answer where the generation config says so; the base model's may not know our end."""
    if network.can_generate():
        network.generation_config.eos_token_id = sorted(chat.stop_ids)
        network.generation_config.save_pretrained(directory)
