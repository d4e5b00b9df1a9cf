"""Measures how far PPO should go in the tiny world: it climbs one reward model while another one only watches.

On each seed the 600 rankings of a round are shared by prompt: a reward model that PPO climbs is trained on one part,
the watcher on the rest. PPO then goes on well beyond where it helps. Every few iterations its answers to the same
prompts are scored by both and by gold, which the engine never sees: each answer's scores are kept, so that rules for
stopping can be tried on them. Prints a JSON line for each run. What is finished in --work is used again.

With --rounds, people then rank answers of the policy that the gauge would have published, and all begins again. With
--members, PPO climbs an ensemble: the mean of the reward model and so many others, each of rankings drawn with
replacement, minus their spread. With --reward gold it climbs the gold taste itself, which cannot be cheated: how far
settings of PPO take the policy.

    python benchmarks/overoptimisation.py --work /tmp/over [--seeds 10,11,12,13,14] [--shares 0.5,0.67,0.75]
    python benchmarks/overoptimisation.py --work /tmp/over --shares 0.67 --reward gold --set ppo.epochs=2
    python benchmarks/overoptimisation.py --smoke    # does it run at all
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.learning import Loop, fingerprint, merged, read  # noqa: E402
from benchmarks.quality.parents import Parents, as_prompt, new_loop, ranked, smallest_loop  # noqa: E402
from benchmarks.quality.trajectories import networks_of, no_progress  # noqa: E402
from training.rlhf.config import EvaluationConfig, Parent, PPOConfig  # noqa: E402
from training.rlhf.data.chat import Chat  # noqa: E402
from training.rlhf.data.records import Prompt, read_demonstrations  # noqa: E402
from training.rlhf.networks.parents import ParentNetworks  # noqa: E402
from training.rlhf.networks.policy import Policy, save_policy  # noqa: E402
from training.rlhf.run.directory import RunDirectory  # noqa: E402
from training.rlhf.run.manifest import sealed  # noqa: E402
from training.rlhf.stages.evaluation import divergence, win  # noqa: E402
from training.rlhf.stages.gauge import Measured, Watch  # noqa: E402
from training.rlhf.stages.ppo import Trainer  # noqa: E402
from training.rlhf.stages.sampling import SampledAnswer, Sampler  # noqa: E402
from training.rlhf.stages.scoring import Answer, Scorer  # noqa: E402
from training.rlhf.stages.sft import render  # noqa: E402
from training.tiny.gold import utility  # noqa: E402
from training.tiny.recipe import BASE  # noqa: E402

PROMPTS = 128  # train prompts
SMOKE = ["sft.epochs=1", "reward.epochs=1", "ppo.rollout_size=8", "ppo.minibatch_size=4", "ppo.max_response=16"]
SMOKE += ["sampling.k=2", "sampling.max_response=16", "evaluation.max_response=16"]

Record = dict[str, Any]


class Plan(NamedTuple):
    """What is run."""

    work: Path
    iterations: int
    every: int
    prompts: int  # of train, that the gauge sees answers to; as many held-out ones are asked as well
    changes: Sequence[str]  # of the tiny preset, like ppo.beta=0.1
    reward: str  # that PPO climbs: learnt or gold
    members: int  # of an ensemble, beside the reward model of all rankings of its share
    is_smoke: bool

    def loop(self, folder: Path, seed: int) -> Loop:
        """The stages of a seed."""
        return (smallest_loop if self.is_smoke else new_loop)(folder, seed, self.changes)


class Models(NamedTuple):
    """Model directories of one run."""

    sft: Path
    climbed: Path
    watcher: Path
    members: list[Path]  # of an ensemble


def trained(plan: Plan, seed: int, share: float, published: Sequence[Path]) -> Models:
    """SFT, and the two reward models of a share, from all rankings up to the round after these published policies."""
    folder = plan.work / f"parents-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    loop = plan.loop(folder, seed)
    sft = loop.sft(BASE)
    rounds = [ranked(loop, sft, published[:number]) for number in range(len(published) + 1)]
    random.Random(f"shares {seed}").shuffle(rounds[0])
    cut = round(share * len(rounds[0]))
    climbed = {row["prompt_id"]: number < cut for number, row in enumerate(rounds[0])}  # a prompt never changes sides
    rows = [row for of_round in rounds for row in of_round]
    for row in rows:
        climbed.setdefault(row["prompt_id"], random.Random(f"side {seed} {row['prompt_id']}").random() < share)
    own, others = ([row for row in rows if climbed[row["prompt_id"]] == side] for side in (True, False))
    draws = [random.Random(f"member {seed} {number}").choices(own, k=len(own)) for number in range(plan.members)]
    members = [reward_model(loop, sft, numbered(drawn)) for drawn in draws]
    return Models(sft, reward_model(loop, sft, own), reward_model(loop, sft, others), members)


def numbered(rankings: Sequence[Record]) -> list[Record]:
    """The rankings with ids of their own, though one may be there several times."""
    return [row | {"slate_id": f"{row['slate_id']}-{number}"} for number, row in enumerate(rankings)]


def reward_model(loop: Loop, sft: Path, rankings: list[Record]) -> Path:
    """A reward model of these rankings."""
    demonstrations = read(sft.parents[2] / "data" / "demonstrations.jsonl")
    return loop.stage("reward", {"policy": sft}, {"rankings": rankings, "demonstrations": demonstrations}, cached=True)


class Measures:
    """Scores a policy's answers to the same prompts by every measure."""

    def __init__(self, plan: Plan, models: Models, seed: int, prompts: Sequence[Prompt]) -> None:
        roles = {role: Parent(path="", manifest_sha256="") for role in EvaluationConfig.required_parents}
        fields = merged(list(plan.changes))["evaluation"] | {"draws": 1}
        self.cfg = EvaluationConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **fields)
        self.chat = Chat.load(models.sft)
        self.run = RunDirectory(plan.work / f"watch-{seed}")
        self.wanted = [(prompt, 0) for prompt in prompts]
        self.scorers = {
            name: Scorer.load(networks(models.sft, reward), self.chat, no_progress)
            for name, reward in (("climbed", models.climbed), ("watcher", models.watcher))
        }
        self.members = [Scorer.load(networks(models.sft, member), self.chat, no_progress) for member in models.members]
        self.reference = Sampler("reference", networks(models.sft, models.climbed).policy("reference"), self.chat)
        self.first = self.scores(self.reference.sample(self.wanted, self.cfg, self.run, None))

    def gold_reward(self, answers: Sequence[Answer]) -> Tensor:
        """(N,) the gold taste in standard deviations of SFT's answers from their mean: the scale of a reward model."""
        mean, spread = fmean(self.first["gold"]), stdev(self.first["gold"])
        return torch.tensor([(utility(one.messages[-1]["content"], one.text) - mean) / spread for one in answers])

    def pessimistic_reward(self, answers: Sequence[Answer]) -> Tensor:
        """(N,) the mean of the reward models' scores minus their standard deviation, in reward units."""
        scores = torch.stack([scorer.scores(answers) for scorer in [self.scorers["climbed"], *self.members]])
        return scores.mean(0) - scores.std(0, correction=0)

    def scores(self, answers: Sequence[SampledAnswer]) -> dict[str, list[float]]:
        """By measure, the score of each answer."""
        scores = {
            name: scorer.scores([one.answer for one in answers]).tolist() for name, scorer in self.scorers.items()
        }
        return scores | {"gold": [utility(one.prompt.messages[-1]["content"], one.text) for one in answers]}

    def point(self, policy: Policy, iteration: int) -> Record:
        """All figures of a policy."""
        sampler = Sampler("policy", policy, self.chat)
        answers = sampler.sample(self.wanted, self.cfg, self.run, None)
        nats = divergence(policy, self.reference.policy, self.chat, answers, self.cfg.batch_tokens, no_progress)
        kl = fmean(kl for kl, _entropy in nats)
        scores = self.scores(answers)
        line: Record = {"iteration": iteration, "kl": kl, "scores": scores}
        line |= {"length": fmean(len(one.sampled.response) for one in answers)}
        line |= {"stop_rate": fmean(one.sampled.stopped for one in answers)}
        return line | {"wins": {name: wins(scores[name], self.first[name]) for name in scores}}


