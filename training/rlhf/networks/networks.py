"""The two kinds of network: a policy, which continues text, and a scalar model, which puts a number on it.

Both wrap a transformers model, are told positions by the mask, keep fp32 weights, and run without dropout always, so
that two readings of the same batch are bitwise equal. The linear layers may run in bf16; heads and what follows do
not. Only safetensors are read: a pickle can run code.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel

from .. import memory
from ..data.batching import positions
from ..data.chat import Chat
from ..exits import InvalidInput
from ..logprobs import shift
from ..model_folder import architecture, model_files
from . import selftest

HEAD = "head.safetensors"
CARD = "reward.json"
AMX_WORTHWHILE = 4_000_000  # parameters from which bf16 on a CPU with matrix tiles is faster than fp32


class Reading:
    """How a network wants to be called: with the arguments that its forward pass names, and no others."""

    def __init__(self, network: PreTrainedModel) -> None:
        self._network = network
        self._named = frozenset(inspect.signature(network.forward).parameters)
        self._cache = "past_key_values" if "past_key_values" in self._named else "cache_params"

    def __call__(self, tokens: Tensor, attention: Tensor, *, cache: Cache | None = None, **options: Any) -> Any:
        """What the network says of `tokens` (B, N), the last of those that `attention` (B, T) covers."""
        options["position_ids"] = positions(attention)[:, -tokens.shape[1] :]  # (B, N)
        if cache is not None:
            options[self._cache] = cache
        if self._cache == "cache_params":  # state-space models: what was padding is in their state, and read no more
            attention = attention[:, -tokens.shape[1] :]
        known = {name: value for name, value in options.items() if name in self._named}
        return self._network(tokens, attention_mask=attention, **known)


class Policy(nn.Module):
    """A causal language model over the ids that text can have; the embedding's padding beyond them is cut off."""

    def __init__(self, network: PreTrainedModel, vocab_size: int, dtype: str) -> None:
        super().__init__()
        rows: int = network.get_input_embeddings().num_embeddings  # type: ignore[assignment]
        if vocab_size > rows:
            raise InvalidInput(
                "the model's tokenizer has more tokens than its embedding: use the tokenizer that it was trained with",
                kind="tokenizer_larger",
                tokens=vocab_size,
                embedding=rows,
            )
        self.network = network.eval()
        self.vocab_size = vocab_size
        self.bf16 = runs_in_bf16(network, dtype)
        self.rows_leave = True  # its cache lets go of single rows; the self-test knows better
        self._reading = Reading(network)
        self.to(device())

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, T, V) fp32 logits; those at column t are about token t + 1."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            output = self._reading(tokens, attention, use_cache=False)
        logits: Tensor = output.logits[..., : self.vocab_size].float()
        return logits

    @property
    def device(self) -> torch.device:
        """Where it reads."""
        place: torch.device = self.network.device
        return place

    def new_cache(self) -> Cache:
        """A cache that has read nothing."""
        return DynamicCache(config=self.network.config)

    def next_logits(self, tokens: Tensor, attention: Tensor, cache: Cache) -> Tensor:
        """(B, V) fp32 logits after `tokens` (B, N), which follow what `cache` has read.

        `attention` (B, T) covers all that was read, `tokens` included.
        """
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            output = self._reading(tokens, attention, cache=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1, : self.vocab_size].float()
        return logits


class ScalarModel(nn.Module):
    """A language model's trunk with one number at every token: a reward model or a critic.

    What comes out is (head - offset) * gain: raw with a fresh head, normalised once the reward stage has set both.
    """

    offset: Tensor  # scalar
    gain: Tensor  # scalar

    def __init__(self, backbone: PreTrainedModel, dtype: str) -> None:
        super().__init__()
        self.backbone = backbone.eval()
        self.head = nn.Linear(width_of(backbone), 1)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("gain", torch.ones(()))
        self.bf16 = runs_in_bf16(backbone, dtype)
        self._reading = Reading(backbone)
        self.to(device())

    def reset_head(self, draw: torch.Generator) -> None:
        """A fresh head: weights with standard deviation 1/sqrt(d+1), no bias."""
        width = self.head.in_features
        weight = torch.randn((1, width), generator=draw) / (width + 1) ** 0.5
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.zero_()

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, T) fp32: column t judges the text up to and including token t."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            output = self._reading(tokens, attention, use_cache=False)
        raw: Tensor = self.head(output.last_hidden_state.float()).squeeze(-1)
        return (raw - self.offset) * self.gain

    def values(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, T) fp32: column t judges what was there before token t, so it cannot depend on it."""
        return shift(self(tokens, attention)[:, :-1])


def device() -> torch.device:
    """Where the networks live: the first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def width_of(backbone: PreTrainedModel) -> int:
    """Numbers that a trunk really gives for a token; its config may name another width. Raises InvalidInput."""
    nothing = torch.zeros((1, 2), dtype=torch.int64, device=backbone.device)
    output = Reading(backbone)(nothing, torch.ones_like(nothing, dtype=torch.bool), use_cache=False)
    if getattr(output, "last_hidden_state", None) is None:
        raise _no_trunk(backbone)
    width: int = output.last_hidden_state.shape[-1]
    return width


