"""What a PPO run with an independent judge has published, and why it ended: for pages, the notice and the audit."""

from __future__ import annotations

import math
from typing import NamedTuple

from django.utils.translation import gettext as _

from training import stages
from training.models import Run
from training.services.run_files import summaries
from training.services.run_files.gauge_curves import BEST_STEP, JUDGE
from training.services.run_files.reader import RunFiles
from training.stages import Stage


class JudgesDecision(NamedTuple):
    """A policy was published that is not that of the last step, as the judge did not like that one best."""

    stopped_at: int | None  # the step at which the judge ended the run; None where something else did
    total: int  # steps that were planned
    published: int  # the step whose policy it is; 0 is the policy that PPO started from
    score: float | None  # of that policy by the judge, in σ
    last_step: int  # that the judge has seen
    last_score: float | None


def of(files: RunFiles) -> JudgesDecision | None:
    """What the judge decided on a run that has ended well.

    None where there was no judge, where it only watched, and where the policy of the last step was the best.
    """
    history, best = files.history, _chosen_step(files)
    if best is None or best == history[-1].step:
        return None
    scores = {row.step: round(row.metrics[JUDGE], 3) for row in history if JUDGE in row.metrics}
    last, total = history[-1].step, history[-1].total
    seen = max(scores, default=last)
    is_early = last < total and not stopped_at_limit(files)
    return JudgesDecision(last if is_early else None, total, best, scores.get(best), seen, scores.get(seen))


class Measured(NamedTuple):
    """What is measured every few steps, at the step whose policy was published."""

    step: int
    figures: dict[str, float]


def measured_of_published(files: RunFiles) -> Measured | None:
    """The figures of the policy that the judge chose; None where it chose none, or nothing is known of it."""
    if (best := _chosen_step(files)) is None:
        return None
    row = next((row for row in files.history if row.step == best and JUDGE in row.metrics), None)
    if row is None:
        return None
    return Measured(row.step, {name: one for name, one in row.metrics.items() if summaries.is_remeasured(name)})


def _chosen_step(files: RunFiles) -> int | None:
    """The step whose policy a run has published because the judge liked it best."""
    run = files.run
    if run.stage != Stage.PPO or run.status != Run.Status.SUCCEEDED or files.config.get("early_stopping") != "on":
        return None
    steps = (int(row.metrics[BEST_STEP]) for row in reversed(files.history) if BEST_STEP in row.metrics)
    return next(steps, None)


def stopped_at_limit(files: RunFiles) -> bool:
    """Whether PPO ended because the policy was too far from the reference, and took the policy before."""
    if files.run.stage != Stage.PPO or files.run.status != Run.Status.SUCCEEDED or not files.history:
        return False
    last, limit = files.history[-1].metrics, float(files.config.get("kl_limit", math.inf))
    return last.get("rollout/final_kl", last.get("rollout/kl", 0.0)) > limit


def in_words(files: RunFiles) -> str:
    """The decision as sentences; empty where there is none."""
    if not (found := of(files)):
        return ""
    return " ".join(text for text in (_why(found), _scores(found), _published(found)) if text)


def _why(found: JudgesDecision) -> str:
    if found.stopped_at is None:
        if found.published:
            return _("The independent judge liked an earlier policy best.")
        return _("The independent judge saw no certain improvement.")
    if found.published:
        text = _("PPO stopped at step %(step)d of %(total)d: the independent judge saw no further improvement.")
    else:
        text = _("PPO stopped at step %(step)d of %(total)d: the independent judge saw no certain improvement.")
    return text % {"step": found.stopped_at, "total": found.total}


def _scores(found: JudgesDecision) -> str:
    if found.score is None or found.last_score is None or found.last_step == found.published:
        return ""
    shown = stages.find(Stage.PPO).metrics[JUDGE].show
    text = _("Its score was %(then)s σ at step %(best)d and %(now)s σ at step %(last)d.")
    scores = {"then": shown(found.score), "now": shown(found.last_score)}
    return text % {**scores, "best": found.published, "last": found.last_step}


def _published(found: JudgesDecision) -> str:
    if found.published:
        return _("Published is the policy of step %(best)d.") % {"best": found.published}
    return _("Published is the policy PPO started from.")
