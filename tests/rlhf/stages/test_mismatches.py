"""Answers to other prompts: what keeps a reward model from liking an answer whatever was asked."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import BAD, GOOD, question, ranked_slate
from training.rlhf import seeding
from training.rlhf.config import Parent, RewardConfig
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Demonstration
from training.rlhf.memory_count import longest
from training.rlhf.networks.policy import load_policy
from training.rlhf.networks.scalar_model import scalar_from_policy
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.reward import (
    Places,
    Slate,
    mismatched,
    ranking_loss,
    render_demonstration,
    train_step,
    weigh,
)
from training.rlhf.stages.scoring import Answer, Scorer

QUESTIONS = ["What helps against a cold?", "How do I cook rice?", "Where does rain come from?"]  # as GOOD answers them
CONTEXT = 100
RATE = 1e-2


def slate(prompt: int, *answers: int, places: list[Places] | None = None) -> Slate:
    """A slate of short ids; the first answer is the best one, unless `places` say otherwise."""
    completions = [Rendered([9, prompt], [answer, 1]) for answer in answers]
    return Slate(completions, places or [list(range(len(answers)))])


def draw(epoch: int = 0) -> torch.Generator:
    return seeding.generator(0, "reward", epoch, "mismatched")


def added(slates: list[Slate], epoch: int = 0) -> list[list[Rendered]]:
    return [one.mismatched for one in mismatched(slates, range(len(slates)), draw(epoch), CONTEXT)]


def test_each_slate_gets_the_best_completion_of_another_prompt_after_its_own() -> None:
    slates = [slate(number, 100 + number, 200 + number) for number in range(20)]
    answers = [one for (one,) in added(slates)]
    assert [one.prompt for one in answers] == [one.prompt for one in slates]
    assert all(one.response[0] in range(100, 120) for one in answers)
    assert all(one.response[0] != 100 + number for number, one in enumerate(answers))


def test_an_epoch_uses_nearly_every_best_completion_and_the_next_one_pairs_them_anew() -> None:
    slates = [slate(number, 100 + number, 200 + number) for number in range(50)]
    assert len({one.response[0] for (one,) in added(slates)}) >= 45
    assert added(slates) == added(slates)  # also after a resume
    assert added(slates) != added(slates, epoch=1)


def test_a_slate_of_the_same_prompt_is_no_other_one_and_neither_is_one_with_the_same_answer() -> None:
    assert added([slate(1, 101), slate(1, 102), slate(1, 103)]) == [[], [], []]
    assert added([slate(1, 101, 102), slate(2, 102, 101)]) == [[], []]
    first, second = added([slate(1, 101, 102), slate(2, 103, 104)])
    assert (first, second) == ([Rendered([9, 1], [103, 1])], [Rendered([9, 2], [101, 1])])


def test_a_mismatched_answer_is_cut_to_the_context() -> None:
    slates = [slate(1, 101), Slate([Rendered([9, 2], [7] * 200)], [[0]])]
    (first, _second) = mismatched(slates, [0, 1], draw(), CONTEXT)
    assert first.mismatched[0].length == CONTEXT


def test_the_best_completion_is_the_one_that_most_people_place_first() -> None:
    three = slate(1, 101, 102, 103, places=[[1, 2, 3], [2, 1, 1], [None, 1, 2]])
    assert three.best.response[0] == 102
    with_mismatch = three._replace(mismatched=[Rendered([9, 1], [55, 1])])
    assert with_mismatch.contrasts() == [[0, None, None, 1], [None, 0, 0, 1], [None, 0, None, 1]]
    assert with_mismatch.places() == [[1, 2, 3, None], [2, 1, 1, None], [None, 1, 2, None]]


def fresh(directory: Path, batch_tokens: int = 8192) -> Scorer:
    chat = Chat.load(directory)
    model = scalar_from_policy(load_policy(directory, chat, "fp32"), "fp32", seeding.generator(0, "reward"))
    return Scorer(model, chat, batch_tokens, report_progress=lambda: None)


def prepared(chat: Chat) -> list[Slate]:
    slates = []
    for number in range(4):
        texts = [GOOD[number % 3], *BAD][: 2 + number % 3]
        completions = [chat.rendered(question(number), text, stopped=True) for text in texts]
        slates.append(Slate(completions, [list(range(len(texts)))]))
    return [*mismatched(slates[:3], range(3), draw(), chat.context), slates[3]]


def test_a_demonstration_is_contrasted_and_changes_nothing_about_the_mean_over_what_is_ranked(
    models: dict[str, Path],
) -> None:
    scorer, without = fresh(models["llama"]), fresh(models["llama"])
    ranked = prepared(scorer.chat)
    written = [Demonstration(id=str(n), messages=question(n), response=GOOD[n]) for n in range(3)]
    slates = [render_demonstration(one, scorer.chat) for one in written]
    metrics = train_step(scorer, Learner(scorer.model, "reward"), ranked + slates, RATE, mismatch_coefficient=0.0)
    expected = train_step(without, Learner(without.model, "reward"), ranked, RATE, mismatch_coefficient=0.0)
    assert metrics == pytest.approx(expected)
    torch.testing.assert_close(weights(scorer), weights(without), atol=1e-5, rtol=0)

    (first, *_) = mismatched(slates, range(3), draw(), scorer.chat.context)
    assert first.contrasts() == [[0, 1]]
    train_step(scorer, Learner(scorer.model, "reward"), [*ranked, first], RATE, mismatch_coefficient=0.5)
    assert (weights(scorer) - weights(without)).abs().max() > RATE / 2


def weights(scorer: Scorer) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in scorer.model.parameters()])


def test_the_coefficient_weighs_the_log_loss_of_best_against_mismatched(models: dict[str, Path]) -> None:
    scorer, by_hand = fresh(models["llama"]), fresh(models["llama"])
    slates = prepared(scorer.chat)
    metrics = train_step(scorer, Learner(scorer.model, "reward"), slates, RATE, mismatch_coefficient=0.5)

    learner = Learner(by_hand.model, "reward")
    own = by_hand.model.final_scores([one for slate in slates for one in slate.completions], 0)
    other = by_hand.model.final_scores([one for slate in slates for one in slate.mismatched], 0)
    best = own[[0, 2, 5]]  # of slates of two, three, four; the last one has no mismatched answer
    loss = ranking_loss(own, weigh([slate.judgements for slate in slates])) + 0.5 * softplus(other - best).mean()
    loss.backward()
    learner.step(RATE)
    torch.testing.assert_close(weights(scorer), weights(by_hand), atol=1e-4, rtol=0)
    assert metrics["reward/match"] == pytest.approx((best > other).float().mean().item())


def test_the_cut_into_micro_batches_does_not_change_the_update(models: dict[str, Path]) -> None:
    found = []
    for batch_tokens in (1, 100, 8192):
        scorer = fresh(models["llama"], batch_tokens)
        metrics = train_step(scorer, Learner(scorer.model, "reward"), prepared(scorer.chat), RATE, 0.5)
        found.append((weights(scorer), metrics["reward/match"]))
    for other, match in found[1:]:
        torch.testing.assert_close(other, found[0][0], atol=1e-5, rtol=0)
        assert match == pytest.approx(found[0][1])


def test_with_it_a_reward_model_reads_the_prompt(make_run: MakeRun, models: dict[str, Path]) -> None:
    """A good answer to one question is a bad one to another. Rankings in which they never meet do not say so."""
    questions = [[{"role": "user", "content": text}] for text in QUESTIONS]
    slates = [
        {**ranked_slate(n), "slate_id": f"{n} {time}", "messages": questions[n]} for n in range(3) for time in range(3)
    ]
    shares = []
    for coefficient in (0.0, 1.0):
        options = {"epochs": 30, "batch_size": 3, "learning_rate": 3e-3, "mismatch_coefficient": coefficient}
        parents, data = {"policy": models["llama"]}, {"rankings": slates}
        run = make_run("reward", name=str(coefficient), parents=parents, data=data, max_response=64, **options)
        reward = reward_runs.train(run)
        cfg = RewardConfig(seed=0, dtype="fp32", parents={"policy": Parent(path="", manifest_sha256="")})
        scorer = reward_runs.scorer(reward, Chat.load(models["llama"]), cfg)
        answers = [Answer(asked, text, stopped=False) for asked in questions for text in GOOD]
        scores = scorer.scores(answers).view(3, 3)  # (questions, answers)
        shares.append((scores.diag()[:, None] > scores).float().sum().item() / 6)
        lines = (reward.parent / "metrics.jsonl").read_text().splitlines()
        assert ("reward/match" in json.loads(lines[-1])["metrics"]) == bool(coefficient)
    without, with_it = shares
    assert without < 0.8
    assert with_it == 1


def test_the_memory_count_has_it_in_every_slate_and_as_many_demonstrations() -> None:
    slates = [slate(number, 100 + number, 200 + number) for number in range(3)]
    parents = {"policy": Parent(path="", manifest_sha256="")}
    for coefficient in (0.0, 0.3):
        cfg = RewardConfig(seed=0, parents=parents, batch_size=2, mismatch_coefficient=coefficient)
        step = longest.of_slates(slates, [slate(number, 300 + number) for number in range(3)], cfg).slates
        assert sorted(len(one.texts) for one in step) == ([2, 2, 3, 3] if coefficient else [2, 2])
