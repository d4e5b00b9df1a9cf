"""The memory count of a run directory: its files are read once, whichever configs are counted."""

from pathlib import Path

from transformers import AutoConfig

from ..config import RunConfig
from ..data.chat import Chat
from ..exits import InvalidInput
from ..model_folder.adapter_files import is_adapter, shape_of
from . import longest, stages
from .peaks import Peak


class RunCount:
    """Counts the peaks of the stage in a run directory; of its models only the configs are read."""

    def __init__(self, run_dir: Path, cfg: RunConfig, kind: str) -> None:
        """On a device of this `kind`. Raises InvalidInput where its records or parents cannot be read."""
        directories = {role: run_dir / parent.path for role, parent in cfg.parents.items()}
        if not directories:
            raise InvalidInput(f"{cfg.stage} starts from no model, so its memory is not counted", kind="config")
        self.kind = kind
        self._chat = Chat.load(directories["base" if "base" in directories else "policy"])
        try:
            self._models = {
                role: AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
                for role, directory in directories.items()
            }
        except (OSError, ValueError) as error:
            raise InvalidInput(f"a parent's config.json cannot be read: {error}", kind="model_files") from error
        self._adapters = {role: shape_of(one) for role, one in directories.items() if is_adapter(one)}
        self._longest = longest.of_run(run_dir, cfg, self._chat)

    def peaks(self, cfg: RunConfig) -> list[Peak]:
        """With a config that differs from the run's in nothing but what its records are cut into."""
        return stages.count(cfg, self._models, self._chat, self._longest(cfg), self.kind, self._adapters)

    def tokens_at_once(self, cfg: RunConfig) -> int:
        """The most tokens that go through a network at once, padding included."""
        return self._longest(cfg).tokens_at_once(cfg.batch_tokens)
