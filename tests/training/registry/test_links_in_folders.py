"""Links in a folder of the operator's are never followed out of it, whoever reads there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from training.rlhf.exits import InvalidInput
from training.rlhf.networks.transformer import refuse_unsafe
from training.rlhf.run.manifest import LeadsOut, file_hashes, manifest_sha256, verifies

SECRET = "the key of this installation"


@pytest.fixture
def folder(data_dir: Path, settings: Settings) -> Path:
    """A base model with a link to a secret among its files."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    made = settings.BASE_MODELS_DIR / "borrowed"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (data_dir / "secret_key").write_text(SECRET)
    (made / "vocab.json").symlink_to(data_dir / "secret_key")
    return made


def test_no_hash_is_made_of_what_lies_elsewhere(folder: Path) -> None:
    for read in (file_hashes, manifest_sha256):
        with pytest.raises(LeadsOut, match=r"vocab\.json is a link to a file outside the folder"):
            read(folder)
    assert not verifies(folder)


def test_the_engine_loads_no_such_folder(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="outside the folder"):
        refuse_unsafe(folder)


@pytest.mark.parametrize("target", ["config.json", "./config.json"])
def test_a_link_within_the_folder_is_a_file_like_any_other(folder: Path, target: str) -> None:
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").symlink_to(target)
    hashes = file_hashes(folder)
    assert hashes["vocab.json"] == hashes["config.json"]


def test_a_folder_that_is_itself_a_link_is_read_where_it_lies(folder: Path) -> None:
    (folder / "vocab.json").unlink()
    link = folder.with_name("by-another-name")
    link.symlink_to(folder)
    assert file_hashes(link) == file_hashes(folder)
