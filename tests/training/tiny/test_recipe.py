"""The built-in base model comes with the code; its recipe makes the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.rlhf.run import manifest
from training.tiny import recipe

LARGEST_BYTES = 3_000_000
MADE = ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja")


def test_the_built_in_model_is_whole_and_small() -> None:
    assert manifest.verifies(recipe.BASE)
    assert sum(path.stat().st_size for path in recipe.BASE.iterdir()) <= LARGEST_BYTES


@pytest.mark.slow
@pytest.mark.soak
def test_the_recipe_makes_the_same_bytes(tmp_path: Path) -> None:
    recipe.pretrain(tmp_path / "run", tmp_path / "base")
    for name in MADE:
        assert (tmp_path / "base" / name).read_bytes() == (recipe.BASE / name).read_bytes(), name
