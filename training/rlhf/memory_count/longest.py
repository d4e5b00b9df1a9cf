"""The longest of what a run reads: what passes through a stage's networks when they need most memory."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..config import AnsweringConfig, EvaluationConfig, PPOConfig, RewardConfig, RunConfig, SamplingConfig, SFTConfig
from ..data.batching import micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import cut_to_length, some_records
from ..data.records import read_demonstrations, read_prompts, read_rankings
from ..exits import InvalidInput
from ..stages.reward import Slate, render_demonstration, render_slate, usable_demonstrations

T = TypeVar("T")


class Longest(NamedTuple):
    """Each is empty where a stage reads nothing of the kind."""

    sequences: list[Rendered] = []  # of the micro-batches that a step has at its largest
    slates: list[Slate] = []  # likewise
    prompts: list[list[int]] = []  # that are answered
    accumulates: bool = True  # the step has more micro-batches, so that there is a gradient already

    def tokens_at_once(self, batch_tokens: int) -> int:
        """The most tokens that a micro-batch holds of the `batch_tokens` that it may, padding included."""
        sizes = [one.length for one in self.sequences] + [slate.size(shares_prompt=True) for slate in self.slates]
        cuts = micro_batches(sizes, batch_tokens)
        return max(len(cut) * sizes[cut[-1]] for cut in cuts)


def of_run(run_dir: Path, cfg: RunConfig, chat: Chat) -> Callable[[Any], Longest]:
    """What a run directory's records come to under a config that cuts them no otherwise than `cfg`: read once.

    Raises InvalidInput where there are none to use.
    """
    data = run_dir / "data"
    if isinstance(cfg, SFTConfig):
        written = read_demonstrations(data / "demonstrations.jsonl")
        records = some_records(written, chat, cfg.max_response, "demonstrations")
        return partial(of_demonstrations, cut_to_length(records, chat, cfg.max_response).used)
    if isinstance(cfg, RewardConfig):
        ranked = some_records(read_rankings(data / f"{cfg.examined_records}.jsonl"), chat, cfg.max_response, "rankings")
        slates = [render_slate(slate, chat) for slate in ranked.used]
        written = usable_demonstrations(data / "demonstrations.jsonl", chat, cfg)
        return partial(of_slates, slates, [render_demonstration(one, chat) for one in written])
    if isinstance(cfg, AnsweringConfig):
        prompts = some_records(read_prompts(data / f"{cfg.examined_records}.jsonl"), chat, cfg.max_response, "prompts")
        return partial(of_prompts, [chat.prompt_ids(prompt.messages) for prompt in prompts.used])
    raise InvalidInput(f"{cfg.stage} starts from no model, so its memory is not counted", kind="config", field="stage")


def of_demonstrations(samples: Sequence[Rendered], cfg: SFTConfig) -> Longest:
    """The largest step over the longest of these samples."""
    longest = sorted(samples, key=lambda one: one.length)[-cfg.batch_size :]
    step, accumulates = largest_step(longest, lambda one: one.length, cfg.batch_tokens)
    return Longest(sequences=step, accumulates=accumulates)


def of_slates(slates: Sequence[Slate], demonstrations: Sequence[Slate], cfg: RewardConfig) -> Longest:
    """The largest step over the largest of these slates, with as many demonstrations where they are contrasted."""
    # Where a prompt is not read once, the step is cut into more micro-batches.
    size = partial(Slate.size, shares_prompt=True)
    groups = [_contrasted(slates), _contrasted(demonstrations)] if cfg.mismatch_coefficient else [slates]
    batch = [slate for group in groups for slate in sorted(group, key=size)[-cfg.batch_size :]]
    step, accumulates = largest_step(sorted(batch, key=size), size, cfg.batch_tokens)
    return Longest(slates=step, accumulates=accumulates)


def _contrasted(slates: Sequence[Slate]) -> list[Slate]:
    """Each slate with the longest answer that could be put after its prompt."""
    answer = max((slate.best.response for slate in slates), key=len, default=[])
    return [slate._replace(mismatched=[Rendered(slate.prompt, answer)]) for slate in slates]


def of_prompts(prompts: Sequence[list[int]], cfg: AnsweringConfig) -> Longest:
    """The longest of these prompts, as many as are answered, with answers as long as they may be."""
    longest = sorted(prompts, key=len)
    longest = _repeated(longest, answers(len(prompts), cfg))
    minibatch = longest[-cfg.minibatch_size :] if isinstance(cfg, PPOConfig) else longest
    rendered = [Rendered(prompt, [0] * cfg.max_response) for prompt in minibatch]
    step, accumulates = largest_step(rendered, lambda one: one.length, cfg.batch_tokens)
    return Longest(sequences=step, prompts=longest, accumulates=accumulates)


def answers(prompts: int, cfg: AnsweringConfig) -> int:
    """How many answers are written to so many prompts before their memory is free again."""
    if isinstance(cfg, PPOConfig):
        return cfg.rollout_size
    if isinstance(cfg, EvaluationConfig):
        return prompts * cfg.draws
    return prompts * cfg.k if isinstance(cfg, SamplingConfig) else prompts


def largest_step(items: Sequence[T], size: Callable[[T], int], tokens: int) -> tuple[list[T], bool]:
    """The items of the micro-batch with most in it and of that with the largest ones, and whether there are others.

    Often both are the same one. Cut again, they fall into the same.
    """
    cuts = micro_batches([size(item) for item in items], tokens)
    fullest = max(range(len(cuts)), key=lambda cut: (sum(size(items[index]) for index in cuts[cut]), cut))
    kept = sorted({fullest, len(cuts) - 1})
    if size(items[cuts[fullest][-1]]) == size(items[cuts[-1][-1]]):
        kept = [fullest]
    return [items[index] for cut in kept for index in cuts[cut]], len(cuts) > 1


def _repeated(prompts: list[list[int]], count: int) -> list[list[int]]:
    """`count` of the prompts, the longest first of all, each as often as it takes."""
    times = -(-count // len(prompts))
    return sorted(prompts * times, key=len)[-count:]
