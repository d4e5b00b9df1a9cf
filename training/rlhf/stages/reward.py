"""Step 2 of three: a reward model, trained on rankings to score the better of two answers higher.

The unit of training is a slate: each of its completions is scored once, and all its pairs are compared by those scores,
as in Ouyang et al. 2022, section 3.5: pairs one at a time would score a completion once for every other, and overfit in
a single epoch. Left out on purpose: margins for graded gaps, and early stopping (held-out rankings only measure).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .. import ranks, seeding
from ..config import RewardConfig
from ..data.batching import epoch_batches, own_micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords, filter_records, usable_records
from ..data.leakage import refuse_leak
from ..data.records import RankedSlate, read_demonstrations, read_rankings
from ..exits import InvalidInput
from ..networks.parents import ParentNetworks
from ..networks.scalar_model import SavedWeights, save_reward, scalar_from_policy
from ..run.directory import RunDirectory
from .learner import Learner, cosine, prepare
from .scoring import FP32_TOLERANCE, Answer, Scorer

Places = Sequence[int | None]  # of the completions of a slate, by one person

# Batches of another shape change a raw score by 1e-6; normalised, that must stay within the tolerance of a reward.
SMALLEST_SPREAD = 1e-6 / FP32_TOLERANCE


class Comparisons(NamedTuple):
    """The untied pairs of a batch of slates. Indices point into the scores (N,) of all completions of the batch."""

    better: Tensor  # (P,) int64
    worse: Tensor  # (P,) int64
    weight: Tensor  # (P,) float32, sums to 1: a slate weighs the same whatever its size or number of judgements


class Slate(NamedTuple):
    """A ranked slate as token ids, with the places that each judgement gave."""

    completions: list[Rendered]
    judgements: list[Places]

    def size(self, *, shares_prompt: bool) -> int:
        """Tokens, padding to its longest completion included; the prompt counts once where it is read once."""
        longest = max(completion.length for completion in self.completions)
        prompt = len(self.completions[0].prompt) if shares_prompt else 0
        return prompt + len(self.completions) * (longest - prompt)


def untied_pairs(places: Places) -> list[tuple[int, int]]:
    """The (better, worse) pairs of one judgement. Ties and "cannot judge" (None) give none."""
    placed = [(place, index) for index, place in enumerate(places) if place is not None]
    return [(better, worse) for place, better in placed for other, worse in placed if place < other]


def weigh(slates: Sequence[Sequence[Places]]) -> Comparisons:
    """The comparisons of a batch of slates, each given as its judgements: the places of all its completions.

    The weights make the loss a mean over the untied pairs of a judgement, then over judgements, then over slates.
    A judgement without an untied pair does not count; every slate must have one that does.
    """
    better, worse, weight = [], [], []
    first = 0  # row of the slate's first completion
    for judgements in slates:
        untied = [pairs for places in judgements if (pairs := untied_pairs(places))]
        for pairs in untied:
            better += [first + index for index, _ in pairs]
            worse += [first + index for _, index in pairs]
            weight += [1 / (len(pairs) * len(untied) * len(slates))] * len(pairs)
        first += len(judgements[0])
    rows = torch.tensor([better, worse], dtype=torch.int64)  # (2, P), also where there are none
    return Comparisons(rows[0], rows[1], torch.tensor(weight))


def ranking_loss(scores: Tensor, pairs: Comparisons) -> Tensor:
    """Scalar, nats: weighted mean of -log sigmoid(score of the better - score of the worse), from scores (N,).

    Ouyang et al. 2022, equation 1, with weights for several judgements and ties; Bradley & Terry 1952.
    """
    gap = scores[pairs.better] - scores[pairs.worse]  # (P,)
    # log(1 + exp(-gap)) written out overflows for gaps below -88; softplus does not.
    return (pairs.weight * softplus(-gap)).sum()


def train_step(scorer: Scorer, learner: Learner, batch: list[Slate], learning_rate: float) -> dict[str, float]:
    """One update on a batch of slates. Their cut into ranks and micro-batches changes nothing: it never splits a slate.

    Raises Diverged, as Learner.step does.
    """
    loss = accuracy = torch.zeros(())
    sizes = [slate.size(shares_prompt=scorer.model.trunk.packs) for slate in batch]
    for indices in own_micro_batches(sizes, scorer.batch_tokens):
        part = [batch[index] for index in indices]
        share = len(part) / len(batch)
        completions = [completion for slate in part for completion in slate.completions]
        scores = scorer.model.final_scores(completions, scorer.chat.pad_id).cpu()  # (N,)
        pairs = weigh([slate.judgements for slate in part])
        part_loss = share * ranking_loss(scores, pairs)
        part_loss.backward()
        loss = loss + part_loss.detach()
        accuracy = accuracy + share * pairs.weight[scores[pairs.better] > scores[pairs.worse]].sum()
        scorer.report_progress()
    learner.step(learning_rate)
    return {"reward/loss": ranks.summed(loss).item(), "reward/accuracy": ranks.summed(accuracy).item()}


def fit(run: RunDirectory, cfg: RewardConfig, scorer: Scorer, slates: list[Slate], data: Mapping[str, float]) -> None:
    """All epochs over the slates; `data` are their metrics, logged first."""
    learner = Learner(scorer.model, "reward")
    per_epoch = -(-len(slates) // cfg.batch_size)
    total = cfg.epochs * per_epoch

    def step(number: int) -> dict[str, float]:
        epoch, position = divmod(number, per_epoch)
        batches = epoch_batches(len(slates), cfg.batch_size, seeding.generator(cfg.seed, cfg.stage, epoch))
        batch = [slates[index] for index in batches[position]]
        return train_step(scorer, learner, batch, cfg.learning_rate * cosine(number / total))

    learner.take_steps(run, cfg, total, step, data)


def normalise(scorer: Scorer, demonstrations: list[Answer], ranked: list[Answer]) -> None:
    """Make 0 the mean reward of the demonstrations (none: of the ranked answers), 1 the deviation of the ranked.

    The bias is that of Ouyang et al. 2022, section 3.5; Ziegler et al. 2019 scale to variance 1, too. Raises
    InvalidInput where the scores of the ranked answers differ by no more than rounding errors.
    """
    scores = scorer.scores_by_all_ranks(ranked)  # (N,)
    spread = scores.std(correction=0)
    if not spread >= SMALLEST_SPREAD:
        raise InvalidInput(
            "all ranked answers get the same score: there is nothing to learn from identical answers; if they"
            " differ, try another learning_rate",
            kind="answers_alike",
        )
    centre = scorer.scores_by_all_ranks(demonstrations) if demonstrations else scores
    scorer.model.offset.fill_(centre.mean())
    scorer.model.gain.fill_(1 / spread)


def usable_slates(ranked: Iterable[RankedSlate], chat: Chat, max_response: int) -> FilteredRecords[RankedSlate]:
    """The slates that the model can read and that have an untied pair. Raises InvalidInput where too few do."""
    filtered = usable_records(ranked, chat, max_response, "ranked slates")
    pairs = [sum(len(untied_pairs(judgement.places)) for judgement in slate.judgements) for slate in filtered.used]
    untied = [slate for slate, count in zip(filtered.used, pairs, strict=True) if count]
    if not untied:
        raise InvalidInput(
            "no ranking prefers one completion to another, so there is nothing to learn",
            kind="all_tied",
            rankings=len(filtered.used),
        )
    cut = sum(not completion.stopped for slate in untied for completion in slate.completions)
    tied = len(filtered.used) - len(untied)
    return FilteredRecords(untied, {**filtered.counts, "tied": tied, "cut": cut, "pairs": sum(pairs)})


def run_stage(run: RunDirectory, cfg: RewardConfig) -> None:
    """The stage: a fresh head on the newest SFT policy, fitted to the rankings, then normalised. Raises EngineExit."""
    refuse_leak(run)
    chat = Chat.load(run.parent(cfg, "policy"))
    rows = read_rankings(run.data(cfg.examined_records))
    filtered = usable_slates(run.phases.read("rankings", rows), chat, cfg.max_response)
    ranked = filtered.used
    policy = ParentNetworks(cfg, partial(run.parent, cfg)).policy("policy", trains=True)
    model = scalar_from_policy(policy, cfg.dtype, seeding.generator(cfg.seed, cfg.stage))
    prepare(model, cfg)
    scorer = Scorer(model, chat, cfg.batch_tokens, run.report_progress)
    slates = [render_slate(slate, chat) for slate in run.phases.read("rankings", ranked)]
    fit(run, cfg, scorer, slates, filtered.metrics())
    answers = [Answer(slate.messages, one.text, one.stopped) for slate in ranked for one in slate.completions]
    normalise(scorer, _demonstrations(run, chat, cfg), answers)
    card, weights = scorer.card(answers), SavedWeights.gathered(model)
    run.write_output(lambda directory: save_reward(model, chat, directory, card, weights))


def render_slate(slate: RankedSlate, chat: Chat) -> Slate:
    """A slate as token ids."""
    completions = [chat.rendered(slate.messages, one.text, one.stopped) for one in slate.completions]
    return Slate(completions, [judgement.places for judgement in slate.judgements])


def _demonstrations(run: RunDirectory, chat: Chat, cfg: RewardConfig) -> list[Answer]:
    path = run.data("demonstrations")
    rows = read_demonstrations(path) if path.exists() else []
    kept = filter_records(rows, chat, cfg.max_response).used
    return [Answer(row.messages, row.response, stopped=True) for row in kept]
