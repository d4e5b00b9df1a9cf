"""Measures a round with LoRA adapters beside one that trains all weights: gold wins at the same KL, in the tiny world.

On each seed both sides get the same demonstrations and train SFT, a reward model from rankings of that SFT's answers,
and PPO, all of them with adapters or all of them whole. KL is that from a side's own SFT; wins are those against the
answers of the SFT that trained all weights, on both sides. Prints a JSON line for each run, and one for each KL: the
mean difference in wins over the seeds, its standard error, and whether adapters come within two of them. What is
finished in --work is used again.

    python benchmarks/lora_quality.py --work /tmp/lora [--seeds 20,21,22,23,24] [--rank 16]
    python benchmarks/lora_quality.py --smoke    # does it run at all
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.learning import merged  # noqa: E402
from benchmarks.quality.comparison import ALLOWED, crossing, error  # noqa: E402
from benchmarks.quality.judging import Judge, gold_by_prompt  # noqa: E402
from benchmarks.quality.parents import Parents, as_prompt, new_loop, trained  # noqa: E402
from benchmarks.quality.trajectories import Trajectory, networks_of, ours  # noqa: E402
from training.rlhf.config import EvaluationConfig, Parent, PPOConfig  # noqa: E402
from training.rlhf.data.chat import Chat  # noqa: E402

FULL, LORA = "full", "lora"
NATS = (0.5, 0.75)  # per answer; on the seed that the rates were chosen on, adapters end at 0.87
EVERY = 4  # iterations between two judgements
RATES = {"sft": 2e-3, "reward": 2e-3, "ppo": 1e-3}  # peak learning rates of adapters; of PPO, for both networks
SMOKE = ["sft.epochs=1", "reward.epochs=1", "ppo.iterations=4", "ppo.rollout_size=8", "ppo.minibatch_size=4"]
SMOKE += ["ppo.max_response=16", "sampling.k=2", "sampling.max_response=16", "evaluation.max_response=16"]
SMOKE_PROMPTS = 8

Record = dict[str, Any]


class Plan(NamedTuple):
    """What is run."""

    work: Path
    seeds: Sequence[int]
    rank: int
    changes: Sequence[str]  # of the tiny preset, on both sides, like ppo.beta=0.1
    prompts: int | None  # held-out ones that are judged; None for all

    def settings(self, side: str) -> list[str]:
        """The changes on a side. Those that are asked for come last."""
        if side == FULL:
            return [*self.changes]
        rates = [f"{stage}.learning_rate={rate}" for stage, rate in RATES.items()]
        ranks = [f"{stage}.adapter_rank={self.rank}" for stage in RATES]
        return [*rates, f"ppo.value_learning_rate={RATES['ppo']}", *ranks, *self.changes]


def trajectory(plan: Plan, seed: int, side: str) -> Trajectory:
    """One round, unless it is finished."""
    file = plan.work / f"{side}-{seed}.json"
    if not file.exists():
        folder, settings = plan.work / side, plan.settings(side)
        folder.mkdir(exist_ok=True)
        prompts = [as_prompt(phrasing) for phrasing in new_loop(folder, seed).train]
        roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
        cfg = PPOConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **merged(settings)["ppo"])
        parents = trained(folder, seed, settings)
        points = ours(parents, prompts, judge_of(plan, seed, folder, parents, cfg), cfg, EVERY)
        file.write_text(json.dumps(Trajectory(side, seed, cfg.beta, points).to_json()))
    return Trajectory.read(file)


def judge_of(plan: Plan, seed: int, folder: Path, parents: Parents, cfg: PPOConfig) -> Judge:
    """Judges by the KL from a side's own SFT, and by wins against the SFT that trained all weights."""
    roles = {role: Parent(path="", manifest_sha256="") for role in EvaluationConfig.required_parents}
    fields = merged(list(plan.changes))["evaluation"]
    evaluation = EvaluationConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **fields)
    held_out = [as_prompt(phrasing) for phrasing in new_loop(folder, seed).held_out][: plan.prompts]
    reference, chat = networks_of(parents, cfg).policy("reference"), Chat.load(parents.sft)
    judge = Judge(folder / f"judge-{seed}", reference, chat, held_out, evaluation, max(NATS))
    rival = judge.load(trained(plan.work / FULL, seed, plan.settings(FULL)).sft)
    judge.reference_gold = gold_by_prompt(
        judge.reference._replace(policy=rival).sample(judge.wanted, evaluation, judge.run, None)
    )
    return judge


def compared(trajectories: Sequence[Trajectory], nats: float) -> Record:
    """The wins of both sides at this KL, over the seeds on which both get there."""
    found = {(one.side, one.seed): crossing(one.points, nats) for one in trajectories}
    pairs = {
        seed: (adapted, full)
        for (side, seed), adapted in found.items()
        if side == LORA and adapted and (full := found[FULL, seed])
    }
    line: Record = {"nats": nats, "seeds": [*pairs]}
    if not pairs:
        return line
    gaps = [adapted.wins - full.wins for adapted, full in pairs.values()]
    line |= {"lora_wins": fmean(one.wins for one, _ in pairs.values())}
    line |= {"full_wins": fmean(one.wins for _, one in pairs.values())}
    line |= {"lora_gold": fmean(fmean(one.gold) for one, _ in pairs.values())}
    line |= {"full_gold": fmean(fmean(one.gold) for _, one in pairs.values())}
    line |= {"difference": fmean(gaps), "by_seed": gaps, "error": error(gaps)}
    return line | {"within": fmean(gaps) >= -ALLOWED * line["error"] if line["error"] else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="models and finished runs are kept here; without it, nowhere")
    parser.add_argument("--seeds", default="20,21,22,23,24")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--set", action="append", default=[], help="a setting of both sides, like ppo.beta=0.1")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few small steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in options.seeds.split(",")][: 1 if options.smoke else None]
    changes, prompts = ([*SMOKE, *options.set], SMOKE_PROMPTS) if options.smoke else (options.set, None)
    with TemporaryDirectory() as place:
        work = options.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        plan = Plan(work, seeds, options.rank, changes, prompts)
        finished = [trajectory(plan, seed, side) for seed in seeds for side in (FULL, LORA)]
        for one in finished:
            points = [
                {name: value for name, value in point._asdict().items() if name != "gold"} for point in one.points
            ]
            print(json.dumps(one.to_json() | {"points": points}))
        for nats in NATS:
            print(json.dumps(compared(finished, nats)))


if __name__ == "__main__":
    main()
