"""`python -m training.rlhf merge ADAPTER_DIR TRUNK_DIR OUT_DIR`: an adapter and its base as one whole fp32 model."""

import shutil
from pathlib import Path

from transformers import AutoModelForCausalLM

from ..data.chat import Chat
from ..exits import InvalidInput
from ..model_folder.model_files import no_folder
from ..run.manifest import LeadsOut, manifest_sha256, sealed
from . import adapters
from .policy import save_network
from .scalar_model import CARD, HEAD, trunk_of
from .transformer import load_network


def merge(adapter: Path, trunk: Path, out: Path) -> None:
    """Write into `out` what a stage that trains all weights would have written: a policy, or a reward model.

    It appears complete or not at all. Raises InvalidInput, also where `out` is anything but new or an empty directory.
    """
    _require_free(out, adapter, trunk)
    saved = adapters.read(adapter)
    if _hash_of(trunk) != saved.base_sha256:
        raise InvalidInput(
            f"{trunk.name} is not the model that the adapter {adapter.name} was trained on: its hash differs",
            kind="trunk_differs",
        )
    chat = Chat.load(adapter)
    network, _unused = load_network(AutoModelForCausalLM, trunk)
    adapters.merge(network, saved)
    with sealed(out.resolve(), before_rename=lambda: _require_free(out, adapter, trunk)) as draft:
        if not (adapter / CARD).exists():
            save_network(network, chat, draft)
            return
        trunk_of(network).save_pretrained(draft)
        for name in (HEAD, CARD):
            shutil.copyfile(adapter / name, draft / name)
        chat.save(draft)


def _require_free(out: Path, *inputs: Path) -> None:
    """Raises InvalidInput where writing `out` would replace something, or change one of the inputs."""
    target = out.resolve()
    for directory in inputs:
        if target.is_relative_to(directory.resolve()) or directory.resolve().is_relative_to(target):
            raise InvalidInput(
                f"{out} and {directory} overlap: name a new directory for the merged model", kind="input"
            )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInput(f"{out} exists and is not an empty directory: name a new one", kind="input")


def _hash_of(directory: Path) -> str:
    if not directory.is_dir():
        raise no_folder(directory).refusal()
    try:
        return manifest_sha256(directory)
    except LeadsOut as error:
        raise InvalidInput(f"the model directory {directory.name}: {error.strerror}", kind="link_leaves") from error
