"""Measures whether the independent judge notices reward models that cheat, in the tiny world.

On each seed two thirds of the ranked prompts are ranked by a person with a strange taste, or by an honest one, and
teach the reward model that PPO climbs. The rankings of the other third are honest, and teach the watcher. All sizes are
those of `make demo`. Prints a JSON line for each person and seed: how often the watcher preferred what the reward model
picks, whether PPO began, after how many iterations it stopped early, and how often the published policy's answers to
held-out prompts have more gold than SFT's. What is finished in --work is used again.

    python benchmarks/planted_cheating.py --work /tmp/cheating [--seeds 10,11,12] [--people length,shuffled]
    python benchmarks/planted_cheating.py --work /tmp/talkative --talkative [--set ppo.trial_answers=0]
    python benchmarks/planted_cheating.py --smoke    # does it run at all
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import Loop, Record, StageFailed, prompt, read  # noqa: E402
from benchmarks.quality.parents import each_loop, new_loop, ranked  # noqa: E402
from benchmarks.quality.tastes import CHEATS, TalkativeLoop, ranked_by  # noqa: E402
from training.rlhf import endings  # noqa: E402
from training.tiny import figures  # noqa: E402
from training.tiny.recipe import BASE  # noqa: E402

REWARD_SHARE = 2 / 3  # of the rankings
HONEST = "honest"
CURVES = ("reward", "watcher", "kl")
SMOKE = ["sft.epochs=1", "reward.epochs=1", "watcher.epochs=1", "sampling.k=2", "sampling.max_response=8"]
SMOKE += ["ppo.iterations=2", "ppo.rollout_size=8", "ppo.minibatch_size=4", "ppo.max_response=8", "ppo.gauge_every=1"]
SMOKE += ["ppo.gauge_prompts=8", "ppo.trial_answers=0", "evaluation.draws=1", "evaluation.max_response=8"]
# A run of a minute, in which honest improvement is beyond noise by the second measurement. Its reward models learn from
# rankings alone: answers to other prompts would teach also those that cheat something right.
SMALL = ["sft.epochs=2", "sampling.k=5", "sampling.max_response=72", "reward.epochs=2", "watcher.epochs=2"]
SMALL += ["ppo.iterations=8", "ppo.gauge_every=3", "ppo.gauge_patience=2", "ppo.gauge_prompts=64"]
SMALL += ["ppo.rollout_size=64", "ppo.epochs=1", "ppo.beta=0.1"]
SMALL += ["ppo.learning_rate=0.001", "ppo.value_learning_rate=0.0005"]
SMALL += ["ppo.kl_limit=100.0", "reward.mismatch_coefficient=0", "watcher.mismatch_coefficient=0"]
SMALL += ["ppo.trial_answers=8", "ppo.max_response=72", "evaluation.draws=1"]


def talkative_loop(work: Path, seed: int, changes: Sequence[str] = ()) -> Loop:
    """A small one of people who often say little in many words."""
    loop = new_loop(work, seed, [*SMALL, *changes], slates=180, kind=TalkativeLoop)
    loop.held_out = loop.held_out[:120]
    return loop


class Watched(NamedTuple):
    """What all people of a seed have in common."""

    loop: Loop
    sft: Path
    watcher: Path
    rankings: list[Record]  # honest ones, of the prompts that are not the watcher's


def prepare(loop: Loop) -> Watched:
    """SFT, rankings of its answers, and a watcher from a part of them."""
    sft = loop.sft(BASE)
    rankings = ranked(loop, sft)
    random.Random(f"shares {loop.seed}").shuffle(rankings)
    cut = round(REWARD_SHARE * len(rankings))
    return Watched(loop, sft, trained(loop, sft, "watcher", "watcher_rankings", rankings[cut:]), rankings[:cut])


def trained(loop: Loop, sft: Path, stage: str, name: str, rankings: list[Record]) -> Path:
    """A reward model of these rankings, or a watcher."""
    demonstrations = read(sft.parents[2] / "data" / "demonstrations.jsonl")
    return loop.stage(stage, {"policy": sft}, {name: rankings, "demonstrations": demonstrations}, cached=True)


def outcome(watched: Watched, person: str) -> Record:
    """PPO with the reward model of a person: whether it began, when it stopped early, and what it published.

    `curve` has the reward model's mean score of the answers to the same prompts, the watcher's, and the KL, by step.
    """
    loop, sft = watched.loop, watched.sft
    rankings = watched.rankings if person == HONEST else ranked_by(CHEATS[person], watched.rankings, loop.seed)
    reward = trained(loop, sft, "reward", "rankings", rankings)
    parents = {"policy": sft, "reference": sft, "reward": reward, "watcher": watched.watcher}
    line = {"seed": loop.seed, "person": person}
    try:
        policy = loop.stage("ppo", parents, {"prompts": [prompt(one) for one in loop.train]}, cached=True)
    except StageFailed as failed:
        ending = endings.read(failed.run_dir / "attempts" / "1")
        if ending.get("kind") != "reward_not_confirmed":
            raise
        return line | {"began": False, "trial": ending["numbers"]["win_rate"], "ending": ending}
    logged = read(policy.parent / "metrics.jsonl")
    steps = {one["step"]: one["metrics"] for one in logged if "gauge/watcher" in one["metrics"]}
    last = logged[-1]["step"]
    line |= {"began": True, "trial": steps[0].get("gauge/trial_win_rate")}
    line |= {"stopped": last if last < loop.fields["ppo"]["iterations"] else None}
    line |= {"is_beyond_kl_limit": last not in steps, "published": steps[max(steps)]["gauge/best_step"]}
    line |= {"curve": {step: [metrics[f"gauge/{name}"] for name in CURVES] for step, metrics in steps.items()}}
    return line | wins(loop, {"policy": policy, "reference": sft, "watcher": watched.watcher})


def wins(loop: Loop, parents: dict[str, Path]) -> Record:
    """How often gold and the watcher prefer the policy's answers to held-out prompts to those of SFT; KL in nats."""
    records = {"heldout_prompts": [prompt(phrasing) for phrasing in loop.held_out]}
    output = loop.stage("evaluation", parents, records, cached=True)
    judged = figures.read_answers(output / "completions.jsonl", loop.questions)
    gold = [figures.utilities(figures.of_policy(judged, name)) for name in ("policy", "reference")]
    by_gold, metrics = figures.win_rate(*gold), read(output.parent / "metrics.jsonl")[-1]["metrics"]
    line = {"wins": by_gold.value, "wins_error": by_gold.error}
    return line | {"watcher_wins": metrics["watcher/win_rate"], "kl": metrics["heldout/kl"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="finished stages are kept here; without it, nowhere")
    parser.add_argument("--seeds", default="10,11,12")
    parser.add_argument("--people", default=",".join([*CHEATS, HONEST]))
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, like ppo.beta=0.1")
    parser.add_argument("--talkative", action="store_true", help="the small runs in which long answers are worse")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few small steps")
    options = parser.parse_args()
    for loop in each_loop(options, SMOKE, talkative_loop if options.talkative else new_loop):
        watched = prepare(loop)
        for person in options.people.split(","):
            print(json.dumps(outcome(watched, person)), flush=True)


if __name__ == "__main__":
    main()
