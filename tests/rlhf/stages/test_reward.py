"""The reward stage: from ranked slates to an artefact that gives every user of it the same numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.forks import FORKS
from tests.rlhf.forward_hooks import forward_hook
from tests.rlhf.reward_runs import GOOD, demonstration, question, ranked_slate
from training.rlhf import seeding
from training.rlhf.__main__ import main
from training.rlhf.config import Parent, RewardConfig
from training.rlhf.data.chat import Chat
from training.rlhf.exits import InvalidInput
from training.rlhf.networks.policy import load_policy
from training.rlhf.networks.scalar_model import ScalarModel, load_reward, save_reward, scalar_from_policy
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.reward import Slate, ranking_loss, train_step, weigh
from training.rlhf.stages.scoring import Answer, Scorer


def prepared(chat: Chat) -> list[Slate]:
    """Slates of different sizes and lengths."""
    return [
        Slate([chat.rendered(question(n), text, stopped=True) for text in GOOD[: 2 + n % 2]], [[2, 1, 2][: 2 + n % 2]])
        for n in range(5)
    ]


def fresh(model_dir: Path, batch_tokens: int = 8192) -> Scorer:
    chat = Chat.load(model_dir)
    model = scalar_from_policy(load_policy(model_dir, chat, "fp32"), "fp32", seeding.generator(0, "reward"))
    return Scorer(model, chat, batch_tokens, report_progress=lambda: None)


@pytest.fixture(scope="module")
def trained_models(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{family: a reward model that knows its rankings by heart}. Read only."""
    root = tmp_path_factory.mktemp("trained")
    return {family: reward_runs.thorough(root / family, policy) for family, policy in models.items()}


@pytest.fixture
def trained(model_dir: Path, trained_models: dict[str, Path]) -> Path:
    """The reward model of each family in turn; its policy is in `model_dir`."""
    return trained_models[model_dir.name]


def load(directory: Path, policy: Path, dtype: str = "fp32") -> Scorer:
    cfg = RewardConfig(seed=0, dtype=dtype, parents={"policy": Parent(path="", manifest_sha256="")})
    return reward_runs.scorer(directory, Chat.load(policy), cfg)


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


def test_a_slate_is_read_once_its_prompt_and_each_completion_however_many_pairs_it_has(model_dir: Path) -> None:
    scorer, chat = fresh(model_dir), Chat.load(model_dir)
    texts = [f"{text} {number}" for number in range(3) for text in GOOD]
    slate = Slate([chat.rendered(question(1), text, stopped=True) for text in texts], [[*range(1, 10)]])
    read: list[int] = []
    with forward_hook(lambda network, tokens, scores: read.append(len(tokens))):
        train_step(scorer, Learner(scorer.model, "reward"), [slate], learning_rate=0.0)
    assert read == [len(slate.completions[0].prompt) + sum(len(one.response) for one in slate.completions)]


