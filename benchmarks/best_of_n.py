"""Measures reward models in the tiny world by what they pick: of n answers by SFT, the one with the highest reward.

It takes a minute where PPO takes ten, and shows the same fault: a reward that likes some answers whatever was asked
picks worse ones the more there are. On each seed a reward model is trained on a share of the 600 rankings of a round,
as in benchmarks/overoptimisation.py, whose SFT and rankings in --work are used again. Then it picks among 32 answers to
each of 96 train and 96 held-out prompts. Gold, which the engine never sees, says what the picked are worth.

Prints a JSON line for each seed: `agreement` with gold on pairs of answers to one prompt, on train and held-out
prompts; by n, `gold` of what is picked, and `wins` against a random answer; `heldout/reward_match`, how often an answer
has a higher reward than an answer to another prompt in its place. With --heads, `heads` has the same figures where
so many heads on the reward model's trunk pick, by the mean of their scores minus its spread.

    python benchmarks/best_of_n.py --work /tmp/over [--seeds 10,11,12] [--share 0.67] [--set reward.epochs=2]
    python benchmarks/best_of_n.py --smoke    # does it run at all
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.learning import Loop, merged  # noqa: E402
from benchmarks.overoptimisation import networks, reward_model  # noqa: E402
from benchmarks.quality.heads import Heads  # noqa: E402
from benchmarks.quality.parents import as_prompt, new_loop, ranked, smallest_loop  # noqa: E402
from benchmarks.quality.trajectories import no_progress  # noqa: E402
from training.rlhf.config import EvaluationConfig, Parent, RewardConfig, load_config  # noqa: E402
from training.rlhf.data.chat import Chat  # noqa: E402
from training.rlhf.networks.policy import load_policy  # noqa: E402
from training.rlhf.run.directory import RunDirectory  # noqa: E402
from training.rlhf.stages.evaluation import match_metrics  # noqa: E402
from training.rlhf.stages.sampling import SampledAnswer, Sampler  # noqa: E402
from training.rlhf.stages.scoring import Scorer  # noqa: E402
from training.tiny.gold import utility  # noqa: E402
from training.tiny.recipe import BASE  # noqa: E402

PROMPTS = 96  # of train, and as many held-out ones
PICKED_FROM = (4, 16, 32)  # answers; the most of them are sampled
EQUAL = 0.05  # gold of two answers that differ by less says nothing
SMOKE = ["sft.epochs=1", "reward.epochs=1", "sampling.k=2", "sampling.max_response=16", "evaluation.max_response=16"]

Record = dict[str, Any]


class Sizes(NamedTuple):
    """What is measured."""

    prompts: int
    picked_from: Sequence[int]
    heads: int = 0

    @property
    def answers(self) -> int:
        """To each prompt."""
        return max(self.picked_from)


def sampled(loop: Loop, sft: Path, sizes: Sizes, changes: Sequence[str]) -> list[SampledAnswer]:
    """SFT's answers, prompt by prompt: to train prompts, then to held-out ones."""
    draw = random.Random(f"asked {loop.seed}")
    asked = [as_prompt(one) for side in (loop.train, loop.held_out) for one in draw.sample(side, k=sizes.prompts)]
    roles = {role: Parent(path="", manifest_sha256="") for role in EvaluationConfig.required_parents}
    fields = merged(list(changes))["evaluation"] | {"draws": sizes.answers}
    cfg = EvaluationConfig(seed=loop.seed, threads=1, dtype="fp32", parents=roles, **fields)
    chat = Chat.load(sft)
    sampler = Sampler("reference", load_policy(sft, chat, "fp32"), chat)
    wanted = [(prompt, number) for prompt in asked for number in range(sizes.answers)]
    return sampler.sample(wanted, cfg, RunDirectory(loop.work / "answers"), None)


