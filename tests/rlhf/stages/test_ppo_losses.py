"""The two losses of PPO, against cases worked by hand."""

import math

import pytest
import torch

from training.rlhf.stages.ppo_steps import policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "learns"),
    [
        (1.5, 2.0, -1.2 * 2, False),  # good and already likelier: no more reward for going on
        (0.5, 2.0, -0.5 * 2, True),  # good and less likely: full pull back
        (1.5, -2.0, 1.5 * 2, True),  # bad and likelier: full push
        (0.5, -2.0, 0.8 * 2, False),  # bad and already less likely
        (1.1, 2.0, -1.1 * 2, True),  # inside the clip nothing is clipped
        (0.9, -2.0, 0.9 * 2, True),
    ],
)
def test_clipping_only_ever_lowers_the_objective(ratio: float, advantage: float, expected: float, learns: bool) -> None:
    log_ratio = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = policy_loss(log_ratio, torch.tensor([[advantage]]), clip=0.2)
    loss.sum().backward()
    assert loss.item() == pytest.approx(expected)
    assert log_ratio.grad is not None and bool(log_ratio.grad.any()) == learns


def test_before_any_update_the_gradient_is_that_of_the_policy_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    logprobs = torch.randn((3, 5), generator=draw, requires_grad=True)
    advantages = torch.randn((3, 5), generator=draw)
    response = torch.rand((3, 5), generator=draw) < 0.7
    clipped = policy_loss(logprobs - logprobs.detach(), advantages, clip=0.2)[response].mean()
    plain = -(advantages * logprobs)[response].mean()
    assert clipped.item() == pytest.approx(-advantages[response].mean().item())
    torch.testing.assert_close(*(torch.autograd.grad(loss, logprobs)[0] for loss in (clipped, plain)))


def test_the_value_loss_takes_the_larger_of_two_errors() -> None:
    values, before = torch.tensor([[1.0, 1.0, 0.1]]), torch.zeros(1, 3)
    returns = torch.tensor([[1.0, -1.0, 1.0]])
    # kept within 0.2 of before, the values are 0.2, 0.2 and 0.1
    torch.testing.assert_close(
        value_loss(values, before, returns, clip=0.2), torch.tensor([[0.8**2, 2.0**2, 0.9**2]]) / 2
    )


def test_the_value_clip_is_in_units_of_the_reward() -> None:
    values, before, returns = torch.randn((3, 4, 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        value_loss(10 * values, 10 * before, 10 * returns, clip=2.0),
        100 * value_loss(values, before, returns, clip=0.2),
    )
