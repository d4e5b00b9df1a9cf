"""What a policy and a reward model are worth on prompts that no training has seen.

Measured are the reward model against people's held-out rankings, the policy's divergence from its reference, and
how both write. A win rate by our own reward model is called a proxy: it is what the policy was trained to raise.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from ..config import EvaluationConfig
from ..data.batching import collate, micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import Intake, fitting, fitting_prompts
from ..data.leakage import refuse_leak
from ..data.records import Prompt, RankedSlate, read_rankings, write
from ..limits import require_finite
from ..logprobs import entropy_of, exact_kl
from ..networks.networks import device
from ..run.directory import RunDirectory
from .reward import compare
from .sampling import Draw, Progress, Writer, load_writer
from .scoring import Answer, Scorer

ROLES = ("policy", "reference", "parent")  # all that are there answer every prompt; a parent where it is another one


class Verdict(NamedTuple):
    """What the reward model says of a held-out pair that a person did not tie."""

    agrees: bool
    gap: int  # ranks between the two, 1 for neighbours
    round: int | None  # the round whose policies wrote them


def evaluate(run: RunDirectory, cfg: EvaluationConfig) -> None:
    """The stage: answers of the policy and of its reference to the held-out prompts, and what they amount to."""
    refuse_leak(run)
    chat = Chat.load(run.parent(cfg, "policy"))
    intake = fitting_prompts(run, "heldout_prompts", chat, cfg.max_response)
    slates = fitting_slates(run, chat, cfg)
    prompts = intake.used
    run.resume()
    run.log(0, len(prompts), counted(intake, slates))
    writers = {role: load_writer(run, cfg, role, chat) for role in ROLES if role in cfg.parents}
    asked = [(prompt, number) for prompt in prompts for number in range(cfg.draws)]
    progress = Progress(run, len(prompts), len(writers) * len(asked))
    draws = {role: writer.draw(asked, cfg, run, progress.advance) for role, writer in writers.items()}
    kl, entropy = divergence(writers["policy"], writers["reference"], draws["policy"], cfg, run)
    answer_tokens = sum(len(one.sampled.response) for one in draws["policy"])
    metrics = writing(draws) | {"heldout/kl": _mean(kl), "heldout/entropy": sum(entropy) / answer_tokens}
    kls: dict[str, list[float | None]] = {role: [None] * len(asked) for role in writers}
    kls["policy"] = [*kl]
    rewards: dict[str, list[float | None]] = {role: [None] * len(asked) for role in writers}
    if "reward" in cfg.parents:
        scorer = Scorer.load(run.parent(cfg, "reward"), chat, cfg, run.touch_or_leave)
        run.phases.enter("working", "rewards")
        scores = {role: scorer.scores([one.answer for one in draws[role]]).tolist() for role in writers}
        metrics |= proxy(scores["policy"], scores["reference"], cfg.draws)
        metrics |= agreement(scorer, slates.used)
        rewards = {**scores}
    run.log(len(prompts), len(prompts), metrics)  # before the output: whoever finds that need not measure again
    with run.output() as directory:
        rows = [
            one.row(reward, kl)
            for role in writers
            for one, reward, kl in zip(draws[role], rewards[role], kls[role], strict=True)
        ]
        write(directory / "completions.jsonl", rows)


def fitting_slates(run: RunDirectory, chat: Chat, cfg: EvaluationConfig) -> Intake[RankedSlate]:
    """The held-out slates that fit the model; there may be none. Raises InvalidInput where too few of them do."""
    rows = read_rankings(run.data("heldout_rankings")) if "reward" in cfg.parents else []
    if not rows:
        return Intake([], {"too_long": 0, "refused": 0})
    return fitting(run.phases.read("heldout_rankings", rows), chat, cfg.max_response, "held-out slates")


def counted(prompts: Intake[Prompt], slates: Intake[RankedSlate]) -> dict[str, float]:
    """What is said of the records before the first answer: of prompts and slates together."""
    more = slates.metrics()
    return {name: count + more[name] for name, count in prompts.metrics().items()}


def writing(draws: dict[str, list[Draw]]) -> dict[str, float]:
    """How long the answers are and how many end by themselves."""
    metrics = {}
    for role, prefix in (("policy", ""), ("reference", "reference_")):
        metrics[f"heldout/{prefix}length"] = _mean(len(one.sampled.response) for one in draws[role])
        metrics[f"heldout/{prefix}stop_rate"] = _mean(one.sampled.stopped for one in draws[role])
    return metrics


@torch.no_grad()
def divergence(
    policy: Writer, reference: Writer, draws: list[Draw], cfg: EvaluationConfig, run: RunDirectory
) -> tuple[list[float], list[float]]:
    """The KL of the policy from its reference and the policy's entropy, in nats of each of its own answers.

    At every token the divergence of the two whole distributions is taken: what one draw estimates, with less noise.
    """
    run.phases.enter("working", "divergence")
    rendered = [Rendered(policy.chat.prompt_ids(one.prompt.messages), one.sampled.response) for one in draws]
    kl, entropy = torch.zeros(2, len(draws), device=device())
    for indices in micro_batches([one.length for one in rendered], cfg.batch_tokens):
        tokens, attention, response = collate([rendered[index] for index in indices], policy.chat.pad_id, device())
        logits = policy.policy(tokens, attention)  # (B, T, V)
        kl[indices] = (exact_kl(logits, reference.policy(tokens, attention)) * response).sum(dim=1)
        entropy[indices] = (entropy_of(logits) * response).sum(dim=1)
        run.touch_or_leave()
    require_finite(kl, "the divergences from the reference", "kl_not_finite")
    require_finite(entropy, "the policy's logits", "logits_not_finite")
    return kl.tolist(), entropy.tolist()


def proxy(policy: Sequence[float], reference: Sequence[float], draws: int) -> dict[str, float]:
    """How often the policy's reward is the higher one, over all pairs of answers to the same prompt; ties half."""
    wins = [
        (ours > theirs) + (ours == theirs) / 2
        for start in range(0, len(policy), draws)
        for ours in policy[start : start + draws]
        for theirs in reference[start : start + draws]
    ]
    return {
        "proxy/win_rate": _mean(wins),
        "proxy/reward": _mean(policy),
        "proxy/reference_reward": _mean(reference),
    }


