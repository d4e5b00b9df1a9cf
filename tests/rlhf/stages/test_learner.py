"""The optimiser that every stage shares, against Adam as its paper writes it."""

import math

import pytest
import torch

from training.rlhf.stages.learner import Learner


def test_the_optimiser_is_adam_with_moments_of_0_9_and_0_95_and_epsilon_of_1e_5() -> None:
    """Kingma & Ba 2015, algorithm 1. Gradients of the size of epsilon, so that it and its place can be seen."""
    network = torch.nn.Linear(1, 1, bias=False)
    learner = Learner(network, "net")
    weight = network.weight.item()
    first = second = 0.0
    for step, gradient in enumerate((2e-5, -1e-5, 0.0, 3e-5), start=1):
        network.weight.grad = torch.tensor([[gradient]])
        learner.step(1e-2)
        first, second = 0.9 * first + 0.1 * gradient, 0.95 * second + 0.05 * gradient**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.95**step)
        weight -= 1e-2 * unbiased[0] / (math.sqrt(unbiased[1]) + 1e-5)
        assert network.weight.item() == pytest.approx(weight, abs=1e-6)
