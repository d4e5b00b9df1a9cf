"""Step 3 of three: proximal policy optimisation of the policy against the reward model.

An iteration samples answers, has them rewarded, looks at them once with every network, and then takes one clipped
step per minibatch. docs/ppo-by-hand.md works one through with numbers.
Left out on purpose: several passes over a rollout (more of them diverge), a trunk shared by policy and critic,
clipping of rewards (they are normalised), and a beta that adapts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from .. import seeding
from ..config import PPOConfig
from ..data.chat import Chat
from ..data.dataset_filter import Intake, fitting_prompts
from ..data.leakage import refuse_leak
from ..data.records import Prompt
from ..limits import is_beyond, refuse_sampler_gap
from ..logprobs import k3, masked_sum, token_logprobs
from ..networks.networks import Policy, ScalarModel, load_policy, load_reward, save_policy
from ..run.checkpoint import Checkpoint, Tensors, module_tensors, restore_module
from ..run.directory import RunDirectory, Saved
from . import inspection
from .learner import Learner
from .rollouts import Rewarder, Rollout, flat, look, look_again, measure, play, prompts_of, split, whiten
from .scoring import Scorer
from .step_samples import Showcase


def policy_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """(B, T): the clipped surrogate, negated. `log_ratio` is log of new over old probability."""
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    # Pessimistic on both sides: clipping may only ever lower the objective.
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(values: Tensor, before: Tensor, returns: Tensor, clip: float) -> Tensor:
    """(B, T): half the squared error, or that of the value kept within `clip` of what it was before, if larger."""
    clipped = before + (values - before).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2


def policy_step(
    policy: Policy, learner: Learner, minibatch: list[Rollout], learning_rate: float, clip: float
) -> dict[str, float]:
    """One update on a minibatch. Its losses are means over all its answer tokens, however it is cut."""
    answer_tokens = count_answer_tokens(minibatch)
    loss, kl, clipped = torch.zeros(3, device=answer_tokens.device)
    for rollout in minibatch:
        response = rollout.batch.response
        logprobs = token_logprobs(policy, rollout.batch)  # (B, T)
        log_ratio = logprobs - rollout.logprobs  # (B, T), 0 on answers before any update
        part = masked_sum(policy_loss(log_ratio, rollout.advantages, clip), response) / answer_tokens
        part.backward()
        with torch.no_grad():
            loss += part
            kl += masked_sum(k3(rollout.logprobs, logprobs), response) / answer_tokens
            clipped += (((log_ratio.exp() - 1).abs() > clip) & response).sum() / answer_tokens
    norm = learner.step(learning_rate)
    return {
        "policy/loss": loss.item(),
        "policy/approx_kl": kl.item(),
        "policy/clip_fraction": clipped.item(),
        "policy/grad_norm": norm,
    }


def value_step(
    critic: ScalarModel, learner: Learner, minibatch: list[Rollout], learning_rate: float, clip: float
) -> dict[str, float]:
    """One update of the critic on a minibatch, towards the returns."""
    answer_tokens = count_answer_tokens(minibatch)
    loss = torch.zeros((), device=answer_tokens.device)
    for rollout in minibatch:
        tokens, attention, response = rollout.batch
        errors = value_loss(critic.values(tokens, attention), rollout.values, rollout.returns, clip)  # (B, T)
        part = masked_sum(errors, response) / answer_tokens
        part.backward()
        loss += part.detach()
    learner.step(learning_rate)
    return {"value/loss": loss.item()}


def count_answer_tokens(minibatch: Sequence[Rollout]) -> Tensor:
    """Scalar: what the losses of a whole minibatch are divided by."""
    return torch.stack([rollout.batch.response.sum() for rollout in minibatch]).sum()


class Trainer:
    """The four networks of PPO, and what it remembers from one iteration to the next."""

    def __init__(
        self,
        policy: Policy,
        reference: Policy,
        critic: ScalarModel,
        chat: Chat,
        rewarder: Rewarder,
        cfg: PPOConfig,
        touch: Callable[[], None],
    ) -> None:
        self.policy, self.reference, self.critic = policy, reference, critic
        self.chat, self.rewarder = chat, rewarder
        self.cfg, self.touch = cfg, touch
        self.policy_learner = Learner(policy, "policy")
        self.critic_learner = Learner(critic, "critic")
        self._before: Tensors = _copied(policy)  # the last weights that were seen within the KL limit
        self.went_too_far = False  # beyond the KL limit: the policy was put back, and nothing is learnt any more

    def roll_out(self, prompts: Sequence[Prompt], iteration: int, touch: Callable[[], None]) -> list[list[Rollout]]:
        """Minibatches of fresh episodes, ready to be learnt from."""
        cfg = self.cfg
        turn = prompts_of(iteration, prompts, cfg)
        episodes = play(self.policy, self.chat, self.rewarder, turn, iteration, cfg, touch)
        minibatches = []
        for minibatch in split(episodes, seeding.generator(cfg.seed, "ppo/minibatches", iteration), cfg):
            rollouts = []
            for part in minibatch:
                rollouts.append(look(self.policy, self.reference, self.critic, part, self.chat.pad_id, cfg))
                touch()
            minibatches.append(rollouts)
        return whiten(minibatches)

    def learn(self, minibatches: list[list[Rollout]], iteration: int) -> dict[str, float]:
        """One step of policy and critic for each minibatch; returns the means of what they report."""
        cfg = self.cfg
        left = 1 - iteration / cfg.iterations  # of the peak learning rates
        self._before = _copied(self.policy)
        reports: list[dict[str, float]] = []
        for minibatch in minibatches:
            actor = policy_step(self.policy, self.policy_learner, minibatch, left * cfg.learning_rate, cfg.clip)
            self.touch()
            critic = value_step(
                self.critic, self.critic_learner, minibatch, left * cfg.value_learning_rate, cfg.value_clip
            )
            self.touch()
            # A step that was skipped has nothing to report but that, and it is counted already.
            reports += [actor] * self.policy_learner.is_steady + [critic] * self.critic_learner.is_steady
        return _means(reports)

    def measure_result(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Play once more after the last iteration, and step back where that is beyond the KL limit.

        Each iteration sees by its own answers how far the one before it went; nothing else would see the last one.
        """
        metrics = self.measure(self.roll_out(prompts, self.cfg.iterations, self.touch))
        if is_beyond(metrics["rollout/kl"], self.cfg.kl_limit):
            self.step_back()
        return {"rollout/final_kl": metrics["rollout/kl"]}

    def measure(self, minibatches: list[list[Rollout]]) -> dict[str, float]:
        """What to plot of a rollout. Raises Diverged where it is not what the policy would say of it."""
        metrics = measure(flat(minibatches))
        refuse_sampler_gap(metrics["rollout/sampler_gap"], bf16=self.policy.bf16)
        return metrics

    def step_back(self) -> None:
        """Give the policy the weights it had when it was last seen within the KL limit, and leave it at that."""
        restore_module(self.policy, self._before)
        self.went_too_far = True

    def is_over(self, step: int) -> bool:
        """Nothing is learnt after `step` any more."""
        return self.went_too_far or step >= self.cfg.iterations

    @property
    def skipped_steps(self) -> int:
        """Steps whose gradient was not finite, so far."""
        return self.policy_learner.skipped_steps + self.critic_learner.skipped_steps

    @property
    def is_steady(self) -> bool:
        """Neither network skipped its last step."""
        return self.policy_learner.is_steady and self.critic_learner.is_steady

    def saved(self) -> Saved:
        """What a checkpoint has to hold."""
        tensors = self.policy_learner.tensors() | self.critic_learner.tensors() | {"before": self._before}
        state = {"went_too_far": self.went_too_far}
        return tensors, self.policy_learner.state() | self.critic_learner.state() | state

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.policy_learner.restore(saved)
        self.critic_learner.restore(saved)
        self._before = saved.tensors("before")
        self.went_too_far = saved.state().get("went_too_far", False)  # older checkpoints were never saved at a stop


