"""What training says on a project's overview: what waits for an admin, how the rounds went, what the workers do."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from annotate.services.project_overview.charts import HEIGHT
from annotate.services.project_overview.parts import Urgency
from tests.factories import make_demonstration, make_project
from tests.training import engine_files
from tests.training.history import make_round
from training.models import ModelVersion, Promotion, Result, Round, Run, TrainingSettings, Worker
from training.services.pages import project_overview
from training.services.pages.project_overview import build

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def trains(project: Project) -> Project:
    """A project with a base model, a free worker, and one answer to go before it can train."""
    TrainingSettings.objects.create(project=project, demonstrations_minimum=1, rankings_minimum=2)
    ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    Worker.objects.create(name="gpu-worker@lab", queue="gpu", host="lab", device="CPU", pid=1)
    return project


def decisions(project: Project) -> dict[str, str]:
    return {decision.text: decision.address for decision in build(project).decisions}


def measure(round: Round, *, wins: list[float], gaps: list[tuple[int, float]]) -> Result:
    return Result.objects.create(
        round=round,
        figures=[{"name": "win_rate", "after": wins}],
        gaps=[{"gap": n, "pairs": pairs, "accuracy": [share, 0, 1]} for n, (pairs, share) in enumerate(gaps, 1)],
        answers=[],
    )


def test_a_project_without_settings_is_sent_to_them(project: Project) -> None:
    (decision,) = build(project).decisions
    assert decision.address == reverse("annotate:settings", args=[project.slug])


def test_new_labels_stand_against_the_minimum_of_the_next_round(trains: Project, annotator: Member) -> None:
    found = build(trains)
    assert [(way.done, way.wanted) for way in found.progress] == [(0, 1), (0, 2)]
    assert found.sentence == "1 more answer before round 1 can train"
    assert found.decisions == []
    make_demonstration(annotator)
    assert [way.done for way in build(trains).progress] == [1, 0]


def test_after_the_first_round_new_rankings_or_new_answers_are_enough(trains: Project) -> None:
    assert [way.label for way in build(trains).progress] == ["New answers", "New rankings"]
    Round.objects.create(project=trains, number=1, plan={}, status=Round.Status.SUCCEEDED)
    assert [way.label for way in build(trains).progress] == ["New rankings", "or new answers"]


def test_a_round_that_can_start_waits_for_somebody_to_start_it(trains: Project, annotator: Member) -> None:
    make_demonstration(annotator)
    rounds = reverse("training:rounds", args=[trains.slug])
    assert decisions(trains) == {"Round 1 can start: there are enough labels.": rounds}
    Round.objects.create(project=trains, number=1, plan={}, status=Round.Status.RUNNING)
    found = build(trains)
    assert found.decisions == []
    assert (found.running, found.running_address) == (
        "Round 1 is running.",
        reverse("training:round", args=[trains.slug, 1]),
    )


def test_held_runs_failed_rounds_and_missing_workers_stop_everything(trains: Project) -> None:
    round = Round.objects.create(project=trains, number=1, plan={}, status=Round.Status.FAILED, error="Full.\nMore")
    run = engine_files.make_run(trains, status=Run.Status.HELD, round=round, ending={"kind": "disk"})
    Worker.objects.all().delete()
    found = build(trains).decisions
    assert {decision.urgency for decision in found} == {Urgency.STOPPED}
    assert [(decision.text, decision.address) for decision in found] == [
        ("PPO of round 1 is on hold: The disk was full.", reverse("training:run", args=[trains.slug, run.pk])),
        ("Round 1 failed: Full.", reverse("training:round", args=[trains.slug, 1])),
        ("No gpu-worker is running, so nothing can train.", reverse("training:rounds", args=[trains.slug])),
    ]


def test_a_new_policy_waits_until_somebody_decides_about_it(trains: Project, admin: Member) -> None:
    made = make_round(trains, "sft", "ppo")["ppo"]
    measure(made.run.round, wins=[0.7, 0.6, 0.8], gaps=[])
    text = "ppo-1 is ready and has not been promoted. Proxy win rate: 70% (60% to 80%)."
    assert decisions(trains)[text] == reverse("training:round", args=[trains.slug, 1])
    Promotion.objects.create(project=trains, model_version=made, promoted_by=admin.user, reason="Better.")
    assert decisions(trains) == {}


def test_a_policy_that_was_there_when_somebody_rolled_back_does_not_ask_again(trains: Project, admin: Member) -> None:
    made = make_round(trains, "sft", "ppo")
    Promotion.objects.create(project=trains, model_version=made["ppo"], promoted_by=admin.user, reason="Better.")
    Promotion.objects.create(project=trains, model_version=made["sft"], promoted_by=admin.user, reason="Worse.")
    assert decisions(trains) == {}


def test_a_champion_that_learned_from_withdrawn_labels_is_named(trains: Project, admin: Member) -> None:
    made = make_round(trains, "sft", "ppo")["ppo"]
    Promotion.objects.create(project=trains, model_version=made, promoted_by=admin.user, reason="Better.")
    ModelVersion.objects.filter(pk=made.pk).update(uses_withdrawn_labels=True)
    (text,) = decisions(trains)
    assert text.startswith("The champion ppo-1 was trained on labels that have since been withdrawn")


def test_accuracy_and_win_rate_are_drawn_by_round_with_their_intervals(trains: Project) -> None:
    rounds = [make_round(trains, "sft", "ppo")["ppo"].run.round for _ in range(3)]
    measure(rounds[0], wins=[0.5, 0.4, 0.6], gaps=[])
    measure(rounds[2], wins=[0.75, 0.5, 1.0], gaps=[(30, 0.6), (10, 1.0)])
    accuracy, win_rate = build(trains).charts
    assert [slot.name for slot in win_rate.slots] == ["Round 1", "Round 3"]
    assert win_rate.slots[1].cells == ("75% (50% to 100%), proxy",)
    last = win_rate.dots[1]
    assert (last.y, last.low, last.high) == (HEIGHT / 4, HEIGHT / 2, 0)
    (dot,) = accuracy.dots
    assert dot.title.startswith("Round 3: 70% (")  # 28 of 40 pairs
    assert dot.y == pytest.approx(HEIGHT * 0.3)


def test_where_an_independent_judge_scored_its_win_rate_stands_and_says_so(trains: Project) -> None:
    watched = make_round(trains, "sft", "ppo")["ppo"].run.round
    result = measure(watched, wins=[0.9, 0.8, 1.0], gaps=[])
    result.figures.append({"name": "watcher_win_rate", "after": [0.25, 0.2, 0.3]})
    result.save()
    text = "ppo-1 is ready and has not been promoted. Win rate according to the independent judge: 25% (20% to 30%)."
    assert text in decisions(trains)
    _accuracy, win_rate = build(trains).charts
    assert win_rate.slots[0].cells == ("25% (20% to 30%), independent judge",)
    assert win_rate.dots[0].y == HEIGHT * 3 / 4


def test_no_line_joins_the_win_rates_by_two_kinds_of_judge(trains: Project) -> None:
    for name in ("win_rate", "watcher_win_rate", "watcher_win_rate"):
        result = measure(make_round(trains, "sft", "ppo")["ppo"].run.round, wins=[0.5, 0.4, 0.6], gaps=[])
        result.figures[0]["name"] = name
        result.save()
    _accuracy, win_rate = build(trains).charts
    assert [len(line.split()) for line in win_rate.lines] == [1, 2]


def test_before_any_result_the_charts_say_what_they_wait_for(trains: Project) -> None:
    assert all("adds a point" in chart.empty for chart in build(trains).charts)


def test_a_worker_shows_what_it_does_but_not_for_whom_else(trains: Project) -> None:
    worker, elsewhere = Worker.objects.get(), make_project()
    run = engine_files.make_run(trains, status=Run.Status.RUNNING, step=3, total=9)
    worker.run = run
    worker.save()
    (state,) = build(trains).workers
    assert state.doing.endswith(", step 3 of 9")
    assert state.address == reverse("training:run", args=[trains.slug, run.pk])
    TrainingSettings.objects.create(project=elsewhere)
    assert [each.doing for each in build(elsewhere).workers] == ["running another project"]
    Run.objects.filter(pk=run.pk).update(status=Run.Status.SUCCEEDED, finished_at=timezone.now())
    assert [each.doing for each in project_overview.build(trains).workers] == ["free"]
