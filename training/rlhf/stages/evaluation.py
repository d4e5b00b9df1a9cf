"""How good a policy and a reward model are on held-out prompts.

Measured are the reward model against people's held-out rankings, the policy's divergence from its reference, and the
lengths and ends of both policies' answers. A win rate by the reward model is called a proxy, because it is what the
policy was trained to raise; one by the watcher, which never was a reward, says more. Left out on purpose: win rates by
any other judge, which are computed elsewhere from the answers that are written here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ranks
from ..config import EvaluationConfig
from ..data.batching import Batch, collate, micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords, usable_prompts, usable_records
from ..data.leakage import refuse_leak
from ..data.records import Prompt, RankedSlate, SampledCompletion, read_rankings, untied_pairs, write
from ..limits import require_finite
from ..logprobs import entropy_of, exact_kl
from ..networks.parents import ParentNetworks
from ..networks.policy import Policy
from ..run.directory import RunDirectory
from .sampling import Progress, SampledAnswer, load_sampler
from .scoring import Answer, Scorer

ROLES = ("policy", "reference", "parent")  # every one of these among the parents answers every prompt
JUDGES = {"reward": "proxy", "watcher": "watcher"}  # each of these scores all answers; the prefix of its metrics

Numbers = dict[str, dict[str, Sequence[float]]]  # by name, those of each answer, by the role that wrote it


class PairResult(NamedTuple):
    """A held-out pair that a person did not tie, and whether the reward model prefers the same answer."""

    agrees: bool
    gap: int  # difference of their ranks, 1 for neighbours
    round: int | None  # the round whose policies wrote them


def run_stage(run: RunDirectory, cfg: EvaluationConfig) -> None:
    """The stage: answers of policy and reference to the held-out prompts, and the metrics. Raises EngineExit."""
    refuse_leak(run)
    chat = Chat.load(run.parent(cfg, "policy"))
    filtered = usable_prompts(run, "heldout_prompts", chat, cfg.max_response)
    slates = usable_heldout_slates(run, chat, cfg)
    prompts = filtered.used
    run.resume()
    run.log(0, len(prompts), record_metrics(filtered, slates))
    networks = ParentNetworks(cfg, partial(run.parent, cfg))
    samplers = {role: load_sampler(networks, role, chat) for role in ROLES if role in cfg.parents}
    wanted = [(prompt, number) for prompt in prompts for number in range(cfg.draws)]
    progress = Progress(run, len(prompts), len(samplers) * len(wanted))
    answers = {role: sampler.sample(wanted, cfg, run, progress.advance) for role, sampler in samplers.items()}
    run.phases.enter("working", "divergence")

    def nats(share: Sequence[SampledAnswer]) -> list[tuple[float, float]]:
        policy, reference = samplers["policy"].policy, samplers["reference"].policy
        return divergence(policy, reference, chat, share, cfg.batch_tokens, run.report_progress_or_stop)

    kl, entropy = zip(*ranks.spread(answers["policy"], nats), strict=True)
    answer_tokens = sum(len(one.sampled.response) for one in answers["policy"])
    metrics = length_metrics(answers) | {"heldout/kl": _mean(kl), "heldout/entropy": sum(entropy) / answer_tokens}
    numbers: Numbers = {"kl": {"policy": kl}}
    for judge in JUDGES:
        if judge in cfg.parents:
            scorer = Scorer.load(networks, chat, run.report_progress_or_stop, judge)
            run.phases.enter("working", "rewards")
            scores = numbers[judge] = {
                role: scorer.scores_by_all_ranks([one.answer for one in answers[role]]).tolist() for role in samplers
            }
            metrics |= win_metrics(JUDGES[judge], scores["policy"], scores["reference"], cfg.draws)
            metrics |= accuracy_metrics(judge, scorer, slates.used)
            metrics |= match_metrics(judge, scorer, answers["policy"], scores["policy"], cfg.draws)
    run.log(len(prompts), len(prompts), metrics)  # before the output, with which the stage counts as finished
    rows = rows_of(answers, numbers)
    run.write_output(lambda directory: write(directory / "completions.jsonl", rows))


def rows_of(answers: dict[str, list[SampledAnswer]], numbers: Numbers) -> list[SampledCompletion]:
    """The answers of every role as they are written, each with its numbers."""
    return [
        one.row(**{name: by_role[role][index] for name, by_role in numbers.items() if role in by_role})
        for role in answers
        for index, one in enumerate(answers[role])
    ]


def usable_heldout_slates(run: RunDirectory, chat: Chat, cfg: EvaluationConfig) -> FilteredRecords[RankedSlate]:
    """The held-out slates that the model can read; there may be none. Raises InvalidInput where it reads too few."""
    rows = read_rankings(run.data("heldout_rankings")) if "reward" in cfg.parents else []
    if not rows:
        return FilteredRecords([], {"too_long": 0, "refused": 0})
    return usable_records(run.phases.read("heldout_rankings", rows), chat, cfg.max_response, "held-out slates")


def record_metrics(prompts: FilteredRecords[Prompt], slates: FilteredRecords[RankedSlate]) -> dict[str, float]:
    """The metrics of prompts and slates together, logged before the first answer."""
    slate_metrics = slates.metrics()
    return {name: count + slate_metrics[name] for name, count in prompts.metrics().items()}


def length_metrics(answers: dict[str, list[SampledAnswer]]) -> dict[str, float]:
    """How long the answers are and how many end by themselves."""
    metrics = {}
    for role, prefix in (("policy", ""), ("reference", "reference_")):
        metrics[f"heldout/{prefix}length"] = _mean(len(one.sampled.response) for one in answers[role])
        metrics[f"heldout/{prefix}stop_rate"] = _mean(one.sampled.stopped for one in answers[role])
    return metrics


@torch.no_grad()
def divergence(
    policy: Policy,
    reference: Policy,
    chat: Chat,
    answers: Sequence[SampledAnswer],
    batch_tokens: int,
    report_progress: Callable[[], None],
) -> list[tuple[float, float]]:
    """KL(policy, reference) and the policy's entropy, in nats, summed over the tokens of each of its own answers.

    At every token the divergence of the two whole distributions is taken, which has less noise than an estimate from
    the sampled token. Raises Diverged where one is not finite.
    """
    rendered = [Rendered(chat.prompt_ids(one.prompt.messages), one.sampled.response) for one in answers]
    kl, entropy = torch.zeros(2, len(answers), device=policy.device)
    for indices in micro_batches([one.length for one in rendered], batch_tokens):
        batch = collate([rendered[index] for index in indices], chat.pad_id, policy.device)
        numbers = kl_and_entropy(policy, reference, batch)  # (B, T, 2)
        kl[indices], entropy[indices] = numbers.sum(dim=1).unbind(dim=-1)
        report_progress()
    require_finite(kl, "the KL values from the reference", "kl_not_finite")
    require_finite(entropy, "the policy's logits", "logits_not_finite")
    return list(zip(kl.tolist(), entropy.tolist(), strict=True))


def kl_and_entropy(policy: Policy, reference: Policy, batch: Batch) -> Tensor:
    """(B, T, 2) nats at each answer token: KL(policy, reference), and the policy's entropy."""

    def read(logits: Tensor, states: Tensor) -> Tensor:
        return torch.stack([exact_kl(logits, reference.logits_of(states)), entropy_of(logits)], dim=-1)

    return policy(batch, read, reference.states(batch))  # type: ignore[no-any-return]


