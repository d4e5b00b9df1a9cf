"""Whether a stage computes activations again, where its config leaves that to the memory that there is."""

import dataclasses
from pathlib import Path

from transformers import AutoConfig

from .. import memory
from ..config import LearningConfig, RunConfig
from ..exits import InvalidInput
from ..networks import device
from ..networks.transformer import CANNOT_RUN
from .run_count import RunCount


def with_checkpointing_decided(run_dir: Path, cfg: RunConfig) -> RunConfig:
    """The config with `activation_checkpointing` on or off: on only where the stage would not fit without.

    Either way the gradient is the same to the last bit, so a run may go on elsewhere with the other. What cannot be
    counted is not computed again; where files are at fault, the stage that reads them will say so.
    """
    if not isinstance(cfg, LearningConfig) or cfg.activation_checkpointing != "auto":
        return cfg
    free = device.free_bytes()
    try:
        fits = free is None or _surely_fits(run_dir, cfg, free) or _fits(run_dir, cfg, free)
    except (InvalidInput, OSError, *CANNOT_RUN):
        fits = True
    return dataclasses.replace(cfg, activation_checkpointing="off" if fits else "on")


def _fits(run_dir: Path, cfg: RunConfig, free: int) -> bool:
    peaks = RunCount(run_dir, cfg, device.kind()).peaks(cfg)
    return memory.fits(max(peak.total for peak in peaks), free)


def _surely_fits(run_dir: Path, cfg: RunConfig, free: int) -> bool:
    """Whether an upper bound fits, which takes no time to compute: so small models are not counted before each run."""
    directories = [run_dir / parent.path for parent in cfg.parents.values()]
    stored = max(sum(path.stat().st_size for path in directory.glob("*.safetensors")) for directory in directories)
    shape = AutoConfig.from_pretrained(directories[0], local_files_only=True, trust_remote_code=False).get_text_config()
    activations = memory.activation_bytes(cfg.batch_tokens, shape.num_hidden_layers, shape.hidden_size)
    bound = cfg.weights_held * 2 * stored + activations + memory.logits_bytes(cfg.batch_tokens, shape.vocab_size)
    return memory.fits(bound, free)
