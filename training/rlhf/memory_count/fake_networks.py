"""Networks without numbers: as a stage would load them, from a config.json alone.

Fake tensors know their shape, dtype and storage, so all that the engine computes with them takes no memory and hardly
any time. What the engine finds out by comparing numbers when it loads a network is found out on a small real copy.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from .. import memory
from ..networks.policy import Policy
from ..networks.scalar_model import ScalarModel, trunk_of
from ..networks.transformer import CANNOT_RUN
from ..networks.trunk import Found, assumed

SMALL_VOCABULARY = 320
SMALL_LAYER = 64  # numbers between the two matrices of an MLP

_found: dict[str, Found] = {}  # by config: a plan counts the same networks many times


class FakeNetworks:
    """Loads networks that have shapes only."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def policy(self, config: PreTrainedConfig, vocab_size: int, dtype: str, *, trains: bool = True) -> Policy:
        """What load_policy would return for a directory with this config."""
        with self._mode:
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with self._assuming(config):
            policy = Policy(network, vocab_size, dtype)
            if not trains:
                policy.freeze()
        return policy

    def scalar_model(self, config: PreTrainedConfig, dtype: str, *, trains: bool = True) -> ScalarModel:
        """What load_reward would return for a directory with this config."""
        with self._mode:
            backbone = AutoModel.from_config(config, dtype=torch.float32)
        model = self._with_head(backbone, config, dtype)
        if not trains:
            with self._assuming(config):
                model.freeze()
        return model

    def scalar_from_policy(self, policy: Policy, dtype: str) -> ScalarModel:
        """A scalar model on a policy's trunk, which it takes over."""
        return self._with_head(trunk_of(policy.network), policy.network.config, dtype)

    def _with_head(self, backbone: PreTrainedModel, config: PreTrainedConfig, dtype: str) -> ScalarModel:
        with self._assuming(config):
            model = ScalarModel(backbone, dtype)
        with self._mode:
            model.head = nn.Linear(model.head.in_features, 1)
        return model

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