def win_metrics(prefix: str, policy: Sequence[float], reference: Sequence[float], draws: int) -> dict[str, float]:
    """How often the policy's score is higher, over all pairs of answers to the same prompt; ties count half."""
    wins = [
        win(ours, theirs)
        for start in range(0, len(policy), draws)
        for ours in policy[start : start + draws]
        for theirs in reference[start : start + draws]
    ]
    return {
        f"{prefix}/win_rate": _mean(wins),
        f"{prefix}/reward": _mean(policy),
        f"{prefix}/reference_reward": _mean(reference),
    }


def accuracy_metrics(judge: str, scorer: Scorer, slates: list[RankedSlate]) -> dict[str, float]:
    """How often a reward model prefers what people preferred, over untied pairs: overall, by gap and by round.

    The pairs and ties themselves are counted once, with the reward model.
    """
    answers = [Answer(slate.messages, one.text, one.stopped) for slate in slates for one in slate.completions]
    scores = iter(scorer.scores_by_all_ranks(answers).tolist())
    pairs: list[PairResult] = []
    ties = 0
    for slate in slates:
        rewards = [next(scores) for _ in slate.completions]
        for judgement in slate.judgements:
            pairs += pair_results(judgement.places, rewards, judgement.round)
            ties += count_ties(judgement.places)
    name = f"heldout/{judge}_accuracy"
    groups = {name: pairs}
    for pair in pairs:
        groups.setdefault(f"{name}_gap_{pair.gap}", []).append(pair)
        if pair.round is not None:
            groups.setdefault(f"{name}_round_{pair.round}", []).append(pair)
    shares = {group: _mean(pair.agrees for pair in members) for group, members in sorted(groups.items()) if members}
    if judge != "reward":
        return {group: share for group, share in shares.items() if group == name}
    return {**shares, "heldout/reward_pairs": len(pairs), "heldout/reward_ties": ties}


def match_metrics(
    judge: str, scorer: Scorer, answers: Sequence[SampledAnswer], scores: Sequence[float], draws: int
) -> dict[str, float]:
    """How often the first answer to a prompt has a higher score than that to the next prompt put in its place.

    There are so many draws to each prompt. Nothing where there is one prompt only. A reward model that hardly reads the
    prompt comes to a half.
    """
    answers, scores = answers[::draws], scores[::draws]
    if len(answers) < 2:
        return {}
    others = [*answers[1:], answers[0]]
    swapped = [
        other.answer._replace(messages=here.answer.messages) for here, other in zip(answers, others, strict=True)
    ]
    shares = map(win, scores, scorer.scores_by_all_ranks(swapped).tolist())
    return {f"heldout/{judge}_match": _mean(shares)}


def pair_results(
    places: Sequence[int | None], rewards: Sequence[float], round_number: int | None
) -> Iterator[PairResult]:
    """The result of each untied pair of a judgement."""
    placed = {index: place for index, place in enumerate(places) if place is not None}
    ranks = sorted(set(placed.values()))
    for better, worse in untied_pairs(places):
        gap = ranks.index(placed[worse]) - ranks.index(placed[better])
        yield PairResult(rewards[better] > rewards[worse], gap, round_number)


def count_ties(places: Sequence[int | None]) -> int:
    """Pairs that a person placed equally."""
    placed = [place for place in places if place is not None]
    return len(placed) * (len(placed) - 1) // 2 - len(untied_pairs(places))


def win(ours: float, theirs: float) -> float:
    """1 where the first score is higher, 0 where the second is, and half for a tie."""
    if ours == theirs:
        return 0.5
    return 1.0 if ours > theirs else 0.0


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
