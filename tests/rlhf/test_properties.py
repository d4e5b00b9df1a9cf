"""The mathematics of the engine on random input, against slow versions that add up Python floats, one at a time.

The slow versions share no code with the engine and use no tensors. The engine computes in fp32, as it does in use.
Where CI is set, hypothesis draws the same examples in every run.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.rlhf.advantages import generalized_advantages, shaped_rewards, whitened
from training.rlhf.logprobs import CHUNK_BYTES, entropy_of, exact_kl, in_chunks, logprobs_and_entropy, logprobs_of
from training.rlhf.stages.ppo_steps import policy_loss, value_loss
from training.rlhf.stages.reward import ranking_loss, weigh
from training.rlhf.stages.sampling import inverse_cdf

on_random_input = settings(max_examples=50, deadline=None)

Slate = list[list[int | None]]  # the places of its completions, by each judgement

SHARES = st.floats(0, 1, width=32)
REWARDS = st.floats(-10, 10, width=32)
NATS = st.floats(-12, 0, width=32)


@st.composite
def tensors(draw: st.DrawFn, shape: Sequence[int], numbers: st.SearchStrategy[float]) -> Tensor:
    """A float32 tensor of this shape."""
    count = math.prod(shape)
    return torch.tensor(draw(st.lists(numbers, min_size=count, max_size=count))).reshape(tuple(shape))


@st.composite
def responses(draw: st.DrawFn) -> Tensor:
    """A response mask (B, T): in each row a prompt, an answer of at least one token, and padding."""
    parts = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(0, 3))
    rows = [
        [False] * prompt + [True] * answer + [False] * padding
        for prompt, answer, padding in draw(st.lists(parts, min_size=1, max_size=4))
    ]
    width = max(map(len, rows))
    return torch.tensor([row + [False] * (width - len(row)) for row in rows])


@st.composite
def projections(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """The end of a language model: hidden states (A, D), the output weight (V, D), and target ids (A,)."""
    count, size, vocabulary = (draw(st.integers(low, high)) for low, high in ((1, 9), (1, 3), (2, 9)))
    numbers = st.floats(-3, 3, width=32)
    hidden, weight = draw(tensors((count, size), numbers)), draw(tensors((vocabulary, size), numbers))
    ids = st.lists(st.integers(0, vocabulary - 1), min_size=count, max_size=count)
    return hidden, weight, torch.tensor(draw(ids))


def slow_logprobs(logits: Sequence[float]) -> list[float]:
    """Log-probabilities of a distribution, from its logits."""
    peak = max(logits)
    return [each - peak - math.log(math.fsum(math.exp(other - peak) for other in logits)) for each in logits]


def agrees(ours: Tensor, slow: Callable[[int, int], float], atol: float = 1e-4) -> None:
    """Every number of `ours` (B, T) is what `slow` gives for its row and column."""
    expected = [[slow(row, column) for column in range(ours.shape[1])] for row in range(ours.shape[0])]
    torch.testing.assert_close(ours.double(), torch.tensor(expected, dtype=torch.float64), atol=atol, rtol=1e-5)


@given(data=st.data(), response=responses(), beta=SHARES)
@on_random_input
def test_the_rewards_of_an_answer_add_up_to_its_score_less_beta_times_its_log_ratio(
    data: st.DataObject, response: Tensor, beta: float
) -> None:
    logprobs, reference = (data.draw(tensors(response.shape, NATS)) for _ in range(2))
    scores = data.draw(tensors(response.shape[:1], REWARDS))
    rewards = shaped_rewards(scores, logprobs, reference, response, beta)
    for row, mask in enumerate(response.tolist()):
        columns = [column for column, counts in enumerate(mask) if counts]
        ratios = [logprobs[row, column].item() - reference[row, column].item() for column in columns]
        assert rewards[row].sum().item() == pytest.approx(scores[row].item() - beta * math.fsum(ratios), abs=1e-4)
        assert rewards[row, columns[-1]].item() == pytest.approx(scores[row].item() - beta * ratios[-1], abs=1e-5)
        assert not rewards[row][~response[row]].any()


def slow_advantages(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """The advantages of one answer, from its last token back, by the definition's own recursion."""
    if not rewards:
        return []
    later = slow_advantages(rewards[1:], values[1:], gamma, lam)
    delta = rewards[0] + gamma * (values[1] if len(values) > 1 else 0.0) - values[0]
    return [delta + gamma * lam * (later[0] if later else 0.0), *later]


