"""Numbers that go wrong end a stage with 79, and a lower learning rate is tried only where it can help."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.rlhf.conftest import MakeRun
from tests.rlhf.forward_hooks import forward_hook
from tests.rlhf.reward_runs import question, ranked_slate
from training.rlhf import limits
from training.rlhf.__main__ import main
from training.rlhf.config import STAGES, Parent
from training.rlhf.exits import Diverged
from training.rlhf.networks.policy import Policy
from training.rlhf.networks.scalar_model import ScalarModel
from training.rlhf.run import recovery

PROMPTS = [{"id": n, "messages": question(n)} for n in range(4)]
HELDOUT = [{"id": n, "messages": question(n)} for n in range(40, 44)]
SMALL = {"max_response": 8}
PPO = {"iterations": 2, "rollout_size": 4, "minibatch_size": 2, "shown_samples": 0, "learning_rate": 1e-5} | SMALL


@pytest.fixture
def parents(models: dict[str, Path], reward_models: dict[str, Path]) -> dict[str, Path]:
    return {"policy": models["llama"], "reference": models["llama"], "reward": reward_models["llama"]}


def ends_in_79(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a stage ends because its numbers went wrong; it publishes nothing."""
    assert main([run.name, str(run)]) == 79
    assert not (run / "attempts/1/output").exists()
    return capsys.readouterr().err.splitlines()[-1]


def after(calls: int, of: type[nn.Module], change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor | None]:
    """What a machine does that spoils the results of these networks from a call on."""
    seen = 0

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> Tensor | None:
        nonlocal seen
        seen += isinstance(module, of)
        return change(result) if isinstance(module, of) and seen > calls else None

    return see


def test_a_divergence_that_is_no_number_is_beyond_every_limit() -> None:
    assert limits.is_beyond(math.nan, 10.0)
    assert limits.is_beyond(10.1, 10.0)
    assert not limits.is_beyond(10.0, 10.0)


@pytest.mark.parametrize(("gap", "bf16", "ends"), [(0.09, False, 0), (0.2, False, 1), (0.2, True, 0), (0.4, True, 1)])
def test_a_sampler_may_be_off_by_its_rounding_only(gap: float, bf16: bool, ends: bool) -> None:
    with pytest.raises(Diverged) if ends else nullcontext() as end:
        limits.refuse_sampler_gap(gap, bf16=bf16)
    if end:
        assert end.value.kind == "sampler_gap"
        assert ("dtype" in str(end.value)) is bf16


def test_a_gap_that_is_no_number_is_refused() -> None:
    with pytest.raises(Diverged):
        limits.refuse_sampler_gap(math.nan, bf16=True)


def test_ppo_ends_where_the_sampler_speaks_of_another_policy(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """And at once: no learning rate mends a sampler."""
    run = make_run("ppo", name="ppo", parents=parents, data={"prompts": PROMPTS}, **PPO)
    with forward_hook(after(0, Policy, lambda logits: logits * 40)):
        sentence = ends_in_79(run, capsys)
    assert "rollout/sampler_gap" in sentence and "0.1" in sentence
    assert not (run / "attempts/1/setbacks.json").exists()


@pytest.mark.parametrize("stage", ["sampling", "evaluation"])
def test_sampling_and_evaluation_compare_some_answers_too(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    data = {"prompts": PROMPTS, "heldout_prompts": HELDOUT}
    del data["heldout_prompts" if stage == "sampling" else "prompts"]
    roles = {role: parents[role] for role in STAGES[stage].required_parents}
    run = make_run(stage, name=stage, parents=roles, data=data, **SMALL)
    with forward_hook(after(0, Policy, lambda logits: logits * 40)):
        assert "rollout/sampler_gap" in ends_in_79(run, capsys)


def test_evaluation_ends_where_a_divergence_is_no_number(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    roles = {role: parents[role] for role in ("policy", "reference")}
    run = make_run("evaluation", name="evaluation", parents=roles, data={"heldout_prompts": HELDOUT}, **SMALL)
    with forward_hook(after(16, Policy, lambda logits: logits * math.nan)):  # of each writer eight are compared
        assert "KL values from the reference are not finite" in ends_in_79(run, capsys)


@pytest.mark.parametrize(
    ("of", "calls", "said"),
    [(ScalarModel, 1, "the rewards are not finite"), (Policy, 0, "the policy's logits are not finite")],
)
def test_ppo_ends_where_its_networks_give_no_numbers(
    make_run: MakeRun,
    parents: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    of: type[nn.Module],
    calls: int,
    said: str,
) -> None:
    run = make_run("ppo", name="ppo", parents=parents, data={"prompts": PROMPTS}, **PPO)
    with forward_hook(after(calls, of, lambda result: result * math.nan)):
        assert said in ends_in_79(run, capsys)


def test_answers_that_are_drawn_from_no_numbers_end_sampling(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(
        "sampling", name="sampling", parents={"policy": parents["policy"]}, data={"prompts": PROMPTS}, **SMALL
    )
    right, calls = Policy.logits_of, 0

    def wrong_later(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return right(*arguments) * (math.nan if calls > 12 else 1)

    monkeypatch.setattr(Policy, "logits_of", wrong_later)
    assert "the policy's logits are not finite" in ends_in_79(run, capsys)


def test_sampling_ends_where_a_reward_is_no_number(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    roles = {role: parents[role] for role in ("policy", "reward")}
    run = make_run("sampling", name="sampling", parents=roles, data={"prompts": PROMPTS}, **SMALL)
    with forward_hook(after(1, ScalarModel, lambda result: result * math.inf)):
        assert "the rewards are not finite" in ends_in_79(run, capsys)


@pytest.mark.parametrize(
    ("stage", "kind", "helps"),
    [
        ("ppo", "not_finite", True),
        ("ppo", "logits_not_finite", True),
        ("ppo", "sampler_gap", False),
        ("ppo", "reward_not_finite", False),
        ("ppo", "reference_not_finite", False),
        ("reward", "reward_not_finite", True),
        ("sampling", "logits_not_finite", False),
        ("evaluation", "kl_not_finite", False),
    ],
)
def test_a_lower_learning_rate_is_tried_where_it_can_help(stage: str, kind: str, helps: bool) -> None:
    parents = {role: Parent(path=role, manifest_sha256="0") for role in STAGES[stage].required_parents}
    cfg = STAGES[stage](seed=0, parents=parents)
    assert recovery.lower_learning_rate_helps(cfg, Diverged("so", kind=kind)) is helps


def test_a_reward_model_that_learns_no_numbers_is_not_blamed_on_its_answers(
    make_run: MakeRun, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"rankings": [ranked_slate(n) for n in range(2)]}
    run = make_run("reward", name="reward", parents={"policy": models["llama"]}, data=data, max_response=32)
    with forward_hook(lambda module, _, result: None if torch.is_grad_enabled() else result * math.nan):
        assert "the rewards are not finite" in ends_in_79(run, capsys)
