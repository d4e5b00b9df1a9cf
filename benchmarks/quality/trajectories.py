"""The policies that PPO passes through, by the engine and by TRL, each as a list of points (judging.py).

A run ends once it is farther from SFT than is compared.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engine import Peer, measured
from benchmarks.quality.judging import Judge, Point
from benchmarks.quality.parents import Parents
from training.rlhf.config import PPOConfig
from training.rlhf.data.records import Prompt
from training.rlhf.networks.parents import ParentNetworks
from training.rlhf.networks.policy import Policy
from training.rlhf.stages.ppo import Trainer
from training.rlhf.stages.scoring import Answer, Scorer

OURS = "ours"
PROBES = 32  # answers by which the peer proves that its reward model gives the same rewards
BEYOND = 1.5  # times as far as a judged policy goes TRL's run, which ends by the KL of a single rollout

Record = dict[str, Any]


class Trajectory(NamedTuple):
    """One PPO run."""

    side: str  # OURS, or TRL with its number of epochs
    seed: int
    beta: float
    points: list[Point]

    def to_json(self) -> Record:
        """What `read` understands."""
        return self._asdict() | {"points": [point._asdict() for point in self.points]}

    @classmethod
    def read(cls, path: Path) -> "Trajectory":
        """A trajectory that was written to a file."""
        fields = json.loads(path.read_text())
        return cls(**fields | {"points": [Point(**point) for point in fields["points"]]})


def no_progress() -> None:
    """Nobody waits for a report of progress."""


def networks_of(parents: Parents, cfg: PPOConfig) -> ParentNetworks:
    """The networks of a PPO run."""
    named = dataclasses.replace(cfg, parents=parents.in_config())
    return ParentNetworks(named, lambda role: Path(named.parents[role].path))


def ours(parents: Parents, prompts: Sequence[Prompt], judge: Judge, cfg: PPOConfig, every: int) -> list[Point]:
    """The points of the engine's PPO, one every so many iterations, from 0 on."""
    networks = networks_of(parents, cfg)
    policy, (critic, _card) = networks.policy("policy", trains=True), networks.reward_model(trains=True)
    scorer = Scorer.load(networks, judge.chat, no_progress)
    trainer = Trainer(policy, judge.reference.policy, critic, judge.chat, scorer.scores, cfg, no_progress)

    def policies() -> Iterator[tuple[Policy, int]]:
        yield policy, 0
        for iteration in range(cfg.iterations):
            minibatches = trainer.roll_out(prompts, iteration, no_progress)
            trainer.measure(minibatches)
            trainer.update(minibatches, iteration)
            if (iteration + 1) % every == 0:
                yield policy, iteration + 1

    return points_of(policies(), judge)


def of_peer(
    peer: Peer,
    epochs: int,
    parents: Parents,
    prompts: Sequence[Prompt],
    judge: Judge,
    cfg: PPOConfig,
    every: int,
    folder: Path,
) -> list[Point]:
    """The points of TRL's PPO with so many epochs over each rollout, whose checkpoints it leaves in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scorer = Scorer.load(networks_of(parents, cfg), judge.chat, no_progress)
    job = {
        "sft": str(parents.sft),
        "reward": str(parents.reward),
        "epochs": epochs,
        "every": every,
        "farthest": BEYOND * judge.farthest,
        "prompts": [judge.chat.prompt_ids(prompt.messages) for prompt in prompts],
        "probes": probes(judge, scorer),
        "settings": dataclasses.asdict(cfg) | {"parents": {}},
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [peer.python, "-m", "benchmarks.quality.trl_peer", folder, "--threads", str(cfg.threads)]
    print(json.dumps(measured(command, {"PYTHONPATH": str(peer.with_ppo)}, cfg.threads)), file=sys.stderr)
    saved = sorted((folder / "checkpoints").iterdir())
    return points_of(((judge.load(path), int(path.name)) for path in saved), judge)


def points_of(policies: Iterator[tuple[Policy, int]], judge: Judge) -> list[Point]:
    """The point of each policy and its iteration, up to the first that has gone too far."""
    points: list[Point] = []
    for policy, iteration in policies:
        points.append(judge.point(policy, iteration))
        print(f"{iteration} {points[-1].kl:.2f} {points[-1].wins:.3f}", file=sys.stderr, flush=True)
        if points[-1].kl > judge.farthest:
            break
    return points


def probes(judge: Judge, scorer: Scorer) -> list[Record]:
    """Token ids of prompt and answer, and the reward that the engine gives them."""
    sampled = judge.reference.sample(judge.wanted[:PROBES], judge.cfg, judge.run, None)
    rendered = [judge.chat.rendered(one.answer.messages, one.text, one.answer.stopped) for one in sampled]
    rewards = scorer.scores([Answer(*one.answer) for one in sampled]).tolist()
    return [
        {"prompt": one.prompt, "response": one.response, "reward": reward}
        for one, reward in zip(rendered, rewards, strict=True)
    ]
