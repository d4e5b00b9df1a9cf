"""What InstructGPT and others add to PPO, each by an option: what it does exactly, and that off is off."""

import pytest
import torch
from torch import Tensor

from tests.rlhf.stages.trainers import PROMPTS, MakeTrainer, rolled_out, weights
from training.rlhf.advantages import adapted_beta
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Rendered
from training.rlhf.exits import InvalidInput
from training.rlhf.logprobs import masked_sum
from training.rlhf.networks.policy import token_logprobs
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.ppo import Trainer
from training.rlhf.stages.ppo_steps import Mix, policy_step
from training.rlhf.stages.weight_average import WeightAverage

DEMONSTRATIONS = [Rendered([5, 6, 7], [8 + n, 9, 10 + n]) for n in range(5)]


def iterate(trainer: Trainer, iterations: int) -> list[dict[str, float]]:
    return [
        trainer.update(trainer.roll_out(PROMPTS, iteration, trainer.report_progress), iteration)
        for iteration in range(iterations)
    ]


def steps_of(learner: Learner) -> set[float]:
    return {state["step"].item() for state in learner.optimizer.state_dict()["state"].values()}


def test_each_epoch_takes_a_step_of_both_networks_for_every_minibatch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=3)
    (report,) = iterate(trainer, 1)
    assert steps_of(trainer.policy_learner) == steps_of(trainer.critic_learner) == {6}
    assert report["policy/clip_fraction"] > 0  # later passes are measured against the policy that sampled


def test_beta_follows_the_closed_form_of_ziegler_for_three_iterations() -> None:
    beta, seen = 0.2, []
    for kl in (12.0, 6.6, 1.0):  # far above the target, a tenth above it, far below
        beta = adapted_beta(beta, kl, target=6.0, episodes=512, horizon=10_000)
        seen.append(beta)
    share = 512 / 10_000
    assert seen == pytest.approx(
        [
            0.2 * (1 + 0.2 * share),
            0.2 * (1 + 0.2 * share) * (1 + 0.1 * share),
            0.2 * (1 + 0.2 * share) * (1 + 0.1 * share) * (1 - 0.2 * share),
        ],
        rel=1e-12,
    )


def test_a_beta_that_has_adapted_is_what_the_next_answers_pay(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(beta=0.5, kl_target=1.0, kl_horizon=8)
    iterate(trainer, 1)
    assert trainer.adapt_beta(kl=3.0) == {"policy/beta": 0.5}
    assert trainer.beta == pytest.approx(0.6)
    for rollout in rolled_out(trainer, 1):
        scores = torch.tensor([episode.reward - (not episode.stopped) for episode in rollout.episodes])
        nats = ((rollout.logprobs - rollout.reference_logprobs) * rollout.batch.response).sum(1)
        torch.testing.assert_close(rollout.rewards.sum(1), scores - 0.6 * nats, atol=1e-5, rtol=0)


def test_without_a_target_beta_stays(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(beta=0.5)
    assert trainer.adapt_beta(kl=100.0) == {}
    assert trainer.beta == 0.5


def test_a_horizon_in_which_one_iteration_does_not_fit_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(InvalidInput, match="kl_horizon"):
        make_trainer(kl_target=1.0, kl_horizon=7)


def gradient(trainer: Trainer, *, ppo: bool, coefficient: float) -> Tensor:
    """What a step follows, as Adam's first moment remembers it: a gradient that is short enough to stay as it is."""
    minibatch = trainer.roll_out(PROMPTS, 0, trainer.report_progress)[0]
    if not ppo:
        minibatch = [rollout._replace(advantages=torch.zeros_like(rollout.advantages)) for rollout in minibatch]
    minibatch = [rollout._replace(advantages=1e-3 * rollout.advantages) for rollout in minibatch]
    mix = Mix(DEMONSTRATIONS, coefficient, trainer.chat.pad_id, batch_tokens=12) if coefficient else None
    policy_step(trainer.policy, trainer.policy_learner, minibatch, learning_rate=0.0, clip=0.2, mix=mix)
    states = trainer.policy_learner.optimizer.state_dict()["state"].values()
    return torch.cat([state["exp_avg"].flatten() for state in states])


def test_the_gradient_of_a_mixed_step_is_that_of_ppo_plus_gamma_times_that_of_the_demonstrations(
    make_trainer: MakeTrainer,
) -> None:
    both, alone, supervised = (
        gradient(make_trainer(), ppo=ppo, coefficient=coefficient)
        for ppo, coefficient in ((True, 0.02), (True, 0.0), (False, 0.01))
    )
    assert min(alone.norm(), supervised.norm()) > 1e-6
    torch.testing.assert_close(both, alone + 2 * supervised, atol=1e-7, rtol=1e-4)


def test_a_mixed_step_reports_the_loss_of_its_demonstrations(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(rollout_size=8, minibatch_size=8, ptx_coefficient=0.5)
    trainer.demonstrations = DEMONSTRATIONS[:1]  # each of the eight of a step is this one
    batch = collate(DEMONSTRATIONS[:1], trainer.chat.pad_id)
    expected = -masked_sum(token_logprobs(trainer.policy, batch), batch.response) / 3
    (report,) = iterate(trainer, 1)
    assert report["policy/ptx_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_demonstrations_are_mixed_in_by_turns(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ptx_coefficient=0.5)
    trainer.demonstrations = DEMONSTRATIONS
    drawn = [one.response[0] for step in range(10) for one in (trainer._mix(step) or ([],))[0]]
    assert all(drawn.count(8 + n) == 8 for n in range(5))
    assert drawn[:5] != drawn[5:10]


def test_the_average_of_the_weights_follows_its_closed_form(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ema_decay=0.75)
    seen = [weights(trainer.policy)]
    for iteration in range(3):
        trainer.update(trainer.roll_out(PROMPTS, iteration, trainer.report_progress), iteration)
        seen.append(weights(trainer.policy))
    expected = 0.75**3 * seen[0] + 0.25 * (0.75**2 * seen[1] + 0.75 * seen[2] + seen[3])
    with trainer.averaged():
        torch.testing.assert_close(weights(trainer.policy), expected, atol=1e-6, rtol=0)
    assert torch.equal(weights(trainer.policy), seen[3])
    torch.testing.assert_close(weights(trainer.published_policy()), expected, atol=1e-6, rtol=0)


def test_a_policy_gets_its_own_weights_back_though_what_is_done_with_the_average_fails(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(ema_decay=0.5)
    iterate(trainer, 1)
    before = weights(trainer.policy)
    with pytest.raises(KeyboardInterrupt), trainer.averaged():
        raise KeyboardInterrupt
    assert torch.equal(weights(trainer.policy), before)


def test_beyond_the_limit_no_average_with_the_weights_that_went_too_far_is_published(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ema_decay=0.5)
    before = weights(trainer.policy)
    iterate(trainer, 1)
    trainer.revert_policy()
    assert torch.equal(weights(trainer.published_policy()), before)


def test_an_average_is_as_precise_as_the_weights(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    average = WeightAverage(trainer.policy, 0.5)
    assert {tensor.dtype for tensor in average.tensors()["average"].values()} == {torch.float32}
