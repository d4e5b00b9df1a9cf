"""A model of half a billion parameters, of the shape of the smallest Qwen2, goes through every stage on a CPU."""

from pathlib import Path

import pytest

from benchmarks.device.commands import StageProcess
from benchmarks.device.models import SHAPES, Texts, write_model
from tests.rlhf.run_directories import write_run

MOST_BYTES = 20_000_000_000
# In bf16, reference and reward model take half as much as in fp32, and 20 GB is enough for PPO.
COMMON = {"dtype": "bf16", "threads": 1, "max_response": 8}
LEARNING = {"activation_checkpointing": "on"}


def output_of(stage: str, run: Path) -> Path:
    """The output of the stage, which stayed within the limit."""
    ended = StageProcess(stage, run).wait()
    print(f"{stage}: {ended.peak_bytes / 1e9:.1f} GB, {ended.seconds:.0f} s")
    assert ended.code == 0, ended.log
    assert ended.peak_bytes < MOST_BYTES
    return run / "attempts/1/output"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_half_a_billion_parameters_pass_through_every_stage_within_20_gb(tmp_path: Path) -> None:
    texts = Texts(prompt_words=8, answer_words=3)
    base = write_model(tmp_path / "base", SHAPES["0.5B"])
    demonstrations, rankings = texts.demonstrations(4), texts.rankings(4)

    def run(stage: str, parents: dict[str, Path], data: dict[str, list[dict[str, object]]], **options: object) -> Path:
        directory = write_run(tmp_path / stage, stage, parents=parents, data=data, **COMMON, **options)
        return output_of(stage, directory)

    sft = run("sft", {"base": base}, {"demonstrations": demonstrations}, batch_size=2, epochs=1, **LEARNING)
    data = {"rankings": rankings, "demonstrations": demonstrations}
    reward = run("reward", {"policy": sft}, data, batch_size=2, **LEARNING)
    small = {"iterations": 2, "rollout_size": 2, "minibatch_size": 2}
    parents = {"policy": sft, "reference": sft, "reward": reward}
    policy = run("ppo", parents, {"prompts": texts.prompts(4)}, **small, **LEARNING)
    parents = {"policy": policy, "reference": sft, "reward": reward}
    data = {"heldout_prompts": texts.prompts(2), "heldout_rankings": texts.rankings(2)}
    run("evaluation", parents, data, draws=2)
    run("sampling", {"policy": policy, "reward": reward}, {"prompts": texts.prompts(2)}, k=2)
