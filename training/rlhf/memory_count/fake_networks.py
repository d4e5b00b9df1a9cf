"""Networks without numbers: as a stage would load them, from a config.json alone.

Fake tensors know their shape, dtype and storage, so all that the engine computes with them takes no memory and hardly
any time. What the engine finds out by comparing numbers when it loads a network is found out on a small real copy.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from .. import memory
from ..config import RunConfig, trunk_role
from ..model_folder.adapter_files import Shape
from ..networks import adapters
from ..networks.adapters import Adapter, Base, SavedAdapter
from ..networks.parents import Card, ParentNetworks
from ..networks.policy import Policy
from ..networks.scalar_model import ScalarModel, scalar_on, trunk_of
from ..networks.transformer import CANNOT_RUN
from ..networks.trunk import Found, assumed

SMALL_VOCABULARY = 320
SMALL_LAYER = 64  # numbers between the two matrices of an MLP

_found: dict[str, Found] = {}  # by config: a plan counts the same networks many times


class FakeNetworks(ParentNetworks):
    """Loads networks that have shapes only: by the configs of a run's parents and the shapes of those with adapters."""

    def __init__(
        self,
        cfg: RunConfig,
        models: Mapping[str, PreTrainedConfig],
        saved_shapes: Mapping[str, Shape],
        vocab_size: int,
    ) -> None:
        super().__init__(cfg, directory=lambda _role: Path())
        self._models, self._saved_shapes, self._vocab_size = models, saved_shapes, vocab_size
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def saved_adapter(self, role: str) -> SavedAdapter | None:
        """See ParentNetworks."""
        shape = self._saved_shapes.get(role)
        return SavedAdapter(Path(), shape, [], self.trunk_sha256(role)) if shape else None

    def whole_policy(self, role: str, *, trains: bool) -> Policy:
        """See ParentNetworks."""
        return self._policy(self._models[role], trains=trains)

    def whole_reward(self, role: str, *, trains: bool) -> tuple[ScalarModel, Card]:
        """See ParentNetworks."""
        config = self._models[role]
        with self._mode:
            backbone = AutoModel.from_config(config, dtype=torch.float32)
        model = self._scalar_model(backbone, config)
        if not trains:
            with self._assuming(config):
                model.freeze()
        return model, self.head(model, role)

    def scalar_from_policy(self, policy: Policy) -> ScalarModel:
        """A scalar model on a policy's trunk, which it takes over."""
        if policy.trunk.adapter:
            model = scalar_on(policy)
        else:
            model = self._scalar_model(trunk_of(policy.network), policy.network.config)
        self.head(model, "policy")
        return model

    def merged_policy(self, role: str, saved: SavedAdapter) -> Policy:
        """See ParentNetworks."""
        return self.whole_policy(trunk_role(role), trains=True)

    def new_adapter(self, base: Base, name: str, shape: Shape, layers: Sequence[str], *, trains: bool) -> Adapter:
        """See ParentNetworks."""
        return adapters.inject(base, name, shape, layers, trains=trains)

    def restore(self, adapter: Adapter, saved: SavedAdapter) -> None:
        """There is nothing to read."""

    def head(self, model: ScalarModel, role: str) -> Card:
        """A head without numbers."""
        with self._mode:
            model.head = nn.Linear(model.head.in_features, 1)
        return {}

    def _policy(self, config: PreTrainedConfig, *, trains: bool) -> Policy:
        with self._mode:
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with self._assuming(config):
            policy = Policy(network, self._vocab_size, self.cfg.dtype)
            if not trains:
                policy.freeze()
        return policy

    def _scalar_model(self, backbone: PreTrainedModel, config: PreTrainedConfig) -> ScalarModel:
        with self._assuming(config):
            return ScalarModel(backbone, self.cfg.dtype)

    @contextmanager
    def _assuming(self, config: PreTrainedConfig) -> Iterator[None]:
        key = config.to_json_string(use_diff=False)
        if key not in _found:
            _found[key] = find_out(config)
        token = assumed.set(_found[key])
        try:
            yield
        finally:
            assumed.reset(token)


def find_out(config: PreTrainedConfig) -> Found:
    """What loading a network with this config would find out. One that cannot be made smaller is taken not to pack."""
    try:
        with torch.random.fork_rng(devices=[]):
            network = AutoModelForCausalLM.from_config(shrunken(config), dtype=torch.float32)
            policy = Policy(network, SMALL_VOCABULARY, "fp32")
    except CANNOT_RUN as error:
        if memory.ran_out(error):
            raise
        return Found(packs=False, has_head=False)
    return Found(policy.trunk.packs, policy.has_head)


def shrunken(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config with one layer of each kind, few heads of the same width, and a small vocabulary."""
    small = copy.deepcopy(config)
    text: Any = small.get_text_config()
    heads = text.num_attention_heads
    groups = getattr(text, "num_key_value_heads", None) or heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    kinds = list(dict.fromkeys(getattr(text, "layer_types", None) or ()))
    text.num_attention_heads = 2 * (heads // groups)
    if getattr(text, "num_key_value_heads", None):
        text.num_key_value_heads = 2
    text.hidden_size = text.num_attention_heads * head_width
    text.num_hidden_layers = len(kinds) or 2
    if kinds:
        text.layer_types = kinds
    if hasattr(text, "intermediate_size"):
        text.intermediate_size = SMALL_LAYER
    text.vocab_size = SMALL_VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(text, name, None)
    return small