@given(data=st.data(), response=responses(), gamma=SHARES, lam=SHARES)
@on_random_input
def test_advantages_are_those_of_each_answer_by_itself(
    data: st.DataObject, response: Tensor, gamma: float, lam: float
) -> None:
    # Before and behind the answers stand numbers too, which must not count.
    rewards, values = (data.draw(tensors(response.shape, REWARDS)) for _ in range(2))
    advantages = generalized_advantages(rewards, values, response, gamma, lam)
    expected = torch.zeros(response.shape, dtype=torch.float64)
    for row, mask in enumerate(response):
        slow = slow_advantages(rewards[row][mask].tolist(), values[row][mask].tolist(), gamma, lam)
        expected[row, mask] = torch.tensor(slow, dtype=torch.float64)
    torch.testing.assert_close(advantages.double(), expected, atol=1e-4, rtol=1e-5)


# Eighths, which fp32 adds up exactly: whitening divides by the deviation, and so would blow up what rounding leaves.
EIGHTHS = st.integers(-80, 80).map(lambda eighths: eighths / 8)


@given(data=st.data(), response=responses())
@on_random_input
def test_whitening_is_that_of_all_answer_tokens_together_however_they_are_cut(
    data: st.DataObject, response: Tensor
) -> None:
    advantages = data.draw(tensors(response.shape, EIGHTHS))
    rows = len(response)
    cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1)))) if rows > 1 else []
    # Each part is as wide as its own longest row.
    parts = [
        (slice(start, stop), int(response[start:stop].any(0).nonzero().max()) + 1)
        for start, stop in pairwise([0, *cuts, rows])
    ]
    ours = whitened(
        [advantages[part, :width] for part, width in parts], [response[part, :width] for part, width in parts]
    )
    counted = advantages[response].tolist()
    mean = math.fsum(counted) / len(counted)
    variance = math.fsum((each - mean) ** 2 for each in counted) / len(counted)
    for (part, width), whitened_part in zip(parts, ours, strict=True):
        expected = (advantages[part, :width].double() - mean) / math.sqrt(variance + 1e-8) * response[part, :width]
        torch.testing.assert_close(whitened_part.double(), expected, atol=1e-3, rtol=1e-4)


def slow_pairs(places: Sequence[int | None]) -> list[tuple[int, int]]:
    """The pairs (better, worse) of a judgement that are no tie and that the person could judge."""
    pairs = []
    for better, high in enumerate(places):
        for worse, low in enumerate(places):
            if high is not None and low is not None and high < low:
                pairs.append((better, worse))
    return pairs


@st.composite
def slates(draw: st.DrawFn) -> Slate:
    """Two to nine completions, judged by one to three people, of whom one at least prefers one to another."""
    count = draw(st.integers(2, 9))
    places = st.lists(st.none() | st.integers(1, count), min_size=count, max_size=count)
    return draw(st.lists(places, min_size=1, max_size=3).filter(lambda slate: any(map(slow_pairs, slate))))


@given(data=st.data(), batch=st.lists(slates(), min_size=1, max_size=3))
@on_random_input
def test_the_ranking_loss_is_a_mean_over_pairs_then_judgements_then_slates(
    data: st.DataObject, batch: list[Slate]
) -> None:
    scores = data.draw(tensors([sum(len(slate[0]) for slate in batch)], st.floats(-20, 20, width=32))).requires_grad_()
    loss = ranking_loss(scores, weigh(batch))
    loss.backward()
    expected, slopes, first = 0.0, [0.0] * len(scores), 0
    for slate in batch:
        decided = [pairs for pairs in map(slow_pairs, slate) if pairs]
        for pairs in decided:
            for better, worse in pairs:
                share = 1 / (len(batch) * len(decided) * len(pairs))
                gap = scores[first + better].item() - scores[first + worse].item()
                expected += share * -math.log(1 / (1 + math.exp(-gap)))
                slope = share / (1 + math.exp(gap))
                slopes[first + better] -= slope
                slopes[first + worse] += slope
        first += len(slate[0])
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-6)


