"""Every number on the page docs/ppo-by-hand.md: printed by `inspect`, or recomputed by the functions that train."""

import json
import re

import pytest
import torch
from torch import Tensor

from tests.rlhf.worked_example import STEP, TARGET
from training.rlhf.__main__ import main
from training.rlhf.advantages import generalized_advantages, shaped_rewards, whitened
from training.rlhf.config import PPOConfig, load_config
from training.rlhf.logprobs import k3
from training.rlhf.stages.inspection import COLUMNS, read
from training.rlhf.stages.ppo_steps import policy_loss, value_loss

PAGE = TARGET.with_suffix(".md").read_text()
PROSE = " ".join(PAGE.split())
ATTEMPT = TARGET / "attempts/1"
ROUNDING = 5.1e-5


def rows() -> dict[str, list[float]]:
    """{first cell: the numbers after it} of every row of every table."""
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|")
    return {name: [float(cell) for cell in rest] for name, *rest in cells if re.fullmatch(r"-?[\d.]+", rest[-1])}


@pytest.fixture
def cfg() -> PPOConfig:
    cfg = load_config(TARGET / "config.json")
    assert isinstance(cfg, PPOConfig)
    return cfg


@pytest.fixture
def kept() -> dict[str, Tensor]:
    """(2, T) each: what was kept of answers A and B."""
    _, samples = read(ATTEMPT / f"rollouts/step-{STEP:06d}.safetensors")
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


@pytest.fixture
def scores(cfg: PPOConfig) -> Tensor:
    """(2,) what the answers score, the second without an end."""
    titles, _ = read(ATTEMPT / f"rollouts/step-{STEP:06d}.safetensors")
    assert [title.rpartition(", ")[2] for title in titles] == ["ended", "cut"]
    first, second = (float(re.findall(r"reward (-?[\d.]+)", title)[0]) for title in titles)
    return torch.tensor([first, second - cfg.missing_eos_penalty])


@pytest.fixture
def derived(cfg: PPOConfig, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of the page's tables."""
    values, white, returns = kept["values"], kept["advantages"], kept["returns"]
    log_ratio = kept["new_logprobs"] - kept["logprobs"]
    moved = values + (kept["new_values"] - values).clamp(-cfg.value_clip, cfg.value_clip)
    return {
        "delta": generalized_advantages(kept["rewards"], values, kept["response"], cfg.gamma, lam=0.0),
        "ratio": log_ratio.exp(),
        "ratio * advantage": log_ratio.exp() * white,
        "clipped ratio * advantage": log_ratio.exp().clamp(1 - cfg.clip, 1 + cfg.clip) * white,
        "policy loss": policy_loss(log_ratio, white, cfg.clip),
        "clipped value": moved,
        "squared error": (kept["new_values"] - returns).square(),
        "clipped squared error": (moved - returns).square(),
        "value loss": value_loss(kept["new_values"], values, returns, cfg.value_clip),
    }


def test_the_page_shows_what_inspect_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(TARGET), str(STEP)]) == 0
    printed = capsys.readouterr().out.strip()
    assert f"$ python -m training.rlhf inspect docs/ppo-by-hand {STEP}\n{printed}\n```" in PAGE
    assert all(heading in printed for heading in COLUMNS.values())


def test_what_inspect_prints_is_what_the_code_computes(cfg: PPOConfig, kept: dict[str, Tensor], scores: Tensor) -> None:
    response = kept["response"]
    rewards = shaped_rewards(scores, kept["logprobs"], kept["reference"], response, cfg.beta)
    advantages = generalized_advantages(kept["rewards"], kept["values"], response, cfg.gamma, cfg.lam)
    (white,) = whitened([advantages], [response])
    expected = {
        "rewards": rewards,
        "unwhitened": advantages,
        "returns": advantages + kept["values"],
        "advantages": white,
    }
    for name, computed in expected.items():
        torch.testing.assert_close(kept[name], computed, atol=2 * ROUNDING, rtol=0, msg=name)  # a score is rounded, too


def test_every_table_of_the_page_is_what_the_code_computes(
    derived: dict[str, Tensor], kept: dict[str, Tensor], cfg: PPOConfig
) -> None:
    numbers = rows()
    settings = {name: value for name, (value, *more) in numbers.items() if not more}
    assert settings == {name: getattr(cfg, name) for name in settings}
    assert set(derived) == set(numbers) - set(settings)
    for name, computed in derived.items():
        shown = torch.tensor(numbers[name])
        torch.testing.assert_close(computed[kept["response"]], shown, atol=ROUNDING, rtol=0, msg=name)


def test_every_equation_of_the_page_holds() -> None:
    equations = re.findall(r"`([-+*/(). \d]+) = (-?[\d.]+)`", PROSE)
    assert len(equations) > 10
    for left, right in equations:
        assert eval(left) == pytest.approx(float(right), abs=2e-4), f"{left} = {right}"


def test_every_mean_in_the_text_is_what_the_code_computes_and_the_run_has_plotted(
    derived: dict[str, Tensor], kept: dict[str, Tensor], cfg: PPOConfig
) -> None:
    def stated(pattern: str) -> float:
        (number,) = re.findall(pattern, PROSE)
        return float(number)

    response = kept["response"]
    advantages, returns = kept["unwhitened"][response], kept["returns"][response]
    before = value_loss(kept["values"], kept["values"], kept["returns"], cfg.value_clip)
    expected = {
        r"mean (-?[\d.]+) and standard": advantages.mean(),
        r"deviation ([\d.]+) \(divided": advantages.std(correction=0),
        r"\) / 2 = (-?[\d.]+)`": kept["log_ratio"].sum() / 2,
        r"= ([\d.]+) of the returns": 1 - (advantages.var(correction=0) / returns.var(correction=0)),
        r": (-[\d.]+) \(`policy/loss`": derived["policy loss"][response].mean(),
        r": ([\d.]+) \(`policy/clip_fraction`": ((derived["ratio"] - 1).abs() > cfg.clip)[response].float().mean(),
        r": ([\d.]+) \(`policy/approx_kl`": k3(kept["logprobs"], kept["new_logprobs"])[response].mean(),
        r"is ([\d.]+) \(`value/loss`": derived["value loss"][response].mean(),
        r"Before the step it was ([\d.]+),": before[response].mean(),
    }
    for pattern, computed in expected.items():
        assert stated(pattern) == pytest.approx(computed.item(), abs=ROUNDING), pattern
    plotted = json.loads((ATTEMPT / "metrics.jsonl").read_text().splitlines()[STEP])["metrics"]
    assert plotted["rollout/kl"] == pytest.approx(stated(r"\) / 2 = (-?[\d.]+)`"), abs=ROUNDING)
    assert plotted["value/explained_variance"] == pytest.approx(stated(r"= ([\d.]+) of the returns"), abs=ROUNDING)
    assert plotted["value/loss"] == pytest.approx(stated(r"Before the step it was ([\d.]+),"), abs=ROUNDING)