def test_an_answer_that_was_cut_is_learnt_without_an_end(make_run: MakeRun, models: dict[str, Path]) -> None:
    """Of two equal texts the one that ends is preferred: nothing but the end could tell them apart."""
    completions = [{"text": "Drink water.", "finish_reason": reason} for reason in ("stop", "length")]
    slates = [{**ranked_slate(n, [1, 2]), "completions": completions} for n in range(4)]
    options = {"epochs": 8, "batch_size": 4, "learning_rate": 3e-3, "max_response": 64}
    run = make_run("reward", parents={"policy": models["llama"]}, data={"rankings": slates}, **options)
    lines = (reward_runs.train(run).parent / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["metrics"]["reward/accuracy"] == 1


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


def test_the_padding_id_may_be_the_end_id(model_dir: Path) -> None:
    losses, scores, weights = [], [], []
    for pad_id in (5, Chat.load(model_dir).eos_id):
        scorer = fresh(model_dir)
        scorer.chat.pad_id = pad_id
        answers = [Answer(question(n), text, stopped=True) for n, text in enumerate(GOOD)]
        scores.append(scorer.scores(answers))
        losses.append(train_step(scorer, Learner(scorer.model, "reward"), prepared(scorer.chat), 1e-3)["reward/loss"])
        weights.append(torch.cat([p.detach().flatten() for p in scorer.model.parameters()]))
    torch.testing.assert_close(*scores, atol=1e-6, rtol=0)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(*weights, atol=1e-5, rtol=0)


def test_rankings_are_learnt(trained: Path) -> None:
    lines = (trained.parent / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == last["total"] == 60
    assert last["metrics"]["reward/accuracy"] == 1
    assert last["metrics"]["reward/loss"] < 0.2


def test_demonstrations_average_to_zero_and_ranked_answers_deviate_by_one(trained: Path, model_dir: Path) -> None:
    scorer = load(trained, model_dir)
    demonstrations = scorer.scores([Answer(question(n), GOOD[n % 3], stopped=True) for n in range(4)])
    assert demonstrations.mean().item() == pytest.approx(0, abs=1e-4)
    ranked = [
        Answer(row["messages"], one["text"], one["finish_reason"] == "stop")
        for row in map(ranked_slate, range(12))
        for one in row["completions"]
    ]
    scores = scorer.scores(ranked)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    raw = load(trained, model_dir)
    raw.model.offset.zero_()
    raw.model.gain.fill_(1)
    assert torch.equal(raw.scores(ranked).argsort(), scores.argsort())


def write_scores(trained: Path, policy: Path, into: Path) -> None:
    answers = [Answer(question(n), text, stopped=True) for n in range(3) for text in GOOD]
    torch.set_num_threads(1)
    into.write_text(json.dumps(load(trained, policy).scores(answers).tolist()))


def test_a_fresh_process_scores_bitwise_the_same(trained: Path, model_dir: Path, tmp_path: Path) -> None:
    process = FORKS.Process(target=write_scores, args=(trained, model_dir, tmp_path / "theirs"))
    process.start()
    process.join()
    write_scores(trained, model_dir, tmp_path / "ours")
    assert (tmp_path / "theirs").read_text() == (tmp_path / "ours").read_text()


def test_the_whole_head_is_saved_its_bias_included(model_dir: Path, tmp_path: Path) -> None:
    """A loss over pairs leaves the bias at 0, so no trained model would show that it is lost."""
    scorer = fresh(model_dir)
    with torch.no_grad():
        scorer.model.head.bias.fill_(0.7)
        scorer.model.offset.fill_(-0.3)
        scorer.model.gain.fill_(1.9)
    answers = [Answer(question(n), text, stopped=True) for n, text in enumerate(GOOD)]
    save_reward(scorer.model, scorer.chat, tmp_path, {"canaries": []})
    loaded, card = load_reward(tmp_path, "fp32")
    assert card == {"canaries": []}
    again = Scorer(loaded, scorer.chat, scorer.batch_tokens, report_progress=lambda: None)
    assert torch.equal(again.scores(answers), scorer.scores(answers))
    assert loaded.head.bias.item() == scorer.model.head.bias.item() != 0


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


def changed(trained: Path, to: Path, **card: Any) -> Path:
    """A copy whose rewards are a hundredth higher, and whose card says this besides; None: it says nothing of it."""
    shutil.copytree(trained, to)
    head = safetensors.torch.load_file(to / "head.safetensors")
    head["offset"] -= 0.01 / head["gain"]
    safetensors.torch.save_file(head, to / "head.safetensors")
    written = json.loads((to / "reward.json").read_text()) | card
    (to / "reward.json").write_text(json.dumps({name: value for name, value in written.items() if value is not None}))
    return to


@pytest.mark.parametrize("card", [{"dtype": "fp32"}, {"dtype": None}], ids=["told", "not told"])
def test_a_reward_model_that_changed_is_caught_by_its_canaries(
    trained: Path, model_dir: Path, tmp_path: Path, card: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="canary"):
        load(changed(trained, tmp_path / "changed", **card), model_dir)


def test_canaries_allow_for_the_coarser_of_the_two_dtypes_that_wrote_and_read_them(
    trained: Path, model_dir: Path, tmp_path: Path
) -> None:
    assert json.loads((trained / "reward.json").read_text())["dtype"] == "fp32"
    load(changed(trained, tmp_path / "written-in-bf16", dtype="bf16"), model_dir)
    load(changed(trained, tmp_path / "read-in-bf16"), model_dir, dtype="bf16")


def test_a_reward_model_in_bf16_says_so(make_run: MakeRun, models: dict[str, Path]) -> None:
    data = {"rankings": [ranked_slate(n) for n in range(4)]}
    options = {"dtype": "bf16", "max_response": 64, "batch_size": 4}
    output = reward_runs.train(make_run("reward", parents={"policy": models["llama"]}, data=data, **options))
    assert json.loads((output / "reward.json").read_text())["dtype"] == "bf16"
    load(output, models["llama"], dtype="fp32")


def test_a_reward_model_for_another_template_is_refused(
    trained_models: dict[str, Path], models: dict[str, Path]
) -> None:
    with pytest.raises(InvalidInput, match="differently"):
        load(trained_models["qwen2"], models["llama"])


def test_ties_alone_teach_nothing_and_end_in_77(
    make_run: MakeRun, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tied = {"rankings": [ranked_slate(n, [1, 1, None]) for n in range(3)]}
    run = make_run("reward", parents={"policy": models["llama"]}, data=tied, max_response=64)
    assert main(["reward", str(run)]) == 77
    assert "no ranking prefers one completion to another" in capsys.readouterr().err


def test_answers_that_all_score_alike_end_in_77(
    make_run: MakeRun, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their spread is rounding, which would be blown up a million times to deviate by one."""
    same = [{"text": "A fox.", "finish_reason": "stop"}] * 3
    slates = [{**ranked_slate(n), "messages": question(1), "completions": same} for n in range(3)]
    data = {"rankings": slates, "demonstrations": [demonstration(1)]}
    run = make_run("reward", parents={"policy": models["llama"]}, data=data, max_response=64)
    assert main(["reward", str(run)]) == 77
    assert "get the same score" in capsys.readouterr().err
    assert not (run / "attempts/1/output").exists()
