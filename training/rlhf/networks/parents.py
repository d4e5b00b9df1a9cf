"""The networks that a run starts from: whole ones, and adapters on bases that are loaded once.

What a role of the config comes to:

parent      the network       is read as
a whole     does not train    itself; where it is also the base of an adapter of the run, that base
a whole     trains all        itself
a whole     trains an adapter a base, with a new adapter
an adapter  does not train    its base, with this adapter
an adapter  trains all        its base, with this adapter merged into the weights
an adapter  trains an adapter its base, with a copy of this adapter
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..config import LearningConfig, RunConfig, has_adapters, trunk_role
from ..data.chat import Chat
from ..exits import InvalidInput
from ..model_folder.adapter_files import Shape, is_adapter
from . import adapters
from .adapters import Adapter, Base, SavedAdapter
from .policy import Policy, load_policy
from .scalar_model import ScalarModel, load_head, load_reward, scalar_on, trunk_of

Card = dict[str, Any]


class ParentNetworks:
    """Loads the networks of a run; `directory` finds and verifies that of a role, and raises InvalidInput."""

    def __init__(self, cfg: RunConfig, directory: Callable[[str], Path]) -> None:
        self.cfg, self.directory = cfg, directory
        self._trained_shape: Shape | None = None  # of the adapters that train
        if isinstance(cfg, LearningConfig) and cfg.adapter_rank:
            self._trained_shape = Shape(cfg.adapter_rank, cfg.adapter_alpha)
        self._has_adapters = has_adapters(cfg)
        self._bases: dict[str, Policy] = {}  # by manifest hash
        self._reward_bases: dict[str, ScalarModel] = {}  # whole ones, by role; the critic's adapter stands on one

    def policy(self, role: str, *, trains: bool = False) -> Policy:
        """The policy in a role. Raises InvalidInput."""
        saved, shape = self.saved_adapter(role), self._trained_shape if trains else None
        if saved and trains and not shape:
            return self.merged_policy(role, saved)
        if not saved and not shape:
            return self._base(role) if self._has_adapters and not trains else self.whole_policy(role, trains=trains)
        base = self._base(trunk_role(role) if saved else role)
        return base.with_adapter(self._adapter(base.network, role, role, saved, shape))

    def reward_model(self, role: str = "reward", *, trains: bool = False) -> tuple[ScalarModel, Card]:
        """A reward model, and its card; one that `trains` is the critic that starts as it. Raises InvalidInput."""
        saved, shape = self.saved_adapter(role), self._trained_shape if trains else None
        name = "critic" if trains else role
        if saved and trains and not shape:
            model = ScalarModel(trunk_of(self.merged_policy(role, saved).network), self.cfg.dtype)
        elif saved:
            base = self._base(trunk_role(role))
            model = scalar_on(base.with_adapter(self._adapter(base.network, role, name, saved, shape)))
        elif shape:
            whole = self._whole_reward_base(role)
            model = whole.with_adapter(self._adapter(whole.backbone, role, name, None, shape))
        elif self._trained_shape:
            model = self._whole_reward_base(role)
        else:
            return self.whole_reward(role, trains=trains)
        return model, self.head(model, role)

    # How they are read. Memory is counted with networks that have no numbers: see memory_count/fake_networks.py.

    def saved_adapter(self, role: str) -> SavedAdapter | None:
        """The adapter of a role, checked against its base; None where the role has a whole model."""
        directory = self.directory(role)
        if not is_adapter(directory):
            return None
        saved = adapters.read(directory)
        if self.trunk_sha256(role) != saved.base_sha256:
            raise _other_trunk(role)
        return saved

    def trunk_sha256(self, role: str) -> str:
        """The hash of the model that a role's adapter stands on. Raises InvalidInput where the config names none."""
        trunk = self.cfg.parents.get(trunk_role(role))
        if trunk is None:
            raise _no_trunk(role)
        return trunk.manifest_sha256

    def whole_policy(self, role: str, *, trains: bool) -> Policy:
        """A policy that has its weights to itself."""
        directory = self.directory(role)
        return load_policy(directory, Chat.load(directory), self.cfg.dtype, trains=trains)

    def whole_reward(self, role: str, *, trains: bool) -> tuple[ScalarModel, Card]:
        """A reward model that has its weights to itself."""
        model, card = load_reward(self.directory(role), self.cfg.dtype)
        if not trains:
            model.freeze()
        return model, card

    def merged_policy(self, role: str, saved: SavedAdapter) -> Policy:
        """A base with an adapter in its weights."""
        policy = self.whole_policy(trunk_role(role), trains=True)
        adapters.merge(policy.network, saved)
        return policy

    def new_adapter(self, base: Base, name: str, shape: Shape, layers: Sequence[str], *, trains: bool) -> Adapter:
        """A further adapter of a base, beside the layers of these names; see adapters.inject."""
        adapter = adapters.inject(base, name, shape, layers, trains=trains)
        adapter.reset(self.cfg.seed, f"{self.cfg.stage}/adapter/{name}")
        return adapter

    def restore(self, adapter: Adapter, saved: SavedAdapter) -> None:
        """Give an adapter the matrices of a directory."""
        adapter.restore(saved)

    def head(self, model: ScalarModel, role: str) -> Card:
        """Give a model the head of the reward model in a role, and return the card."""
        return load_head(model, self.directory(role))

    def _base(self, role: str) -> Policy:
        sha256 = self.cfg.parents[role].manifest_sha256
        if sha256 not in self._bases:
            self._bases[sha256] = self.whole_policy(role, trains=False)
        return self._bases[sha256]

    def _whole_reward_base(self, role: str) -> ScalarModel:
        if role not in self._reward_bases:
            self._reward_bases[role], _card = self.whole_reward(role, trains=False)
        return self._reward_bases[role]

    def _adapter(
        self, network: PreTrainedModel, role: str, name: str, saved: SavedAdapter | None, trained: Shape | None
    ) -> Adapter:
        """An adapter that goes on from a role's saved one, or a new one; it trains if it has a shape to train in."""
        if saved and trained and trained != saved.shape:
            raise _other_shape(saved)
        shape = saved.shape if saved else trained
        assert shape
        base = Base(network, saved.base_sha256 if saved else self.cfg.parents[role].manifest_sha256)
        layers = saved.layers if saved else []
        adapter = self.new_adapter(base, name, shape, layers, trains=bool(trained))
        if saved:
            self.restore(adapter, saved)
        return adapter


def _no_trunk(role: str) -> InvalidInput:
    field = f"parents.{trunk_role(role)}"
    return InvalidInput(
        f"parents.{role} is an adapter: name the whole model that it stands on as {field}",
        kind="trunk_missing",
        field=field,
    )


def _other_trunk(role: str) -> InvalidInput:
    field = f"parents.{trunk_role(role)}"
    return InvalidInput(
        f"{field} is another model than the one that the adapter in parents.{role} was trained on: its hash differs",
        kind="trunk_differs",
        field=field,
    )


def _other_shape(saved: SavedAdapter) -> InvalidInput:
    rank, alpha = saved.shape
    return InvalidInput(
        f"training would start from an adapter with adapter_rank {rank} and adapter_alpha {alpha:g}: set both to that,"
        " or adapter_rank to 0 to train all weights",
        kind="adapter_differs",
        field="adapter_rank",
        rank=rank,
        alpha=alpha,
    )
