"""TRL's side of benchmarks/engine.py: one measurement in a process of its own, in TRL's own environment.

    python trl_peer.py FOLDER --threads 1

FOLDER holds what benchmarks/speed/work.py wrote. Prints one JSON line. TRL runs without gradient checkpointing, with
SFT batches of similar length, and in bf16 where the CPU multiplies in it, all of which is faster on a CPU; its PPO
knows neither of the first two. Its rankings are pairs in random order. Sampling is that of transformers, with fp32 or
bf16 weights and the dynamic or the static cache, whichever is the fastest.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    TrainerCallback,
)

# Installed in TRL's environment only.
Dataset = import_module("datasets").Dataset

BF16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
DTYPES = (torch.float32, torch.bfloat16)
CACHES = ("dynamic", "static")
LEARNING_RATE = 1e-5
MINIBATCHES = 4

Job = dict[str, Any]


class Rate(NamedTuple):
    """Units per second."""

    rate: float
    cpu_rate: float  # per second that the process computed, whatever else the machine did


class Stopwatch(TrainerCallback):
    """When the trainer's steps ended: by the wall clock, and by the time that the process has computed."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_args: Any, **_options: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


class Side:
    """TRL with a job."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.model = str(folder / "model")
        self.job = job
        self.warm_up, self.timed = job["peer"]
        self.stopwatch = Stopwatch()
        self.tokenizer = AutoTokenizer.from_pretrained(self.model, padding_side="left")
        self.trl = import_module("trl")

    def causal(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        return network

    def scalar(self) -> PreTrainedModel:
        options: Job = {"num_labels": 1, "dtype": torch.float32}
        network: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(self.model, **options)
        return network

    def options(self, output: str) -> Job:
        """What all trainers are given."""
        return {
            "output_dir": output,
            "report_to": [],
            "save_strategy": "no",
            "logging_steps": 10**9,
            "use_cpu": True,
            "disable_tqdm": True,
            "learning_rate": LEARNING_RATE,
            "gradient_checkpointing": False,
            "bf16": BF16,
            "seed": 0,
        }

    def trainer_arguments(self, rows: list[Job]) -> Job:
        return {
            "train_dataset": Dataset.from_list(rows),
            "processing_class": self.tokenizer,
            "callbacks": [self.stopwatch],
        }

    def sft(self, output: str) -> Rate:
        """Real tokens."""
        cfg = self.trl.SFTConfig(
            max_steps=self.warm_up + self.timed,
            per_device_train_batch_size=self.job["batch"],
            train_sampling_strategy="group_by_length",
            **self.options(output),
        )
        rows = [{"input_ids": ids} for ids in self.job["rows"]]
        trainer = self.trl.SFTTrainer(model=self.causal(), args=cfg, **self.trainer_arguments(rows))
        collate, tokens = trainer.data_collator, []

        def counting(examples: list[Job]) -> Any:
            tokens.append(sum(len(example["input_ids"]) for example in examples))
            return collate(examples)

        trainer.data_collator = counting
        trainer.train()
        return self.rate_of(sum(tokens[self.warm_up : self.warm_up + self.timed]))

    def reward(self, output: str) -> Rate:
        """Pairs."""
        cfg = self.trl.RewardConfig(
            max_steps=self.warm_up + self.timed,
            per_device_train_batch_size=self.job["pairs"] // self.job["peer_parts"],
            gradient_accumulation_steps=self.job["peer_parts"],
            **self.options(output),
        )
        rows = [
            {"chosen_ids": row["prompt"] + better, "rejected_ids": row["prompt"] + worse}
            for row in self.job["rows"]
            for better, worse in combinations(row["completions"], 2)
        ]
        self.trl.RewardTrainer(model=self.scalar(), args=cfg, **self.trainer_arguments(rows)).train()
        return self.rate_of(self.job["pairs"] * self.timed)

    def ppo(self, output: str) -> Rate:
        """Episodes."""
        module = import_module("trl.experimental.ppo")
        episodes = len(self.job["rows"])
        cfg = module.PPOConfig(
            per_device_train_batch_size=episodes,
            num_mini_batches=MINIBATCHES,
            num_ppo_epochs=1,
            total_episodes=episodes * (self.warm_up + self.timed),
            response_length=self.job["new_tokens"],
            temperature=1.0,
            stop_token="eos",
            local_rollout_forward_batch_size=episodes,
            num_sample_generations=0,
            **self.options(output),
        )
        arguments = self.trainer_arguments([{"input_ids": ids} for ids in self.job["rows"]])
        models = {"model": self.causal(), "ref_model": self.causal()}
        models |= {"reward_model": self.scalar(), "value_model": self.scalar()}
        module.PPOTrainer(args=cfg, **models, eval_dataset=arguments["train_dataset"], **arguments).train()
        return self.rate_of(episodes * self.timed)

    def generation(self, _output: str) -> Rate:
        """New tokens, the end token included and what follows it left out."""
        networks = {dtype: self.causal(dtype).eval() for dtype in DTYPES}
        prompts = self.tokenizer.pad({"input_ids": self.job["rows"]}, return_tensors="pt")
        options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "max_new_tokens": self.job["new_tokens"]}
        options |= {"num_return_sequences": self.job["samples"], "pad_token_id": self.tokenizer.pad_token_id}

        def generate(dtype: torch.dtype, cache: str) -> int:
            sequences = networks[dtype].generate(**prompts, **options, cache_implementation=cache)
            answers = sequences[:, prompts["input_ids"].shape[1] :]  # (N, R)
            ended = (answers == self.tokenizer.eos_token_id).cumsum(dim=1)  # (N, R) end tokens so far
            return int(((ended == 0) | ((ended == 1) & (answers == self.tokenizer.eos_token_id))).sum())

        return max(self.repeat(partial(generate, *choice)) for choice in product(DTYPES, CACHES))

    def repeat(self, step: Callable[[], int]) -> Rate:
        units = 0
        for number in range(self.warm_up + self.timed):
            done = step()
            self.stopwatch.on_step_end()
            units += done if number >= self.warm_up else 0
        rate = self.rate_of(units)
        self.stopwatch.ends.clear()
        return rate

    def rate_of(self, units: int) -> Rate:
        """Of that many units between the last step of the warm-up and the last one."""
        (began, computed), (ended, computed_in_all) = self.stopwatch.ends[self.warm_up - 1], self.stopwatch.ends[-1]
        return Rate(units / (ended - began), units / (computed_in_all - computed))


def peak_mib() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Measure the job in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    job = json.loads((options.folder / "job.json").read_text())
    side = Side(options.folder, job)
    with tempfile.TemporaryDirectory() as output, redirect_stdout(sys.stderr):
        rate = getattr(side, job["stage"])(output)
    print(json.dumps({**rate._asdict(), "peak_mib": peak_mib(), "trl": side.trl.__version__}))


if __name__ == "__main__":
    main()
