"""Our side of benchmarks/engine.py: one measurement in a process of its own, through the stages' public functions.

    python -m benchmarks.speed.ours FOLDER --threads 1 [--profile]

FOLDER holds what benchmarks/speed/work.py wrote. Prints one JSON line.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.profiling import Clock, peak_mib, profile
from training.rlhf import seeding
from training.rlhf.config import Parent, PPOConfig, RunConfig
from training.rlhf.data.batching import epoch_batches
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Prompt
from training.rlhf.networks.policy import Policy, load_policy
from training.rlhf.networks.scalar_model import ScalarModel, scalar_from_policy
from training.rlhf.stages import ppo, reward, rollouts, sampling, sft
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.scoring import Scorer

DTYPE, BATCH_TOKENS = RunConfig.dtype, RunConfig.batch_tokens  # what a user gets
LEARNING_RATE = 1e-5
MINIBATCH = 16  # episodes

Job = dict[str, Any]
Step = Callable[[], int]  # does one step; returns how many units of the job's rate it did


def nothing() -> None:
    """Nobody waits for a report of progress."""


class Models:
    """The job's model in its roles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "model"
        self.chat = Chat.load(self.folder)

    def policy(self) -> Policy:
        """A policy of its own."""
        return load_policy(self.folder, self.chat, DTYPE)

    def scalar(self) -> ScalarModel:
        """A reward model or critic of its own."""
        return scalar_from_policy(self.policy(), DTYPE, seeding.generator(0, "reward"))

    def scorer(self) -> Scorer:
        """A reward model in use."""
        return Scorer(self.scalar(), self.chat, BATCH_TOKENS, nothing)


def batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    """Random batches without end."""
    for epoch in count():
        for batch in epoch_batches(len(rows), size, seeding.generator(0, "batches", epoch)):
            yield [rows[index] for index in batch]


def sft_step(job: Job, models: Models, clock: Clock) -> Step:
    """All tokens but a text's first are its answer, since TRL trains those, too."""
    policy = models.policy()
    learner = Learner(policy, "policy")
    texts = batches([Rendered(ids[:1], ids[1:]) for ids in job["rows"]], job["batch"])
    train_step = clock.timed("update", sft.train_step)

    def step() -> int:
        batch = next(texts)
        train_step(policy, learner, batch, LEARNING_RATE, models.chat.pad_id, BATCH_TOKENS, nothing)
        return sum(text.length for text in batch)

    return step


def reward_step(job: Job, models: Models, clock: Clock) -> Step:
    scorer = models.scorer()
    learner = Learner(scorer.model, "reward")
    places = list(range(1, job["completions"] + 1))
    slates = [
        reward.Slate([Rendered(row["prompt"], answer) for answer in row["completions"]], [places])
        for row in job["rows"]
    ]
    rankings = batches(slates, job["rankings"])
    train_step = clock.timed("update", reward.train_step)

    def step() -> int:
        train_step(scorer, learner, next(rankings), LEARNING_RATE)
        return int(job["pairs"])

    return step


def ppo_trainer(job: Job, models: Models) -> tuple[ppo.Trainer, list[Prompt]]:
    """The networks of PPO, and the prompts of an iteration."""
    roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
    cfg = PPOConfig(
        seed=0,
        parents=roles,
        iterations=1000,
        rollout_size=len(job["rows"]),
        minibatch_size=MINIBATCH,
        max_response=job["new_tokens"],
        learning_rate=LEARNING_RATE,
        value_learning_rate=LEARNING_RATE,
    )
    scorer, critic = models.scorer(), models.scalar()
    trainer = ppo.Trainer(models.policy(), models.policy(), critic, models.chat, scorer.scores, cfg, nothing)
    prompts = [
        Prompt(id=str(number), messages=[{"role": "user", "content": models.chat.decode(ids)}])
        for number, ids in enumerate(job["rows"])
    ]
    return trainer, prompts


def ppo_step(job: Job, models: Models, clock: Clock) -> Step:
    return ppo_iterations(*ppo_trainer(job, models), clock)


def ppo_iterations(trainer: ppo.Trainer, prompts: list[Prompt], clock: Clock) -> Step:
    """An iteration on these prompts, without what is kept for people to read."""
    rollouts.generate = clock.timed("generate", sampling.generate)  # type: ignore[attr-defined]  # it imports the name
    roll_out, update = clock.timed("score", trainer.roll_out), clock.timed("update", trainer.update)
    numbers = count()

    def step() -> int:
        iteration = next(numbers)
        minibatches = roll_out(prompts, iteration, nothing)
        trainer.measure(minibatches)
        update(minibatches, iteration)
        return len(prompts)

    return step


def generation_step(job: Job, models: Models, clock: Clock) -> Step:
    policy = models.policy()
    prompts = [ids for ids in job["rows"] for _ in range(job["samples"])]
    generate = clock.timed("generate", sampling.generate)
    numbers = count()

    def step() -> int:
        number = next(numbers)
        generators = [seeding.generator(0, "generation", number, sample=row) for row in range(len(prompts))]
        answers = generate(policy, models.chat, prompts, generators, job["new_tokens"], BATCH_TOKENS, nothing)
        return sum(len(answer.response) for answer in answers)

    return step


STEPS: dict[str, Callable[[Job, Models, Clock], Step]] = {
    "sft": sft_step,
    "reward": reward_step,
    "ppo": ppo_step,
    "generation": generation_step,
}


def measure(job: Job, step: Step) -> Job:
    """Units per second and per second of computing in the timed steps, and the most memory that was held."""
    warm_up, timed = job["ours"]
    for _ in range(warm_up):
        step()
    began, computed = time.perf_counter(), time.process_time()
    units = sum(step() for _ in range(timed))
    wall, cpu = time.perf_counter() - began, time.process_time() - computed
    return {"rate": units / wall, "cpu_rate": units / cpu, "peak_mib": peak_mib()}


def main() -> None:
    """Measure the job in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    job = json.loads((options.folder / "job.json").read_text())
    clock = Clock()
    step = STEPS[job["stage"]](job, Models(options.folder), clock)
    print(json.dumps(profile(job, step, clock) if options.profile else measure(job, step)))


if __name__ == "__main__":
    main()
