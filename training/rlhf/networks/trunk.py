"""A network without its head: the last hidden states of every real token of a batch, and of no padding.

Where the architecture lets its attention be replaced (see attention), padding is not computed at all. Whether it does
is tried on a few tokens when a network is loaded: many networks of transformers ignore what they do not know, so only
equal numbers prove that every layer attends as it should. All others read rectangles with padding, as they always can.
"""

import copy
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from .. import memory
from . import attention, shapes
from .adapters import Adapter, Switch
from .attention import Heads, Layout, Options
from .layouts import WholeSequences
from .transformer import CANNOT_RUN, ForwardPass

TRIED = (9, 2, 13)  # tokens of the sequences that both ways are compared on
TOLERANCE = 1e-4  # of the largest hidden state; rounding stays far below


class Found(NamedTuple):
    """What loading a network finds out by comparing numbers."""

    packs: bool  # its trunk reads layouts
    has_head: bool  # that can be told apart from its trunk


# What was found out on a network of the same kind, for networks without numbers, on which nothing can be compared.
assumed: ContextVar[Found | None] = ContextVar("assumed", default=None)


class Trunk:
    """A network, called for its hidden states."""

    def __init__(self, network: PreTrainedModel) -> None:
        self._network = network
        self._forward_pass = ForwardPass(network)
        self._switch = Switch()
        self.adapter: Adapter | None = None  # with which it is called
        self.packs = False  # it reads layouts
        self.stop_packing()  # the network may come from another trunk

    def with_adapter(self, adapter: Adapter) -> "Trunk":
        """The same trunk, called with an adapter of its network."""
        self._switch.add(adapter)
        adapted = copy.copy(self)
        adapted.adapter = adapter
        return adapted

    def activate(self) -> None:
        """Have the network compute with this trunk's adapter, or with none, until another trunk is called."""
        self._switch.activate(self.adapter)

    def hidden(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, width): the hidden states of the N real tokens of a batch (B, T), row by row."""
        if self.packs:
            return self.read(WholeSequences(tokens, mask))
        self.activate()
        hidden: Tensor = self._forward_pass(tokens, mask, use_cache=False).last_hidden_state  # (B, T, width)
        return hidden[mask]

    def read(self, layout: Layout) -> Tensor:
        """(N, width): the hidden states of the tokens in a layout. Only where the network packs."""
        self.activate()
        count = len(layout.tokens)
        more = shapes.padding(count, bf16=torch.is_autocast_enabled(layout.tokens.device.type))
        row, positions = (shapes.padded(ids, more)[None] for ids in (layout.tokens, layout.positions))
        hidden: Tensor = self._network(row, position_ids=positions, layout=layout, use_cache=False).last_hidden_state
        return hidden[0, :count]

    def stop_packing(self) -> None:
        """Read rectangles from now on."""
        self.packs = False
        self._network.set_attn_implementation("sdpa" if self._network._supports_sdpa else "eager")

    def checkpoint_activations(self) -> None:
        """From now on keep only the input of each layer, and compute the layer again for its gradient.

        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". The gradient stays the same to the last bit.
        What transformers has for it works in training mode only, and with that comes dropout.
        """
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        again = partial(checkpoint, context_fn=self._switch.contexts, **options)
        for layer in self._network.modules():
            # Those of a trunk with several adapters may have been asked for it before.
            if isinstance(layer, GradientCheckpointingLayer) and "forward" not in vars(layer):
                layer.forward = partial(again, layer.forward)

    def keep_activations(self) -> None:
        """The opposite, for a network without a gradient. It is let go at once then: no layer holds on to itself."""
        for layer in self._network.modules():
            vars(layer).pop("forward", None)

    @torch.no_grad()
    def try_packing(self) -> None:
        """Replace the network's attention, unless that changes its hidden states by more than rounding."""
        if not self._network._can_set_attn_implementation():
            return
        if known := assumed.get():
            if known.packs:
                self._network.set_attn_implementation(attention.NAME)
                self.packs = True
            return
        tokens, mask = tried(self._network)
        try:
            expected = self.hidden(tokens, mask)
            self._network.set_attn_implementation(attention.NAME)
            layout = _Watched(tokens, mask)
            gap = (self.read(layout) - expected).abs().max()
        except CANNOT_RUN as error:
            if memory.ran_out(error):
                raise
            self.stop_packing()
            return
        self.packs = bool(gap <= TOLERANCE * expected.abs().max()) and layout.saw_windows_of(self._network.config)
        if not self.packs:
            self.stop_packing()


def tried(network: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Random tokens (B, T) and which of them are real, to compare two ways through a network on."""
    vocabulary: int = network.get_input_embeddings().num_embeddings  # type: ignore[assignment]
    tokens = torch.randint(vocabulary, (len(TRIED), max(TRIED)), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(max(TRIED)) < torch.tensor(TRIED)[:, None]
    return tokens.to(network.device), mask.to(network.device)


class _Watched(WholeSequences):
    """Sequences too short to show a window, so it remembers whether layers ask for one."""

    def __init__(self, tokens: Tensor, mask: Tensor) -> None:
        super().__init__(tokens, mask)
        self._windows: set[int | None] = set()

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        self._windows.add(options.window)
        return super().attend(layer, heads, options)

    def saw_windows_of(self, config: Any) -> bool:
        """Whether the windows of a config came with the calls, and not with a mask, which is not built here."""
        config = config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        has_windows = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
        window = getattr(config, "sliding_window", None) if has_windows else None
        return "chunked_attention" not in kinds and (window is None or window in self._windows)
