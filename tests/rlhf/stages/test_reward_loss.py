"""The loss over rankings: every untied pair of a slate counts once, every slate the same."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.rlhf.data.records import untied_pairs
from training.rlhf.stages.reward import ranking_loss, weigh


def loss(scores: Tensor, *slates: list[list[int | None]]) -> Tensor:
    return ranking_loss(scores, weigh(slates))


def pair_loss(better: Tensor, worse: Tensor) -> Tensor:
    return -logsigmoid(better - worse)


def random_scores(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def test_a_ranking_gives_all_its_untied_pairs_and_none_of_what_could_not_be_judged() -> None:
    assert untied_pairs([2, 1, 2, None]) == [(1, 0), (1, 2)]
    assert untied_pairs([1, 1, 1]) == []


def test_the_loss_is_the_mean_over_all_pairs_and_so_is_its_gradient() -> None:
    scores = random_scores(4)
    joint = loss(scores, [[3, 1, 4, 2]])
    order = [1, 3, 0, 2]
    separate = torch.stack([pair_loss(scores[b], scores[w]) for i, b in enumerate(order) for w in order[i + 1 :]])
    assert len(separate) == math.comb(4, 2)
    torch.testing.assert_close(joint, separate.mean())
    torch.testing.assert_close(*(torch.autograd.grad(value, scores)[0] for value in (joint, separate.mean())))


def test_two_completions_give_the_bradley_terry_loss() -> None:
    assert loss(torch.tensor([0.0, math.log(3)]), [[2, 1]]).item() == pytest.approx(math.log(4 / 3))


def test_a_slate_of_nine_weighs_the_same_as_a_slate_of_four() -> None:
    four, nine = [1, 2, 3, 4], [3, 1, 2, 9, 8, 7, 4, 5, 6]
    scores = random_scores(13)
    apart = (loss(scores[:4], [four]) + loss(scores[4:], [nine])) / 2
    torch.testing.assert_close(loss(scores, [four], [nine]), apart)
    weights = weigh([[four], [nine]]).weight
    assert len(weights) == math.comb(4, 2) + math.comb(9, 2)
    assert weights[: math.comb(4, 2)].sum().item() == pytest.approx(1 / 2)
    assert weights.sum().item() == pytest.approx(1)


def test_judgements_of_one_slate_share_its_weight_and_a_tied_one_has_no_say() -> None:
    scores = random_scores(3)
    apart = (loss(scores, [[1, 2, 3]]) + loss(scores, [[2, 1, 2]])) / 2
    torch.testing.assert_close(loss(scores, [[1, 2, 3], [2, 1, 2], [1, 1, 1]]), apart)


def test_adding_a_constant_to_every_score_leaves_the_loss() -> None:
    scores = random_scores(5)
    slate = [[2, 1, 3, 3, 5]]
    torch.testing.assert_close(loss(scores + 100, slate), loss(scores, slate))


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_loss_and_gradient_are_finite_at_huge_gaps(gap: float) -> None:
    scores = torch.tensor([gap, 0.0], requires_grad=True)
    value = loss(scores, [[1, 2]])
    (gradient,) = torch.autograd.grad(value, scores)
    assert value.item() == pytest.approx(max(0.0, -gap))
    assert gradient.isfinite().all()