def runs_in_bf16(network: nn.Module, dtype: str) -> bool:
    """Whether the linear layers run in bf16 under a config's `dtype`."""
    if dtype != "auto":
        return dtype == "bf16"
    if device().type == "cuda":
        return True
    amx: bool = torch.cpu._is_amx_tile_supported()
    return amx and sum(p.numel() for p in network.parameters()) >= AMX_WORTHWHILE


def load_policy(directory: Path, chat: Chat, dtype: str) -> Policy:
    """The policy in a transformers directory, once it has passed its self-test.

    Raises InvalidInput where it is unsafe, incomplete, or reads one text in two ways.
    """
    policy, _ = read_policy(directory, chat, dtype)
    selftest.check(policy, chat)
    return policy


def read_policy(directory: Path, chat: Chat, dtype: str) -> tuple[Policy, list[str]]:
    """The policy before its self-test, and the names of weights in the files that it has no place for."""
    network, unused = _load(AutoModelForCausalLM, directory)
    return Policy(network, chat.vocab_size, dtype), unused


def save_policy(policy: Policy, chat: Chat, directory: Path) -> None:
    """Write a transformers directory that any other program can load."""
    policy.network.save_pretrained(directory)
    chat.save(directory)


def scalar_from_policy(policy: Policy, dtype: str, draw: torch.Generator) -> ScalarModel:
    """A scalar model with a policy's trunk, which it takes over, and a fresh head."""
    model = ScalarModel(trunk_of(policy.network), dtype)
    model.reset_head(draw)
    return model


def trunk_of(network: PreTrainedModel) -> PreTrainedModel:
    """A language model without its head. Raises InvalidInput where that could not be loaded again by itself."""
    trunk: Any = network.base_model
    known: Any = AutoModel._model_mapping.get(type(trunk.config), None)
    if known is not type(trunk) or trunk.state_dict().keys() != _fresh(trunk).state_dict().keys():
        raise _no_trunk(network)
    backbone: PreTrainedModel = trunk
    return backbone


def _fresh(trunk: PreTrainedModel) -> PreTrainedModel:
    """The network that the trunk is read into when it is loaded by itself; some of them have a part more."""
    with torch.device("meta"):
        fresh: PreTrainedModel = AutoModel.from_config(trunk.config)
    return fresh


def _no_trunk(network: PreTrainedModel) -> InvalidInput:
    return InvalidInput(
        f"a model of the type {network.config.model_type} cannot become a reward model: transformers knows no such"
        " model without its head, or only one that has other parts",
        kind="trunk_unknown",
        field="model_type",
    )


def save_reward(model: ScalarModel, chat: Chat, directory: Path, card: dict[str, Any]) -> None:
    """Write the trunk as a transformers directory, the head beside it, and `card`: what a user must check."""
    model.backbone.save_pretrained(directory)
    chat.save(directory)
    safetensors.torch.save_file(_head_tensors(model), directory / HEAD)
    (directory / CARD).write_text(json.dumps(card, indent=1), "utf-8")


def load_reward(directory: Path, dtype: str) -> tuple[ScalarModel, dict[str, Any]]:
    """A reward model and its card. Raises InvalidInput where a weight is missing or one too many."""
    backbone, unexpected = _load(AutoModel, directory)
    if unexpected:
        raise InvalidInput(f"the reward model {directory.name} has a weight too many: {unexpected[0]}", kind="weights")
    model = ScalarModel(backbone, dtype)
    try:
        head = safetensors.torch.load_file(directory / HEAD)
        card: dict[str, Any] = json.loads((directory / CARD).read_text("utf-8"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InvalidInput(f"the reward model {directory.name} cannot be read: {error}", kind="model_files") from error
    ours = _head_tensors(model)
    if {name: value.shape for name, value in head.items()} != {name: value.shape for name, value in ours.items()}:
        raise InvalidInput(
            f"the reward model {directory.name} has other weights in its head: {sorted(head)}", kind="weights"
        )
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(head[name])
    return model, card


def refuse_unsafe(directory: Path) -> None:
    """Raises InvalidInput for a model directory that cannot be read as it is: see model_files."""
    model_files.require(directory)
    if (directory / model_files.ADAPTER).exists():  # transformers would put it on top without a word
        raise InvalidInput(
            f"the model directory {directory.name} holds an adapter beside its weights: merge it into them",
            kind="adapter_beside",
            field=model_files.ADAPTER,
        )


def _load(auto_class: Any, directory: Path) -> tuple[PreTrainedModel, list[str]]:
    """The model, every weight of it found, and the names of weights in the files that it has no place for."""
    refuse_unsafe(directory)
    try:
        network, info = auto_class.from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # of any kind: each architecture builds itself
        if memory.ran_out(error):  # which is no fault of the directory
            raise
        raise InvalidInput(
            f"{_called(directory)} cannot be read: {architecture.said_of(directory, error)}", kind="model_files"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise InvalidInput(f"{_called(directory)} lacks a weight: {missing[0]}", kind="weights")
    return network, sorted(info["unexpected_keys"])


def _called(directory: Path) -> str:
    """A model directory in a sentence. One that is being examined has no name that anybody knows."""
    return "the model" if directory.name.startswith(".") else f"the model directory {directory.name}"


def _head_tensors(model: ScalarModel) -> dict[str, Tensor]:
    return {**model.head.state_dict(), "offset": model.offset, "gain": model.gain}
