"""Whether a stage shards its networks and computes activations again, where its config leaves that to the memory."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig

from .. import memory, ranks
from ..config import LearningConfig, RunConfig
from ..exits import InvalidInput
from ..networks import device
from ..networks.transformer import CANNOT_RUN
from . import search
from .run_count import RunCount


def with_auto_decided(run_dir: Path, cfg: RunConfig) -> RunConfig:
    """The config with `sharding` and `activation_checkpointing` on or off: the first of its variants that fits.

    Either way a run learns the same, to the last bit with activations that are computed again, but for rounding with
    sharded networks; so it may go on elsewhere with other choices. What cannot be counted is taken to fit; where files
    are at fault, the stage that reads them will say so.
    """
    if not isinstance(cfg, LearningConfig):
        return cfg
    choices = search.decided(cfg, device.kind())
    try:
        chosen = _first_that_fits(run_dir, choices, device.free_bytes())
    except (InvalidInput, OSError, *CANNOT_RUN):
        chosen = 0
    return choices[max(ranks.gathered(chosen))]  # all ranks do the same, and one of them may have less memory


def _first_that_fits(run_dir: Path, choices: Sequence[RunConfig], free: int | None) -> int:
    """The number of the first choice whose peak fits into so many free bytes; of the last one, which needs least."""
    if free is None or len(choices) == 1 or _surely_fits(run_dir, choices[0], free):
        return 0
    run = RunCount(run_dir, choices[0], device.kind())
    for number, choice in enumerate(choices[:-1]):
        if memory.fits(max(peak.total for peak in run.peaks(choice)), free):
            return number
    return len(choices) - 1


def _surely_fits(run_dir: Path, cfg: RunConfig, free: int) -> bool:
    """Whether an upper bound of whole networks fits, which takes no time: so small models are not counted each time."""
    directories = [run_dir / parent.path for parent in cfg.parents.values()]
    stored = max(sum(path.stat().st_size for path in directory.glob("*.safetensors")) for directory in directories)
    shape = AutoConfig.from_pretrained(directories[0], local_files_only=True, trust_remote_code=False).get_text_config()
    activations = memory.activation_bytes(cfg.batch_tokens, shape.num_hidden_layers, shape.hidden_size)
    bound = cfg.weights_held * 2 * stored + activations + memory.logits_bytes(cfg.batch_tokens, shape.vocab_size)
    return memory.fits(bound, free)
