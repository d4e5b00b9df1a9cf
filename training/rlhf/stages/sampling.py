"""Answers drawn from a policy, and the stage that draws the slates people rank next.

Always at temperature 1 and from the whole vocabulary: any truncation would make the recorded log-probability that of
another distribution. Each answer has its own row of uniform numbers, so it does not depend on what it is batched with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import seeding
from ..config import EvaluationConfig, SamplingConfig
from ..data.batching import collate, micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import fitting_prompts
from ..data.records import Prompt, SampledCompletion, write
from ..limits import gap_of, refuse_sampler_gap, require_finite
from ..logprobs import token_logprobs
from ..networks.decoding import Decoding
from ..networks.networks import Policy, device, load_policy
from ..run.directory import RunDirectory
from .scoring import Answer, Scorer

TOUCH_EVERY = 32  # decoded tokens
COMPARED = 8  # answers whose tokens the training forward reads again
REDRAWS = 4  # of a completion that says the same as another one of its slate


class Sampled(NamedTuple):
    """An answer as it was drawn."""

    response: list[int]  # up to and including the stop id, where there is one
    logprobs: list[float]  # nats, of each of these tokens when it was drawn
    stopped: bool


def unasked(answers: int) -> None:
    """For who does not ask how far the answers are."""


def generate(
    policy: Policy,
    chat: Chat,
    prompts: Sequence[list[int]],
    draws: Sequence[torch.Generator],
    max_response: int,
    batch_tokens: int,
    touch: Callable[[], None],
    finished: Callable[[int], None] = unasked,
) -> list[Sampled]:
    """One answer of at most `max_response` tokens to each prompt, in their order, by its own draw.

    `finished` is told of so many more answers after each batch.
    """
    answers: dict[int, Sampled] = {}
    uniforms = torch.stack([seeding.uniforms(max_response, draw) for draw in draws])  # (N, R) float64
    for indices in micro_batches([len(prompt) + max_response for prompt in prompts], batch_tokens):
        drawn = _generate_batch(policy, chat, [prompts[index] for index in indices], uniforms[indices], touch)
        answers.update(zip(indices, drawn, strict=True))
        touch()
        finished(len(indices))
    return [answers[index] for index in range(len(prompts))]


@torch.no_grad()
def _generate_batch(
    policy: Policy, chat: Chat, prompts: Sequence[list[int]], uniforms: Tensor, touch: Callable[[], None]
) -> list[Sampled]:
    place = device()
    uniforms = uniforms.to(place)  # (N, R)
    stop_ids = torch.tensor(sorted(chat.stop_ids), device=place)
    drawn = torch.zeros(uniforms.shape, dtype=torch.int64, device=place)  # (N, R)
    logprobs = torch.zeros(uniforms.shape, device=place)  # (N, R) nats
    decoding = Decoding(policy, prompts, chat.pad_id)
    rows = torch.arange(len(prompts), device=place)  # (B,) the answers not ended yet
    lengths = torch.full((len(prompts),), uniforms.shape[1], device=place)  # (N,)
    for column in range(uniforms.shape[1]):
        distribution = decoding.next_logits().log_softmax(dim=-1)  # (B, V)
        chosen = inverse_cdf(distribution, uniforms[rows, column])  # (B,)
        drawn[rows, column] = chosen
        logprobs[rows, column] = distribution.gather(1, chosen[:, None]).squeeze(1)
        ended = torch.isin(chosen, stop_ids)  # (B,)
        lengths[rows[ended]] = column + 1
        if column % TOUCH_EVERY == TOUCH_EVERY - 1:
            touch()
        going = (~ended).nonzero().squeeze(1)
        if not len(going):
            break
        decoding.append(chosen, going)
        rows = rows[going]
    require_finite(logprobs, "the policy's logits", "logits_not_finite")
    return _collect(drawn, logprobs, lengths, chat)


def inverse_cdf(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """(B,) ids: where the cumulative probabilities of `logprobs` (B, V) first exceed `uniforms` (B,)."""
    cumulative = logprobs.double().exp().cumsum(dim=-1)  # (B, V)
    target = uniforms[:, None] * cumulative[:, -1:]  # (B, 1), below the last one whatever it sums to
    return torch.searchsorted(cumulative, target, right=True).squeeze(1).clamp(max=logprobs.shape[1] - 1)


def _collect(drawn: Tensor, logprobs: Tensor, lengths: Tensor, chat: Chat) -> list[Sampled]:
    answers = []
    for ids, nats, length in zip(drawn.tolist(), logprobs.tolist(), lengths.tolist(), strict=True):
        answers.append(Sampled(ids[:length], nats[:length], ids[length - 1] in chat.stop_ids))
    return answers


class Draw(NamedTuple):
    """An answer of one of a run's policies, named by its role among the parents, to a prompt."""

    role: str
    prompt: Prompt
    number: int  # among the answers to this prompt
    sampled: Sampled
    text: str

    @property
    def answer(self) -> Answer:
        """What a reward is given for."""
        return Answer(self.prompt.messages, self.text, self.sampled.stopped)

    def row(self, reward: float | None, kl: float | None = None) -> SampledCompletion:
        """The answer as it leaves the engine."""
        return SampledCompletion(
            prompt_id=self.prompt.id,
            index=self.number,
            policy=self.role,
            text=self.text,
            n_tokens=len(self.sampled.response),
            logprob=sum(self.sampled.logprobs),
            reward=reward,
            finish_reason="stop" if self.sampled.stopped else "length",
            kl=kl,
        )