def train(run: RunDirectory, cfg: PPOConfig) -> None:
    """The stage: iterations until they are done, or until the policy has gone too far from its reference."""
    refuse_leak(run)
    start = run.parent(cfg, "policy")
    chat = Chat.load(start)
    intake = fitting_prompts(run, "prompts", chat, cfg.max_response)
    scorer = Scorer.load(run.parent(cfg, "reward"), chat, cfg, run.touch)
    origin = run.parent(cfg, "reference")
    chat.refuse_other(Chat.load(origin), "reference")
    reference = load_policy(origin, chat, cfg.dtype)
    critic, _ = load_reward(run.parent(cfg, "reward"), cfg.dtype)
    policy = load_policy(start, chat, cfg.dtype)
    iterate(run, Trainer(policy, reference, critic, chat, scorer.scores, cfg, run.touch), intake)
    with run.output() as directory:
        save_policy(policy, chat, directory)


def iterate(run: RunDirectory, trainer: Trainer, intake: Intake[Prompt]) -> None:
    """All iterations, from the newest checkpoint on."""
    cfg = trainer.cfg
    showcase = Showcase(run.attempt, trainer.reference, trainer.chat, trainer.rewarder, intake.used, cfg, run.touch)
    saved = run.resume()
    showcase.go_on_from(saved)
    if saved:
        trainer.restore(saved)
    else:
        run.log(0, cfg.iterations, intake.metrics())
    while not trainer.is_over(run.step):
        iteration = run.step
        minibatches = trainer.roll_out(intake.used, iteration, partial(stay_or_leave, run, trainer, iteration))
        if cfg.shown_samples:
            showcase.show(iteration, flat(minibatches))
        metrics = react(run, trainer, minibatches, iteration)
        if iteration + 1 == cfg.iterations and not trainer.went_too_far:
            # Part of the last iteration, of its line and its checkpoint: a kill on the way does all of it again.
            metrics |= trainer.measure_result(intake.used)
        run.log(iteration + 1, cfg.iterations, {**metrics, "skipped_steps": trainer.skipped_steps})
        is_over = trainer.is_over(run.step)
        if trainer.is_steady or is_over:  # after the last step nothing is left that could go wrong
            run.save_if_due(run.step, run.step if is_over else cfg.iterations, cfg.checkpoint_seconds, trainer.saved)
        else:
            run.leave_if_asked()


