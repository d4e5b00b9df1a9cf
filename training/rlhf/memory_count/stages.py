"""Each stage's moments that need memory, run with the stage's own functions on networks without numbers."""

from collections import deque
from collections.abc import Callable, Mapping

import torch
from transformers import PreTrainedConfig

from ..config import (
    AnsweringConfig,
    EvaluationConfig,
    LearningConfig,
    PPOConfig,
    RewardConfig,
    RunConfig,
    SamplingConfig,
    SFTConfig,
    WatcherConfig,
)
from ..data.batching import collate, micro_batches
from ..data.chat import Chat, Rendered
from ..model_folder.adapter_files import Shape
from ..networks import device
from ..networks.decoding import new_decoding, rows_that_fit
from ..networks.policy import Policy
from ..networks.scalar_model import ScalarModel
from ..stages import ppo, ppo_steps, reward, sft
from ..stages.evaluation import ROLES, kl_and_entropy
from ..stages.rollouts import Episode
from ..stages.sampling import first_waiting, inverse_cdf, numbers_by_role
from ..stages.scoring import Scorer
from .fake_networks import FakeNetworks
from .live_bytes import LiveBytes
from .longest import Longest
from .peaks import Peak, Stage

Models = Mapping[str, PreTrainedConfig]  # by role among the parents
Shapes = Mapping[str, Shape]  # of the parents that are adapters, by role
NO_ADAPTERS: Shapes = {}


def count(
    cfg: RunConfig, models: Models, chat: Chat, longest: Longest, kind: str, adapters: Shapes = NO_ADAPTERS
) -> list[Peak]:
    """The peaks of a stage's moments on a device of this kind, by its config, its parents' and its data.

    `activation_checkpointing` and `sharding` auto are counted as off.
    """
    live = LiveBytes()
    with device.following(kind), live:
        counter = Counter(live, cfg, FakeNetworks(cfg, models, adapters, chat.vocab_size), chat, longest)
        MOMENTS[type(cfg)](counter)
    return counter.stage.peaks


class Counter:
    """What the moments of a stage are counted with."""

    def __init__(self, live: LiveBytes, cfg: RunConfig, networks: FakeNetworks, chat: Chat, longest: Longest) -> None:
        self.shards = isinstance(cfg, LearningConfig) and cfg.sharding == "on" and cfg.processes > 1
        self.stage = Stage(live, accumulates=longest.accumulates, ranks=cfg.processes if self.shards else 1)
        self.cfg, self.networks, self.chat, self.longest = cfg, networks, chat, longest

    def policy(self, role: str, *, trains: bool = False) -> Policy:
        """The policy in a role, as the stage loads it."""
        policy = self.networks.policy(role, trains=trains)
        if trains and self._recomputes:
            policy.trunk.checkpoint_activations()
        return policy

    def reward_model(self, role: str = "reward", *, trains: bool = False) -> ScalarModel:
        """The reward model in a role, as the stage loads it."""
        model, _card = self.networks.reward_model(role, trains=trains)
        if trains and self._recomputes:
            model.trunk.checkpoint_activations()
        return model

    @property
    def _recomputes(self) -> bool:
        return isinstance(self.cfg, LearningConfig) and self.cfg.activation_checkpointing == "on"

    def micro_batches(self) -> list[list[Rendered]]:
        """The sequences of the largest step, as they pass through a network."""
        sequences = self.longest.sequences
        cuts = micro_batches([one.length for one in sequences], self.cfg.batch_tokens)
        return [[sequences[index] for index in cut] for cut in cuts]


def _sft(counter: Counter) -> None:
    cfg, stage, batch = counter.cfg, counter.stage, counter.longest.sequences
    policy = counter.policy("base", trains=True)
    stage.hold(policy)
    learner, pad_id = stage.learner(policy), counter.chat.pad_id
    with stage.measuring("step", trained=policy):
        sft.train_step(policy, learner, batch, 0.0, pad_id, cfg.batch_tokens, _nothing)


def _reward(counter: Counter) -> None:
    cfg, stage = counter.cfg, counter.stage
    model = counter.networks.scalar_from_policy(counter.policy("policy", trains=True))
    stage.hold(model)
    learner = stage.learner(model)
    scorer = Scorer(model, counter.chat, cfg.batch_tokens, _nothing)
    with stage.measuring("step", trained=model):
        reward.train_step(scorer, learner, counter.longest.slates, 0.0)


