"""Sampling of answers from a policy, and the stage that samples the slates people rank next.

Each answer has its own row of uniform random numbers, so it does not depend on what it is batched with. Left out on
purpose: any other temperature than 1, top-k and top-p. They would make the recorded log-probability that of another
distribution.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ranks, seeding
from ..config import EvaluationConfig, SamplingConfig
from ..data.batching import collate
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import usable_prompts
from ..data.records import Prompt, SampledCompletion, write
from ..limits import refuse_sampler_gap, require_finite, sampler_gap
from ..networks.decoding import new_decoding, rows_that_fit
from ..networks.parents import ParentNetworks
from ..networks.policy import Policy, token_logprobs
from ..run.directory import RunDirectory
from .scoring import Answer, Scorer

PROGRESS_EVERY = 32  # decoded tokens
PROGRESS_PARTS = 100  # of all answers, each of which is told when it has ended
READ_AT_ONCE = 16_384  # tokens of prompts
JOIN_SHARE = 8  # prompts join once an eighth of the rows is free, since reading a few takes nearly as long as many
COMPARED = 8  # answers whose log-probabilities are compared with those of the training forward pass
BLOCK = 64  # ids of the vocabulary
LARGEST_SHARE = 1 - 2**-50
REDRAWS = 4  # of a completion whose text is that of another one of its slate


class SampledTokens(NamedTuple):
    """The token ids of an answer as they were sampled."""

    response: list[int]  # up to and including the stop id, where there is one
    logprobs: list[float]  # nats, of each of these tokens when it was sampled
    stopped: bool


@torch.no_grad()
def generate(
    policy: Policy,
    chat: Chat,
    prompts: Sequence[list[int]],
    generators: Sequence[torch.Generator],
    max_response: int,
    cache_mb: int,
    report_progress: Callable[[], None],
    on_sampled: Callable[[int], None] | None = None,
) -> list[SampledTokens]:
    """One answer of at most `max_response` tokens to each prompt, in their order, each by its own generator.

    As many are decoded at a time as a cache of `cache_mb` MB holds; as answers end, others begin. `on_sampled` is
    called now and then with the number of answers that ended since. Raises Diverged where the logits are not finite.
    """
    sampler = policy.for_sampling()  # where ranks copy a sharded policy, also of those without a prompt
    if not prompts:
        return []
    uniforms = torch.stack([seeding.uniforms(max_response, one) for one in generators])
    answers = _Answers(chat, uniforms.to(policy.device))
    _decode(sampler, answers, prompts, max_response, cache_mb, report_progress, on_sampled)
    return answers.collect()


@torch.inference_mode()  # a twentieth quicker than no_grad: most operators of a step are small
def _decode(
    sampler: Policy,
    answers: "_Answers",
    prompts: Sequence[list[int]],
    max_response: int,
    cache_mb: int,
    report_progress: Callable[[], None],
    on_sampled: Callable[[int], None] | None,
) -> None:
    """Draw all answers; see `generate`."""
    # Prompts that are equal join together, and rows that are decoded together have similar lengths.
    waiting = deque(sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), prompts[index])))
    width = max(map(len, prompts)) + max_response
    most_rows = min(len(prompts), rows_that_fit(sampler, width, cache_mb))
    decoding = new_decoding(sampler, most_rows, width, answers.chat.pad_id)
    rows = torch.arange(0, device=sampler.device)  # (A,): the answers that are decoded
    steps = ended_since = 0
    while waiting or len(rows):
        if waiting and decoding.room >= min(len(waiting), max(1, most_rows // JOIN_SHARE)):
            joining = first_waiting(waiting, decoding.room, prompts)
            decoding.join([prompts[index] for index in joining])
            rows = torch.cat([rows, torch.tensor(joining, device=sampler.device)])
        chosen, going = answers.draw(rows, decoding.next_logits())
        decoding.append(chosen, going)
        steps, ended_since = steps + 1, ended_since + len(rows) - len(going)
        rows = rows[going]
        if steps % PROGRESS_EVERY == 0:
            report_progress()
        if on_sampled and (ended_since * PROGRESS_PARTS >= len(prompts) or not (waiting or len(rows))):
            on_sampled(ended_since)
            ended_since = 0


def first_waiting(waiting: deque[int], room: int, prompts: Sequence[list[int]]) -> list[int]:
    """Take the first of those that wait, as many as there is room for and as are read at once."""
    taken = [waiting.popleft()]
    read = len(prompts[taken[0]])
    while waiting and len(taken) < room and (read := read + len(prompts[waiting[0]])) <= READ_AT_ONCE:
        taken.append(waiting.popleft())
    return taken


class _Answers:
    """N answers of at most R tokens as they are drawn, each by its row of uniform random numbers (N, R)."""

    def __init__(self, chat: Chat, uniforms: Tensor) -> None:
        self.chat, self._uniforms = chat, uniforms
        self._stop_ids = torch.tensor(sorted(chat.stop_ids), device=uniforms.device)
        self._tokens = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)  # (N, R)
        self._logprobs = torch.zeros(uniforms.shape, device=uniforms.device)  # (N, R) nats
        self._lengths = torch.zeros(len(uniforms), dtype=torch.int64, device=uniforms.device)  # (N,) so far

    def draw(self, rows: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens (A,) of the answers `rows` (A,) from their logits (A, V), and which of the A rows go on."""
        probabilities = logits.softmax(dim=-1)  # (A, V)
        columns = self._lengths[rows]  # (A,)
        chosen = inverse_cdf(probabilities, self._uniforms[rows, columns])  # (A,)
        self._tokens[rows, columns] = chosen
        self._logprobs[rows, columns] = probabilities.gather(1, chosen[:, None]).squeeze(1).log()
        self._lengths[rows] = columns + 1
        ended = torch.isin(chosen, self._stop_ids) | (columns + 1 == self._uniforms.shape[1])
        return chosen, (~ended).nonzero().squeeze(1)

    def collect(self) -> list[SampledTokens]:
        """All answers. Raises Diverged where one was drawn from logits that are not finite."""
        require_finite(self._logprobs, "the policy's logits", "logits_not_finite")
        columns = zip(self._tokens.tolist(), self._logprobs.tolist(), self._lengths.tolist(), strict=True)
        return [
            SampledTokens(ids[:length], nats[:length], ids[length - 1] in self.chat.stop_ids)
            for ids, nats, length in columns
        ]


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """(B,) ids: where the cumulative `probabilities` (B, V) first exceed `uniforms` (B,).

    Inverse transform sampling: first of a block of ids, whose probabilities add up in fp32, then of an id in it. To
    accumulate a whole vocabulary in fp64 would take several times as long, and as much as a step of a small network.
    """
    vocabulary = probabilities.shape[1]
    whole = vocabulary // BLOCK * BLOCK
    sums = probabilities[:, :whole].unflatten(1, (-1, BLOCK)).sum(dim=-1)
    if whole < vocabulary:  # to pad the last block would copy them all
        sums = torch.cat([sums, probabilities[:, whole:].sum(dim=-1, keepdim=True)], dim=1)  # (B, N)
    block, passed = _first_beyond(sums.double(), uniforms[:, None])  # (B, 1) each
    ids = block * BLOCK + torch.arange(BLOCK, device=block.device)  # (B, BLOCK)
    weights = probabilities.gather(1, ids.clamp(max=vocabulary - 1)).where(ids < vocabulary, 0.0)
    inside, _passed = _first_beyond(weights.double(), passed)
    return (block * BLOCK + inside).squeeze(1).clamp(max=vocabulary - 1)


