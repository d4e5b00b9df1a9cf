"""Some samples of a PPO step, token by token: kept with every step, printed by `python -m training.rlhf inspect`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from ..config import load_config
from ..data.chat import Chat
from ..exits import InvalidInput
from .rollouts import Rollout

SAMPLES = 4  # kept of each step
COLUMNS = {
    "logprobs": "log p",
    "reference": "reference",
    "log_ratio": "KL",
    "rewards": "reward",
    "values": "value",
    "unwhitened": "advantage",
    "returns": "return",
    "advantages": "whitened",
    "new_logprobs": "new log p",  # these two only where the step has learnt
    "new_values": "new value",
}
SUMMED = ("logprobs", "reference", "log_ratio", "rewards")  # whose sum over an answer says something

Sample = dict[str, Tensor]  # (T,) each, by name


def choose(rollouts: list[Rollout]) -> Rollout:
    """Some episodes of middling length among a minibatch."""
    return rollouts[len(rollouts) // 2].first(SAMPLES)  # a minibatch is cut by length, the shortest first


def record(attempt: Path, step: int, rollout: Rollout, after: Mapping[str, Tensor]) -> None:
    """Keep a rollout of a step, and what was said of it `after` the update."""
    tensors = {
        "tokens": rollout.batch.tokens,
        "attention": rollout.batch.attention,
        "response": rollout.batch.response,
        "logprobs": rollout.logprobs,
        "reference": rollout.reference,
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
    safetensors.torch.save_file(
        {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
        directory / f"step-{step:06d}.safetensors",
        metadata={"titles": json.dumps(titles)},
    )


def show(run_dir: Path, step: int) -> None:
    """Print the samples of a step. Raises InvalidInput where none were kept."""
    found = list(run_dir.glob(f"attempts/*/rollouts/step-{step:06d}.safetensors"))
    if not found:
        raise InvalidInput(f"no sample of step {step} was kept in {run_dir.name}", kind="no_sample", step=step)
    titles, samples = read(max(found, key=lambda path: path.stat().st_mtime))
    chat = Chat.load(run_dir / load_config(run_dir / "config.json").parents["policy"].path)
    for title, sample in zip(titles, samples, strict=True):
        print(f"step {step}, {title}")
        print("\n".join(table(sample, chat)), end="\n\n")


def read(path: Path) -> tuple[list[str], list[Sample]]:
    """The samples in a file, each with its title, and with what follows from the numbers that were kept."""
    with safetensors.safe_open(path, "pt") as kept:
        titles: list[str] = json.loads(kept.metadata()["titles"])
        whole = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 (not a dictionary)
    whole["log_ratio"] = whole["logprobs"] - whole["reference"]
    whole["unwhitened"] = whole["returns"] - whole["values"]
    return titles, [{name: tensor[row] for name, tensor in whole.items()} for row in range(len(titles))]


def table(sample: Sample, chat: Chat) -> Iterator[str]:
    """The lines that show a sample: the prompt, a row for each answer token, and what the rows add up to."""
    tokens, response = sample["tokens"], sample["response"]
    yield f"after {chat.tokenizer.decode(tokens[sample['attention'] & ~response].tolist())!r}"
    pieces = [repr(chat.tokenizer.decode([token])) for token in tokens[response].tolist()]
    width = max(len(piece) for piece in pieces)
    columns = {name: sample[name][response].tolist() for name in COLUMNS if name in sample}
    yield f"{'token':{width}}" + "".join(f"{COLUMNS[name]:>11}" for name in columns)
    for piece, *numbers in zip(pieces, *columns.values(), strict=True):
        yield f"{piece:{width}}" + "".join(f"{number:11.4f}" for number in numbers)
    yield f"{'sum':{width}}" + "".join(f"{sum(columns[name]):11.4f}" for name in SUMMED)
