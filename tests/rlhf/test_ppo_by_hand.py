"""Every number on the page docs/ppo-by-hand.md, recomputed by the functions that train."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.rlhf.advantages import generalized_advantages, shaped_rewards, whitened
from training.rlhf.logprobs import k3, masked_mean
from training.rlhf.ppo import policy_loss, value_loss

PAGE = (Path(__file__).parents[2] / "docs/ppo-by-hand.md").read_text()
RESPONSE = torch.tensor([[True, True, True], [True, True, False]])  # answers A and B
ROUNDING = 5.1e-5


def rows() -> dict[str, list[float]]:
    """{first cell: the numbers after it} of every row of every table."""
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|")
    return {name: [float(cell) for cell in rest] for name, *rest in cells if re.fullmatch(r"-?[\d.]+", rest[-1])}


def tokens(name: str) -> Tensor:
    """(2, 3) a row of the page, token by token."""
    placed = torch.zeros(RESPONSE.shape, dtype=torch.float64)
    placed[RESPONSE] = torch.tensor(rows()[name], dtype=torch.float64)
    return placed


def setting(name: str) -> float:
    (value,) = rows()[name]
    return value


@pytest.fixture
def worked() -> dict[str, Tensor]:
    """What the page says, from what it says is given."""
    scores = torch.tensor(
        [setting("reward of answer A"), setting("reward of answer B") - setting("missing_eos_penalty")],
        dtype=torch.float64,
    )
    logprobs, values = tokens("log p, policy"), tokens("value")
    rewards = shaped_rewards(scores, logprobs, tokens("log p, reference"), RESPONSE, setting("beta"))
    advantages = generalized_advantages(rewards, values, RESPONSE, setting("gamma"), setting("lam"))
    (white,) = whitened([advantages], [RESPONSE])
    returns = advantages + values
    log_ratio, clip = tokens("new log p") - logprobs, setting("clip")
    moved = (tokens("new value") - values).clamp(-setting("value_clip"), setting("value_clip"))
    return {
        "log-ratio": logprobs - tokens("log p, reference"),
        "reward": rewards,
        "delta": generalized_advantages(rewards, values, RESPONSE, setting("gamma"), lam=0.0),
        "advantage": advantages,
        "return": returns,
        "whitened advantage": white,
        "ratio": log_ratio.exp(),
        "ratio * advantage": log_ratio.exp() * white,
        "clipped ratio * advantage": log_ratio.exp().clamp(1 - clip, 1 + clip) * white,
        "policy loss": policy_loss(log_ratio, white, clip),
        "clipped value": values + moved,
        "squared error": (tokens("new value") - returns).square(),
        "clipped squared error": (values + moved - returns).square(),
        "value loss": value_loss(tokens("new value"), values, returns, setting("value_clip")),
    }


def test_every_table_of_the_page_is_what_the_code_computes(worked: dict[str, Tensor]) -> None:
    given = {"log p, policy", "log p, reference", "value", "new log p", "new value"}
    assert set(worked) == {name for name, numbers in rows().items() if len(numbers) == 5} - given
    for name, computed in worked.items():
        torch.testing.assert_close(computed[RESPONSE], tokens(name)[RESPONSE], atol=ROUNDING, rtol=0, msg=name)


def test_every_mean_in_the_text_is_what_the_code_computes(worked: dict[str, Tensor]) -> None:
    def said(pattern: str) -> float:
        (number,) = re.findall(pattern, " ".join(PAGE.split()))
        return float(number)

    advantages, returns = worked["advantage"][RESPONSE], worked["return"][RESPONSE]
    expected = {
        r"mean ([\d.]+) and standard": advantages.mean(),
        r"deviation ([\d.]+) \(divided": advantages.std(correction=0),
        r"= ([\d.-]+)\. A divergence": worked["log-ratio"].sum() / 2,
        r"= ([\d.]+) of the returns": 1 - (advantages.var(correction=0) / returns.var(correction=0)),
        r": (-[\d.]+) \(`policy/loss`": masked_mean(worked["policy loss"], RESPONSE),
        r": ([\d.]+) \(`policy/clip_fraction`": ((worked["ratio"] - 1).abs() > 0.2)[RESPONSE].double().mean(),
        r": ([\d.]+) \(`policy/approx_kl`": masked_mean(k3(tokens("log p, policy"), tokens("new log p")), RESPONSE),
        r"is ([\d.]+) \(`value/loss`": masked_mean(worked["value loss"], RESPONSE),
    }
    for pattern, computed in expected.items():
        assert said(pattern) == pytest.approx(computed.item(), abs=ROUNDING), pattern
