"""The reward of every token, generalised advantages and whitening, against sums written out by hand."""

import pytest
import torch
from torch import Tensor

from training.rlhf.advantages import generalized_advantages, last_token, shaped_rewards, whitened


def answers(*spans: tuple[int, int], width: int) -> Tensor:
    """A response mask (B, width): True from start to end (exclusive) in each row."""
    columns = torch.arange(width)
    return torch.stack([(start <= columns) & (columns < end) for start, end in spans])


def random_tokens(seed: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


RAGGED = answers((2, 9), (3, 4), (1, 6), (5, 9), width=9)


def test_the_score_lands_on_eos_and_every_token_pays_for_leaving_the_reference() -> None:
    response = answers((1, 4), width=5)
    logprobs, reference = torch.tensor([[9.0, -1.0, -2.0, -3.0, 9.0]]), torch.tensor([[0.0, -1.5, -2.0, -2.0, 0.0]])
    rewards = shaped_rewards(torch.tensor([2.0]), logprobs, reference, response, beta=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0.0, -0.05, 0.0, 2.1, 0.0]]))


def test_rewards_of_an_answer_sum_to_its_score_less_beta_times_its_log_ratio() -> None:
    logprobs, reference = random_tokens(0, RAGGED.shape), random_tokens(1, RAGGED.shape)
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    rewards = shaped_rewards(scores, logprobs, reference, RAGGED, beta=0.3)
    torch.testing.assert_close(rewards.sum(1), scores - 0.3 * ((logprobs - reference) * RAGGED).sum(1))


def test_the_rewards_of_a_policy_that_is_its_reference_sum_to_the_score() -> None:
    logprobs, scores = random_tokens(0, RAGGED.shape), random_tokens(1, torch.Size([4]))
    assert torch.equal(shaped_rewards(scores, logprobs, logprobs, RAGGED, beta=0.3).sum(1), scores)


def test_the_last_token_is_found_at_the_edge_of_the_tensor_too() -> None:
    assert last_token(RAGGED).nonzero().tolist() == [[0, 8], [1, 3], [2, 5], [3, 8]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_advantages_equal_the_brute_force_double_sum(gamma: float, lam: float) -> None:
    rewards, values = random_tokens(0, RAGGED.shape), random_tokens(1, RAGGED.shape)
    advantages = generalized_advantages(rewards, values, RAGGED, gamma, lam)
    for row, column in RAGGED.nonzero().tolist():
        end = int(RAGGED[row].nonzero().max()) + 1
        expected = 0.0
        for t in range(column, end):
            value_after = values[row, t + 1].item() if t + 1 < end else 0.0
            delta = rewards[row, t].item() + gamma * value_after - values[row, t].item()
            expected += (gamma * lam) ** (t - column) * delta
        assert advantages[row, column].item() == pytest.approx(expected)


def test_with_lambda_one_the_return_is_the_sum_of_the_rewards_to_come() -> None:
    rewards, values = random_tokens(0, RAGGED.shape) * RAGGED, random_tokens(1, RAGGED.shape)
    returns = generalized_advantages(rewards, values, RAGGED, gamma=1.0, lam=1.0) + values
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(returns[RAGGED], to_come[RAGGED])


def test_padding_changes_no_advantage() -> None:
    rewards, values = random_tokens(0, RAGGED.shape), random_tokens(1, RAGGED.shape)
    pad = torch.nn.functional.pad
    alone = generalized_advantages(rewards, values, RAGGED, gamma=1.0, lam=0.95)
    padded = generalized_advantages(
        pad(rewards, (2, 7), value=5.0), pad(values, (2, 7), value=-3.0), pad(RAGGED, (2, 7)), gamma=1.0, lam=0.95
    )
    assert torch.equal(padded, pad(alone, (2, 7)))


def test_whitened_advantages_have_mean_0_and_variance_1_over_answer_tokens() -> None:
    (advantages,) = whitened([random_tokens(0, RAGGED.shape) * 7 + 3], [RAGGED])
    assert advantages[RAGGED].mean().item() == pytest.approx(0, abs=1e-12)
    assert advantages[RAGGED].var(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert not advantages[~RAGGED].any()


def test_how_a_rollout_is_cut_into_parts_does_not_change_its_whitened_advantages() -> None:
    advantages = random_tokens(0, RAGGED.shape)
    (whole,) = whitened([advantages], [RAGGED])
    first, second = whitened([advantages[:1], advantages[1:, :]], [RAGGED[:1], RAGGED[1:]])
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_equal_advantages_whiten_to_zero_and_stay_finite() -> None:
    (advantages,) = whitened([torch.full(RAGGED.shape, 4.0)], [RAGGED])
    assert not advantages.any()
