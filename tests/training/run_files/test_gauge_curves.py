"""The picture of the gauge: which measurements it has, what its mark stands for, and how it reads unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotate.models import Project
from tests.training import engine_files
from training.models import Run
from training.services.run_files import curves, gauge_curves
from training.services.run_files.gauge_curves import GaugeCurves
from training.services.run_files.reader import RunFiles


def build(run: Run) -> GaugeCurves | None:
    files = RunFiles(run)
    return gauge_curves.build(files, curves.build(files))


@pytest.fixture
def run(project: Project, data_dir: Path) -> Run:
    """A watched PPO run after 20 of 40 steps."""
    run = engine_files.make_run(project, status=Run.Status.RUNNING, fence=1)
    engine_files.write_metrics(run, engine_files.watched_metrics(20))
    return run


def test_its_lines_are_the_measurements_and_its_mark_is_the_step_the_judge_liked_best(run: Run) -> None:
    gauge = build(run)
    assert gauge
    drawing = gauge.drawing
    assert drawing["steps"] == [5, 10, 15, 20]
    assert drawing["steps"][drawing["best"]] == 10
    assert drawing["metrics"]["gauge/watcher"]["values"] == pytest.approx([0.3, 0.4, 0.3, 0.2])
    assert drawing["metrics"]["gauge/stop_rate"]["texts"] == ["94%", "95%", "96%", "97%"]


def test_distance_is_the_square_root_of_kl_and_an_estimate_below_0_is_none(run: Run) -> None:
    rows = engine_files.watched_metrics(10)
    rows[4]["gauge/kl"], rows[9]["gauge/kl"] = -0.003, 2.25
    engine_files.write_metrics(run, rows)
    gauge = build(run)
    assert gauge and gauge.drawing["rootKl"] == [0.0, 1.5]


@pytest.mark.parametrize(
    ("status", "early_stopping", "words"),
    [
        (Run.Status.RUNNING, "on", "best so far: step 10"),
        (Run.Status.SUCCEEDED, "on", "published: step 10"),
        (Run.Status.SUCCEEDED, "off", "the judge's best: step 10"),  # the last policy is published
        (Run.Status.CANCELLED, "on", "the judge's best: step 10"),
    ],
)
def test_the_mark_says_whether_that_policy_is_the_published_one(
    run: Run, status: str, early_stopping: str, words: str
) -> None:
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"early_stopping": early_stopping}), "utf-8")
    run.status = status
    gauge = build(run)
    assert gauge and gauge.verdict == words


def test_its_description_says_where_both_scores_went(run: Run) -> None:
    gauge = build(run)
    assert gauge and gauge.description == (
        "From step 5 to step 20 the independent judge's score goes from 0.3 to 0.2 and the reward from 0.25 to 1. "
        "The judge's best score is 0.4, at step 10. The values are in the table below."
    )


def test_a_long_table_keeps_the_best_step(run: Run) -> None:
    rows = engine_files.watched_metrics(600, every=1)
    rows[299]["gauge/watcher"] = 9.0
    rows[-1]["gauge/best_step"] = 123  # by means over prompts, of which some have several answers
    engine_files.write_metrics(run, rows)
    gauge = build(run)
    assert gauge
    steps = {step: is_best for step, is_best, _values in gauge.table}
    assert len(steps) <= curves.TABLE_ROWS + 1
    assert {step for step, is_best in steps.items() if is_best} == {123}
    assert {1, 300, 600} <= steps.keys()


def test_without_a_judge_there_is_no_picture(run: Run) -> None:
    engine_files.write_metrics(run, engine_files.ppo_metrics(20))
    assert build(run) is None