def stay_or_leave(run: RunDirectory, trainer: Trainer, done: int) -> None:
    """While answers are drawn nothing is learnt: who is asked to stop then saves the iterations done so far."""
    run.touch()
    if done and run.interrupted and trainer.is_steady:
        run.save_if_due(done, trainer.cfg.iterations, trainer.cfg.checkpoint_seconds, trainer.saved)
    run.leave_if_asked()


def react(run: RunDirectory, trainer: Trainer, minibatches: list[list[Rollout]], iteration: int) -> dict[str, float]:
    """Learn from a rollout, or step back where it shows a policy too far from its reference. Returns what to plot."""
    metrics = trainer.measure(minibatches)
    shown = inspection.choose(minibatches[0])
    after: Tensors = {}
    if is_beyond(metrics["rollout/kl"], trainer.cfg.kl_limit):
        trainer.step_back()
    else:
        metrics |= trainer.learn(minibatches, iteration)
        after = look_again(trainer.policy, trainer.critic, shown.batch)
    inspection.record(run.attempt, iteration + 1, shown, after)
    return metrics


def _means(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the reports that hold it."""
    values: dict[str, list[float]] = {}
    for name, value in chain.from_iterable(report.items() for report in reports):
        values.setdefault(name, []).append(value)
    return {name: sum(group) / len(group) for name, group in values.items()}


def _copied(policy: Policy) -> Tensors:
    return {name: tensor.clone() for name, tensor in module_tensors(policy).items()}
