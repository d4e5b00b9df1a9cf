"""The samples of a PPO step that people read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import question, ranked_slate
from tests.rlhf.stages import trainers
from tests.rlhf.stages.trainers import MakeTrainer, rolled_out
from training.rlhf.__main__ import main
from training.rlhf.config import PPOConfig
from training.rlhf.data.chat import Chat
from training.rlhf.stages.scoring import Answer
from training.rlhf.stages.step_samples import StepSampleWriter

OPTIONS = {"rollout_size": 6, "minibatch_size": 3, "max_response": 10, "learning_rate": 1e-2, "checkpoint_seconds": 0}
PROMPTS = [{"id": f"p{n}", "messages": question(n)} for n in range(9)]
FIELDS = ["prompt_id", "messages", "text", "n_tokens", "finish_reason", "reward", "kl"]
FIELDS += ["reference_text", "reference_reward"]


@pytest.fixture
def parents(make_run: MakeRun, models: dict[str, Path]) -> dict[str, Path]:
    ranked = {"rankings": [ranked_slate(n) for n in range(4)]}
    run = make_run("reward", name="reward", parents={"policy": models["qwen2"]}, data=ranked, max_response=32)
    assert main(["reward", str(run)]) == 0
    return {"policy": models["qwen2"], "reference": models["qwen2"], "reward": run / "attempts/1/output"}


def read(run: Path, attempt: int = 1) -> dict[str, list[dict[str, Any]]]:
    """The samples by file name."""
    files = sorted((run / f"attempts/{attempt}/samples").iterdir())
    return {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in files}


def test_each_step_shows_answers_beside_those_of_the_reference(make_run: MakeRun, parents: dict[str, Path]) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, iterations=3, shown_samples=4, **OPTIONS)
    assert main(["ppo", str(run)]) == 0
    steps = read(run)
    assert list(steps) == [f"step-{n:06d}.jsonl" for n in (1, 2, 3)]
    rows = [row for samples in steps.values() for row in samples]
    assert len(rows) == 12
    assert all(list(row) == FIELDS for row in rows)
    assert all(row["messages"] == PROMPTS[int(row["prompt_id"][1:])]["messages"] for row in rows)
    assert [row["kl"] for row in steps["step-000001.jsonl"]] == [0, 0, 0, 0]  # the policy is its reference still
    assert all(row["kl"] != 0 for row in steps["step-000003.jsonl"])
    of_reference = {(row["prompt_id"], row["reference_text"], row["reference_reward"]) for row in rows}
    assert len(of_reference) == len({row["prompt_id"] for row in rows})


def test_the_rewards_are_those_of_the_texts(make_run: MakeRun, parents: dict[str, Path]) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, iterations=1, **OPTIONS)
    assert main(["ppo", str(run)]) == 0
    (rows,) = read(run).values()
    assert len(rows) == 6  # the whole rollout, where it is smaller than what is shown
    cfg = PPOConfig(seed=0, dtype="fp32", parents=dict.fromkeys(parents))
    scorer = reward_runs.scorer(parents["reward"], Chat.load(parents["policy"]), cfg)
    answers = [Answer(row["messages"], row["text"], row["finish_reason"] == "stop") for row in rows]
    assert [row["reward"] for row in rows] == pytest.approx(scorer.scores(answers).tolist(), abs=1e-5)


def test_what_is_shown_changes_nothing_that_is_learnt(make_run: MakeRun, parents: dict[str, Path]) -> None:
    outputs = []
    for shown in (0, 2):
        data = {"prompts": PROMPTS}
        run = make_run(
            "ppo", name=f"shows-{shown}", parents=parents, data=data, iterations=2, shown_samples=shown, **OPTIONS
        )
        assert main(["ppo", str(run)]) == 0
        outputs.append((run / "attempts/1/output/model.safetensors").read_bytes())
        assert (run / "attempts/1/samples").exists() == bool(shown)
    assert outputs[0] == outputs[1]


def test_a_later_attempt_takes_over_the_samples_up_to_its_checkpoint(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, iterations=3, **OPTIONS)
    assert main(["ppo", str(run)]) == 0
    whole = read(run)
    (run / "attempts/1/samples/step-000003.jsonl").write_text("of an iteration that was lost\n")
    (run / "attempts/1/checkpoints/step-000003/manifest.json").unlink()
    (run / "fence").write_text("2")
    assert main(["ppo", str(run)]) == 0
    again = read(run, attempt=2)
    assert list(again) == list(whole)
    for name, rows in whole.items():
        assert [row["text"] for row in again[name]] == [row["text"] for row in rows]
        assert [row["reference_text"] for row in again[name]] == [row["reference_text"] for row in rows]


def test_after_a_resume_the_reference_answers_the_same_prompts_at_once(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """The last digits of a reward depend on what is scored with it; here the whole of it does."""
    trainer = make_trainer(
        rewarder=lambda answers: torch.full((len(answers),), float(len(answers))), rollout_size=4, shown_samples=2
    )

    def new_writer() -> StepSampleWriter:
        reference, chat, rewarder = trainer.reference, trainer.chat, trainer.rewarder
        return StepSampleWriter(tmp_path, reference, chat, rewarder, trainers.PROMPTS, trainer.cfg, lambda: None)

    def rewards_from(first: int) -> list[float]:
        writer = new_writer()
        for iteration in range(first, trainer.cfg.iterations):
            writer.write(iteration, rolled_out(trainer, iteration))
        last = tmp_path / f"samples/step-{trainer.cfg.iterations:06d}.jsonl"
        return [json.loads(line)["reference_reward"] for line in last.read_text().splitlines()]

    assert len({tuple(rewards_from(first)) for first in range(trainer.cfg.iterations)}) == 1
