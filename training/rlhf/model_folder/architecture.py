"""The architecture of a model folder and its context length, from its parsed config."""

from pathlib import Path
from typing import Any, NamedTuple

from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ..exits import InvalidInput, in_one_line
from .model_files import CONFIG, read_object

# Names by which architectures state the longest text that they read, the usual one first.
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
SHORTEST = 16  # tokens of the smallest context that is accepted
STATED = "roundtable_context"  # in the config.json of an adopted model: the context that its operator stated
# Position encodings that change with the longest row of a batch, once that exceeds the original context.
GROWING = frozenset({"longrope", "dynamic", "su"})


class Context(NamedTuple):
    """How many tokens a model can read, and where that is stated."""

    tokens: int
    source: str  # config or operator


def parse(directory: Path) -> PretrainedConfig:
    """The config of a model folder. Raises InvalidInput where it is not that of a causal language model."""
    raw = read_object(directory / CONFIG)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise InvalidInput(
            f"config.json has no architecture that the installed transformers supports (model_type {model_type!r})",
            kind="unknown_architecture",
            field="model_type",
        )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        config.get_text_config()
    except Exception as error:  # each architecture checks its own, with errors of every kind
        raise InvalidInput(
            f"config.json cannot be read: {error_text(directory, error)}", kind="config_unreadable", field=CONFIG
        ) from error
    _refuse_other_than_causal(config)
    return config


def context_of(config: PretrainedConfig, stated: int | None = None) -> Context:
    """The context of a model. `stated`, or what an adopted config keeps of it, may only lower the model's own.

    Raises InvalidInput where none is stated, or where it is too short or more than the model can read.
    """
    text = config.get_text_config(decoder=True)
    own = _own_context(text)
    stated = (
        stated if stated is not None else _number(getattr(config, STATED, None)) or _number(getattr(text, STATED, None))
    )
    if stated is None and own is None:
        raise InvalidInput(
            "the model's config does not give a context length: set it when checking the model, in tokens",
            kind="context_missing",
            field="context",
        )
    if (shorter := min(number for number in (stated, own) if number is not None)) < SHORTEST:
        raise InvalidInput(
            f"a context of {shorter} tokens is too short for a prompt and its answer: the minimum is {SHORTEST}",
            kind="context_too_short",
            field="context",
            stated=shorter,
            limit=SHORTEST,
        )
    if stated is None:
        return Context(own or 0, "config")
    if own is not None and stated > own:
        raise InvalidInput(
            f"the model can process {own} tokens, so its context cannot be {stated}: set a lower number, or none",
            kind="context_too_long",
            field="context",
            stated=stated,
            limit=own,
        )
    return Context(stated, "operator")


def _own_context(text: PretrainedConfig) -> int | None:
    """The context in the config, without what only a stretched position encoding would reach."""
    named = [number for name in LENGTHS if (number := _number(_attribute(text, name)))]
    return min([named[0], *_original_contexts(text)]) if named else None


def _original_contexts(text: PretrainedConfig) -> list[int]:
    """The original contexts of position encodings in GROWING: up to there they do not depend on the longest row."""
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))] if isinstance(rope, dict) else []
    return [
        number
        for part in parts
        if part.get("rope_type", part.get("type")) in GROWING
        for holder in (part, vars(text))
        if (number := _number(holder.get("original_max_position_embeddings")))
    ]


def _refuse_other_than_causal(config: PretrainedConfig) -> None:
    if config.is_encoder_decoder or type(config) not in AutoModelForCausalLM._model_mapping:
        raise InvalidInput(
            f"a model of type {config.model_type} does not generate text: use a causal language model",
            kind="not_causal",
            field="model_type",
        )


def _attribute(text: PretrainedConfig, name: str) -> Any:
    """A field of a config, or None; some configs raise an error of their own for it."""
    try:
        return getattr(text, name, None)
    except NotImplementedError:
        return None


def _number(value: Any) -> int | None:
    """`value` where it is a plausible length in tokens."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40 else None


def error_text(directory: Path, error: Exception) -> str:
    """Another program's message about a model, in one line and without the path of its directory."""
    return in_one_line(str(error).replace(f"{directory}/", ""))
