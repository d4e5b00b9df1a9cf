"""Results: what a round amounts to on held-out prompts, computed once from the files of its evaluation and stored.

The unit of every interval is a prompt: the draws for one prompt are averaged before prompts are resampled. A reward
is the score of a model that the policy was trained to please: the page says so. Where an independent judge scored the
answers, too, that stands first.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from statistics import fmean
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.models import Prompt
from annotate.services.text import repair_text
from training.models import Result, Round, Run
from training.rlhf.data.records import SampledCompletion, read_completions, read_prompts, read_rankings
from training.rlhf.exits import InvalidInput
from training.services.run_files import directories
from training.services.running import probes, word_diffs
from training.stages import ParentRole, Stage
from training.stages.number_format import decimal, percent

SHOWN = 20  # held-out prompts
SHOWN_APART = 10
MUCH_LONGER = 0.25  # share of its length by which an answer has grown
LARGEST_BYTES = 50_000_000  # of a file of answers that is read while a page waits
HALF = 0.5  # of the comparisons: neither side is better
GAP = "heldout/reward_accuracy_gap_"
SIDES = ("before", "after")  # the round
Z = 1.959964  # 95 % of a normal distribution lie within this many standard deviations
RESAMPLES = 1000
MOST_DRAWS = 1_000_000  # of all resamples together: a page waits for them, once

ByPrompt = dict[str, dict[str, list[SampledCompletion]]]  # {prompt id: {side: answers}}


class Interval(NamedTuple):
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float


Measure = Callable[[SampledCompletion], float | None]

JUDGES: dict[str, Measure] = {  # by the win rate that comes of their scores
    "watcher_win_rate": lambda row: row.watcher,
    "win_rate": lambda row: row.reward,
}
MEASURES: dict[str, Measure] = {
    "reward": lambda row: row.reward,
    "length": lambda row: float(row.n_tokens),
    "stop_rate": lambda row: float(row.finish_reason == "stop"),
}


def load(round: Round) -> Result | None:
    """The result of a round that is through; None where it measured nothing, or where its files are gone."""
    if round.status != Round.Status.SUCCEEDED:
        return None
    if stored := Result.objects.filter(round=round).first():
        return stored
    run = round.runs.succeeded().filter(stage=Stage.EVALUATION).first()
    if run is None:
        return None
    try:
        made = _compute(run)
    except (OSError, InvalidInput):
        return None
    return Result.objects.get_or_create(round=round, defaults=made)[0] if made else None


def _compute(run: Run) -> dict[str, Any] | None:
    rows = read_answers(run)
    has_parent = any(row.policy == ParentRole.PARENT for row in rows)
    before = ParentRole.PARENT if has_parent else ParentRole.REFERENCE  # which is where the policy started from, too
    answers = by_prompt(before=of_role(rows, before), after=of_role(rows, ParentRole.POLICY))
    if not answers:
        return None
    return {
        "figures": figures(answers, run),
        "gaps": gaps(run),
        **pairs_to_read(answers, run),
        "probes": watched_pairs(answers, run),
    }


def read_answers(run: Run) -> list[SampledCompletion]:
    """What all models of the evaluation `run` answered; nothing where a page would wait too long for it.

    Raises OSError or InvalidInput where the file is gone or damaged.
    """
    path = directories.attempt(run.directory, run.fence) / "output" / "completions.jsonl"
    return [] if path.stat().st_size > LARGEST_BYTES else read_completions(path)


def of_role(rows: Iterable[SampledCompletion], role: str) -> list[SampledCompletion]:
    """What the model in `role` answered."""
    return [row for row in rows if row.policy == role]


def by_prompt(*, before: Iterable[SampledCompletion], after: Iterable[SampledCompletion]) -> ByPrompt:
    """The answers of both models, prompt by prompt."""
    found: ByPrompt = {}
    for side, rows in zip(SIDES, (before, after), strict=True):
        for row in rows:
            found.setdefault(row.prompt_id, {}).setdefault(side, []).append(row)
    return found


def summary(result: Result) -> list[str]:
    """What the figures amount to, in sentences; nothing where no reward model scored."""
    reward, length = result.figure("reward"), result.figure("length")
    if not reward:
        return []
    value, low, high = reward["change"]
    sentences = [_by_reward(low, high) % {"change": decimal(value, sign="+")}]
    if judged := result.figure("watcher_win_rate"):
        rate, worst, best = judged["after"]
        sentences.insert(0, _by_judge(worst, best) % {"rate": percent(rate)})
        if low > 0 and worst <= HALF:
            sentences.append(_("The two disagree: the policy may have learnt to please the reward model only."))
    before, longer = length["before"][0], length["change"][0]
    if low > 0 and before and longer > MUCH_LONGER * before:
        text = _("They are %(share)d%% longer. Read some: length alone can raise the reward.")
        sentences.append(text % {"share": round(100 * longer / before)})
    return sentences


def _by_judge(low: float, high: float) -> str:
    if low > HALF:
        return _("According to the independent judge, the answers are better: they win %(rate)s of the comparisons.")
    if high < HALF:
        return _("According to the independent judge, the answers are worse: they win %(rate)s of the comparisons.")
    return _("According to the independent judge, there is no clear difference: they win %(rate)s of the comparisons.")


def _by_reward(low: float, high: float) -> str:
    if low > 0:
        return _("According to the reward model, the answers are better (%(change)s).")
    if high < 0:
        return _("According to the reward model, the answers are worse (%(change)s).")
    return _("According to the reward model, there is no clear difference (%(change)s).")


def figures(answers: ByPrompt, run: Run) -> list[dict[str, Any]]:
    """Each measure before and after with its interval, and the change from prompt to prompt."""
    rates = {name: win_rate(answers, run, score) for name, score in JUDGES.items()}
    found: list[dict[str, Any]] = [{"name": name, "after": rate} for name, rate in rates.items() if rate]
    for name, measure in MEASURES.items():
        before, after = (_means(answers, side, measure) for side in SIDES)
        if before and after and len(before) == len(after):
            change = [new - old for old, new in zip(before, after, strict=True)]
            spans = {"before": before, "after": after, "change": change}
            found.append({"name": name} | {part: bootstrap(values, seed=run.pk) for part, values in spans.items()})
    if kl := _means(answers, "after", lambda row: row.kl):
        found.append({"name": "kl", "after": bootstrap(kl, seed=run.pk)})
    return found


def gaps(run: Run) -> list[dict[str, Any]]:
    """How often the reward model prefers what people preferred, by how many ranks lie between the two."""
    counts: dict[int, int] = defaultdict(int)
    path = run.directory / "data" / "heldout_rankings.jsonl"
    for slate in read_rankings(path) if path.exists() else []:
        for judgement in slate.judgements:
            for gap in pair_gaps(judgement.places):
                counts[gap] += 1
    shares = {gap: run.metrics.get(f"{GAP}{gap}") for gap in sorted(counts)}
    return [
        {"gap": gap, "pairs": counts[gap], "accuracy": wilson(share, counts[gap])}
        for gap, share in shares.items()
        if share is not None
    ]


def pair_gaps(places: Sequence[int | None]) -> list[int]:
    """The ranks between the two answers of each untied pair."""
    placed = [place for place in places if place is not None]
    ranks = {place: rank for rank, place in enumerate(sorted(set(placed)))}
    return [ranks[worse] - ranks[better] for better in placed for worse in placed if better < worse]


def pairs_to_read(answers: ByPrompt, run: Run) -> dict[str, list[dict[str, Any]]]:
    """The first answers of both to some prompts of `run`.

    `answers` are chosen without looking; the most changed stand first. Of `parting` the reward model prefers the new
    one, and the independent judge the old one: those on which they disagree most stand first.
    """
    messages = {prompt.id: prompt.messages for prompt in read_prompts(run.directory / "data" / "heldout_prompts.jsonl")}
    known = [pk for pk in answers if pk in messages and len(answers[pk]) == len(SIDES)]
    chosen = sorted(known, key=lambda pk: hashlib.sha256(f"{run.uuid}/{pk}".encode()).digest())[:SHOWN]
    gaps = {pk: gap for pk in known if (gap := _disagreement(answers[pk]))}
    apart = sorted(gaps, key=lambda pk: -gaps[pk])[:SHOWN_APART]
    shown = [_pair(pk, messages[pk], answers[pk]) for pk in chosen]
    return {
        "answers": sorted(shown, key=lambda pair: -pair["change"]),
        "parting": [_pair(pk, messages[pk], answers[pk]) for pk in apart],
    }


def watched_pairs(answers: ByPrompt, run: Run) -> list[dict[str, Any]]:
    """The first answers of both to the prompts that were marked in earlier rounds; without, where `run` has none."""
    return [_watched_pair(probe.prompt, answers) for probe in probes.before(run.round)] if run.round else []


def _watched_pair(prompt: Prompt, answers: ByPrompt) -> dict[str, Any]:
    pk = str(prompt.pk)
    if len(answers.get(pk, {})) == len(SIDES):
        return _pair(pk, prompt.messages, answers[pk])
    facts = {"name": prompt.name, "is_withdrawn": prompt.withdrawn_at is not None}
    return {"prompt": prompt.pk, "messages": prompt.messages, **facts}


def _disagreement(rows: dict[str, list[SampledCompletion]]) -> float:
    """By how many σ the reward model prefers the new answer and the judge the old one; 0 where they agree."""
    before, after = (rows[side][0] for side in SIDES)
    scores = (before.reward, after.reward, before.watcher, after.watcher)
    if None in scores:
        return 0.0
    old_reward, new_reward, old_score, new_score = (score or 0.0 for score in scores)
    return new_reward - old_reward + old_score - new_score if new_reward > old_reward and new_score < old_score else 0.0


def _pair(pk: str, messages: list[dict[str, str]], rows: dict[str, list[SampledCompletion]]) -> dict[str, Any]:
    before, after = (rows[side][0] for side in SIDES)
    diff = word_diffs.compare(*(repair_text(row.text)[0] for row in (before, after)))  # no database keeps a NUL
    facts = {"before_reward": before.reward, "after_reward": after.reward}
    facts |= {"before_judged": before.watcher, "after_judged": after.watcher}
    cuts = {"before_cut": before.finish_reason == "length", "after_cut": after.finish_reason == "length"}
    return {"prompt": int(pk), "messages": messages, **diff._asdict(), **facts, **cuts}


def _means(answers: ByPrompt, side: str, measure: Callable[[SampledCompletion], float | None]) -> list[float]:
    """The mean of a measure for each prompt; empty where it was not measured."""
    values = [[measure(row) for row in rows.get(side, [])] for rows in answers.values()]
    known = [[value for value in of_prompt if value is not None] for of_prompt in values]
    return [fmean(of_prompt) for of_prompt in known if of_prompt]


def win_rate(answers: ByPrompt, run: Run, score: Measure = JUDGES["win_rate"]) -> Interval | None:
    """How often the answers `after` have the higher score, by default the reward; None where nothing scored."""
    wins = _wins(answers, score)
    return bootstrap(wins, seed=run.pk) if wins else None


def _wins(answers: ByPrompt, score: Measure) -> list[float]:
    """For each prompt, the share of pairs in which the new answer has the higher score; ties count half."""
    wins = []
    for rows in answers.values():
        before, after = ([one for row in rows.get(side, []) if (one := score(row)) is not None] for side in SIDES)
        if before and after:
            wins.append(fmean((new > old) + (new == old) / 2 for new in after for old in before))
    return wins


def bootstrap(values: Sequence[float], *, seed: int) -> Interval:
    """The mean of `values`, and the middle 95 % of the means of resamples of them. `values` must not be empty."""
    generator = random.Random(seed)
    number = max(100, min(RESAMPLES, MOST_DRAWS // len(values)))
    means = sorted(fmean(generator.choices(values, k=len(values))) for _ in range(number))
    return Interval(fmean(values), means[round(0.025 * (number - 1))], means[round(0.975 * (number - 1))])


def wilson(share: float, of: int) -> Interval:
    """A share of `of` cases with Wilson's interval, which holds for shares near 0 and 1, too. `of` must be above 0."""
    centre = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    reach = Z * sqrt(share * (1 - share) / of + Z * Z / (4 * of * of)) / (1 + Z * Z / of)
    return Interval(share, max(0.0, centre - reach), min(1.0, centre + reach))
