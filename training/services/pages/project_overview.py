"""What training adds to a project's overview: the answer to annotate.hooks.overview."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from annotate.models import Project
from annotate.services.project_overview.parts import Decision, Progress, TrainingOverview, Urgency, WorkerState
from training.models import ModelVersion, Promotion, Result, Round, Run, TrainingSettings, Worker
from training.services.labels import trainable_labels
from training.services.labels.trainable_labels import Readiness
from training.services.pages import round_charts
from training.services.pages.outcome import FIGURES
from training.services.registry import base_models, promotions
from training.services.running import failures
from training.stages import Stage


def build(project: Project) -> TrainingOverview:
    """What there is to say about the training of `project`, for its admins."""
    training = TrainingSettings.objects.filter(project=project).first()
    readiness = trainable_labels.readiness(project)
    if training is None or readiness is None:
        return TrainingOverview(decisions=[_does_not_train(project)])
    newest = Round.objects.filter(project=project).select_related("project").order_by("-number").first()
    running = newest if newest and newest.is_active else None
    workers = list(Worker.objects.alive("gpu").select_related("run__project", "run__round").order_by("name"))
    return TrainingOverview(
        sentence=readiness.sentence,
        running=_("Round %(number)d is running.") % {"number": running.number} if running else "",
        running_address=_round_page(running) if running else "",
        progress=_progress(training, readiness, is_first=not _has_trained(project)),
        decisions=[*_decisions(project, training, readiness, newest, has_worker=bool(workers))],
        charts=round_charts.build(project),
        workers=[_worker(worker, project) for worker in workers],
    )


def _has_trained(project: Project) -> bool:
    """Whether the next round is a later one, as trainable_labels counts them."""
    return Round.objects.filter(project=project, status__in=[Round.Status.SUCCEEDED, *Round.ACTIVE]).exists()


def _progress(training: TrainingSettings, readiness: Readiness, *, is_first: bool) -> list[Progress]:
    """What the next round waits for: the first one for answers alone, a later one for either."""
    most = max(trainable_labels.MOST_COUNTED, training.demonstrations_minimum, training.rankings_minimum)
    answers = Progress(
        label=_("New answers") if is_first else _("or new answers"),
        done=readiness.new_demonstrations,
        wanted=training.demonstrations_minimum,
        most=most,
    )
    rankings = Progress(
        label=_("New rankings"), done=readiness.new_rankings, wanted=training.rankings_minimum, most=most
    )
    return [answers, rankings] if is_first else [rankings, answers]


def _decisions(
    project: Project, training: TrainingSettings, readiness: Readiness, newest: Round | None, *, has_worker: bool
) -> Iterator[Decision]:
    slug = project.slug
    yield from _stopped_runs(project)
    if newest and newest.status == Round.Status.FAILED:
        text = _("Round %(number)d failed: %(reason)s") % {"number": newest.number, "reason": _first_line(newest.error)}
        yield _decision(Urgency.STOPPED, text, _round_page(newest), _("View round"))
    if not has_worker:
        text = _("No gpu-worker is running, so nothing can train.")
        yield _decision(Urgency.STOPPED, text, reverse("training:rounds", args=[slug]), _("View queue"))
    if not base_models.is_settled(project):
        text = base_models.why_missing(training)
        yield _decision(Urgency.WAITING, text, reverse("training:rounds", args=[slug]), _("View rounds"))
    if readiness.can_start:
        number = newest.number + 1 if newest else 1
        text = _("Round %(number)d can start: there are enough labels.") % {"number": number}
        yield _decision(Urgency.WAITING, text, reverse("training:rounds", args=[slug]), _("View plan"))
    yield from _models(project)


def _stopped_runs(project: Project) -> Iterator[Decision]:
    """Held runs; and the one that should have made the base model, if it failed."""
    runs = Run.objects.filter(project=project).select_related("round", "project")
    for run in runs.held().order_by("pk"):
        text = _("%(run)s is on hold: %(reason)s") % {"run": _run_name(run), "reason": failures.cause_of(run).headline}
        yield _decision(Urgency.STOPPED, text, _run_page(run), _("View run"))
    pretraining = runs.filter(stage=Stage.PRETRAINING).order_by("-pk").first()
    if pretraining and pretraining.status == Run.Status.FAILED:
        text = _("The base model could not be created: %(reason)s")
        reason = failures.cause_of(pretraining).headline
        yield _decision(Urgency.STOPPED, text % {"reason": reason}, _run_page(pretraining), _("View run"))


def _models(project: Project) -> Iterator[Decision]:
    """A new policy that nobody has decided about, and a champion that should be replaced."""
    champion = promotions.champion(project)
    policies = ModelVersion.objects.policies().with_weights().filter(project=project)
    made = policies.filter(run__round__status=Round.Status.SUCCEEDED).select_related(
        "run__round__result", "run__round__project"
    )
    newest = made.order_by("-pk").first()
    last = Promotion.objects.filter(project=project).first()
    round = newest.run.round if newest and newest.run else None
    if newest and round and newest != champion and (last is None or newest.created_at > last.created_at):
        yield _decision(Urgency.OPEN, _new_policy(newest, round), _round_page(round), _("Compare and promote"))
    if champion and champion.uses_withdrawn_labels:
        text = _("The champion %(name)s was trained on labels that have since been withdrawn or returned.")
        address = reverse("training:model", args=[project.slug, champion.pk])
        yield _decision(Urgency.OPEN, text % {"name": champion.name}, address, _("View model"))


def _new_policy(model: ModelVersion, round: Round) -> str:
    result: Result | None = getattr(round, "result", None)
    wins = result.win_rate if result else None
    if not wins:
        return _("%(name)s is ready and has not been promoted.") % {"name": model.name}
    text = _("%(name)s is ready and has not been promoted. Proxy win rate: %(rate)s.")
    if wins["name"] == "watcher_win_rate":
        text = _("%(name)s is ready and has not been promoted. Win rate according to the independent judge: %(rate)s.")
    return text % {"name": model.name, "rate": FIGURES[wins["name"]].show(wins["after"])}


def _does_not_train(project: Project) -> Decision:
    text = _("Training is not set up yet. Choose a base model and the minimum numbers of labels.")
    return _decision(Urgency.OPEN, text, reverse("annotate:settings", args=[project.slug]), _("Settings"))


def _worker(worker: Worker, project: Project) -> WorkerState:
    run = worker.run if worker.run and worker.run.status == Run.Status.RUNNING else None
    if run is None:
        return WorkerState(name=worker.name, device=worker.device, doing=_("free"))
    if run.project_id != project.pk:
        return WorkerState(name=worker.name, device=worker.device, doing=_("running another project"))
    doing = _run_name(run)
    if run.total:
        doing = _("%(run)s, step %(step)d of %(total)d") % {"run": doing, "step": run.step, "total": run.total}
    return WorkerState(name=worker.name, device=worker.device, doing=doing, address=_run_page(run))


def _decision(urgency: Urgency, text: str, address: str, action: str) -> Decision:
    return Decision(urgency=urgency, text=text, address=address, action=action)


def _run_name(run: Run) -> str:
    if run.round is None:
        return capfirst(run.get_stage_display())
    return _("%(stage)s of round %(number)d") % {"stage": capfirst(run.get_stage_display()), "number": run.round.number}


def _round_page(round: Round) -> str:
    return reverse("training:round", args=[round.project.slug, round.number])


def _run_page(run: Run) -> str:
    return reverse("training:run", args=[run.project.slug, run.pk])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0] or _("see the round page.")