def wins(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How often ours is higher; ties count half."""
    return fmean(map(win, ours, theirs))


def networks(sft: Path, reward: Path) -> ParentNetworks:
    """The networks of a PPO run with these models."""
    roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
    return networks_of(Parents(sft, reward), PPOConfig(seed=0, threads=1, dtype="fp32", parents=roles))


class Climb:
    """One PPO run, with the policy that its gauge would publish."""

    def __init__(self, plan: Plan, seed: int, share: float, published: Sequence[Path]) -> None:
        name = fingerprint(plan[1:], [str(path) for path in published])
        self.plan, self.seed, self.share, self.before = plan, seed, share, published
        self.file = plan.work / f"points-{seed}-{share}-{name}.json"
        self.published = plan.work / f"published-{seed}-{share}-{name}"

    def points(self) -> list[Record]:
        """Its points, unless it is finished."""
        if not self.file.exists():
            self.file.write_text(json.dumps(list(self._climb())))
        points: list[Record] = json.loads(self.file.read_text())
        return points

    def _climb(self) -> Iterator[Record]:
        plan, seed = self.plan, self.seed
        models = trained(plan, seed, self.share, self.before)
        loop = plan.loop(plan.work, seed)
        train = random.Random(f"probes {seed}").sample(loop.train, k=min(plan.prompts, len(loop.train)))
        asked = [*train, *loop.held_out][: 2 * plan.prompts]
        measures = Measures(plan, models, seed, [as_prompt(one) for one in asked])
        trainer = self._trainer(measures, models)
        prompts = [as_prompt(phrasing) for phrasing in loop.train]
        watch, metrics = Watch(PPOConfig.gauge_patience), dict[str, float]()
        for iteration in range(trainer.cfg.iterations + 1):
            if iteration % plan.every == 0:
                with trainer.averaged():
                    point = measures.point(trainer.policy, iteration) | {"beta": trainer.beta}
                    point |= {"clip_fraction": metrics.get("policy/clip_fraction", 0.0)}
                    print(
                        seed, len(self.before), *plan.changes, json.dumps(summary(point)), file=sys.stderr, flush=True
                    )
                    yield point
                    if not watch.has_levelled_off and watch.see(seen_by_gauge(point, plan.prompts)):
                        with sealed(self.published, no_progress) as draft:
                            save_policy(trainer.policy, measures.chat, draft)
            if iteration < trainer.cfg.iterations:
                minibatches = trainer.roll_out(prompts, iteration, no_progress)
                metrics = trainer.measure(minibatches)
                metrics |= trainer.adapt_beta(metrics["rollout/kl"]) | trainer.update(minibatches, iteration)

    def _trainer(self, measures: Measures, models: Models) -> Trainer:
        plan = self.plan
        roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
        fields = merged(list(plan.changes))["ppo"] | {"iterations": plan.iterations}
        seed = self.seed + 1000 * len(self.before)
        cfg = PPOConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **fields)
        loaded = networks(models.sft, models.climbed)
        policy, (critic, _card) = loaded.policy("policy", trains=True), loaded.reward_model(trains=True)
        rewarder = measures.pessimistic_reward if plan.members else measures.scorers["climbed"].scores
        if plan.reward == "gold":
            rewarder = measures.gold_reward
        trainer = Trainer(policy, measures.reference.policy, critic, measures.chat, rewarder, cfg, no_progress)
        if cfg.ptx_coefficient:
            demonstrations = read_demonstrations(models.sft.parents[2] / "data" / "demonstrations.jsonl")
            trainer.demonstrations = render(demonstrations, measures.chat, cfg.max_response).used
        return trainer


def seen_by_gauge(point: Record, prompts: int) -> Measured:
    """What the gauge sees of a point: the watcher's scores of the answers to train prompts, which come first."""
    return Measured(point["iteration"], point["scores"]["watcher"][:prompts])


def outcome(points: Sequence[Record], prompts: int) -> Record:
    """Where the gauge would have stopped the run, and how often gold prefers what then is published to SFT's answers.

    The gauge sees the answers to train prompts only; gold is judged on all.
    """
    watch = Watch(PPOConfig.gauge_patience)
    stop = None
    for point in points:
        watch.see(seen_by_gauge(point, prompts))
        if watch.has_levelled_off:
            stop = point["iteration"]
            break
    assert watch.best
    wins = {point["iteration"]: point["wins"]["gold"] for point in points}
    best, last = max(wins, key=lambda one: wins[one]), points[-1]["iteration"]
    found = {"stop": stop, "published": watch.best.step, "best": best, "last": last}
    return found | {f"wins_{name}": wins[found[name]] for name in ("published", "best", "last")}


def spreads(first: Record) -> Record:
    """The standard deviations of the scores of SFT's answers."""
    return {name: round(stdev(scores), 3) for name, scores in first["scores"].items()}


def summary(point: Record) -> Record:
    """A point with means in place of the scores of single answers."""
    means = {name: round(fmean(scores), 3) for name, scores in point["scores"].items()}
    return {**point, "scores": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="models and finished runs are kept here; without it, nowhere")
    parser.add_argument("--seeds", default="10,11,12,13,14")
    parser.add_argument(
        "--shares", default="0.5,0.67,0.75", help="of the rankings, for the reward model that is climbed"
    )
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, like ppo.beta=0.1")
    parser.add_argument("--rounds", type=int, default=1, help="of PPO, each with new rankings")
    parser.add_argument("--reward", choices=("learnt", "gold"), default="learnt", help="what PPO climbs")
    parser.add_argument("--members", type=int, default=0, help="of an ensemble, beside the reward model")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few small steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, shares = [int(one) for one in options.seeds.split(",")], [float(one) for one in options.shares.split(",")]
    with TemporaryDirectory() as place:
        work = options.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        sizes, changes = (options.iterations, options.every, PROMPTS), options.set
        if options.smoke:
            sizes, changes, seeds, shares = (2, 1, 4), [*SMOKE, *changes], seeds[:1], shares[:1]
        plan = Plan(work, *sizes, changes, options.reward, options.members, options.smoke)
        for seed in seeds:
            for share in shares:
                published: list[Path] = []
                for number in range(1, options.rounds + 1):
                    climb = Climb(plan, seed, share, published)
                    points = climb.points()
                    published = [*published, climb.published]
                    line = {"seed": seed, "share": share, "reward": plan.reward, "set": plan.changes, "round": number}
                    line |= {"members": plan.members, "spreads": spreads(points[0])}
                    line |= outcome(points, plan.prompts)
                    print(json.dumps(line | {"points": [summary(point) for point in points]}), flush=True)


if __name__ == "__main__":
    main()
