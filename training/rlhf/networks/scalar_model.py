"""The scalar model: a language model's trunk with one number at every token. It serves as reward model and as critic.

Like the policy it derives positions from the mask, keeps fp32 weights, and always runs without dropout. Its head and
what follows are fp32 even where the trunk's linear layers run in bf16.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from .. import sharding
from ..data.batching import Batch, collate, last_column
from ..data.chat import Chat, Rendered
from ..exits import InvalidInput
from ..logprobs import shift
from . import device, frozen
from .adapters import Adapter, whole_names
from .layouts import SharedPrompts
from .policy import Policy
from .transformer import bf16_layers, load_network, runs_in_bf16
from .trunk import Trunk

HEAD = "head.safetensors"
CARD = "reward.json"


class ScalarModel(nn.Module):
    """A trunk with a linear head: (head - offset) * gain, raw with a fresh head, normalised by the reward stage."""

    offset: Tensor  # scalar
    gain: Tensor  # scalar

    def __init__(self, backbone: PreTrainedModel, dtype: str, shared: Trunk | None = None) -> None:
        """`shared`: the backbone as another network uses it, with an adapter, which alone is a part of this one."""
        super().__init__()
        self.bf16 = runs_in_bf16(backbone, dtype)
        self.trunk = shared or Trunk(backbone)
        if shared:
            vars(self)["backbone"] = backbone
            self.adapter = shared.adapter
        else:
            self.backbone = backbone.eval()
        with self._autocast():
            self.head = nn.Linear(width_of(self.trunk, backbone), 1)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("gain", torch.ones(()))
        device.place(self)
        if not shared:
            self.trunk.try_packing()

    def reset_head(self, generator: torch.Generator) -> None:
        """A fresh head: weights with standard deviation 1/sqrt(width + 1), no bias.

        As in Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO", after Stiennon et al. 2020.
        """
        width = self.head.in_features
        weight = torch.randn((1, width), generator=generator) / (width + 1) ** 0.5
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.zero_()

    def freeze(self) -> None:
        """It does not train: where it runs in bf16, its trunk holds bf16 weights; see `frozen`."""
        self.requires_grad_(False)
        if self.bf16:
            frozen.hold_in_bf16(self.backbone, self.trunk)

    def with_adapter(self, adapter: Adapter) -> "ScalarModel":
        """A scalar model with an adapter of this one's backbone, which they share, and a head of its own."""
        return ScalarModel(self.backbone, "bf16" if self.bf16 else "fp32", self.trunk.with_adapter(adapter))

    def shard(self) -> None:
        """Cut its weights over the ranks; see `sharding`."""
        sharding.shard(self)

    def forward(self, read: Batch | SharedPrompts) -> Tensor:
        """(B, T) fp32 of a batch: column t judges the text up to and including token t; 0 on padding.

        Of prompts with their completions, (N,) of the tokens as they lie; only where the trunk packs.
        """
        with self._autocast():
            if isinstance(read, SharedPrompts):
                return self._scores_of(self.trunk.read(read))
            hidden = self.trunk.hidden(read.tokens, read.attention)  # (N, width)
        scores = self._scores_of(hidden)
        return scores.new_zeros(read.tokens.shape).index_put((read.attention,), scores)

    def values(self, batch: Batch) -> Tensor:
        """(B, T) fp32: column t judges the text before token t, so it cannot depend on it; 0 at column 0."""
        return shift(self(batch)[:, :-1])

    def final_scores(self, rendered: Sequence[Rendered], pad_id: int) -> Tensor:
        """(S,) fp32: the score of each sequence, which is that of its last token. A prompt is read once if it can.

        Where there are none, it still makes a pass; see `collate`.
        """
        if self.trunk.packs and rendered:
            layout = SharedPrompts(rendered, self.backbone.device)
            return self(layout).index_select(0, layout.last)  # type: ignore[no-any-return]
        batch = collate(rendered, pad_id, self.backbone.device)
        scores: Tensor = self(batch)  # (S, T)
        return scores.gather(1, last_column(batch.attention)[:, None]).squeeze(1)[: len(rendered)]

    def _scores_of(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            raw: Tensor = self.head(hidden.float()).squeeze(-1)
        return (raw - self.offset) * self.gain

    def _autocast(self) -> torch.autocast:
        return bf16_layers(self.backbone.device, enabled=self.bf16)


@torch.no_grad()
def width_of(trunk: Trunk, backbone: PreTrainedModel) -> int:
    """Numbers that a trunk really gives for a token; its config may name another width. Raises InvalidInput."""
    tokens = torch.zeros((1, 2), dtype=torch.int64, device=backbone.device)
    try:
        return trunk.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool)).shape[-1]
    except AttributeError as error:
        raise _no_trunk(backbone) from error


