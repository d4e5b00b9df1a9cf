"""What ranks tell each other: sums, parts and results in order, the same on every rank."""

import json
from pathlib import Path

import torch

from tests.rlhf.ranks.launches import join, start
from training.rlhf.ranks import shares, spread, summed


def meet(folder: Path, processes: int) -> int:
    """Write down what this rank learns."""
    from training.rlhf import ranks
    from training.rlhf.data.batching import own_micro_batches
    from training.rlhf.stages.learner import Learner

    ranks.join(processes, lambda rank, collectives: None)
    own = ranks.own()
    mean, variance = ranks.mean_and_variance(torch.tensor([[1.0, 2.0], [3.0], [6.0]][own]))
    network = torch.nn.Linear(1, 1)
    network.weight.grad = torch.full((1, 1), float(own)) if own else None
    network.bias.requires_grad_(False)
    ranks.sum_gradients(network.parameters())
    assert network.weight.grad is not None and network.bias.grad is None
    learner = Learner(torch.nn.Linear(1, 1), "net")
    for parameter in learner.network.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan if own == 1 else 1.0)
    learner.step(0.1)
    learnt = {
        "share": ranks.shares("abcde")[own],
        "groups": own_micro_batches([1, 2, 3, 8, 9], 9),
        "spread": ranks.spread("abcde", lambda mine: [letter.upper() for letter in mine]),
        "few": ranks.spread("a", lambda mine: [letter.upper() for letter in mine]),
        "gathered": ranks.gathered(own),
        "first": ranks.first_says(own),
        "any": [ranks.any_says(own == 2), ranks.any_says(False)],
        "mean": mean.item(),
        "variance": variance.item(),
        "gradient": network.weight.grad.item(),
        "skipped": learner.skipped_steps,
    }
    (folder / f"{own}.json").write_text(json.dumps(learnt))
    ranks.leave()
    return 0


def test_three_processes_agree(tmp_path: Path) -> None:
    assert join(start(meet, tmp_path, 3, processes=3, log=tmp_path / "log")) == [0, 0, 0]
    learnt = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert [one.pop("share") for one in learnt] == [["a", "d"], ["b", "e"], ["c"]]
    # The third has read all that it has to read, and waits for the second groups of the others with an empty one.
    assert [one.pop("groups") for one in learnt] == [[[0], [3]], [[1], [4]], [[2], []]]
    assert learnt[0] == learnt[1] == learnt[2]
    assert learnt[0] == {
        "spread": ["A", "B", "C", "D", "E"],
        "few": ["A"],
        "gathered": [0, 1, 2],
        "first": 0,
        "any": [True, False],
        "mean": 3.0,
        "variance": 3.5,
        "gradient": 3.0,
        "skipped": 1,  # the gradient of one was not finite
    }


def test_one_process_is_its_own_group() -> None:
    assert shares("abc") == [["a", "b", "c"]]
    assert spread([1, 2], lambda items: [item + 1 for item in items]) == [2, 3]
    numbers = torch.ones(2)
    assert summed(numbers) is numbers