@given(projection=projections())
@on_random_input
def test_log_probabilities_and_entropies_are_those_of_the_softmax(projection: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = projection
    logits = hidden @ weight.T  # (A, V)
    nats = [slow_logprobs(row) for row in logits.tolist()]
    chosen = [row[target] for row, target in zip(nats, targets.tolist(), strict=True)]
    entropies = [-math.fsum(math.exp(each) * each for each in row) for row in nats]
    assert logprobs_of(logits, targets).tolist() == pytest.approx(chosen, abs=1e-5)
    assert entropy_of(logits).tolist() == pytest.approx(entropies, abs=1e-5)
    assert logprobs_and_entropy(logits, targets).T.flatten().tolist() == pytest.approx([*chosen, *entropies], abs=1e-5)


@given(projection=projections(), size=st.integers(1, 9))
@on_random_input
def test_chunks_of_any_size_give_the_numbers_and_the_gradient_of_the_whole(
    projection: tuple[Tensor, Tensor, Tensor], size: int
) -> None:
    hidden, weight, targets = projection

    def through(vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        states, projected = (each.detach().to(dtype, copy=True).requires_grad_() for each in (hidden, weight))
        numbers = in_chunks(logprobs_of, lambda part: part @ projected.T, states, targets, vocabulary)
        (numbers * torch.arange(1.0, len(numbers) + 1, dtype=dtype)).sum().backward()
        return numbers.detach(), *(each.grad for each in (states, projected))  # type: ignore[return-value]

    chunked = through(CHUNK_BYTES // (4 * size), torch.float32)  # a vocabulary of which `size` tokens fill a chunk
    whole = through(1, torch.float64)
    for ours, theirs in zip(chunked, whole, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)


@given(data=st.data(), projection=projections())
@on_random_input
def test_the_exact_divergence_is_the_sum_over_the_vocabulary(
    data: st.DataObject, projection: tuple[Tensor, Tensor, Tensor]
) -> None:
    hidden, weight, _targets = projection
    ours = hidden @ weight.T  # (A, V)
    theirs = data.draw(tensors(ours.shape, st.floats(-10, 10, width=32)))
    expected = []
    for ps, qs in zip(map(slow_logprobs, ours.tolist()), map(slow_logprobs, theirs.tolist()), strict=True):
        expected.append(math.fsum(math.exp(p) * (p - q) for p, q in zip(ps, qs, strict=True)))
    assert exact_kl(ours, theirs).tolist() == pytest.approx(expected, abs=1e-4, rel=1e-5)
    torch.testing.assert_close(exact_kl(ours, ours), torch.zeros(len(ours)))


@given(data=st.data(), shape=st.tuples(st.integers(1, 4), st.integers(1, 8)), clip=st.floats(0.0625, 0.875, width=32))
@on_random_input
def test_the_losses_of_policy_and_critic_are_the_pessimistic_ones_of_each_token(
    data: st.DataObject, shape: tuple[int, int], clip: float
) -> None:
    log_ratio, advantages = data.draw(tensors(shape, st.floats(-3, 3, width=32))), data.draw(tensors(shape, REWARDS))
    values, before, returns = (data.draw(tensors(shape, REWARDS)) for _ in range(3))

    def of_policy(row: int, column: int) -> float:
        ratio, advantage = math.exp(log_ratio[row, column].item()), advantages[row, column].item()
        return max(-ratio * advantage, -min(max(ratio, 1 - clip), 1 + clip) * advantage)

    def of_critic(row: int, column: int) -> float:
        value, old, goal = (tensor[row, column].item() for tensor in (values, before, returns))
        kept = min(max(value, old - clip), old + clip)
        return max((value - goal) ** 2, (kept - goal) ** 2) / 2

    agrees(policy_loss(log_ratio, advantages, clip), of_policy)
    agrees(value_loss(values, before, returns, clip), of_critic)


@given(data=st.data(), shape=st.tuples(st.integers(1, 4), st.integers(1, 12)))
@on_random_input
def test_a_drawn_token_is_possible_and_the_one_that_a_slow_search_finds(
    data: st.DataObject, shape: tuple[int, int]
) -> None:
    impossible = st.just(-math.inf)
    logits = data.draw(tensors(shape, st.floats(-30, 30, width=32) | impossible))
    logits[:, data.draw(st.integers(0, shape[1] - 1))] = 1.0  # something is possible
    probabilities = logits.softmax(-1)
    largest = 1 - 2**-53  # below 1
    numbers = data.draw(st.lists(st.floats(0, largest), min_size=shape[0], max_size=shape[0]))
    drawn = inverse_cdf(probabilities, torch.tensor(numbers, dtype=torch.float64)).tolist()
    for shares, number, token in zip(probabilities.tolist(), numbers, drawn, strict=True):
        assert shares[token] > 0
        reached = [total / math.fsum(shares) for total in accumulate(shares)]
        # Rounding may decide where the number lies on the very border of two tokens.
        first, last = (
            next((index for index, share in enumerate(reached) if share > number + rounding), token)
            for rounding in (-1e-12, 1e-12)
        )
        assert first <= token <= last
