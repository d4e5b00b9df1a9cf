"""Measures what a judge of other people is worth, in the tiny world, where a third of the people have a strange taste.

Six people rank the 600 sets of a round; two of them love a phrase that is worth less than nothing. On each seed the
rankings are shared between the reward model, which PPO climbs, and the independent judge in these ways:

- other prompts: a third of the prompts for the judge, whoever ranked them, as the platform does it;
- other people: of these, the judge has only what two people ranked, and the reward model only what the others did, so
  that four ninths of the rankings teach neither;
- asked apart: the same two people are asked about the judge's prompts only, and the others about the rest, so that
  nothing is lost. The judge's two are honest ones;
- a strange judge: likewise, but the judge's two are those who love the phrase.

Prints a JSON line for each way and seed, as planted_cheating.py does; what is finished in --work is used again.

    python benchmarks/judge_of_other_people.py --work /tmp/people [--seeds 10,11] [--ways "other prompts,asked apart"]
    python benchmarks/judge_of_other_people.py --smoke    # does it run at all
"""

import argparse
import itertools
import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import Loop, Record  # noqa: E402
from benchmarks.planted_cheating import HONEST, REWARD_SHARE, SMOKE, Watched, outcome, trained  # noqa: E402
from benchmarks.quality.parents import each_loop, ranked  # noqa: E402
from benchmarks.quality.tastes import CHEATS, ranked_by  # noqa: E402
from training.tiny.recipe import BASE  # noqa: E402

PEOPLE = range(6)
STRANGE = (0, 1)
TASTE = CHEATS["idle phrase"]


class Shares(NamedTuple):
    """Which of the people's rankings teach which model, of the prompts that are its own."""

    reward: tuple[int, ...]
    judge: tuple[int, ...]
    asked_apart: bool  # they ranked nothing else


WAYS = {
    "other prompts": Shares(tuple(PEOPLE), tuple(PEOPLE), asked_apart=True),
    "other people": Shares((0, 1, 2, 3), (4, 5), asked_apart=False),
    "asked apart": Shares((0, 1, 2, 3), (4, 5), asked_apart=True),
    "a strange judge": Shares((2, 3, 4, 5), STRANGE, asked_apart=True),
}


def watched(loop: Loop, shares: Shares) -> Watched:
    """SFT, a judge, and the rankings for the reward model."""
    sft = loop.sft(BASE)
    rankings = ranked(loop, sft)
    random.Random(f"shares {loop.seed}").shuffle(rankings)
    cut = round(REWARD_SHARE * len(rankings))
    reward = made_by(shares.reward, rankings[:cut], shares, loop.seed)
    judge = made_by(shares.judge, rankings[cut:], shares, loop.seed)
    return Watched(loop, sft, trained(loop, sft, "watcher", "watcher_rankings", judge), reward)


def made_by(people: tuple[int, ...], rankings: list[Record], shares: Shares, seed: int) -> list[Record]:
    """Those that `people` made, with the tastes of those who made them. All who were asked made equally many."""
    asked = itertools.cycle(people if shares.asked_apart else PEOPLE)
    kept = [(row, person) for row, person in zip(rankings, asked, strict=False) if person in people]
    usual = [row for row, person in kept if person not in STRANGE]
    return usual + ranked_by(TASTE, [row for row, person in kept if person in STRANGE], seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="finished stages are kept here; without it, nowhere")
    parser.add_argument("--seeds", default="10,11,12")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, like ppo.beta=0.1")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few small steps")
    options = parser.parse_args()
    for loop in each_loop(options, SMOKE):
        for way in options.ways.split(","):
            found = watched(loop, WAYS[way])
            line = {"way": way, "rankings": len(found.rankings), **outcome(found, HONEST)}
            del line["person"]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
