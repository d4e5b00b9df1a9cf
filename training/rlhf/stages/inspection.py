"""Some episodes of each PPO step, token by token, printed by `python -m training.rlhf inspect`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..config import load_config
from ..data.batching import Batch
from ..data.chat import Chat
from ..exits import InvalidInput
from ..json_files import replacing
from ..networks.policy import Policy, token_logprobs
from ..networks.scalar_model import ScalarModel
from ..run.manifest import errors_of_the_disk
from .rollouts import Rollout

SAMPLES = 4  # recorded of each step
COLUMNS = {
    "logprobs": "log p",
    "reference": "reference",
    "log_ratio": "KL",
    "rewards": "reward",
    "values": "value",
    "unwhitened": "advantage",
    "returns": "return",
    "advantages": "whitened",
    "new_logprobs": "new log p",  # these two only where the step was an update
    "new_values": "new value",
}
SUMMED = ("logprobs", "reference", "log_ratio", "rewards")  # columns whose sum over an answer means something

Sample = dict[str, Tensor]  # (T,) each, by name


def choose(rollouts: list[Rollout]) -> Rollout:
    """Some episodes of medium length from a minibatch, whose rollouts are sorted by length."""
    return rollouts[len(rollouts) // 2].first(SAMPLES)


@torch.no_grad()
def after_update(policy: Policy, critic: ScalarModel, batch: Batch) -> dict[str, Tensor]:
    """(B, T) each: log-probabilities in nats and values of a rollout's batch after the update, 0 outside of answers."""
    return {
        "new_logprobs": token_logprobs(policy, batch),
        "new_values": critic.values(batch) * batch.response,
    }


def record(attempt: Path, step: int, rollout: Rollout, after: Mapping[str, Tensor]) -> None:
    """Write a rollout of a step, with what `after_update` gave for it, or nothing where there was no update.

    Raises OSError.
    """
    tensors = {
        "tokens": rollout.batch.tokens,
        "attention": rollout.batch.attention,
        "response": rollout.batch.response,
        "logprobs": rollout.logprobs,
        "reference": rollout.reference_logprobs,
        "rewards": rollout.rewards,
        "values": rollout.values,
        "advantages": rollout.advantages,
        "returns": rollout.returns,
        **after,
    }
    titles = [
        f"prompt {one.prompt_id}, reward {one.reward:.4f}, {'ended' if one.stopped else 'cut'}"
        for one in rollout.episodes
    ]
    directory = attempt / "rollouts"
    directory.mkdir(exist_ok=True)
    with replacing(directory / f"step-{step:06d}.safetensors") as draft, errors_of_the_disk():
        safetensors.torch.save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            draft,
            metadata={"titles": json.dumps(titles)},
        )


def show(run_dir: Path, step: int) -> None:
    """Print the episodes of a step. Raises InvalidInput where none were recorded."""
    found = list(run_dir.glob(f"attempts/*/rollouts/step-{step:06d}.safetensors"))
    if not found:
        raise InvalidInput(f"no samples were kept for step {step} in {run_dir}", kind="no_sample", step=step)
    titles, samples = read(max(found, key=lambda path: path.stat().st_mtime))
    chat = Chat.load(run_dir / load_config(run_dir / "config.json").parents["policy"].path)
    for title, sample in zip(titles, samples, strict=True):
        print(f"step {step}, {title}")
        print("\n".join(table(sample, chat)), end="\n\n")


def read(path: Path) -> tuple[list[str], list[Sample]]:
    """The samples in a file and their titles, with the columns that follow from those in the file."""
    with safetensors.safe_open(path, "pt") as recorded:
        titles: list[str] = json.loads(recorded.metadata()["titles"])
        whole = {name: recorded.get_tensor(name) for name in recorded.keys()}  # noqa: SIM118 (not a dictionary)
    whole["log_ratio"] = whole["logprobs"] - whole["reference"]
    whole["unwhitened"] = whole["returns"] - whole["values"]
    return titles, [{name: tensor[row] for name, tensor in whole.items()} for row in range(len(titles))]


def table(sample: Sample, chat: Chat) -> Iterator[str]:
    """The lines that show a sample: the prompt, a row for each answer token, and sums over the answer."""
    tokens, response = sample["tokens"], sample["response"]
    yield f"after {chat.tokenizer.decode(tokens[sample['attention'] & ~response].tolist())!r}"
    pieces = [repr(chat.tokenizer.decode([token])) for token in tokens[response].tolist()]
    width = max(len(piece) for piece in pieces)
    columns = {name: sample[name][response].tolist() for name in COLUMNS if name in sample}
    yield f"{'token':{width}}" + "".join(f"{COLUMNS[name]:>11}" for name in columns)
    for piece, *numbers in zip(pieces, *columns.values(), strict=True):
        yield f"{piece:{width}}" + "".join(f"{number:11.4f}" for number in numbers)
    yield f"{'sum':{width}}" + "".join(f"{sum(columns[name]):11.4f}" for name in SUMMED)
