"""Step 3 of three: proximal policy optimisation of the policy against the reward model.

Read it from top to bottom. `run_stage` loads four networks and repeats `run_iteration`, which samples episodes and has
them rewarded, evaluates them once with every network, shapes the rewards, computes and whitens the advantages, and
takes one clipped step of policy and critic for each minibatch (ppo_steps.py). docs/ppo-by-hand.md works one iteration
through with numbers.

The algorithm is PPO (Schulman et al. 2017) with a KL penalty in the reward and a critic that starts as the reward model
(Stiennon et al. 2020; Ouyang et al. 2022, section 3.5 and appendix C.4).
Options, off by default: several passes over a rollout (`epochs`), a beta that adapts (`kl_target`), some supervised
learning in each step (`ptx_coefficient`), and publishing a moving average of the weights (`ema_decay`).
Left out on purpose: a trunk shared by policy and critic, and clipping of rewards (they are normalised).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from .. import ranks, seeding, sharding
from ..advantages import adapted_beta, generalized_advantages, shaped_rewards
from ..config import PPOConfig
from ..data.batching import collate
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords, usable_prompts
from ..data.leakage import refuse_leak
from ..data.records import Prompt, read_demonstrations
from ..limits import is_beyond, refuse_sampler_gap, require_finite
from ..logprobs import logprobs_and_entropy
from ..networks.parents import ParentNetworks
from ..networks.policy import Policy, save_policy, token_logprobs
from ..networks.scalar_model import ScalarModel
from ..run.checkpoint import Checkpoint, Tensors, copied_to_cpu, module_tensors, restore_module, restore_tensors
from ..run.directory import CheckpointContents, RunDirectory
from . import inspection
from .gauge import Gauge
from .learner import Learner, mean_metrics, prepare
from .ppo_steps import Mix, policy_step, value_step
from .rollouts import (
    Episode,
    Rewarder,
    Rollout,
    flat,
    in_turn,
    iteration_prompts,
    penalised_scores,
    rollout_metrics,
    sample_episodes,
    split_minibatches,
    whiten_advantages,
)
from .scoring import Scorer
from .sft import render
from .step_samples import StepSampleWriter
from .weight_average import WeightAverage


def run_stage(run: RunDirectory, cfg: PPOConfig) -> None:
    """The stage: iterations until they are done, or until the policy has gone too far from its reference.

    Raises InvalidInput where parents or records do not fit, Diverged where numbers go wrong, Interrupted on request.
    """
    refuse_leak(run)
    chat = Chat.load(run.parent(cfg, "policy"))
    filtered = usable_prompts(run, "prompts", chat, cfg.max_response)
    trainer = load_trainer(run, cfg, chat, filtered.used)
    if cfg.ptx_coefficient > 0:
        trainer.demonstrations = render(read_demonstrations(run.data("demonstrations")), chat, cfg.max_response).used
    run_iterations(run, trainer, filtered)
    policy = trainer.published_policy()
    run.write_output(partial(save_policy, policy, chat, state=sharding.gathered_state(policy.network)))


def load_trainer(run: RunDirectory, cfg: PPOConfig, chat: Chat, prompts: Sequence[Prompt]) -> "Trainer":
    """The four networks, and the watcher where there is one and it is used.

    Each is sharded before the next one is loaded: there may be room for one that is whole.
    """
    networks = ParentNetworks(cfg, partial(run.parent, cfg))
    chat.refuse_other(Chat.load(run.parent(cfg, "reference")), "reference")
    scorers = []
    for role in ["reward", "watcher"] if cfg.is_watched else ["reward"]:
        scorers.append(Scorer.load(networks, chat, run.report_progress, role))
        if cfg.sharding == "on":
            scorers[-1].model.shard()
    critic, _card = networks.reward_model(trains=True)
    prepare(critic, cfg)
    policy = networks.policy("policy", trains=True)
    prepare(policy, cfg)
    reference = networks.policy("reference")
    if cfg.sharding == "on":
        reference.shard()
    rewarder = scorers[0].scores
    trainer = Trainer(policy, reference, critic, chat, rewarder, cfg, run.report_progress)
    if cfg.is_watched:
        trainer.gauge = Gauge(policy, reference, chat, rewarder, scorers[1], prompts, cfg, run.report_progress)
    return trainer


def run_iterations(run: RunDirectory, trainer: "Trainer", filtered: FilteredRecords[Prompt]) -> None:
    """All iterations, from the newest checkpoint on."""
    cfg = trainer.cfg
    sample_writer = StepSampleWriter(
        run.attempt, trainer.reference, trainer.chat, trainer.rewarder, filtered.used, cfg, run.report_progress
    )
    saved = run.resume()
    sample_writer.resume_from(saved)
    if saved:
        trainer.restore(saved)
    else:
        first = trainer.gauge.try_reward() | trainer.gauge.measure(0) if trainer.gauge else {}
        run.log(0, cfg.iterations, {**filtered.metrics(), **first})
    while not trainer.is_over(run.step):
        metrics = run_iteration(run, trainer, filtered.used, sample_writer)
        run.log(run.step + 1, cfg.iterations, {**metrics, "skipped_steps": trainer.skipped_steps})
        is_over = trainer.is_over(run.step)
        if trainer.took_last_step or is_over:  # a checkpoint after a skipped step would be one too late to go back to
            total = run.step if is_over else cfg.iterations
            run.save_if_due(run.step, total, cfg.checkpoint_seconds, trainer.checkpoint_contents)
        else:
            run.stop_if_requested()


def run_iteration(
    run: RunDirectory, trainer: "Trainer", prompts: Sequence[Prompt], sample_writer: StepSampleWriter
) -> dict[str, float]:
    """One iteration: roll out, then update, or revert where the policy is beyond the KL limit. Returns what to plot."""
    cfg, iteration = trainer.cfg, run.step
    minibatches = trainer.roll_out(prompts, iteration, partial(report_sampling_progress, run, trainer, iteration))
    if cfg.shown_samples:
        sample_writer.write(iteration, flat(minibatches))
    metrics = trainer.measure(minibatches)
    metrics |= trainer.adapt_beta(metrics["rollout/kl"])
    inspected = inspection.choose(flat(minibatches[:1]))
    after: Tensors = {}
    if is_beyond(metrics["rollout/kl"], cfg.kl_limit):
        trainer.revert_policy()
    else:
        metrics |= trainer.update(minibatches, iteration)
        after = inspection.after_update(trainer.policy, trainer.critic, inspected.batch)
    if run.writes:
        inspection.record(run.attempt, iteration + 1, inspected, after)
    if iteration + 1 == cfg.iterations and not trainer.went_too_far:
        # A part of the last iteration, so that a kill meanwhile repeats both.
        metrics |= trainer.measure_result(prompts)
    if trainer.gauge and trainer.gauge.is_due(iteration + 1) and not trainer.went_too_far:
        with trainer.averaged():
            metrics |= trainer.gauge.measure(iteration + 1)
    return metrics


def report_sampling_progress(run: RunDirectory, trainer: "Trainer", finished_iterations: int) -> None:
    """Report progress while answers are sampled. Raises Interrupted on request, with the finished iterations saved.

    Of several processes, the one that saves decides: the others wait for its answers. Where they hold parts of the
    networks, it cannot save without them.
    """
    run.report_progress()
    if run.writes:
        is_whole = not sharding.is_sharded(trainer.policy)
        if finished_iterations and run.interrupted and trainer.took_last_step and is_whole:
            run.save_and_stop(finished_iterations, trainer.checkpoint_contents)
        run.stop_if_requested()


class Trainer:
    """The networks of PPO, and what is kept from one iteration to the next."""

    gauge: Gauge | None = None  # where there is a watcher
    demonstrations: Sequence[Rendered] = ()  # for PPO-ptx

    def __init__(
        self,
        policy: Policy,
        reference: Policy,
        critic: ScalarModel,
        chat: Chat,
        rewarder: Rewarder,
        cfg: PPOConfig,
        report_progress: Callable[[], None],
    ) -> None:
        self.policy, self.reference, self.critic = policy, reference, critic
        self.chat, self.rewarder = chat, rewarder
        self.cfg, self.report_progress = cfg, report_progress
        self.beta = cfg.beta  # of the next iteration
        self.average = WeightAverage(policy, cfg.ema_decay) if cfg.ema_decay else None
        self.policy_learner = Learner(policy, "policy")
        self.critic_learner = Learner(critic, "critic")
        # The last weights that were measured within the KL limit.
        self._within_limit = copied_to_cpu(policy)
        self.went_too_far = False  # beyond the KL limit: the policy was reverted, and training is over

    def roll_out(
        self, prompts: Sequence[Prompt], iteration: int, report_progress: Callable[[], None]
    ) -> list[list[Rollout]]:
        """Minibatches of rollouts: sampled, rewarded, evaluated, and with whitened advantages.

        The cut into minibatches and micro-batches comes before the evaluation, and updates keep it. So the old
        log-probabilities come from the very forward pass that training repeats, and the first ratio is exactly 1.
        Each rank samples a share of the episodes, knows all, and evaluates and trains its share of every minibatch.
        """
        cfg = self.cfg

        def sample(share: Sequence[tuple[int, Prompt]]) -> list[Episode]:
            return sample_episodes(self.policy, self.chat, self.rewarder, share, iteration, cfg, report_progress)

        episodes = ranks.spread(list(enumerate(iteration_prompts(iteration, prompts, cfg))), sample)
        minibatches = []
        for minibatch in split_minibatches(episodes, seeding.generator(cfg.seed, "ppo/minibatches", iteration), cfg):
            rollouts = []
            for part in minibatch:
                networks = (self.policy, self.reference, self.critic)
                rollouts.append(evaluate_rollout(*networks, part, self.chat.pad_id, self.beta, cfg))
                report_progress()
            minibatches.append(rollouts)
        return whiten_advantages(minibatches)

    def measure(self, minibatches: list[list[Rollout]]) -> dict[str, float]:
        """What to plot of a rollout. Raises Diverged where the sampler and the training forward pass disagree."""
        metrics = rollout_metrics(flat(minibatches))
        refuse_sampler_gap(metrics["rollout/sampler_gap"], bf16=self.policy.bf16)
        return metrics

    def update(self, minibatches: list[list[Rollout]], iteration: int) -> dict[str, float]:
        """A step of policy and critic for each minibatch and epoch; returns the means of what they report."""
        cfg = self.cfg
        decay = 1 - iteration / cfg.iterations  # of both learning rates, linear from their peaks
        restore_tensors(self._within_limit, module_tensors(self.policy))
        reports: list[dict[str, float]] = []
        for step, minibatch in enumerate(minibatches * cfg.epochs, start=iteration * cfg.epochs * len(minibatches)):
            rate, mix = decay * cfg.learning_rate, self._mix(step)
            report = policy_step(self.policy, self.policy_learner, minibatch, rate, cfg.clip, mix)
            if self.policy_learner.took_last_step:  # a skipped step is counted, and has nothing else to report
                reports.append(report)
            self.report_progress()
            report = value_step(
                self.critic, self.critic_learner, minibatch, decay * cfg.value_learning_rate, cfg.value_clip
            )
            if self.critic_learner.took_last_step:
                reports.append(report)
            self.report_progress()
        if self.average:
            self.average.update()
        return mean_metrics(reports)

    def _mix(self, step: int) -> Mix | None:
        """The demonstrations of a step, as many as it has answers."""
        cfg = self.cfg
        if not self.demonstrations:
            return None
        batch = in_turn(self.demonstrations, step * cfg.minibatch_size, cfg.minibatch_size, cfg.seed, "ppo/ptx")
        return Mix(batch, cfg.ptx_coefficient, self.chat.pad_id, cfg.batch_tokens)

    def adapt_beta(self, kl: float) -> dict[str, float]:
        """Have beta follow what an iteration's answers came to, in nats; what to plot of the beta it was."""
        cfg = self.cfg
        if not cfg.kl_target:
            return {}
        before, self.beta = self.beta, adapted_beta(self.beta, kl, cfg.kl_target, cfg.rollout_size, cfg.kl_horizon)
        return {"policy/beta": before}

    def averaged(self) -> AbstractContextManager[None]:
        """The policy is what would be published meanwhile: the average of its weights, where there is one."""
        return self.average.in_place() if self.average else nullcontext()

    def measure_result(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Roll out once more after the last iteration, and revert the policy where that is beyond the KL limit.

        The rollout of each iteration measures the update before it; nothing else would measure the last one.
        """
        with self.averaged():
            metrics = self.measure(self.roll_out(prompts, self.cfg.iterations, self.report_progress))
        if is_beyond(metrics["rollout/kl"], self.cfg.kl_limit):
            self.revert_policy()
        return {"rollout/final_kl": metrics["rollout/kl"]}

    def revert_policy(self) -> None:
        """Give the policy its last weights that were measured within the KL limit, and end training."""
        restore_module(self.policy, self._within_limit)
        if self.average:
            self.average.start_over()
        self.went_too_far = True

    def published_policy(self) -> Policy:
        """The policy with the weights that are published: of those that the watcher measured, those it liked best."""
        if self.average:
            self.average.put_in()
        if self.gauge:
            self.gauge.restore_best()
        return self.policy

    def is_over(self, step: int) -> bool:
        """Whether nothing is learnt after `step`."""
        levelled_off = self.gauge is not None and self.gauge.stops
        return self.went_too_far or levelled_off or step >= self.cfg.iterations

    @property
    def skipped_steps(self) -> int:
        """Steps whose gradient was not finite, so far."""
        return self.policy_learner.skipped_steps + self.critic_learner.skipped_steps

    @property
    def took_last_step(self) -> bool:
        """Neither network skipped its last step."""
        return self.policy_learner.took_last_step and self.critic_learner.took_last_step

    def checkpoint_contents(self) -> CheckpointContents:
        """What a checkpoint has to hold."""
        tensors = self.policy_learner.tensors() | self.critic_learner.tensors() | {"before": self._within_limit}
        own = {"went_too_far": self.went_too_far, "beta": self.beta}
        state = self.policy_learner.state() | self.critic_learner.state() | own
        if self.average:
            tensors |= self.average.tensors()
        if self.gauge:
            tensors, state = tensors | self.gauge.tensors(), state | self.gauge.state()
        return tensors, state

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint."""
        self.policy_learner.restore(saved)
        self.critic_learner.restore(saved)
        restore_tensors(self._within_limit, saved.tensors("before"))
        self.went_too_far = saved.state().get("went_too_far", False)  # older checkpoints were never saved at a stop
        self.beta = saved.state().get("beta", self.cfg.beta)
        if self.average:
            self.average.restore(saved)
        if self.gauge:
            self.gauge.restore(saved)


@torch.no_grad()
def evaluate_rollout(
    policy: Policy,
    reference: Policy,
    critic: ScalarModel,
    episodes: list[Episode],
    pad_id: int,
    beta: float,
    cfg: PPOConfig,
) -> Rollout:
    """The episodes with log-probabilities, values, shaped rewards and advantages (not whitened yet).

    Raises Diverged where a network's output is not finite.
    """
    batch = collate([episode.rendered for episode in episodes], pad_id, policy.device)
    response = batch.response
    logprobs, entropy = policy(batch, logprobs_and_entropy).unbind(dim=-1)  # (B, T) each
    reference_logprobs = token_logprobs(reference, batch)
    values = critic.values(batch) * response
    require_finite(logprobs[response], "the policy's logits", "logits_not_finite")
    require_finite(reference_logprobs[response], "the reference's logits", "reference_not_finite")
    require_finite(values[response], "the critic's values", "values_not_finite")
    scores = torch.zeros(len(response), device=policy.device)  # (B,)
    scores[: len(episodes)] = penalised_scores(episodes, cfg.missing_eos_penalty)
    rewards = shaped_rewards(scores, logprobs, reference_logprobs, response, beta)
    advantages = generalized_advantages(rewards, values, response, cfg.gamma, cfg.lam)
    sampler_logprobs = torch.zeros_like(logprobs)
    sampled = [nats for episode in episodes for nats in episode.sampler_logprobs]
    sampler_logprobs[response] = torch.tensor(sampled, device=policy.device)
    return Rollout(
        episodes=episodes,
        batch=batch,
        sampler_logprobs=sampler_logprobs,
        logprobs=logprobs,
        entropy=entropy,
        reference_logprobs=reference_logprobs,
        values=values,
        rewards=rewards,
        advantages=advantages,
        returns=advantages + values,
    )
