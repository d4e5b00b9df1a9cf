"""The outcome of a round: what it amounts to on held-out prompts, in words and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training.models import ModelVersion, Result, Round
from training.services.pages import pair_actions
from training.services.planning import plans
from training.services.planning.plans import Plan
from training.services.registry import promotions
from training.services.running import results
from training.services.running.pairs import Pair
from training.stages import Stage
from training.stages.metric import Words
from training.stages.number_format import decimal, percent

WATCHED = "gauge/watcher"  # a metric of each PPO that was watched


class FigureWords(NamedTuple):
    """What a figure of a result is called, what it means, and how it is written."""

    label: Words
    meaning: Words
    is_share: bool = False
    judge: Words = ""  # of a win rate: who prefers one answer, in a word

    def show(self, interval: list[float | None] | None, *, sign: str = "") -> str:
        """A value with its interval (value, low, high) in brackets, as far as there is one; `sign` as in a format."""
        if not interval:
            return "–"
        write = percent if self.is_share else decimal
        value, *bounds = [write(number, sign=sign) for number in interval if number is not None]
        if len(bounds) < 2:
            return value
        return _("%(value)s (%(low)s to %(high)s)") % {"value": value, "low": bounds[0], "high": bounds[1]}


FIGURES = {
    "watcher_win_rate": FigureWords(
        gettext_lazy("win rate"),
        gettext_lazy("how often the independent judge, which the policy was not trained on, prefers the new answer"),
        is_share=True,
        judge=gettext_lazy("independent judge"),
    ),
    "reward": FigureWords(
        gettext_lazy("reward"), gettext_lazy("σ, according to the reward model that the policy was trained on")
    ),
    "length": FigureWords(gettext_lazy("length"), gettext_lazy("tokens per answer")),
    "stop_rate": FigureWords(
        gettext_lazy("stop rate"), gettext_lazy("share of answers that end before the length limit"), is_share=True
    ),
    "win_rate": FigureWords(
        gettext_lazy("proxy win rate"),
        gettext_lazy("how often the reward model prefers the new answer"),
        is_share=True,
        judge=gettext_lazy("proxy"),
    ),
    "kl": FigureWords(gettext_lazy("KL"), gettext_lazy("nats per answer from the reference")),
    "accuracy": FigureWords(gettext_lazy("accuracy"), "", is_share=True),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round amounts to: the policy that it made against the one before."""

    result: Result
    pairs: dict[str, list[Pair]]  # to read, by the section of the page
    summary: list[str]
    before: str  # the names of the two policies that were compared
    after: str
    new_policy: ModelVersion | None
    champion: ModelVersion | None
    warning: str  # where nothing but the reward model judged PPO


def build(round: Round, new_policy: ModelVersion | None) -> Outcome | None:
    """The outcome of `round`, which made `new_policy`; None until something was measured."""
    result = results.load(round)
    if result is None:
        return None
    plan = plans.load(round)
    compared = plan.stage(Stage.EVALUATION).parents
    return Outcome(
        result=result,
        pairs=pair_actions.sections(result, round.project),
        summary=results.summary(result),
        before=compared.get("parent", compared["reference"]).name,
        after=compared["policy"].name,
        new_policy=new_policy,
        champion=promotions.champion(round.project),
        warning=_unwatched(new_policy, plan) if new_policy else "",
    )


def _unwatched(policy: ModelVersion, plan: Plan) -> str:
    """That no independent judge watched the PPO that made `policy`, and why; empty where one did."""
    if policy.kind != ModelVersion.Kind.PPO or WATCHED in policy.metrics:
        return ""
    warning = _("No independent judge watched PPO in this round, so it may have exploited the reward model unseen.")
    why = [stage.reason for stage in plan.stages if stage.stage == Stage.WATCHER and stage.reason]
    return " ".join([warning, *why])
