"""The reward stage: from ranked slates to an artefact that gives every user of it the same numbers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.rlhf.conftest import MakeRun
from training.rlhf import reward, seeding
from training.rlhf.chat import Chat
from training.rlhf.config import Parent, RewardConfig
from training.rlhf.exits import InvalidInput
from training.rlhf.learner import Learner
from training.rlhf.networks import ScalarModel, load_reward, scalar_from_policy
from training.rlhf.reward import Slate, ranking_loss, train_step, weigh
from training.rlhf.rundir import RunDirectory
from training.rlhf.scoring import Answer, Scorer

GOOD = ["Drink water and rest.", "Put it into boiling water.", "From the clouds."]
BAD = ["A fox.", "What?", "red red red red"]


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"How do I boil {number} eggs?"}]


def ranked_slate(number: int, places: list[int | None] | None = None) -> dict[str, Any]:
    texts = [GOOD[number % 3], BAD[number % 3], BAD[(number + 1) % 3]]
    return {
        "slate_id": number,
        "prompt_id": number,
        "messages": question(number),
        "completions": [{"text": text, "finish_reason": "stop" if n else "length"} for n, text in enumerate(texts)],
        "judgements": [{"id": number, "annotator": "ann", "round": 1, "places": places or [1, 2, 2]}],
    }


def demonstration(number: int) -> dict[str, Any]:
    return {"id": number, "messages": question(number), "response": GOOD[number % 3]}


def prepared(chat: Chat) -> list[Slate]:
    """Slates of different sizes and lengths."""
    return [
        Slate(
            [chat.reward_ids(question(n), text, stopped=True) for text in GOOD[: 2 + n % 2]], [[2, 1, 2][: 2 + n % 2]]
        )
        for n in range(5)
    ]


def fresh(model_dir: Path, batch_tokens: int = 8192) -> Scorer:
    model = scalar_from_policy(model_dir, "fp32", seeding.generator(0, "reward"))
    return Scorer(model, Chat.load(model_dir), batch_tokens, touch=lambda: None)


def train(run: Path) -> Path:
    """Run the stage, and return its output."""
    directory = RunDirectory(run)
    cfg = directory.config()
    assert isinstance(cfg, RewardConfig)
    reward.train(directory, cfg)
    return directory.attempt / "output"


@pytest.fixture
def trained(make_run: MakeRun, models: dict[str, Path]) -> Path:
    """The output of a run on twelve slates and four demonstrations."""
    data = {
        "rankings": [ranked_slate(n) for n in range(12)],
        "demonstrations": [demonstration(n) for n in range(4)],
    }
    options = {"epochs": 20, "batch_size": 4, "learning_rate": 3e-3, "max_response": 64}
    return train(make_run("reward", parents={"policy": models["qwen2"]}, data=data, **options))


def load(directory: Path, policy: Path) -> Scorer:
    cfg = RewardConfig(seed=0, dtype="fp32", parents={"policy": Parent(path="", manifest_sha256="")})
    return Scorer.load(directory, Chat.load(policy), cfg, touch=lambda: None)


def test_a_fresh_head_is_small_unbiased_and_knows_nothing_yet(model_dir: Path) -> None:
    scorer = fresh(model_dir)
    head = scorer.model.head
    wide = ScalarModel(scorer.model.backbone, "fp32")
    wide.head = torch.nn.Linear(1023, 1)
    wide.reset_head(seeding.generator(0, "reward"))
    assert wide.head.weight.std().item() == pytest.approx(1 / 1024**0.5, rel=0.1)
    assert head.bias.item() == wide.head.bias.item() == 0
    loss = train_step(scorer, Learner(scorer.model, "reward"), prepared(scorer.chat), learning_rate=0.0)["reward/loss"]
    assert 0 < loss < 1.2


def test_the_cut_into_micro_batches_never_parts_a_slate_nor_changes_the_update(model_dir: Path) -> None:
    losses, weights = [], []
    for batch_tokens in (1, 300, 8192):
        scorer = fresh(model_dir, batch_tokens)
        metrics = train_step(scorer, Learner(scorer.model, "reward"), prepared(scorer.chat), learning_rate=1e-3)
        losses.append(metrics["reward/loss"])
        weights.append(torch.cat([p.detach().flatten() for p in scorer.model.parameters()]))
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], atol=1e-5, rtol=0)


def test_training_and_scoring_read_the_same_number(model_dir: Path) -> None:
    scorer = fresh(model_dir)
    slates = prepared(scorer.chat)
    answers = [Answer(question(n), text, stopped=True) for n in range(5) for text in GOOD[: 2 + n % 2]]
    expected = ranking_loss(scorer.scores(answers), weigh([slate.judgements for slate in slates]))
    metrics = train_step(scorer, Learner(scorer.model, "reward"), slates, learning_rate=0.0)
    assert metrics["reward/loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_a_reward_depends_on_the_last_token_and_on_nothing_behind_it(model_dir: Path) -> None:
    scorer = fresh(model_dir)
    long, short = Answer(question(1), "red " * 20, stopped=True), Answer(question(1), "A fox.", stopped=True)
    together, alone = scorer.scores([short, long])[0], scorer.scores([short])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert scorer.scores([short._replace(stopped=False)])[0] != alone


def test_rankings_are_learnt(trained: Path) -> None:
    lines = (trained.parent / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == last["total"] == 60
    assert last["metrics"]["reward/accuracy"] == 1
    assert last["metrics"]["reward/loss"] < 0.2


def test_demonstrations_average_to_zero_and_ranked_answers_deviate_by_one(
    trained: Path, models: dict[str, Path]
) -> None:
    scorer = load(trained, models["qwen2"])
    demonstrations = scorer.scores([Answer(question(n), GOOD[n % 3], stopped=True) for n in range(4)])
    assert demonstrations.mean().item() == pytest.approx(0, abs=1e-4)
    ranked = [
        Answer(row["messages"], one["text"], one["finish_reason"] == "stop")
        for row in map(ranked_slate, range(12))
        for one in row["completions"]
    ]
    scores = scorer.scores(ranked)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    raw = load(trained, models["qwen2"])
    raw.model.offset.zero_()
    raw.model.gain.fill_(1)
    assert torch.equal(raw.scores(ranked).argsort(), scores.argsort())


def test_a_fresh_process_scores_bitwise_the_same(trained: Path, models: dict[str, Path]) -> None:
    texts = [Answer(question(n), text, stopped=True) for n in range(3) for text in GOOD]
    program = (
        "import sys, pathlib, torch; torch.set_num_threads(1)\n"
        "from tests.rlhf.test_reward import GOOD, load, question\n"
        "from training.rlhf.scoring import Answer\n"
        "scorer = load(*map(pathlib.Path, sys.argv[1:]))\n"
        "print(scorer.scores([Answer(question(n), t, True) for n in range(3) for t in GOOD]).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, trained, models["qwen2"]], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == load(trained, models["qwen2"]).scores(texts).tolist()


@pytest.mark.parametrize("name", ["head.safetensors", "model.safetensors"])
@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_reward_model_with_a_weight_missing_or_too_many_is_refused(
    trained: Path, tmp_path: Path, name: str, change: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    weights = safetensors.torch.load_file(broken / name)
    if change == "missing":
        weights.popitem()
    else:
        weights["score.weight"] = torch.zeros(1)
    safetensors.torch.save_file(weights, broken / name, metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match="weight"):
        load_reward(broken, "fp32")


def test_a_reward_model_that_changed_is_caught_by_its_canaries(
    trained: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(trained, changed)
    head = safetensors.torch.load_file(changed / "head.safetensors")
    head["bias"] += 0.01
    safetensors.torch.save_file(head, changed / "head.safetensors")
    with pytest.raises(InvalidInput, match="canary"):
        load(changed, models["qwen2"])


def test_a_reward_model_for_another_template_is_refused(trained: Path, models: dict[str, Path]) -> None:
    with pytest.raises(InvalidInput, match="different tokens"):
        load(trained, models["llama"])


def test_ties_alone_teach_nothing_and_are_refused(make_run: MakeRun, models: dict[str, Path]) -> None:
    tied = {"rankings": [ranked_slate(n, [1, 1, None]) for n in range(3)]}
    with pytest.raises(InvalidInput, match="nothing to learn"):
        train(make_run("reward", parents={"policy": models["llama"]}, data=tied, max_response=64))
