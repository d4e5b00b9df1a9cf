"""One PPO iteration on tiny models: what must hold exactly, before anything is learnt and after."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.rlhf.stages.trainers import PROMPTS, MakeTrainer, configured, rolled_out, weights
from training.rlhf.advantages import generalized_advantages
from training.rlhf.data.batching import Batch
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Message
from training.rlhf.exits import Diverged
from training.rlhf.networks.policy import load_policy
from training.rlhf.networks.scalar_model import scalar_from_policy
from training.rlhf.seeding import generator
from training.rlhf.stages.inspection import after_update
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.ppo_steps import policy_step, value_step
from training.rlhf.stages.rollouts import Rollout, iteration_prompts, rollout_metrics, whiten_advantages
from training.rlhf.stages.scoring import Answer, Scorer


def test_before_any_update_the_ratio_is_exactly_one_and_nothing_is_clipped(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    minibatches = trainer.roll_out(PROMPTS, 0, trainer.report_progress)
    assert max(len(minibatch) for minibatch in minibatches) > 1  # or the cut into micro-batches would not be tested
    report = policy_step(trainer.policy, trainer.policy_learner, minibatches[0], learning_rate=1e-2, clip=0.2)
    assert report["policy/approx_kl"] == report["policy/clip_fraction"] == 0
    report = policy_step(trainer.policy, trainer.policy_learner, minibatches[1], learning_rate=1e-2, clip=0.2)
    assert report["policy/approx_kl"] > 0


def test_a_policy_that_is_its_reference_has_no_divergence_and_earns_its_score(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    rollouts = rolled_out(trainer)
    assert rollout_metrics(rollouts)["rollout/kl"] == 0
    for rollout in rollouts:
        scores = [episode.reward - (not episode.stopped) for episode in rollout.episodes]
        assert rollout.rewards.sum(1).tolist() == scores


def test_each_answer_trains_once_in_one_minibatch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    minibatches = trainer.roll_out(PROMPTS, 0, trainer.report_progress)
    numbers = [[episode.position for rollout in part for episode in rollout.episodes] for part in minibatches]
    assert [len(part) for part in numbers] == [4, 4]
    assert sorted(number for part in numbers for number in part) == list(range(8))
    trainer.update(minibatches, 0)
    steps = [state["step"].item() for state in trainer.policy_learner.optimizer.state_dict()["state"].values()]
    assert set(steps) == {2}


def test_every_prompt_is_answered_before_any_comes_again() -> None:
    cfg = configured()
    asked = [prompt.id for iteration in range(6) for prompt in iteration_prompts(iteration, PROMPTS, cfg)]
    rounds = [asked[start : start + 6] for start in range(0, 48, 6)]
    assert all(sorted(one) == [prompt.id for prompt in PROMPTS] for one in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_an_answer_is_tokenised_once_for_its_reward_and_the_check_of_its_ids(
    make_trainer: MakeTrainer, model_dir: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scalar_from_policy(load_policy(model_dir, chat, "fp32"), "fp32", generator(0, "reward"))
    trainer = make_trainer(rewarder=Scorer(model, chat, 8192, lambda: None).scores)
    texts: list[str] = []
    render = Chat.rendered

    def counted(self: Chat, messages: list[Message], text: str, stopped: bool) -> Rendered:
        texts.append(text)
        return render(self, messages, text, stopped)

    monkeypatch.setattr(Chat, "rendered", counted)
    rolled_out(trainer)
    assert len(texts) == trainer.cfg.rollout_size


def test_the_reward_lands_on_the_last_token_of_the_answer(make_trainer: MakeTrainer) -> None:
    for rollout in rolled_out(make_trainer(rewarder=lambda answers: torch.full((len(answers),), 3.0))):
        for row, episode in enumerate(rollout.episodes):
            (earning,) = rollout.rewards[row].nonzero().flatten().tolist()
            assert earning == episode.rendered.length - 1


def test_a_value_is_read_before_its_token_is_known(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    rollout = max(rolled_out(trainer), key=lambda rollout: rollout.batch.tokens.shape[1])
    batch = rollout.batch
    values = trainer.critic.values(batch)
    for t in range(1, batch.tokens.shape[1]):
        changed = batch.tokens.clone()
        changed[:, t:] = (changed[:, t:] + 7) % 200
        others = trainer.critic.values(batch._replace(tokens=changed))
        torch.testing.assert_close(others[:, : t + 1], values[:, : t + 1], atol=1e-6, rtol=0)


def test_an_evaluation_after_the_update_differs_by_what_was_learnt(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    minibatches = trainer.roll_out(PROMPTS, 0, trainer.report_progress)
    rollout = minibatches[0][0]
    again = after_update(trainer.policy, trainer.critic, rollout.batch)
    assert torch.equal(again["new_logprobs"], rollout.logprobs)
    assert torch.equal(again["new_values"], rollout.values)
    trainer.update(minibatches, 0)
    later = after_update(trainer.policy, trainer.critic, rollout.batch)
    assert not torch.equal(later["new_logprobs"], rollout.logprobs)
    assert not torch.equal(later["new_values"], rollout.values)


def test_the_cut_of_a_minibatch_does_not_change_its_update(make_trainer: MakeTrainer) -> None:
    updates, reports = [], []
    for batch_tokens in (1, 100, 8192):
        trainer = make_trainer(batch_tokens=batch_tokens, iterations=1)
        reports.append(trainer.update(trainer.roll_out(PROMPTS, 0, trainer.report_progress), 0))
        updates.append(torch.cat([weights(trainer.policy), weights(trainer.critic)]))
    for report, update in zip(reports, updates, strict=True):
        assert report == pytest.approx(reports[0], abs=2e-4)
        torch.testing.assert_close(update, updates[0], atol=2e-4, rtol=0)


def test_gradients_are_those_of_the_whole_minibatch_however_it_is_cut(make_trainer: MakeTrainer) -> None:
    gradients = []
    for batch_tokens in (1, 100, 8192):
        trainer = make_trainer(batch_tokens=batch_tokens)
        minibatch = trainer.roll_out(PROMPTS, 0, trainer.report_progress)[0]
        policy_step(trainer.policy, trainer.policy_learner, minibatch, learning_rate=0.0, clip=0.2)
        value_step(trainer.critic, trainer.critic_learner, minibatch, learning_rate=0.0, clip=0.2)
        optimizers = trainer.policy_learner.optimizer, trainer.critic_learner.optimizer
        moments = [moment for each in optimizers for moment in each.state_dict()["state"].values()]
        gradients.append(torch.cat([moment["exp_avg"].flatten() for moment in moments]))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=0)


def test_more_padding_changes_no_metric_of_a_rollout(make_trainer: MakeTrainer) -> None:
    rollouts = rolled_out(make_trainer())
    assert rollout_metrics([padded(rollout) for rollout in rollouts]) == rollout_metrics(rollouts)


def test_more_padding_changes_no_metric_of_an_update(make_trainer: MakeTrainer) -> None:
    seen = []
    for pad in (lambda rollout: rollout, padded):
        trainer = make_trainer()
        first, second = (
            [pad(rollout) for rollout in minibatch]
            for minibatch in trainer.roll_out(PROMPTS, 0, trainer.report_progress)
        )
        actor = policy_step(trainer.policy, trainer.policy_learner, first, learning_rate=1e-2, clip=0.2)
        critic = value_step(trainer.critic, trainer.critic_learner, first, learning_rate=1e-2, clip=0.2)
        # Only a policy that has moved has a divergence and a clipped share to get wrong.
        moved = policy_step(trainer.policy, trainer.policy_learner, second, learning_rate=1e-2, clip=0.02)
        assert moved["policy/clip_fraction"] > 0 < moved["policy/approx_kl"]
        seen.append([*actor.values(), *critic.values(), *moved.values()])
    assert seen[1] == pytest.approx(seen[0], rel=1e-3, abs=1e-5)


def test_whitening_scales_advantages_and_never_touches_returns(make_trainer: MakeTrainer) -> None:
    cfg = configured()
    rollouts = rolled_out(make_trainer())
    for rollout in rollouts:
        raw = generalized_advantages(rollout.rewards, rollout.values, rollout.batch.response, cfg.gamma, cfg.lam)
        assert torch.equal(rollout.returns, raw + rollout.values)
        assert not torch.equal(rollout.advantages, raw)
    again = whiten_advantages([[rollout] for rollout in rollouts])
    assert all(torch.equal(one.returns, rollout.returns) for (one,), rollout in zip(again, rollouts, strict=True))


def padded(rollout: Rollout) -> Rollout:
    """The same rollout with five more columns, in which nothing counts."""
    pad = torch.nn.functional.pad
    batch = Batch(*(pad(tensor, (0, 5)) for tensor in rollout.batch))
    others = {
        name: pad(value, (0, 5), value=9.0) for name, value in rollout._asdict().items() if isinstance(value, Tensor)
    }
    return rollout._replace(batch=batch, **others)


@pytest.mark.parametrize(("norm", "followed"), [(10.0, 1.0), (1.5, 1.0), (0.5, 0.5)])
def test_a_gradient_longer_than_one_is_shortened_to_one(norm: float, followed: float) -> None:
    network = torch.nn.Linear(3, 2)
    learner = Learner(network, "net")
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter) * norm / 8**0.5  # of eight parameters in all
    assert learner.step(1e-3) == pytest.approx(norm)
    moments = [state["exp_avg"].flatten() for state in learner.optimizer.state_dict()["state"].values()]
    share = 1 - learner.optimizer.param_groups[0]["betas"][0]  # of the first gradient in the first moment
    assert torch.cat(moments).norm().item() / share == pytest.approx(followed, rel=1e-4)


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    minibatch = trainer.roll_out(PROMPTS, 0, trainer.report_progress)[0]
    broken = [rollout._replace(advantages=rollout.advantages + torch.inf) for rollout in minibatch]
    before = weights(trainer.policy)
    for _ in range(2):
        policy_step(trainer.policy, trainer.policy_learner, broken, learning_rate=1e-2, clip=0.2)
    assert torch.equal(weights(trainer.policy), before)
    assert trainer.skipped_steps == 2
    with pytest.raises(Diverged):
        policy_step(trainer.policy, trainer.policy_learner, broken, learning_rate=1e-2, clip=0.2)


def test_without_a_learning_rate_twenty_iterations_change_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(iterations=20, learning_rate=0.0, value_learning_rate=0.0, max_response=5)
    before = weights(trainer.policy), weights(trainer.critic)
    for iteration in range(20):
        minibatches = trainer.roll_out(PROMPTS, iteration, trainer.report_progress)
        assert rollout_metrics([rollout for minibatch in minibatches for rollout in minibatch])["rollout/kl"] == 0
        report = trainer.update(minibatches, iteration)
        assert report["policy/approx_kl"] == report["policy/clip_fraction"] == 0
    assert torch.equal(weights(trainer.policy), before[0])
    assert torch.equal(weights(trainer.critic), before[1])


def test_reverting_restores_the_policy_that_was_within_the_limit(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    before = weights(trainer.policy)
    trainer.update(trainer.roll_out(PROMPTS, 0, trainer.report_progress), 0)
    assert not torch.equal(weights(trainer.policy), before)
    trainer.revert_policy()
    assert torch.equal(weights(trainer.policy), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_dir",
    ["llama", *(pytest.param(family, marks=pytest.mark.soak) for family in ("qwen2", "gpt2"))],
    indirect=True,
)
def test_a_known_reward_is_learnt_and_beta_holds_the_policy_back(make_trainer: MakeTrainer) -> None:
    """The answer should say "a" five times: nine tenths of that within twenty iterations, for little KL cost."""
    options = {"rollout_size": 64, "minibatch_size": 16, "max_response": 8, "batch_tokens": 8192, "iterations": 25}
    rates = {"learning_rate": 5e-3, "value_learning_rate": 5e-3, "missing_eos_penalty": 0.0}
    seen = []
    for beta in (0.01, 0.3):
        trainer = make_trainer(up_to_five_a, beta=beta, **options, **rates)
        for iteration in range(20):
            trainer.update(trainer.roll_out(PROMPTS, iteration, trainer.report_progress), iteration)
        seen.append(rollout_metrics(rolled_out(trainer, 20)))
    assert seen[0]["rollout/reward"] >= 0.9
    assert seen[0]["rollout/kl"] > 10 * seen[1]["rollout/kl"] > 0


def up_to_five_a(answers: Sequence[Answer]) -> Tensor:
    return torch.tensor([min(answer.text.count("a"), 5) / 5 for answer in answers])