def _ppo(counter: Counter) -> None:
    cfg, stage, pad_id = counter.cfg, counter.stage, counter.chat.pad_id
    assert isinstance(cfg, PPOConfig)
    scorer, reference = counter.reward_model(), counter.policy("reference")
    critic, policy = counter.reward_model(trains=True), counter.policy("policy", trains=True)
    watchers = [counter.reward_model("watcher")] if cfg.is_watched else []
    stage.hold(scorer, reference, critic, policy, *watchers)
    policy_learner, critic_learner = stage.learner(policy), stage.learner(critic)
    stage.keep_weights(policy)
    if watchers:
        stage.keep_weights(policy)  # those that the watcher likes best
    if cfg.ema_decay:
        stage.keep_weights(policy)  # their average
    _decode(counter, policy, cfg)
    parts = counter.micro_batches()
    _score(counter, scorer, parts)
    networks = (policy, reference, critic)
    with stage.measuring("evaluation", read=networks):
        rollouts = [ppo.evaluate_rollout(*networks, _episodes(part), pad_id, cfg.beta, cfg) for part in parts]
    with stage.measuring("step of the policy", trained=policy):
        ppo_steps.policy_step(policy, policy_learner, rollouts, 0.0, cfg.clip)
    with stage.measuring("step of the critic", trained=critic):
        ppo_steps.value_step(critic, critic_learner, rollouts, 0.0, cfg.value_clip)


def _evaluation(counter: Counter) -> None:
    cfg, stage, parts = counter.cfg, counter.stage, counter.micro_batches()
    assert isinstance(cfg, EvaluationConfig)
    policies = {role: counter.policy(role) for role in ROLES if role in cfg.parents}
    _decode(counter, policies["policy"], cfg)
    with stage.measuring("divergence"), torch.no_grad():
        for part in parts:
            batch = collate(part, counter.chat.pad_id)
            kl_and_entropy(policies["policy"], policies["reference"], batch)
    for role in ("reward", "watcher"):
        if role in cfg.parents:
            _score(counter, counter.reward_model(role), parts)


def _sampling(counter: Counter) -> None:
    cfg = counter.cfg
    assert isinstance(cfg, SamplingConfig)
    policies = [counter.policy(role) for role in numbers_by_role(cfg)]  # the second is loaded beside the first
    _decode(counter, policies[-1], cfg)
    if "reward" in cfg.parents:
        _score(counter, counter.reward_model(), counter.micro_batches())


@torch.no_grad()
def _decode(counter: Counter, policy: Policy, cfg: AnsweringConfig) -> None:
    """Two steps of all rows that `generate` would decode at a time, once it has read their prompts."""
    stage, prompts = counter.stage, counter.longest.prompts
    sampler = policy.copied() if counter.shards else policy.for_sampling()
    width = max(map(len, prompts)) + cfg.max_response
    rows = min(len(prompts), rows_that_fit(sampler, width, cfg.cache_mb))
    with stage.measuring("sampling", has_cache=True):
        decoding = new_decoding(sampler, rows, width, counter.chat.pad_id)
        # As long as rows become, so that the cache is as wide as it becomes.
        grown = [prompt + [0] * (width - 2 - len(prompt)) for prompt in prompts]
        read = [grown[index] for index in first_waiting(deque(range(len(grown))), decoding.room, grown)]
        decoding.join((read * rows)[:rows])  # a prompt that comes again is not read again
        uniforms = torch.zeros(rows, dtype=torch.float64)
        for _ in range(2):
            inverse_cdf(decoding.next_logits().softmax(dim=-1), uniforms)
            decoding.append(torch.zeros(rows, dtype=torch.int64), torch.arange(rows))


@torch.no_grad()
def _score(counter: Counter, scorer: ScalarModel, parts: list[list[Rendered]]) -> None:
    with counter.stage.measuring("rewards", read=[scorer]):
        for part in parts:
            scorer.final_scores(part, counter.chat.pad_id)


def _episodes(rendered: list[Rendered]) -> list[Episode]:
    return [
        Episode(0, "", one, [0.0] * len(one.response), stopped=False, canonical=True, reward=0.0) for one in rendered
    ]


def _nothing() -> None:
    """Nobody waits for progress."""


MOMENTS: dict[type[RunConfig], Callable[[Counter], None]] = {
    SFTConfig: _sft,
    RewardConfig: _reward,
    WatcherConfig: _reward,
    PPOConfig: _ppo,
    EvaluationConfig: _evaluation,
    SamplingConfig: _sampling,
}