def scalar_from_policy(policy: Policy, dtype: str, generator: torch.Generator) -> ScalarModel:
    """A scalar model with a fresh head on a policy's trunk, which it takes over. Raises InvalidInput."""
    model = scalar_on(policy) if policy.trunk.adapter else ScalarModel(trunk_of(policy.network), dtype)
    model.reset_head(generator)
    return model


def scalar_on(policy: Policy) -> ScalarModel:
    """A scalar model on the trunk of a policy with an adapter, which others go on using. Raises InvalidInput."""
    return ScalarModel(trunk_of(policy.network), "bf16" if policy.bf16 else "fp32", policy.trunk)


def trunk_of(network: PreTrainedModel) -> PreTrainedModel:
    """A language model without its head. Raises InvalidInput where that could not be loaded again by itself."""
    trunk: Any = network.base_model
    known: Any = AutoModel._model_mapping.get(type(trunk.config), None)
    if known is not type(trunk):
        raise _no_trunk(network)
    with torch.device("meta"):  # what it would be loaded into; for some architectures that has a part more
        loadable = AutoModel.from_config(trunk.config)
    if whole_names(trunk.state_dict()) != loadable.state_dict().keys():
        raise _no_trunk(network)
    backbone: PreTrainedModel = trunk
    return backbone


def _no_trunk(network: PreTrainedModel) -> InvalidInput:
    return InvalidInput(
        f"a model of type {network.config.model_type} cannot become a reward model: transformers has no matching"
        " version of it without a head",
        kind="trunk_unknown",
        field="model_type",
    )


class SavedWeights(NamedTuple):
    """What a scalar model is written from. Of a sharded one, all ranks have to ask for it."""

    backbone: dict[str, Tensor] | None  # None: as it is
    head: dict[str, Tensor]

    @classmethod
    def gathered(cls, model: ScalarModel) -> "SavedWeights":
        """For the rank that writes it; the others get none."""
        return cls(sharding.gathered_state(model.backbone), sharding.gathered(_head_tensors(model)))


def save_reward(
    model: ScalarModel, chat: Chat, directory: Path, card: dict[str, Any], weights: SavedWeights | None = None
) -> None:
    """Write the trunk as a transformers directory, or its adapter; the head, and `card`: what its use must check.

    A sharded model is written from `weights` that were gathered.
    """
    weights = weights or SavedWeights.gathered(model)
    if adapter := model.trunk.adapter:
        adapter.save(directory)
    else:
        model.backbone.save_pretrained(directory, state_dict=weights.backbone)
    chat.save(directory)
    safetensors.torch.save_file(weights.head, directory / HEAD)
    (directory / CARD).write_text(json.dumps(card, indent=1), "utf-8")


def load_reward(directory: Path, dtype: str) -> tuple[ScalarModel, dict[str, Any]]:
    """A reward model and its card. Raises InvalidInput where a weight is missing or one too many."""
    backbone, unexpected = load_network(AutoModel, directory)
    if unexpected:
        raise InvalidInput(
            f"the reward model {directory.name} has an unexpected weight: {unexpected[0]}", kind="weights"
        )
    model = ScalarModel(backbone, dtype)
    return model, load_head(model, directory)


def load_head(model: ScalarModel, directory: Path) -> dict[str, Any]:
    """Give a model the head of a reward model's directory, and return its card. Raises InvalidInput."""
    try:
        head = safetensors.torch.load_file(directory / HEAD)
        card: dict[str, Any] = json.loads((directory / CARD).read_text("utf-8"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InvalidInput(f"the reward model {directory.name} cannot be read: {error}", kind="model_files") from error
    ours = _head_tensors(model)
    if {name: value.shape for name, value in head.items()} != {name: value.shape for name, value in ours.items()}:
        raise InvalidInput(
            f"the reward model {directory.name} has unexpected weights in its head: {sorted(head)}", kind="weights"
        )
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(head[name])
    return card


def _head_tensors(model: ScalarModel) -> dict[str, Tensor]:
    return {**model.head.state_dict(), "offset": model.offset, "gain": model.gain}
