"""Every stage on one model: rates, arithmetic and memory. A part of benchmarks/gpu.py, in a process of its own.

    python -m benchmarks.device.stages FOLDER SHAPE [--small]

SFT, reward model, PPO and generation run through the functions that their stages call, on random texts, without
checkpoints. Sampling and evaluation run as whole stages in run directories, loading and writing included.
"""

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device.lines import Record, emit, peak_memory
from benchmarks.device.models import SHAPES, Texts, write_model
from benchmarks.speed.ours import STEPS, Job, Models, Step, nothing, ppo_iterations, ppo_trainer
from benchmarks.speed.profiling import SPANS, Clock
from benchmarks.speed.work import Work, job_of
from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import run_attempt
from training.rlhf.data.records import Prompt, read_completions
from training.rlhf.networks.policy import token_logprobs
from training.rlhf.stages import ppo
from training.rlhf.stages.rollouts import flat

TIMED_S = 3.0  # of every measurement, and a step more
LONGEST_QUOTE = 300  # characters
NEVER = (0, 0)  # steps of a peer: there is none

WORKS = {
    "sft": Work("sft", "tokens/s", NEVER, NEVER, answer=(64, 512)),
    "reward": Work("reward", "pairs/s", NEVER, NEVER, 4, rankings=16, prompt=(64, 256), answer=(32, 256)),
    "ppo": Work("ppo", "episodes/s", NEVER, NEVER, prompt=(64, 256)),
    "generation": Work("generation", "new tokens/s", NEVER, NEVER, prompt=(64, 256)),
}
SMALL_WORKS = {
    name: work._replace(prompt=(4, 8), answer=(4, 8), rankings=min(work.rankings, 2)) for name, work in WORKS.items()
}
ROWS = (1, 64, 256)  # that are decoded at a time


class Part:
    """The measurements of one model."""

    def __init__(self, folder: Path, shape: str, *, small: bool) -> None:
        self.shape, self.folder, self.small = shape, folder, small
        self.models = Models(folder)
        self.timed_s = 0.2 if small else TIMED_S
        self.new_tokens = 4 if small else 128

    def job(self, name: str) -> Job:
        """What a stage has to do."""
        work = (SMALL_WORKS if self.small else WORKS)[name]
        return job_of(work, SHAPES[self.shape].vocabulary) | {"new_tokens": self.new_tokens}

    def emit(self, measurement: str, make: Callable[[], Record]) -> None:
        """Print what `make` measured, with the peak of memory meanwhile, and free what it held."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            line = make()
        except Exception as error:  # of any kind: the next measurement is still made
            line = {"failed": f"{type(error).__name__}: {str(error)[:LONGEST_QUOTE]}"}
        deterministic = torch.are_deterministic_algorithms_enabled()
        emit(measurement, shape=self.shape, deterministic=deterministic, **line, **peak_memory())

    def rate(self, job: Job, step: Step) -> Record:
        """Units per second of steps that have warmed up, and how fast they computed."""
        step()
        with FlopCounterMode(display=False) as counter:
            counted = step()
        steps = units = 0
        began = synchronized()
        while (seconds := synchronized() - began) < self.timed_s:
            units += step()
            steps += 1
        tflop = counter.get_total_flops() / counted * units / 1e12
        rate = {"unit": job["unit"], "rate": units / seconds, "steps": steps, "seconds_per_step": seconds / steps}
        return rate | {"tflop_per_s": tflop / seconds}

    def training(self, name: str) -> Record:
        """SFT or the reward model."""
        job = self.job(name)
        return self.rate(job, STEPS[name](job, self.models, Clock()))

    def ppo(self) -> Record:
        """PPO, how its time is spent, and how exact its first step is."""
        job, clock = self.job("ppo"), Clock()
        trainer, prompts = ppo_trainer(job, self.models)
        first_step = exactness(trainer, prompts)
        step = ppo_iterations(trainer, prompts, clock)
        step()
        clock.seconds = dict.fromkeys(SPANS, 0.0)
        line = self.rate(job, step)
        together = sum(clock.seconds.values())
        shares = {f"share_{span}": seconds / together for span, seconds in clock.seconds.items()}
        return line | shares | first_step

    def generation(self, rows: int) -> Record:
        """Decoding in slots of so many rows at a time."""
        job = self.job("generation")
        job["rows"] = (job["rows"] * (rows // len(job["rows"]) + 1))[:rows]
        line = self.rate(job, STEPS["generation"](job, self.models, Clock()))
        return {"rows": rows, **line, "ms_per_token_of_a_row": 1000 * line["seconds_per_step"] / self.new_tokens}

    def whole_stage(self, stage: str, roles: list[str], prompts: str, **options: Any) -> Record:
        """A stage that samples, in a run directory of its own."""
        count, words = (2, 2) if self.small else (32, 60)
        run = write_run(
            self.folder / stage,
            stage,
            parents=dict.fromkeys(roles, self.models.folder),
            data={prompts: Texts(words, words).prompts(count)},
            dtype="auto",
            max_response=self.new_tokens,
            **options,
        )
        began = synchronized()
        run_attempt(stage, run)
        seconds = synchronized() - began
        completions = read_completions(run / "attempts/1/output/completions.jsonl")
        tokens = sum(one.n_tokens for one in completions)
        return {"unit": "new tokens/s", "rate": tokens / seconds, "seconds": seconds, "answers": len(completions)}


def exactness(trainer: ppo.Trainer, prompts: list[Prompt]) -> Record:
    """How far the sampler is from the training forward pass, and the ratio of the first step from 1."""
    minibatches = trainer.roll_out(prompts, 0, nothing)
    ratios = torch.cat(
        [
            (token_logprobs(trainer.policy, one.batch).detach() - one.logprobs)[one.batch.response].exp()
            for one in flat(minibatches)
        ]
    )
    return {
        "bf16": trainer.policy.bf16,
        "sampler_gap": trainer.measure(minibatches)["rollout/sampler_gap"],
        "largest_distance_of_ratio_from_1": (ratios - 1).abs().max().item(),
    }


def synchronized() -> float:
    """Seconds on a clock, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(part: Part) -> None:
    """All measurements, the most wanted first."""
    on_gpu = torch.cuda.is_available()
    torch.use_deterministic_algorithms(on_gpu, warn_only=True)  # as in a run
    part.emit("sft", lambda: part.training("sft"))
    part.emit("reward", lambda: part.training("reward"))
    part.emit("ppo", part.ppo)
    for rows in ROWS[:2] if part.small else ROWS:
        part.emit("generation", partial(part.generation, rows))
    if on_gpu:  # how much slower a run is because its sums have to be the same every time
        torch.use_deterministic_algorithms(False)
        part.emit("sft", lambda: part.training("sft"))
        part.emit("generation", partial(part.generation, ROWS[1]))
    part.emit("sampling", lambda: part.whole_stage("sampling", ["policy"], "prompts"))
    part.emit("evaluation", lambda: part.whole_stage("evaluation", ["policy", "reference"], "heldout_prompts"))


def main() -> None:
    """Write a model of the shape and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    began = synchronized()
    write_model(options.folder / "model", SHAPES[options.shape])
    emit("model written", shape=options.shape, seconds=synchronized() - began)
    measure(Part(options.folder, options.shape, small=options.small))


if __name__ == "__main__":
    main()