def agreement(scores: Tensor, gold: Tensor) -> float:
    """How often the better of two answers to a prompt has the higher score; both (prompts, answers)."""
    better = gold[:, :, None] - gold[:, None, :] > EQUAL
    higher = scores[:, :, None] > scores[:, None, :]
    return higher[better].float().mean().item()


def picked(scores: Tensor, gold: Tensor, n: int) -> Record:
    """Gold of the answers with the highest score among n, and how often they have more than the prompt's others."""
    by_n, gold_by_n = (one.view(len(one), -1, n) for one in (scores, gold))  # (prompts, answers / n, n)
    worth = gold_by_n.gather(-1, by_n.argmax(-1, keepdim=True))  # (prompts, answers / n, 1)
    against = gold[:, None, :]  # (prompts, 1, answers)
    wins = (worth > against).float().mean() + 0.5 * (worth == against).float().mean()
    return {"gold": round(worth.mean().item(), 3), "wins": round(wins.item(), 3)}


def measured(loop: Loop, share: float, sizes: Sizes, changes: Sequence[str]) -> Record:
    """The figures of one seed."""
    sft = loop.sft(BASE)
    rankings = ranked(loop, sft)
    random.Random(f"shares {loop.seed}").shuffle(rankings)
    reward = reward_model(loop, sft, rankings[: round(share * len(rankings))])
    answers = sampled(loop, sft, sizes, changes)
    scorer = Scorer.load(networks(sft, reward), Chat.load(sft), no_progress)
    rewards = scorer.scores([one.answer for one in answers])
    gold = torch.tensor([utility(one.prompt.messages[-1]["content"], one.text) for one in answers])
    gold = gold.view(-1, sizes.answers)
    line = {"mean_gold": round(gold.mean().item(), 3), **judged(rewards.view_as(gold), gold, sizes)}
    line |= match_metrics("reward", scorer, answers, rewards.tolist(), sizes.answers)
    if sizes.heads:
        line["heads"] = judged(by_heads(reward.parents[2], scorer, answers, sizes.heads).view_as(gold), gold, sizes)
    return line


def by_heads(run_dir: Path, scorer: Scorer, answers: Sequence[SampledAnswer], count: int) -> Tensor:
    """(N,) the answers' scores by an ensemble of heads on the reward model that was trained in `run_dir`."""
    cfg = load_config(run_dir / "config.json")
    assert isinstance(cfg, RewardConfig)
    heads = Heads(scorer, run_dir / "data", cfg, count)
    return heads.pessimistic([scorer.chat.rendered(*one.answer[:3]) for one in answers])


def judged(scores: Tensor, gold: Tensor, sizes: Sizes) -> Record:
    """What gold says of scores; both (prompts, answers)."""
    halves = [slice(0, sizes.prompts), slice(sizes.prompts, None)]
    return {
        "agreement": [round(agreement(scores[half], gold[half]), 3) for half in halves],
        "best_of": {n: picked(scores, gold, n) for n in sizes.picked_from},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="models and rankings are kept here; without it, nowhere")
    parser.add_argument("--seeds", default="10,11,12,13,14")
    parser.add_argument("--share", type=float, default=0.67, help="of the rankings, for the reward model")
    parser.add_argument("--heads", type=int, default=0, help="of an ensemble on the reward model's trunk")
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, like reward.epochs=2")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few small steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(one) for one in options.seeds.split(",")]
    sizes, changes = Sizes(PROMPTS, PICKED_FROM, options.heads), options.set
    if options.smoke:
        sizes, changes, seeds = Sizes(4, (2, 4), heads=2), [*SMOKE, *changes], seeds[:1]
    with TemporaryDirectory() as place:
        for seed in seeds:
            folder = (options.work or Path(place)) / f"parents-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            loop = (smallest_loop if options.smoke else new_loop)(folder, seed, changes)
            line = {"seed": seed, "share": options.share, "set": options.set}
            print(json.dumps(line | measured(loop, options.share, sizes, changes)), flush=True)


if __name__ == "__main__":
    main()
