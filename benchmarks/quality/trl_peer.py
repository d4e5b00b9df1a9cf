"""TRL's side of benchmarks/ppo_quality.py: one PPO run in TRL's own environment, which leaves checkpoints.

    python -m benchmarks.quality.trl_peer FOLDER --threads 1

FOLDER holds job.json by benchmarks/quality/trajectories.py. Checkpoints go to FOLDER/checkpoints, each named by the
iterations behind it. Prints one JSON line. Everything is fp32, as in the engine's run.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    TrainerCallback,
)

# Installed in TRL's environment only.
Dataset = import_module("datasets").Dataset

TOLERANCE = 1e-4  # of a reward, whose standard deviation is 1: batches of another shape change one by 1e-6

Job = dict[str, Any]


class GoneTooFar(Exception):
    """The policy is beyond what is judged."""


class Saver(TrainerCallback):
    """Saves the policy every so many iterations, and before the first, until it has gone too far."""

    def __init__(self, policy: PreTrainedModel, tokenizer: Any, job: Job, checkpoints: Path) -> None:
        self.policy, self.tokenizer = policy, tokenizer
        self.every, self.farthest, self.checkpoints = job["every"], job["farthest"], checkpoints
        self.is_over = False

    def on_train_begin(self, *_args: Any, **_options: Any) -> None:
        self.save(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self.save(state.global_step)
            if self.is_over:
                raise GoneTooFar

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.is_over = kwargs["logs"]["objective/kl"] > self.farthest  # nats per answer, before this iteration's update

    def save(self, iteration: int) -> None:
        for part in (self.policy, self.tokenizer):
            part.save_pretrained(self.checkpoints / f"{iteration:04}")


def scalar(directory: Path) -> PreTrainedModel:
    """The engine's reward model as a sequence classifier: (head - offset) * gain is a linear layer, too."""
    network: Any = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1, dtype=torch.float32)
    head = load_file(directory / "head.safetensors")
    network.score = nn.Linear(head["weight"].shape[1], 1)
    with torch.no_grad():
        network.score.weight.copy_(head["weight"] * head["gain"])
        network.score.bias.copy_((head["bias"] - head["offset"]) * head["gain"])
    classifier: PreTrainedModel = network
    return classifier


@torch.no_grad()
def refuse_other_rewards(reward_model: PreTrainedModel, probes: list[Job], pad_id: int) -> float:
    """The largest difference of the rewards that TRL computes from the engine's. Raises ValueError."""
    get_reward = import_module("trl.experimental.utils").get_reward
    worst = 0.0
    for probe in probes:
        ids = torch.tensor([[*probe["prompt"], *probe["response"], pad_id]])
        _all, reward, _ends = get_reward(reward_model, ids, pad_id, len(probe["prompt"]))
        worst = max(worst, abs(reward.item() - probe["reward"]))
    if not worst <= TOLERANCE:
        raise ValueError(f"the reward model gives other rewards here: off by {worst:.3g}")
    return worst


def configured(job: Job, output: str) -> Any:
    """TRL's settings, equal to the engine's where it has the same."""
    cfg = job["settings"]
    return import_module("trl.experimental.ppo").PPOConfig(
        output_dir=output,
        report_to=[],
        save_strategy="no",
        logging_steps=10**9,
        use_cpu=True,
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=False,
        seed=cfg["seed"],
        per_device_train_batch_size=cfg["rollout_size"],
        local_rollout_forward_batch_size=cfg["rollout_size"],
        num_mini_batches=cfg["rollout_size"] // cfg["minibatch_size"],
        num_ppo_epochs=job["epochs"],
        total_episodes=cfg["rollout_size"] * cfg["iterations"],
        num_sample_generations=0,
        response_length=cfg["max_response"],
        temperature=1.0,
        stop_token="eos",
        missing_eos_penalty=cfg["missing_eos_penalty"],
        learning_rate=cfg["learning_rate"],  # policy and critic have one optimiser and one rate
        lr_scheduler_type="linear",
        adam_beta1=0.9,  # as in the engine
        adam_beta2=0.95,
        adam_epsilon=1e-5,
        vf_coef=1.0,  # the networks share no weight, so this makes the critic's loss that of the engine
        kl_coef=cfg["beta"],
        cliprange=cfg["clip"],
        cliprange_value=cfg["value_clip"],
        gamma=cfg["gamma"],
        lam=cfg["lam"],
    )


def train(job: Job, folder: Path) -> Job:
    """One PPO run."""
    trl = import_module("trl")
    sft, reward = Path(job["sft"]), Path(job["reward"])
    tokenizer = AutoTokenizer.from_pretrained(sft, padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(sft, dtype=torch.float32) for _ in range(2))
    reward_model, critic = scalar(reward), scalar(reward)
    off_by = refuse_other_rewards(reward_model, job["probes"], tokenizer.pad_token_id)
    prompts = Dataset.from_list([{"input_ids": ids} for ids in job["prompts"]])
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as output, suppress(GoneTooFar):
        import_module("trl.experimental.ppo").PPOTrainer(
            args=configured(job, output),
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=reward_model.eval(),
            value_model=critic,
            train_dataset=prompts,
            eval_dataset=prompts,
            callbacks=[Saver(policy, tokenizer, job, folder / "checkpoints")],
        ).train()
    return {"trl": trl.__version__, "rewards_off_by": off_by, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Run the job in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    job = json.loads((options.folder / "job.json").read_text())
    with redirect_stdout(sys.stderr):
        result = train(job, options.folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
