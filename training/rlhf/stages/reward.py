"""Step 2 of three: a reward model, trained on rankings to score the better of two answers higher.

The unit of training is a slate: each of its completions is scored once, and all its pairs are compared by those scores,
as in Ouyang et al. 2022, section 3.5: pairs one at a time would score a completion once for every other, and overfit in
a single epoch. Left out on purpose: margins for graded gaps, and early stopping (held-out rankings only measure).

Beside InstructGPT, and off by default: a model that has seen few rankings may like an answer whatever was asked. With
`mismatch_coefficient` it also learns that a slate's best completion, and a demonstration, beats a good answer to
another prompt (Liu et al. 2024, "RRM: Robust Reward Model Training Mitigates Reward Hacking", where such an answer is
called non-contextual; they do not use demonstrations).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from .. import ranks, seeding
from ..config import RewardConfig
from ..data.batching import epoch_batches, own_micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords, filter_records, usable_records
from ..data.leakage import refuse_leak
from ..data.records import Demonstration, Places, RankedSlate, read_demonstrations, read_rankings, untied_pairs
from ..exits import InvalidInput
from ..networks.parents import ParentNetworks
from ..networks.scalar_model import SavedWeights, save_reward, scalar_from_policy
from ..run.directory import RunDirectory
from .learner import Learner, cosine, prepare
from .scoring import FP32_TOLERANCE, Answer, Scorer

# Batches of another shape change a raw score by 1e-6; normalised, that must stay within the tolerance of a reward.
SMALLEST_SPREAD = 1e-6 / FP32_TOLERANCE
TRIED = 16  # slates that are looked at for one of another prompt


class Comparisons(NamedTuple):
    """The untied pairs of a batch of slates. Indices point into the scores (N,) of all completions of the batch."""

    better: Tensor  # (P,) int64
    worse: Tensor  # (P,) int64
    weight: Tensor  # (P,) float32, sums to 1: a slate weighs the same whatever its size or number of judgements


class Slate(NamedTuple):
    """A ranked slate as token ids, with the places that each judgement gave; or a demonstration, the first of one."""

    completions: list[Rendered]
    judgements: list[Places]
    mismatched: list[Rendered] = []  # an answer to another prompt, after this prompt; at most one

    @property
    def prompt(self) -> list[int]:
        """The ids that all completions follow."""
        return self.completions[0].prompt

    @property
    def is_ranked(self) -> bool:
        """Whether somebody prefers one of its completions to another."""
        return any(untied_pairs(places) for places in self.judgements)

    @property
    def texts(self) -> list[Rendered]:
        """All that is scored."""
        return [*self.completions, *self.mismatched]

    @property
    def best(self) -> Rendered:
        """The completion that most judgements place first; the first such one."""
        firsts = [sum(_is_first(places, index) for places in self.judgements) for index in range(len(self.completions))]
        return self.completions[firsts.index(max(firsts))]

    def places(self) -> list[Places]:
        """What people said of all its texts: nothing of the mismatched."""
        return [[*places, *[None] * len(self.mismatched)] for places in self.judgements]

    def contrasts(self) -> list[Places]:
        """Each judgement's first completions before the mismatched, with nothing said of the others."""
        return [
            [*(0 if _is_first(places, index) else None for index in range(len(places))), *[1] * len(self.mismatched)]
            for places in self.judgements
        ]

    def size(self, *, shares_prompt: bool) -> int:
        """Tokens, padding to its longest completion included; the prompt counts once where it is read once."""
        longest = max(text.length for text in self.texts)
        prompt = len(self.prompt) if shares_prompt else 0
        return prompt + len(self.texts) * (longest - prompt)


def _is_first(places: Places, index: int) -> bool:
    return places[index] is not None and places[index] == min(place for place in places if place is not None)


def weigh(slates: Sequence[Sequence[Places]], count: int | None = None) -> Comparisons:
    """The comparisons of a batch of slates, each given as its judgements: the places of all its completions.

    The weights make the loss a mean over the untied pairs of a judgement, then over judgements, then over slates, or
    the sum over slates divided by `count`. A judgement, or a slate, without an untied pair adds nothing.
    """
    count = len(slates) if count is None else count
    better, worse, weight = [], [], []
    first = 0  # row of the slate's first completion
    for judgements in slates:
        untied = [pairs for places in judgements if (pairs := untied_pairs(places))]
        for pairs in untied:
            better += [first + index for index, _ in pairs]
            worse += [first + index for _, index in pairs]
            weight += [1 / (len(pairs) * len(untied) * count)] * len(pairs)
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


def agreement(scores: Tensor, pairs: Comparisons) -> Tensor:
    """Scalar, 0 to 1: the weighted share of pairs whose better completion has the higher score, from scores (N,)."""
    return pairs.weight[scores[pairs.better] > scores[pairs.worse]].sum()