def _first_beyond(weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1) the first of the `weights` (B, N) with which their sum exceeds its share, and the share of it passed.

    Rounding keeps sums from being 1, and shares from staying below it.
    """
    cumulative = weights.cumsum(dim=-1)  # (B, N)
    target = shares.clamp(max=LARGEST_SHARE) * cumulative[:, -1:]
    first = torch.searchsorted(cumulative, target, right=True).clamp(max=weights.shape[1] - 1)  # of NaN it is none
    weight = weights.gather(1, first)
    return first, (target - (cumulative.gather(1, first) - weight)) / weight


class SampledAnswer(NamedTuple):
    """An answer to a prompt, by the policy in a role among the run's parents."""

    role: str
    prompt: Prompt
    number: int  # among the answers to this prompt
    sampled: SampledTokens
    text: str

    @property
    def answer(self) -> Answer:
        """What a reward is given for."""
        return Answer(self.prompt.messages, self.text, self.sampled.stopped, sampled=self.sampled.response)

    def row(
        self, reward: float | None = None, watcher: float | None = None, kl: float | None = None
    ) -> SampledCompletion:
        """The answer as it is written to completions.jsonl, with what two reward models give it; `kl` in nats."""
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
            watcher=watcher,
        )


class Progress:
    """How far a stage is that samples `answers` answers to `prompts` prompts in all."""

    def __init__(self, run: RunDirectory, prompts: int, answers: int) -> None:
        self._run = run
        self._prompts, self._answers, self._sampled = prompts, answers, 0

    def advance(self, answers: int) -> None:
        """Log that `answers` more are sampled, as a share of the prompts; other ranks are taken to be as far."""
        self._sampled = min(self._answers, self._sampled + answers * ranks.count())
        self._run.log(self._prompts * self._sampled // self._answers, self._prompts, {})


class Sampler(NamedTuple):
    """The policy in a role among a run's parents. Each role has its own random numbers."""

    role: str
    policy: Policy
    chat: Chat

    def sample(
        self,
        wanted: Sequence[tuple[Prompt, int]],
        cfg: SamplingConfig | EvaluationConfig,
        run: RunDirectory,
        on_sampled: Callable[[int], None] | None,
        redraw: int = 0,
    ) -> list[SampledAnswer]:
        """The answer of each wanted number to its prompt, each rank its share. Raises Diverged, or Interrupted."""

        def sample_share(share: Sequence[tuple[Prompt, int]]) -> list[SampledTokens]:
            return self._sample(share, cfg, run, on_sampled, redraw)

        sampled = ranks.spread(wanted, sample_share)
        return [
            SampledAnswer(self.role, prompt, number, one, self.chat.decode(one.response))
            for (prompt, number), one in zip(wanted, sampled, strict=True)
        ]

    def _sample(
        self,
        wanted: Sequence[tuple[Prompt, int]],
        cfg: SamplingConfig | EvaluationConfig,
        run: RunDirectory,
        on_sampled: Callable[[int], None] | None,
        redraw: int,
    ) -> list[SampledTokens]:
        run.phases.enter("working", "answers")
        stream = f"{cfg.stage}/{self.role}"
        generators = [seeding.generator(cfg.seed, stream, redraw, prompt.id, number) for prompt, number in wanted]
        ids = [self.chat.prompt_ids(prompt.messages) for prompt, _ in wanted]
        report_progress = run.report_progress_or_stop
        sampled = generate(
            self.policy, self.chat, ids, generators, cfg.max_response, cfg.cache_mb, report_progress, on_sampled
        )
        self._check_sampler_gap(ids[:COMPARED], sampled[:COMPARED])
        return sampled

    @torch.no_grad()
    def _check_sampler_gap(self, prompts: Sequence[list[int]], sampled: Sequence[SampledTokens]) -> None:
        """Raises Diverged where the training forward pass gives these answers other probabilities than the sampler."""
        for prompt, one in zip(prompts, sampled, strict=True):
            batch = collate([Rendered(prompt, one.response)], self.chat.pad_id, self.policy.device)
            logprobs = token_logprobs(self.policy, batch)[batch.response]
            gap = sampler_gap(torch.tensor(one.logprobs, device=logprobs.device), logprobs).mean().item()
            refuse_sampler_gap(gap, bf16=self.policy.bf16)


Slates = dict[str, dict[int, SampledAnswer]]  # by prompt id and number


def run_stage(run: RunDirectory, cfg: SamplingConfig) -> None:
    """The stage: a slate of K different completions for each prompt, or fewer where texts repeat in spite of redraws.

    Three quarters, rounded up, come from the newest policy, the rest from its parent where there is one. A slate of
    fewer than two is left out. Raises EngineExit.
    """
    chat = Chat.load(run.parent(cfg, "policy"))
    filtered = usable_prompts(run, "prompts", chat, cfg.max_response)
    prompts = filtered.used
    run.resume()
    run.log(0, len(prompts), filtered.metrics())
    progress = Progress(run, len(prompts), len(prompts) * cfg.k)
    slates: Slates = {prompt.id: {} for prompt in prompts}
    networks = ParentNetworks(cfg, partial(run.parent, cfg))
    for role, numbers in numbers_by_role(cfg).items():
        sampler = load_sampler(networks, role, chat)
        for redraw in range(REDRAWS + 1):
            wanted = [(prompt, number) for prompt in prompts for number in numbers if number not in slates[prompt.id]]
            if wanted:
                on_sampled = None if redraw else progress.advance  # redraws are no progress
                keep_new(sampler.sample(wanted, cfg, run, on_sampled, redraw), slates)
    kept = [slate[number] for slate in slates.values() if len(slate) > 1 for number in sorted(slate)]
    rewards: list[float | None] = [None] * len(kept)
    if "reward" in cfg.parents and kept:
        scorer = Scorer.load(networks, chat, run.report_progress_or_stop)
        rewards = scorer.scores_by_all_ranks([one.answer for one in kept]).tolist()
    metrics = {"sampling/slates": len({one.prompt.id for one in kept}), "sampling/completions": len(kept)}
    run.log(len(prompts), len(prompts), metrics)
    rows = [one.row(reward) for one, reward in zip(kept, rewards, strict=True)]
    run.write_output(lambda directory: write(directory / "completions.jsonl", rows))


def numbers_by_role(cfg: SamplingConfig) -> dict[str, range]:
    """Which completions of a slate each policy writes."""
    if "parent" not in cfg.parents:
        return {"policy": range(cfg.k)}
    from_policy = -(-3 * cfg.k // 4)
    shares = {"policy": range(from_policy), "parent": range(from_policy, cfg.k)}
    return {role: numbers for role, numbers in shares.items() if numbers}


def load_sampler(networks: ParentNetworks, role: str, chat: Chat) -> Sampler:
    """The policy in this role. Raises InvalidInput where it does not write conversations as `chat` does."""
    chat.refuse_other(Chat.load(networks.directory(role)), role)
    return Sampler(role, networks.policy(role), chat)


def keep_new(answers: Sequence[SampledAnswer], slates: Slates) -> None:
    """Put each answer into its slate, unless the slate has its text already."""
    for answer in answers:
        slate = slates[answer.prompt.id]
        if all(answer.text != other.text for other in slate.values()):
            slate[answer.number] = answer
