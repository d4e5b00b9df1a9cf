"""What a run is asked to do: one frozen dataclass for each stage, read from and written to JSON.

Imports no torch, because the web process writes these files. In JSON, a stage's own fields and those of every stage are
on one level. Defaults, units and limits stand here and nowhere else: the pages and the API show them from the fields.
Nothing here depends on the size of a model: values for several sizes are in training/presets.py.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from .exits import InvalidInput

T = TypeVar("T")

SCHEMA = 1
DTYPES = ("auto", "fp32", "bf16")
SWITCH = ("auto", "on", "off")
TRIAL_PROMPTS = 64  # of PPO, at most


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which values a field may have. The far ends are no advice: they catch a slip of the keyboard."""

    at_least: float | None = None
    above: float | None = None  # which itself is too small
    at_most: float | None = None
    below: float | None = None  # which itself is too large
    one_of: tuple[str, ...] = ()

    def allow(self, value: Any) -> bool:
        if not isinstance(value, int | float):
            return not self.one_of or value in self.one_of
        return (
            _is_finite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.one_of:
            return f"one of {', '.join(self.one_of)}"
        if self.at_least is not None and self.at_most is not None:
            return f"between {self.at_least:,} and {self.at_most:,}"
        ends = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {end:,}" for word, end in ends.items() if end is not None) or "a finite number"


def setting(default: Any, *, unit: str = "", **limits: Any) -> Any:
    """A field of a config with its default, its unit and its Limits."""
    return field(default=default, metadata={"unit": unit, "limits": Limits(**limits)})


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A model directory that a stage starts from, and the hash that it must have."""

    path: str  # absolute, or relative to the run directory
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The fields that every stage has."""

    stage: ClassVar[str]
    required_parents: ClassVar[frozenset[str]] = frozenset()
    optional_parents: ClassVar[frozenset[str]] = frozenset()
    examined_records: ClassVar[str] = ""  # the file of data/ that is examined before a round; "" for none
    # How many times a model's weights it holds in memory: weights, gradients and two Adam moments of what it trains,
    # and the weights of what it only reads. 0 for what starts from no model.
    weights_held: ClassVar[int] = 0

    seed: int  # of all random numbers of the run
    # CPU threads of the process; a run resumes exactly only with the same number
    threads: int = setting(1, at_least=1, at_most=1024)
    # that train one model together, each with a graphics card or cores of its own; started by torchrun
    processes: int = setting(1, at_least=1, at_most=4096)
    dtype: str = setting("auto", one_of=DTYPES)  # of the linear layers: fp32, bf16, or what suits the machine
    parents: Mapping[str, Parent] = field(default_factory=dict)
    # padding included, that go through a network at once
    batch_tokens: int = setting(8192, unit="tokens", at_least=1, at_most=10_000_000)
    # between two checkpoints; 0 saves after every step
    checkpoint_seconds: int = setting(300, unit="seconds", at_least=0, at_most=86_400)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            require_allowed(each, getattr(self, each.name))
        if missing := self.required_parents - set(self.parents):
            raise InvalidInput(
                f"{self.stage} requires parents.{min(missing)}", kind="config", field=f"parents.{min(missing)}"
            )
        roles = self.required_parents | self.optional_parents
        if unknown := set(self.parents) - roles - {trunk_role(role) for role in roles}:
            raise InvalidInput(
                f"{self.stage} does not use parents.{min(unknown)}", kind="config", field=f"parents.{min(unknown)}"
            )


@dataclass(frozen=True, kw_only=True)
class LearningConfig(RunConfig):
    """The fields of every stage that trains an existing model."""

    # compute each layer again for its gradient: less memory, a third more time; auto: only where memory needs it
    activation_checkpointing: str = setting("auto", one_of=SWITCH)
    # of the LoRA adapters that train in place of the weights; 0 trains all weights
    adapter_rank: int = setting(0, at_least=0, at_most=1024)
    # an adapter's product counts alpha / rank times
    adapter_alpha: float = setting(32.0, above=0, at_most=1_000_000)
    # cut the networks over the processes instead of giving each a copy: less memory on a graphics card, more traffic
    # between them; auto: only where memory needs it
    sharding: str = setting("auto", one_of=SWITCH)


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(RunConfig):
    """A small model from nothing: its tokenizer, its shape and how long it reads."""

    stage: ClassVar[str] = "pretraining"

    # byte-level BPE pieces: 256 bytes, the special ones and some more
    vocab_size: int = setting(1024, at_least=300, at_most=1_000_000)
    hidden_size: int = setting(128, at_least=1, at_most=65_536)
    layers: int = setting(2, at_least=1, at_most=1000)
    heads: int = setting(4, at_least=1, at_most=1000)
    mlp_size: int = setting(344, at_least=1, at_most=1_000_000)
    context: int = setting(256, unit="tokens", at_least=1, at_most=10_000_000)
    # to read in all; the corpus is read again when it is shorter
    tokens: int = setting(1_000_000, unit="tokens", at_least=1, at_most=10**12)
    batch_size: int = setting(32, unit="documents per step", at_least=1, at_most=1_000_000)
    learning_rate: float = setting(3e-3, above=0)  # Adam peak, after a linear warm-up; decays linearly to 0
    warmup: float = setting(0.05, unit="share of the steps", at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.hidden_size % (2 * self.heads) == 0, "hidden_size", "must be a multiple of twice the heads")


@dataclass(frozen=True, kw_only=True)
class SFTConfig(LearningConfig):
    """How long the base model imitates the demonstrations."""

    stage: ClassVar[str] = "sft"
    required_parents: ClassVar[frozenset[str]] = frozenset({"base"})
    examined_records: ClassVar[str] = "demonstrations"
    weights_held: ClassVar[int] = 4

    epochs: int = setting(3, at_least=1, at_most=1000)
    batch_size: int = setting(32, unit="demonstrations per step", at_least=1, at_most=1_000_000)
    learning_rate: float = setting(1e-5, above=0)  # Adam peak; decays by a cosine to a tenth
    # of an answer; a longer demonstration is cut, and then has no end to learn
    max_response: int = setting(256, unit="tokens", at_least=1, at_most=1_000_000)


@dataclass(frozen=True, kw_only=True)
class RewardConfig(LearningConfig):
    """How the preferences of the slates become a number."""

    stage: ClassVar[str] = "reward"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy"})
    examined_records: ClassVar[str] = "rankings"
    weights_held: ClassVar[int] = 4

    epochs: int = setting(1, at_least=1, at_most=1000)  # a second one overfits quickly
    batch_size: int = setting(64, unit="slates per step", at_least=1, at_most=1_000_000)
    learning_rate: float = setting(9e-6, above=0)  # Adam peak; decays by a cosine to a tenth
    # that a prompt must leave free in the context
    max_response: int = setting(256, unit="tokens", at_least=1, at_most=1_000_000)
    # weight of the loss by which good answers to a prompt beat an answer to another prompt; 0 does without
    mismatch_coefficient: float = setting(0.0, at_least=0)


@dataclass(frozen=True, kw_only=True)
class WatcherConfig(RewardConfig):
    """The same for the reward model that watches PPO and is never its reward: from slates that the other never saw."""

    stage: ClassVar[str] = "watcher"
    examined_records: ClassVar[str] = "watcher_rankings"


@dataclass(frozen=True, kw_only=True)
class AnsweringConfig(RunConfig):
    """The fields of every stage whose policy writes answers."""

    max_response: int = setting(256, unit="tokens", at_least=1, at_most=1_000_000)  # of an answer
    # of the cache of what is read and written so far, in all answers that are written at once
    cache_mb: int = setting(4096, unit="MB", at_least=1, at_most=10_000_000)


@dataclass(frozen=True, kw_only=True)
class PPOConfig(AnsweringConfig, LearningConfig):
    """How hard one round pushes the policy."""

    stage: ClassVar[str] = "ppo"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy", "reference", "reward"})
    optional_parents: ClassVar[frozenset[str]] = frozenset({"watcher"})
    examined_records: ClassVar[str] = "prompts"
    weights_held: ClassVar[int] = 11

    iterations: int = setting(60, at_least=1, at_most=1_000_000)
    # episodes of an iteration, all sampled from one policy
    rollout_size: int = setting(512, unit="answers", at_least=1, at_most=1_000_000)
    minibatch_size: int = setting(64, unit="answers", at_least=1, at_most=1_000_000)  # episodes per gradient step
    epochs: int = setting(1, at_least=1, at_most=1000)  # passes over the episodes of an iteration
    learning_rate: float = setting(3e-6, at_least=0)  # of the policy, Adam peak; decays linearly to 0
    value_learning_rate: float = setting(9e-6, at_least=0)  # of the critic, likewise
    # lost per nat of divergence from the reference
    beta: float = setting(0.05, unit="reward per nat", at_least=0)
    # beta goes up or down until the KL comes to this; 0 keeps beta as it is
    kl_target: float = setting(0.0, unit="nats per answer", at_least=0)
    # after which a KL that is a fifth or more off the target has changed beta by a fifth
    kl_horizon: int = setting(10_000, unit="answers", at_least=1, at_most=10**12)
    # weight of the loss on demonstrations beside that of PPO (PPO-ptx); 0 does without
    ptx_coefficient: float = setting(0.0, at_least=0)
    # of the moving average of the policy's weights that is published; 0 publishes the weights themselves
    ema_decay: float = setting(0.0, at_least=0, below=1)
    clip: float = setting(0.2, above=0)  # largest move of the probability ratio that is rewarded
    value_clip: float = setting(0.2, unit="reward", above=0)  # largest move of a value that is rewarded
    gamma: float = setting(1.0, at_least=0, at_most=1)  # worth of a reward one token later
    lam: float = setting(0.95, at_least=0, at_most=1)  # lambda of generalised advantage estimation
    missing_eos_penalty: float = setting(1.0, unit="reward", at_least=0)  # lost by an answer that does not end
    # of a sequence; beyond it the run stops and the policy before is the result
    kl_limit: float = setting(10.0, unit="nats per answer", above=0)
    # between two measurements of the policy with the watcher; 0 does without it: no measurement, no trial, no stop
    gauge_every: int = setting(5, unit="iterations", at_least=0, at_most=1_000_000)
    # train prompts that are answered for a measurement, always the same ones
    gauge_prompts: int = setting(128, unit="prompts", at_least=8, at_most=1_000_000)
    # to each of 64 prompts, before PPO, which begins only if the watcher prefers what the reward picks; 0: no trial
    trial_answers: int = setting(16, unit="answers", at_least=0, at_most=1000)
    # end the run after so many measurements in a row without a certain improvement
    gauge_patience: int = setting(4, unit="measurements", at_least=1, at_most=1_000_000)
    # whether it ends then, and the policy that the watcher liked best is published; off: it is measured only
    early_stopping: str = setting("on", one_of=("on", "off"))
    # of each iteration, that are kept for people to read
    shown_samples: int = setting(8, unit="answers", at_least=0, at_most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rollout_size % self.minibatch_size == 0, "rollout_size", "must be a multiple of minibatch_size")
        # One iteration may not turn the sign of beta.
        fits = self.kl_target == 0 or self.rollout_size <= self.kl_horizon
        require(fits, "kl_horizon", "must not be less than rollout_size")
        require(self.processes <= self.minibatch_size, "processes", "must not be more than minibatch_size")

    @property
    def is_watched(self) -> bool:
        """Whether the run has a watcher and uses it."""
        return "watcher" in self.parents and self.gauge_every > 0

    def count_gauge_answers(self, prompts: int) -> int:
        """How many answers the trial and all measurements of a watched run take that has so many train prompts."""
        has_trial = self.trial_answers > 1 and prompts > 1
        tried = min(TRIAL_PROMPTS, self.gauge_prompts, prompts) if has_trial else 0
        measurements = 1 + math.ceil(self.iterations / self.gauge_every)  # the first is before training
        return tried * self.trial_answers + measurements * self.gauge_prompts


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(AnsweringConfig):
    """What is measured on the held-out prompts."""

    stage: ClassVar[str] = "evaluation"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy", "reference"})
    optional_parents: ClassVar[frozenset[str]] = frozenset({"parent", "reward", "watcher"})
    examined_records: ClassVar[str] = "heldout_prompts"
    weights_held: ClassVar[int] = 5

    # to each prompt, from the policy and from the reference
    draws: int = setting(4, unit="answers", at_least=1, at_most=1000)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(AnsweringConfig):
    """The completions that people rank next."""

    stage: ClassVar[str] = "sampling"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy"})
    optional_parents: ClassVar[frozenset[str]] = frozenset({"parent", "reward"})
    examined_records: ClassVar[str] = "prompts"
    weights_held: ClassVar[int] = 3

    k: int = setting(4, unit="answers", at_least=2, at_most=9)  # completions in a slate


STAGES: dict[str, type[RunConfig]] = {
    cls.stage: cls
    for cls in (
        PretrainingConfig,
        SFTConfig,
        RewardConfig,
        WatcherConfig,
        PPOConfig,
        EvaluationConfig,
        SamplingConfig,
    )
}


def trunk_role(role: str) -> str:
    """Where a config names the whole model that the adapter in a role stands on; a whole model needs no such parent."""
    return f"{role}_trunk"


def has_adapters(cfg: RunConfig) -> bool:
    """Whether a run trains LoRA adapters, or starts from some."""
    trains = isinstance(cfg, LearningConfig) and cfg.adapter_rank > 0
    return trains or any(trunk_role(role) in cfg.parents for role in cfg.parents)


def load_config(path: Path) -> RunConfig:
    """The config in a file. Raises InvalidInput, naming the field that is wrong."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error}", kind="settings_unreadable") from error
    if not isinstance(raw, dict):
        raise InvalidInput(f"{path.name} does not contain a JSON object", kind="settings_unreadable")
    return parse(raw)


def parse(raw: Mapping[str, Any]) -> RunConfig:
    """The config of the stage that `raw` names. Raises InvalidInput, naming the field that is wrong."""
    fields = dict(raw)
    require(fields.pop("schema", None) == SCHEMA, "schema", f"must be {SCHEMA}")
    stage = fields.pop("stage", None)
    require(isinstance(stage, str) and stage in STAGES, "stage", f"must be one of {', '.join(STAGES)}, not {stage!r}")
    parents = fields.get("parents", {})
    require(isinstance(parents, dict), "parents", "must be an object")
    fields["parents"] = {role: _build(Parent, parent) for role, parent in parents.items()}
    return _build(STAGES[stage], fields)


def to_json(cfg: RunConfig) -> dict[str, Any]:
    """What `parse` reads back as the same config."""
    return {"schema": SCHEMA, "stage": cfg.stage, **dataclasses.asdict(cfg)}


def require(holds: bool, field: str, otherwise: str) -> None:
    """Raises InvalidInput, which names `field`, where a config does not hold together; its sentence begins with it."""
    if not holds:
        raise InvalidInput(f"{field} {otherwise}", kind="config", field=field)


def check_value(stage: type[RunConfig], name: str, value: Any) -> None:
    """Raises InvalidInput where a field of `stage` cannot have this value, whatever the others have."""
    known = {each.name: each for each in dataclasses.fields(stage)}
    if name not in known:
        raise InvalidInput(f"unknown field {name!r}", kind="config", field=name)
    require(_fits(value, get_type_hints(stage)[name]), name, f"cannot be {value!r}")
    require_allowed(known[name], value)


def require_allowed(field: dataclasses.Field[Any], value: Any) -> None:
    """Raises InvalidInput where the value lies outside the field's limits."""
    if limits := field.metadata.get("limits"):
        require(limits.allow(value), field.name, f"must be {limits}")


def _build(cls: type[T], raw: Any) -> T:
    require(isinstance(raw, dict), cls.__name__, "must be an object")
    types = get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name, value in raw.items():
        if name not in known:
            raise InvalidInput(f"unknown field {name!r}", kind="config", field=name)
        require(_fits(value, types[name]), name, f"cannot be {value!r}")
    for name, f in known.items():
        optional = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        require(name in raw or optional, name, "is missing")
    return cls(**raw)


def _fits(value: object, expected: Any) -> bool:
    if expected is float:  # JSON writes 1.0 as 1
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(expected, type) or isinstance(value, expected)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond every float
        return False
