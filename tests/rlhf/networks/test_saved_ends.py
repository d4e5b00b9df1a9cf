"""Other programs end an answer where a policy learned to end one, whatever its base model says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.rlhf import adapter_runs
from tests.rlhf.reward_runs import question
from training.rlhf.__main__ import main

BY_HEART = {"epochs": 60, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def base(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ChatML ends turns with <|im_end|>, but the tokenizer and the generation config name <|endoftext|>."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(models["qwen2"], folder)
    settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text())
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | named))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    assert main(["adopt", str(folder), str(folder.parent / "out")]) == 0
    return folder.parent / "out/model"


def greedy_answer(directory: Path) -> str:
    """What transformers makes of a trained question, without being told anything."""
    network, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    ids = tokenizer.apply_chat_template(question(1), add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        found = network.generate(**ids, do_sample=False, max_new_tokens=60)[0, ids["input_ids"].shape[1] :]
    return str(tokenizer.decode(found))


def test_a_policy_ends_its_answers_in_transformers_too(base: Path, tmp_path: Path) -> None:
    policy = adapter_runs.run(tmp_path / "sft", "sft", {"base": base}, **BY_HEART)
    assert greedy_answer(policy).count("<|im_end|>") == 1
    assert greedy_answer(policy).endswith("<|im_end|>")


def test_so_does_a_merged_one(base: Path, tmp_path: Path) -> None:
    options = {**BY_HEART, "adapter_rank": 16, "adapter_alpha": 32.0}
    adapter = adapter_runs.run(tmp_path / "sft", "sft", {"base": base}, **options)
    assert json.loads((adapter / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert main(["merge", str(adapter), str(base), str(tmp_path / "merged")]) == 0
    assert json.loads((tmp_path / "merged/generation_config.json").read_text())["eos_token_id"] == [0, 2]