def mismatched(slates: Sequence[Slate], chosen: Iterable[int], draw: Generator, context: int) -> list[Slate]:
    """The chosen slates, each with the best completion of another prompt's slate, as one that `context` tokens hold.

    A slate is left as it is where none is found: of another prompt, and with a text that is none of its own.
    """
    order = seeding.permutation(len(slates), draw)
    found = []
    for index in chosen:
        slate = slates[index]
        own = [completion.response for completion in slate.completions]
        others = (slates[order[(index + turn) % len(slates)]] for turn in range(TRIED))
        answers = (other.best.response for other in others if other.prompt != slate.prompt)
        answer = next((answer for answer in answers if answer not in own), None)
        if answer is not None:
            slate = slate._replace(mismatched=[Rendered(slate.prompt, answer[: context - len(slate.prompt)])])
        found.append(slate)
    return found


def train_step(
    scorer: Scorer, learner: Learner, batch: list[Slate], learning_rate: float, mismatch_coefficient: float = 0.0
) -> dict[str, float]:
    """One update on a batch of slates. Their cut into ranks and micro-batches changes nothing: it never splits a slate.

    The loss is the mean over those that are ranked, and the coefficient times the mean over those with a mismatched
    answer. Raises Diverged, as Learner.step does.
    """
    loss = accuracy = match = torch.zeros(())
    ranked = sum(slate.is_ranked for slate in batch)
    contrasted = sum(bool(slate.mismatched) for slate in batch)
    sizes = [slate.size(shares_prompt=scorer.model.trunk.packs) for slate in batch]
    for indices in own_micro_batches(sizes, scorer.batch_tokens):
        part = [batch[index] for index in indices]
        texts = [text for slate in part for text in slate.texts]
        scores = scorer.model.final_scores(texts, scorer.chat.pad_id).cpu()  # (N,)
        pairs = weigh([slate.places() for slate in part], ranked)
        contrasts = weigh([slate.contrasts() for slate in part], contrasted)
        part_loss = ranking_loss(scores, pairs)
        (part_loss + mismatch_coefficient * ranking_loss(scores, contrasts)).backward()
        loss = loss + part_loss.detach()
        accuracy, match = accuracy + agreement(scores, pairs), match + agreement(scores, contrasts)
        scorer.report_progress()
    learner.step(learning_rate)
    metrics = {"reward/loss": loss, "reward/accuracy": accuracy} | ({"reward/match": match} if contrasted else {})
    return {name: ranks.summed(value).item() for name, value in metrics.items()}


def fit(
    run: RunDirectory,
    cfg: RewardConfig,
    scorer: Scorer,
    slates: list[Slate],
    demonstrations: list[Slate],
    data: Mapping[str, float],
) -> None:
    """All epochs over the slates; `data` are their metrics, logged first."""
    learner = Learner(scorer.model, "reward")
    per_epoch = -(-len(slates) // cfg.batch_size)
    total = cfg.epochs * per_epoch

    def step(number: int) -> dict[str, float]:
        epoch, position = divmod(number, per_epoch)
        batches = epoch_batches(len(slates), cfg.batch_size, seeding.generator(cfg.seed, cfg.stage, epoch))
        batch = [slates[index] for index in batches[position]]
        if cfg.mismatch_coefficient:
            draw = seeding.generator(cfg.seed, cfg.stage, epoch, "mismatched")
            batch = mismatched(slates, batches[position], draw, scorer.chat.context)
            draw = seeding.generator(cfg.seed, cfg.stage, number, "demonstrations")
            chosen = seeding.permutation(len(demonstrations), draw)[: len(batch)]  # as many as slates
            batch += mismatched(demonstrations, chosen, draw, scorer.chat.context)
        return train_step(scorer, learner, batch, cfg.learning_rate * cosine(number / total), cfg.mismatch_coefficient)

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
    demonstrations = usable_demonstrations(run.data("demonstrations"), chat, cfg)
    written = [render_demonstration(one, chat) for one in demonstrations]
    fit(run, cfg, scorer, slates, written, filtered.metrics())
    answers = [Answer(slate.messages, one.text, one.stopped) for slate in ranked for one in slate.completions]
    demonstrated = [
        Answer(one.messages, one.response, stopped=True, rendered=slate.best)
        for one, slate in zip(demonstrations, written, strict=True)
    ]
    normalise(scorer, demonstrated, answers)
    card, weights = scorer.card(answers), SavedWeights.gathered(model)
    run.write_output(lambda directory: save_reward(model, chat, directory, card, weights))


def render_slate(slate: RankedSlate, chat: Chat) -> Slate:
    """A slate as token ids."""
    completions = [chat.rendered(slate.messages, one.text, one.stopped) for one in slate.completions]
    return Slate(completions, [judgement.places for judgement in slate.judgements])


def render_demonstration(demonstration: Demonstration, chat: Chat) -> Slate:
    """A demonstration as a slate of its own, to which an answer to another prompt can be added."""
    return Slate([chat.rendered(demonstration.messages, demonstration.response, stopped=True)], [[1]])


def usable_demonstrations(path: Path, chat: Chat, cfg: RewardConfig) -> list[Demonstration]:
    """The demonstrations in a file that the model can read; there may be none, and no file."""
    rows = read_demonstrations(path) if path.exists() else []
    return filter_records(rows, chat, cfg.max_response).used