def agreement(scorer: Scorer, slates: list[RankedSlate]) -> dict[str, float]:
    """How often the reward model prefers what people preferred: in all, by ranks apart and by round. Ties apart."""
    answers = [Answer(slate.messages, one.text, one.stopped) for slate in slates for one in slate.completions]
    scores = iter(scorer.scores(answers).tolist())
    pairs: list[Verdict] = []
    ties = 0
    for slate in slates:
        rewards = [next(scores) for _ in slate.completions]
        for judgement in slate.judgements:
            pairs += verdicts(judgement.places, rewards, judgement.round)
            ties += count_ties(judgement.places)
    groups = {"heldout/reward_accuracy": pairs}
    for pair in pairs:
        groups.setdefault(f"heldout/reward_accuracy_gap_{pair.gap}", []).append(pair)
        if pair.round is not None:
            groups.setdefault(f"heldout/reward_accuracy_round_{pair.round}", []).append(pair)
    shares = {name: _mean(pair.agrees for pair in group) for name, group in sorted(groups.items()) if group}
    return {**shares, "heldout/reward_pairs": len(pairs), "heldout/reward_ties": ties}


def verdicts(places: Sequence[int | None], rewards: Sequence[float], of_round: int | None) -> Iterator[Verdict]:
    """What the reward model says of each untied pair of a judgement."""
    placed = {index: place for index, place in enumerate(places) if place is not None}
    ranks = sorted(set(placed.values()))
    for better, worse in compare(places):
        gap = ranks.index(placed[worse]) - ranks.index(placed[better])
        yield Verdict(rewards[better] > rewards[worse], gap, of_round)


def count_ties(places: Sequence[int | None]) -> int:
    """Pairs that a person placed equally."""
    placed = [place for place in places if place is not None]
    return len(placed) * (len(placed) - 1) // 2 - len(compare(places))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
