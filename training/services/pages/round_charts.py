"""How the rounds of a project went, as charts: the accuracy of the reward model and the win rate of the policy."""

from __future__ import annotations

from django.utils.translation import gettext as _

from annotate.models import Project
from annotate.services.project_overview.charts import Chart, Point, shares
from training.models import Result, Round, Run
from training.services.pages.outcome import FIGURES
from training.services.running import results
from training.stages import Stage

MOST_ROUNDS = 12  # the newest


def build(project: Project) -> list[Chart]:
    """Both charts over the newest rounds, oldest first; a round that measured nothing stands in none."""
    measured = _results(project)
    return [_accuracy(measured), _win_rate(measured)]


def _results(project: Project) -> list[Result]:
    """The results of the newest rounds. Of those that were not computed yet, only the newest is: it takes a moment."""
    succeeded = Round.objects.filter(project=project, status=Round.Status.SUCCEEDED).order_by("-number")
    newest = list(succeeded.select_related("result")[:MOST_ROUNDS])
    evaluated = Run.objects.succeeded().filter(round__in=newest, stage=Stage.EVALUATION)
    with_evaluation = set(evaluated.values_list("round", flat=True))
    missing = [round for round in newest if not hasattr(round, "result") and round.pk in with_evaluation]
    computed = {round.pk: results.load(round) for round in missing[:1]}
    found = [getattr(round, "result", None) or computed.get(round.pk) for round in reversed(newest)]
    return [result for result in found if result]


def _accuracy(measured: list[Result]) -> Chart:
    return shares(
        "reward-accuracy",
        title=_("Reward accuracy by round"),
        meaning=_("how often the reward model agrees with people on held-out prompts"),
        first_column=_("Round"),
        column=_("Accuracy (95% interval)"),
        points=[_point(result, accuracy, "accuracy") for result in measured if (accuracy := _overall(result))],
        empty=_("No data yet. Each round that evaluates its reward model on held-out rankings adds a point."),
    )


def _win_rate(measured: list[Result]) -> Chart:
    rates = [(result, result.win_rate) for result in measured if result.win_rate]
    return shares(
        "win-rate",
        title=_("Win rate by round"),
        meaning=_(
            "how often the new policy's answer is preferred to the previous one's: by the independent judge in rounds "
            "that have one, otherwise by the reward model (proxy); lines join rounds with the same kind of judge"
        ),
        first_column=_("Round"),
        column=_("Win rate (95% interval)"),
        points=[_point(result, rate["after"], rate["name"]) for result, rate in rates],
        empty=_("No data yet. Each round that compares its policy with the previous one adds a point."),
    )


def _overall(result: Result) -> list[float] | None:
    """The accuracy over all pairs, however far apart, with its interval."""
    pairs = sum(row["pairs"] for row in result.gaps)
    if not pairs:
        return None
    right = sum(row["pairs"] * row["accuracy"][0] for row in result.gaps)
    return list(results.wilson(right / pairs, pairs))


def _point(result: Result, interval: list[float], figure: str) -> Point:
    number = result.round.number
    value, low, high = (*interval, None, None)[:3]
    shown, judge = FIGURES[figure].show(list(interval)), FIGURES[figure].judge
    return Point(
        label=str(number),
        name=_("Round %(number)d") % {"number": number},
        value=value,  # type: ignore[arg-type]  # the first is always there
        low=low,
        high=high,
        text=_("%(rate)s, %(judge)s") % {"rate": shown, "judge": judge} if judge else shown,
        measure=figure,
    )
