"""Log-probabilities, entropy, divergences and masked sums, against values worked by hand."""

import math

import torch

from training.rlhf.logprobs import entropy_of, exact_kl, k1, k3, logprobs_and_entropy, logprobs_of, masked_sum


def test_a_logprob_is_that_of_the_chosen_token() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    logprobs = logprobs_of(logits, torch.tensor([1, 2]))
    torch.testing.assert_close(logprobs, torch.tensor([math.log(0.25), math.log(0.7)]))


def test_entropy_of_a_fair_choice_is_the_log_of_the_choices() -> None:
    logits, tokens = torch.zeros(2, 8), torch.tensor([3, 4])
    torch.testing.assert_close(entropy_of(logits), torch.full((2,), math.log(8)))
    both = logprobs_and_entropy(logits, tokens)
    torch.testing.assert_close(both, torch.tensor([[-math.log(8), math.log(8)]] * 2))


def test_kl_estimators_agree_with_the_exact_divergence_on_eight_tokens() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 8, generator=draw).mul(0.5).log_softmax(-1)
    chosen = torch.multinomial(ours.exp(), 40_000, replacement=True, generator=draw)
    exact = exact_kl(ours[None], theirs[None])[0]
    for estimator in (k1, k3):
        estimates = estimator(ours[chosen], theirs[chosen])
        assert abs(estimates.mean() - exact) < 3 * estimates.std() / len(chosen) ** 0.5
    assert (k3(ours[chosen], theirs[chosen]) >= 0).all()


def test_a_masked_sum_ignores_what_does_not_count_even_if_it_is_not_a_number() -> None:
    values = torch.tensor([1.0, math.nan, 3.0, math.inf])
    assert masked_sum(values, torch.tensor([True, False, True, False])) == 4
    assert masked_sum(values, torch.zeros(4, dtype=torch.bool)) == 0
