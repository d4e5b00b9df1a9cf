"""What benchmarks of PPO start from: an SFT policy, rankings of its answers and a reward model."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.learning import Loop, Record, fingerprint
from training.rlhf import seeding
from training.rlhf.__main__ import main
from training.rlhf.config import Parent, trunk_role
from training.rlhf.data.chat import Chat
from training.rlhf.data.records import Prompt
from training.rlhf.model_folder.adapter_files import is_adapter
from training.rlhf.networks.policy import load_policy
from training.rlhf.networks.scalar_model import save_reward, scalar_from_policy
from training.rlhf.run.manifest import manifest_sha256
from training.rlhf.stages.scoring import Answer, Scorer
from training.tiny import preset
from training.tiny.annotators import Behaviour
from training.tiny.corpus import question
from training.tiny.demo import SHUFFLE
from training.tiny.recipe import BASE, is_held_out
from training.tiny.world import Phrasing


class Parents(NamedTuple):
    """Model directories."""

    sft: Path  # the policy to begin with, and the reference
    reward: Path  # the reward model, and the critic to begin with

    def in_config(self) -> dict[str, Parent]:
        """PPO's parents as a config names them; where they are adapters, the shipped base model is their trunk."""
        roles = {"policy": self.sft, "reference": self.sft, "reward": self.reward}
        roles |= {trunk_role(role): BASE for role, path in roles.items() if is_adapter(path)}
        return {role: Parent(path=str(path), manifest_sha256=manifest_sha256(path)) for role, path in roles.items()}


class LoopInProcess(Loop):
    """A loop whose stages run in this process: where they have little to do, a start would take most of the time."""

    def run(self, stage: str, run_dir: Path) -> int:
        return main([stage, str(run_dir)])


def new_loop(
    work: Path,
    seed: int,
    changes: Sequence[str] = (),
    slates: int = preset.SLATES_PER_ROUND,
    kind: type[Loop] = Loop,
) -> Loop:
    """The stages of `make demo` without a server, one thread each, with changes like ppo.beta=0.1."""
    options = {"seed": seed, "threads": 1, "slates": slates, "set": list(changes)}
    behaviour = {"noise": Behaviour.noise, "shuffle": SHUFFLE}
    return kind(work, argparse.Namespace(**options, **behaviour))


def each_loop(
    options: argparse.Namespace, smoke: Sequence[str], make: Callable[..., Loop] = new_loop
) -> Iterator[Loop]:
    """A loop for each of a benchmark's `--seeds`, made in `--work`; with `--smoke`, the smallest one of the first."""
    seeds = [int(one) for one in options.seeds.split(",")][: 1 if options.smoke else None]
    with TemporaryDirectory() as place:
        for seed in seeds:
            work = (options.work or Path(place)) / str(seed)
            work.mkdir(parents=True, exist_ok=True)
            yield smallest_loop(work, seed, [*smoke, *options.set]) if options.smoke else make(work, seed, options.set)


def smallest_loop(work: Path, seed: int, changes: Sequence[str]) -> Loop:
    """One that is through in seconds."""
    loop = new_loop(work, seed, changes, slates=20, kind=LoopInProcess)
    loop.held_out = loop.held_out[:20]
    return loop


def trained(work: Path, seed: int, changes: Sequence[str] = ()) -> Parents:
    """SFT from the shipped base model on demonstrations, and a reward model from rankings of its answers."""
    marker = work / f"parents-{seed}"
    if not marker.exists():
        loop = new_loop(work, seed, changes)
        sft = loop.sft(BASE)
        loop.sample(1, {"policy": sft, "parent": BASE})
        marker.write_text(f"{sft}\n{loop.reward_model(1, sft)}")
    sft_directory, reward_directory = marker.read_text().split("\n")
    return Parents(Path(sft_directory), Path(reward_directory))


def ranked(loop: Loop, sft: Path, published: Sequence[Path] = ()) -> list[Record]:
    """The rankings of train prompts of the round after these policies: answers of the last one, or of SFT.

    What is finished is used again.
    """
    file = loop.work / f"rankings-{fingerprint([str(path) for path in published])}.json"
    if not file.exists():
        loop.rankings = []
        parents = {"policy": published[-1], "parent": sft} if published else {"policy": sft, "parent": BASE}
        loop.sample(len(published) + 1, parents)
        file.write_text(json.dumps([row for row in loop.rankings if not is_held_out(row["prompt_id"])]))
    rankings: list[Record] = json.loads(file.read_text())
    return rankings


def untrained(work: Path) -> Parents:
    """The shipped base model, and a reward model on its trunk with a random head: enough to see that all runs."""
    chat = Chat.load(BASE)
    model = scalar_from_policy(load_policy(BASE, chat, "fp32"), "fp32", seeding.generator(0, "reward"))
    reward = work / "reward"
    reward.mkdir()
    answers = [Answer(as_prompt(phrasing).messages, "Please help.", True) for phrasing in new_loop(work, 0).train[:2]]
    save_reward(model, chat, reward, Scorer(model, chat, 8192, lambda: None).card(answers))
    return Parents(BASE, reward)


def as_prompt(phrasing: Phrasing) -> Prompt:
    """A question of the tiny world as the engine reads it."""
    return Prompt(id=phrasing.group, messages=question(phrasing))
