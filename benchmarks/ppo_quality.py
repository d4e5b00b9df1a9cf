"""Measures what PPO makes of a policy, side by side with TRL: gold utility at the same KL from SFT, in the tiny world.

On each seed both sides start from one SFT policy, which is the reference, too, and from one reward model, which is the
first critic, too; both get the same prompts, episodes and settings. TRL's trainer runs once with one epoch over each
rollout, as ours does, and once with the four that are its default. Policies are judged after every four passes by the
same code (benchmarks/quality/judging.py). Prints a JSON line for each run and for each KL, beta and number of epochs,
and tables, the last of the comparisons that decide. What is finished in --work is used again, so that seeds and sides
can run at once. With a beta of 0.2 a run ends at little more than 1 nat; with 0.02 it passes 3.

    python benchmarks/ppo_quality.py --work /tmp/quality [--seeds 20,21,22] [--betas 0.02,0] [--sides ours]
    python benchmarks/ppo_quality.py --smoke    # does our side run at all
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.engine import VENV, Peer  # noqa: E402
from benchmarks.learning import merged  # noqa: E402
from benchmarks.quality import comparison  # noqa: E402
from benchmarks.quality.judging import Judge  # noqa: E402
from benchmarks.quality.parents import Parents, as_prompt, new_loop, trained, untrained  # noqa: E402
from benchmarks.quality.trajectories import OURS, Trajectory, of_peer, ours  # noqa: E402
from training.rlhf.config import EvaluationConfig, Parent, PPOConfig  # noqa: E402
from training.rlhf.data.chat import Chat  # noqa: E402
from training.rlhf.networks.policy import load_policy  # noqa: E402

EPOCHS = {"trl-1": 1, "trl-4": 4}  # of TRL over each rollout
SIDES = (OURS, *EPOCHS)
EVERY = 4  # passes over a rollout between two judgements
# One pass over each rollout, as TRL's smaller number of epochs has it; whatever the preset comes to.
SETTINGS = {"iterations": 40, "rollout_size": 64, "epochs": 1, "learning_rate": 5e-4, "value_learning_rate": 5e-4}
SMOKE: dict[str, Any] = {"iterations": 4, "rollout_size": 8, "minibatch_size": 4, "max_response": 16}
SMOKE_PROMPTS = 8


class Plan(NamedTuple):
    """What is run."""

    work: Path
    seeds: Sequence[int]
    betas: Sequence[float]
    sides: Sequence[str]
    peer: Peer  # installed where one of the sides is TRL's
    farthest: float  # nats per answer from SFT, beyond which a run ends
    smoke: bool


def ppo_config(seed: int, beta: float, *, smoke: bool) -> PPOConfig:
    """The tiny preset with the settings and the penalty of the comparison. Its KL limit does not apply."""
    roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
    fields = merged([])["ppo"] | SETTINGS | {"beta": beta} | (SMOKE if smoke else {})
    return PPOConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **fields)


def judge_of(plan: Plan, seed: int, side: str, parents: Parents) -> Judge:
    """The judge of a seed, with the held-out prompts; for each side the same."""
    roles = {role: Parent(path="", manifest_sha256="") for role in EvaluationConfig.required_parents}
    fields = merged([])["evaluation"] | ({"max_response": SMOKE["max_response"]} if plan.smoke else {})
    cfg = EvaluationConfig(seed=seed, threads=1, dtype="fp32", parents=roles, **fields)
    held_out = [as_prompt(phrasing) for phrasing in new_loop(plan.work, seed).held_out]
    folder = plan.work / f"judge-{side}-{seed}"
    chat = Chat.load(parents.sft)
    reference = load_policy(parents.sft, chat, cfg.dtype)
    return Judge(folder, reference, chat, held_out[: SMOKE_PROMPTS if plan.smoke else None], cfg, plan.farthest)


def trajectory(plan: Plan, seed: int, side: str, beta: float) -> Trajectory:
    """One PPO run, unless it is finished."""
    file = plan.work / f"{side}-{seed}-{beta}.json"
    if not file.exists():
        parents = untrained(plan.work) if plan.smoke else trained(plan.work, seed)
        prompts = [as_prompt(phrasing) for phrasing in new_loop(plan.work, seed).train]
        judge, cfg = judge_of(plan, seed, side, parents), ppo_config(seed, beta, smoke=plan.smoke)
        if side == OURS:
            points = ours(parents, prompts, judge, cfg, EVERY)
        else:
            folder = file.with_suffix("")
            epochs = EPOCHS[side]
            points = of_peer(plan.peer, epochs, parents, prompts, judge, cfg, EVERY // epochs, folder)
        file.write_text(json.dumps(Trajectory(side, seed, beta, points).to_json()))
    return Trajectory.read(file)


def show(plan: Plan, finished: Sequence[Trajectory]) -> None:
    """The way of each run; every comparison, and as a table those that decide."""
    for one in finished:
        points = [{name: value for name, value in point._asdict().items() if name != "gold"} for point in one.points]
        print(json.dumps(one.to_json() | {"points": points}))
    if plan.sides != SIDES:
        return
    lines = [
        comparison.compared(finished, beta, nats, peer)
        for nats in comparison.NATS
        for beta in plan.betas
        for peer in EPOCHS
    ]
    decisive = comparison.verdicts(lines, len(plan.seeds))
    for line in lines:
        print(json.dumps(line | {"decides": line in decisive}))
    print(*comparison.table(lines), "", *comparison.table(decisive), sep="\n")


def numbers(text: str) -> list[float]:
    """The numbers of a list with commas."""
    return [float(part) for part in text.split(",")]


def seeds(text: str) -> list[int]:
    """The seeds of a list with commas."""
    return [int(part) for part in text.split(",")]


def sides(text: str) -> tuple[str, ...]:
    """The sides of a list with commas, in the order of SIDES."""
    chosen = text.split(",")
    if unknown := set(chosen) - set(SIDES):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(SIDES)}")
    return tuple(side for side in SIDES if side in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="models and finished runs are kept here; without it, nowhere")
    parser.add_argument("--seeds", type=seeds, default=[20, 21, 22])
    parser.add_argument("--betas", type=numbers, default=[0.02, 0.0])
    parser.add_argument("--sides", type=sides, default=SIDES, help=f"some of {','.join(SIDES)}")
    parser.add_argument("--farthest", type=float, default=max(comparison.NATS), help="runs end beyond this KL, nats")
    parser.add_argument("--venv", type=Path, default=VENV, help="the folder into which TRL is installed")
    parser.add_argument("--smoke", action="store_true", help="our side alone, two iterations with untrained models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.smoke:
        options.seeds, options.betas, options.sides = options.seeds[:1], options.betas[:1], (OURS,)
    peer = Peer(options.venv)
    if set(options.sides) & set(EPOCHS):
        peer.install()
    with TemporaryDirectory() as place:
        work = options.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        plan = Plan(work, options.seeds, options.betas, options.sides, peer, options.farthest, options.smoke)
        runs = [(seed, side, beta) for seed in plan.seeds for side in plan.sides for beta in plan.betas]
        show(plan, [trajectory(plan, *run) for run in runs])


if __name__ == "__main__":
    main()
