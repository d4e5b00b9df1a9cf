"""A base model from a corpus alone: a directory like any other, and the same one from the same seed."""

import json
from pathlib import Path
from typing import Any

from tests.rlhf.conftest import MakeRun
from training.rlhf.__main__ import main
from training.rlhf.config import PretrainingConfig
from training.rlhf.data.chat import Chat
from training.rlhf.networks.policy import load_policy
from training.rlhf.stages.pretraining import batch_at

THINGS = ["egg", "fox", "rain", "dog"]
SHAPE = {"vocab_size": 300, "hidden_size": 32, "mlp_size": 64, "context": 64, "learning_rate": 1e-2}


def corpus(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": n,
            "messages": [
                {"role": "user", "content": f"What is the {THINGS[n % 4]}?"},
                {"role": "assistant", "content": f"The {THINGS[n % 4]} is {THINGS[(n + 1) % 4]}."},
            ],
        }
        for n in range(count)
    ]


def losses(run: Path) -> list[float]:
    rows = (run / "attempts/1/metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["metrics"]["pretraining/loss"] for row in rows[1:]]  # the first tells of the data


def test_a_corpus_becomes_a_model_that_has_read_it(make_run: MakeRun) -> None:
    runs = [
        make_run("pretraining", data={"corpus": corpus(64)}, tokens=60_000, name=name, **SHAPE) for name in ("a", "b")
    ]
    for run in runs:
        assert main(["pretraining", str(run)]) == 0
    first, *_, last = losses(runs[0])
    assert first > 4 and last < 0.5
    output = runs[0] / "attempts/1/output"
    chat = Chat.load(output)
    assert chat.context == 64
    assert chat.tokenizer.decode([chat.eos_id]) == "<|end|>"
    assert load_policy(output, chat, "fp32").network.config.vocab_size == chat.vocab_size
    again = runs[1] / "attempts/1/output/model.safetensors"
    assert again.read_bytes() == (output / "model.safetensors").read_bytes()


def test_an_epoch_reads_every_document_once_with_little_padding() -> None:
    cfg = PretrainingConfig(seed=0, batch_size=4)
    lengths = [1 + (n * 37) % 50 for n in range(200)]
    batches = [batch_at(step, lengths, cfg) for step in range(50)]
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    assert batch_at(50, lengths, cfg) != batch_at(0, lengths, cfg)