class Progress:
    """How far a stage is that answers `prompts`, with so many `answers` to be drawn in all."""

    def __init__(self, run: RunDirectory, prompts: int, answers: int) -> None:
        self._run = run
        self._prompts, self._answers, self._drawn = prompts, answers, 0

    def advance(self, answers: int) -> None:
        """So many more answers are there; the prompts are done in the same proportion."""
        self._drawn += answers
        self._run.log(self._prompts * self._drawn // self._answers, self._prompts, {})


class Writer(NamedTuple):
    """A policy of a run, by its role among the parents. Each role has random numbers of its own."""

    role: str
    policy: Policy
    chat: Chat

    def draw(
        self,
        wanted: Sequence[tuple[Prompt, int]],
        cfg: SamplingConfig | EvaluationConfig,
        run: RunDirectory,
        finished: Callable[[int], None],
        redraw: int = 0,
    ) -> list[Draw]:
        """The answer with this number to each prompt."""
        run.phases.enter("working", "answers")
        stream = f"{cfg.stage}/{self.role}"
        draws = [seeding.generator(cfg.seed, stream, redraw, prompt.id, number) for prompt, number in wanted]
        ids = [self.chat.prompt_ids(prompt.messages) for prompt, _ in wanted]
        touch = run.touch_or_leave
        sampled = generate(self.policy, self.chat, ids, draws, cfg.max_response, cfg.batch_tokens, touch, finished)
        self._compare(ids[:COMPARED], sampled[:COMPARED])
        return [
            Draw(self.role, prompt, number, one, self.chat.decode(one.response))
            for (prompt, number), one in zip(wanted, sampled, strict=True)
        ]

    @torch.no_grad()
    def _compare(self, prompts: Sequence[list[int]], sampled: Sequence[Sampled]) -> None:
        """Raises Diverged where the training forward gives these answers other probabilities than the sampler did."""
        for prompt, one in zip(prompts, sampled, strict=True):
            batch = collate([Rendered(prompt, one.response)], self.chat.pad_id, device())
            read = token_logprobs(self.policy, batch)[batch.response]
            gap = gap_of(torch.tensor(one.logprobs, device=read.device), read)
            refuse_sampler_gap(gap, bf16=self.policy.bf16)


Slates = dict[str, dict[int, Draw]]  # by prompt id and number


def sample(run: RunDirectory, cfg: SamplingConfig) -> None:
    """The stage: a slate of K different completions for each prompt; of fewer or none where policies repeat themselves.

    Three quarters, rounded up, come from the newest policy, the rest from its parent where there is one.
    """
    chat = Chat.load(run.parent(cfg, "policy"))
    intake = fitting_prompts(run, "prompts", chat, cfg.max_response)
    prompts = intake.used
    run.resume()
    run.log(0, len(prompts), intake.metrics())
    progress = Progress(run, len(prompts), len(prompts) * cfg.k)
    slates: Slates = {prompt.id: {} for prompt in prompts}
    for role, numbers in numbers_by_role(cfg).items():
        writer = load_writer(run, cfg, role, chat)
        for redraw in range(REDRAWS + 1):
            wanted = [(prompt, number) for prompt in prompts for number in numbers if number not in slates[prompt.id]]
            if wanted:
                # What is drawn again is no progress.
                keep_new(writer.draw(wanted, cfg, run, unasked if redraw else progress.advance, redraw), slates)
    kept = [slate[number] for slate in slates.values() if len(slate) > 1 for number in sorted(slate)]
    rewards: list[float | None] = [None] * len(kept)
    if "reward" in cfg.parents and kept:
        scorer = Scorer.load(run.parent(cfg, "reward"), chat, cfg, run.touch_or_leave)
        rewards = scorer.scores([draw.answer for draw in kept]).tolist()
    metrics = {"sampling/slates": len({draw.prompt.id for draw in kept}), "sampling/completions": len(kept)}
    run.log(len(prompts), len(prompts), metrics)
    with run.output() as directory:
        rows = [draw.row(reward) for draw, reward in zip(kept, rewards, strict=True)]
        write(directory / "completions.jsonl", rows)


def numbers_by_role(cfg: SamplingConfig) -> dict[str, range]:
    """Which completions of a slate each policy writes."""
    if "parent" not in cfg.parents:
        return {"policy": range(cfg.k)}
    from_policy = -(-3 * cfg.k // 4)
    shares = {"policy": range(from_policy), "parent": range(from_policy, cfg.k)}
    return {role: numbers for role, numbers in shares.items() if numbers}


def load_writer(run: RunDirectory, cfg: SamplingConfig | EvaluationConfig, role: str, chat: Chat) -> Writer:
    """The policy in this role. Raises InvalidInput where it does not speak `chat`."""
    directory = run.parent(cfg, role)
    chat.refuse_other(Chat.load(directory), role)
    return Writer(role, load_policy(directory, chat, cfg.dtype), chat)


def keep_new(draws: Sequence[Draw], slates: Slates) -> None:
    """Put each answer into its slate, unless that says the same already."""
    for draw in draws:
        slate = slates[draw.prompt.id]
        if all(draw.text != other.text for other in slate.values()):
            slate[draw.number] = draw
