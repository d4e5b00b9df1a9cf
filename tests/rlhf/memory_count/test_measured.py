"""The counted peak of a stage beside what a process that runs its steps really takes."""

from pathlib import Path

import pytest

from tests.rlhf.memory_count.measured import ADAPTER, VOCABULARY, WATCHED, config, measured, sequences, shape, slates
from training.rlhf.data.chat import Chat
from training.rlhf.memory_count import stages
from training.rlhf.memory_count.longest import Longest

TOLERANCE = {WATCHED: 0.04}  # a kept copy of the weights that was forgotten would show
OTHERWISE = 0.15


def counted(size: str, stage: str, chat: Chat, *, recomputes: bool = False) -> int:
    """The bytes at the peak of the stage's steps, on a CPU."""
    chat.vocab_size = VOCABULARY
    has_adapters, recomputation = stage.endswith("adapters"), "on" if recomputes else "off"
    cfg = config(size, stage, activation_checkpointing=recomputation)
    longest = Longest(sequences(cfg.batch_tokens), slates(cfg.batch_tokens), [one.prompt for one in sequences(512)])
    adapters = dict.fromkeys(cfg.required_parents, ADAPTER) if has_adapters else {}
    peaks = stages.count(cfg, dict.fromkeys(cfg.parents, shape(size)), chat, longest, "cpu", adapters)
    return max(peak.total for peak in peaks if peak.moment != "sampling")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "stage", "recomputes"),
    [
        pytest.param("1M", "ppo", False, marks=pytest.mark.soak),  # its parts are those of the watched one
        ("1M", "ppo with adapters", True),
        ("8M", WATCHED, False),
        ("8M", "reward", False),
        pytest.param("8M", "sft", True, marks=pytest.mark.soak),  # recomputation is measured with adapters
        pytest.param("40M", "sft", False, marks=pytest.mark.soak),
    ],
)
def test_the_counted_peak_is_what_a_process_takes(
    models: dict[str, Path], size: str, stage: str, recomputes: bool
) -> None:
    real = measured(size, stage, models["llama"], recomputes=recomputes)
    found = counted(size, stage, Chat.load(models["llama"]), recomputes=recomputes)
    assert found == pytest.approx(real, rel=TOLERANCE.get(stage, OTHERWISE))
