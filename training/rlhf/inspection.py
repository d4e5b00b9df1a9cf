"""One sample of a PPO step, token by token: kept with every step, printed by `python -m training.rlhf inspect`."""

import json
from collections.abc import Iterator
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from .chat import Chat
from .config import load_config
from .exits import InvalidInput
from .rollouts import Rollout

SAMPLES = 4  # kept of each step
HEADINGS = ("log prob", "reference", "KL", "reward", "value", "advantage")


def record(attempt: Path, step: int, rollouts: list[Rollout]) -> None:
    """Keep some samples of middling length of a step."""
    rollout = rollouts[len(rollouts) // 2]  # a minibatch is cut by length, the shortest first
    tensors: dict[str, Tensor] = {
        "tokens": rollout.batch.tokens,
        "attention": rollout.batch.attention,
        "response": rollout.batch.response,
        "logprobs": rollout.logprobs,
        "reference": rollout.reference,
        "rewards": rollout.rewards,
        "values": rollout.values,
        "advantages": rollout.advantages,
    }
    prompt_ids = [episode.prompt_id for episode in rollout.episodes[:SAMPLES]]
    directory = attempt / "rollouts"
    directory.mkdir(exist_ok=True)
    safetensors.torch.save_file(
        {name: tensor[:SAMPLES].contiguous().cpu() for name, tensor in tensors.items()},
        directory / f"step-{step:06d}.safetensors",
        metadata={"prompt_ids": json.dumps(prompt_ids)},
    )


def show(run_dir: Path, step: int) -> None:
    """Print the first sample of a step. Raises InvalidInput where none was kept."""
    found = list(run_dir.glob(f"attempts/*/rollouts/step-{step:06d}.safetensors"))
    if not found:
        raise InvalidInput(f"no sample of step {step} was kept in {run_dir.name}")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    with safetensors.safe_open(newest, "pt") as kept:
        prompt_id = json.loads(kept.metadata()["prompt_ids"])[0]
        sample = {name: kept.get_tensor(name)[0] for name in kept.keys()}  # noqa: SIM118 (not a dictionary)
    chat = Chat.load(run_dir / load_config(run_dir / "config.json").parents["policy"].path)
    print(f"step {step}, prompt {prompt_id}")
    print("\n".join(table(sample, chat)))


def table(sample: dict[str, Tensor], chat: Chat) -> Iterator[str]:
    """The lines that show a sample: the prompt, a row for each answer token, and what the rows add up to."""
    tokens, response = sample["tokens"], sample["response"]
    yield f"after {chat.tokenizer.decode(tokens[sample['attention'] & ~response].tolist())!r}"
    pieces = [repr(chat.tokenizer.decode([token])) for token in tokens[response].tolist()]
    width = max(len(piece) for piece in pieces)
    logprobs, reference, rewards, values, advantages = (
        sample[name][response] for name in ("logprobs", "reference", "rewards", "values", "advantages")
    )
    log_ratio = logprobs - reference
    yield f"{'token':{width}}" + "".join(f"{heading:>11}" for heading in HEADINGS)
    rows = zip(pieces, logprobs, reference, log_ratio, rewards, values, advantages, strict=True)
    for piece, *numbers in rows:
        yield f"{piece:{width}}" + "".join(f"{number:11.4f}" for number in numbers)
    sums = (column.sum() for column in (logprobs, reference, log_ratio, rewards))
    yield f"{'sum':{width}}" + "".join(f"{number:11.4f}" for number in sums)
