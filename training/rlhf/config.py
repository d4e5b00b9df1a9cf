"""What a run is asked to do: one frozen dataclass for each stage, read from and written to JSON.

Imports no torch, because the web process writes these files. In JSON, a stage's own fields and those of every stage are
on one level. Nothing here depends on the size of a model: the values for the tiny built-in one are kept with it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from .exits import InvalidInput

T = TypeVar("T")

SCHEMA = 1
DTYPES = ("auto", "fp32", "bf16")


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
    threads: int = 1  # CPU threads of the process; a run resumes exactly only with the same number
    dtype: str = "auto"  # of the linear layers: fp32, bf16, or what suits the machine
    parents: Mapping[str, Parent] = field(default_factory=dict)
    batch_tokens: int = 8192  # tokens, padding included, that go through a network at once
    checkpoint_seconds: int = 300  # between two checkpoints; 0 saves after every step

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", "must be at least 1")
        require(self.dtype in DTYPES, "dtype", f"must be one of {', '.join(DTYPES)}")
        require(self.batch_tokens >= 1, "batch_tokens", "must be at least 1")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds", "must not be negative")
        if missing := self.required_parents - set(self.parents):
            raise InvalidInput(
                f"{self.stage} needs parents.{min(missing)}", kind="config", field=f"parents.{min(missing)}"
            )
        if unknown := set(self.parents) - self.required_parents - self.optional_parents:
            raise InvalidInput(
                f"{self.stage} knows no parents.{min(unknown)}", kind="config", field=f"parents.{min(unknown)}"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(RunConfig):
    """A small model from nothing: its tokenizer, its shape and how long it reads."""

    stage: ClassVar[str] = "pretraining"

    vocab_size: int = 1024  # byte-level BPE pieces, the special ones included
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    mlp_size: int = 344
    context: int = 256  # tokens
    tokens: int = 1_000_000  # to read in all; the corpus is read again when it is shorter
    batch_size: int = 32  # documents per step
    learning_rate: float = 3e-3  # Adam peak, after a linear warm-up; decays linearly to 0
    warmup: float = 0.05  # share of the steps

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "layers", "heads", "mlp_size", "context", "tokens", "batch_size", "learning_rate")
        require(self.vocab_size >= 300, "vocab_size", "must be at least 300: 256 bytes and some pieces")
        require(self.hidden_size % (2 * self.heads) == 0, "hidden_size", "must be a multiple of twice the heads")
        require(0 <= self.warmup < 1, "warmup", "must be a share of the steps")


@dataclass(frozen=True, kw_only=True)
class SFTConfig(RunConfig):
    """How long the base model imitates the demonstrations."""

    stage: ClassVar[str] = "sft"
    required_parents: ClassVar[frozenset[str]] = frozenset({"base"})
    examined_records: ClassVar[str] = "demonstrations"
    weights_held: ClassVar[int] = 4

    epochs: int = 3
    batch_size: int = 32  # demonstrations per step
    learning_rate: float = 1e-5  # Adam peak; decays by a cosine to a tenth
    max_response: int = 256  # tokens of an answer; a longer demonstration is cut, and then has no end to learn

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "batch_size", "learning_rate", "max_response")


@dataclass(frozen=True, kw_only=True)
class RewardConfig(RunConfig):
    """How the preferences of the slates become a number."""

    stage: ClassVar[str] = "reward"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy"})
    examined_records: ClassVar[str] = "rankings"
    weights_held: ClassVar[int] = 4

    epochs: int = 1  # a second one overfits quickly
    batch_size: int = 64  # slates per step
    learning_rate: float = 9e-6  # Adam peak; decays by a cosine to a tenth
    max_response: int = 256  # tokens that a prompt must leave free in the context

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "batch_size", "learning_rate", "max_response")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(RunConfig):
    """How hard one round pushes the policy."""

    stage: ClassVar[str] = "ppo"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy", "reference", "reward"})
    examined_records: ClassVar[str] = "prompts"
    weights_held: ClassVar[int] = 10

    iterations: int = 60
    rollout_size: int = 512  # episodes of an iteration, all sampled from one policy; each trains once
    minibatch_size: int = 64  # episodes per gradient step
    max_response: int = 256  # tokens of an answer
    learning_rate: float = 3e-6  # of the policy, Adam peak; decays linearly to 0
    value_learning_rate: float = 9e-6  # of the critic, likewise
    beta: float = 0.05  # reward lost per nat of divergence from the reference
    clip: float = 0.2  # largest move of the probability ratio that is rewarded
    value_clip: float = 0.2  # largest move of a value that is rewarded, in units of the reward
    gamma: float = 1.0  # worth of a reward one token later
    lam: float = 0.95  # lambda of generalised advantage estimation
    missing_eos_penalty: float = 1.0  # reward lost by an answer that does not end
    kl_limit: float = 10.0  # nats a sequence; beyond it the run stops and the policy before is the result
    shown_samples: int = 8  # answers of each iteration that are kept for people to read

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "iterations", "rollout_size", "minibatch_size", "max_response", "kl_limit")
        require_positive(self, "clip", "value_clip")
        require(self.learning_rate >= 0, "learning_rate", "must not be negative")
        require(self.value_learning_rate >= 0, "value_learning_rate", "must not be negative")
        require(self.rollout_size % self.minibatch_size == 0, "rollout_size", "must be a multiple of minibatch_size")
        require(0 <= self.gamma <= 1, "gamma", "must lie between 0 and 1")
        require(0 <= self.lam <= 1, "lam", "must lie between 0 and 1")
        require(self.shown_samples >= 0, "shown_samples", "must not be negative")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(RunConfig):
    """What is measured on the held-out prompts."""

    stage: ClassVar[str] = "evaluation"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy", "reference"})
    optional_parents: ClassVar[frozenset[str]] = frozenset({"parent", "reward"})
    examined_records: ClassVar[str] = "heldout_prompts"
    weights_held: ClassVar[int] = 4

    draws: int = 4  # answers to each prompt, from the policy and from the reference
    max_response: int = 256  # tokens of an answer

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "draws", "max_response")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(RunConfig):
    """The completions that people rank next."""

    stage: ClassVar[str] = "sampling"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy"})
    optional_parents: ClassVar[frozenset[str]] = frozenset({"parent", "reward"})
    examined_records: ClassVar[str] = "prompts"
    weights_held: ClassVar[int] = 3

    k: int = 4  # completions in a slate
    max_response: int = 256  # tokens of an answer

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.k <= 9, "k", "must be 2 to 9")
        require_positive(self, "max_response")


STAGES: dict[str, type[RunConfig]] = {
    cls.stage: cls for cls in (PretrainingConfig, SFTConfig, RewardConfig, PPOConfig, EvaluationConfig, SamplingConfig)
}


def load_config(path: Path) -> RunConfig:
    """The config in a file. Raises InvalidInput, naming the field that is wrong."""
    try:
        return parse(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error}", kind="settings_unreadable") from error


def parse(raw: Mapping[str, Any]) -> RunConfig:
    """The config of the stage that `raw` names. Raises InvalidInput, naming the field that is wrong."""
    fields = dict(raw)
    require(fields.pop("schema", None) == SCHEMA, "schema", f"must be {SCHEMA}")
    stage = fields.pop("stage", None)
    require(stage in STAGES, "stage", f"must be one of {', '.join(STAGES)}, not {stage!r}")
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


def require_positive(cfg: RunConfig, *names: str) -> None:
    """Raises InvalidInput for the first of these fields that is not above 0."""
    for name in names:
        require(getattr(cfg, name) > 0, name, "must be above 0")


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
