"""The history of a run as its page draws it: whole, cut where an attempt resumed, thinned out without losing peaks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from annotate.models import Project
from tests.training import engine_files
from training import stages
from training.rlhf.config import STAGES
from training.services.pages.model_pages import model_metrics
from training.services.run_files import config_fields, curves
from training.services.run_files.curves import Point
from training.services.run_files.reader import RunFiles

# The metrics of every stage: names that never change.
NAMES = {
    "sft/loss", "reward/loss", "reward/accuracy", "rollout/reward", "rollout/kl", "rollout/length", "rollout/stop_rate",
    "rollout/entropy", "rollout/sampler_gap", "rollout/noncanonical", "policy/loss", "policy/approx_kl",
    "policy/clip_fraction", "policy/grad_norm", "value/loss", "value/explained_variance", "skipped_steps",
}  # fmt: skip


def test_every_metric_of_the_engine_has_a_name_a_meaning_and_what_is_healthy() -> None:
    assert NAMES - stages.all_metrics().keys() == set()
    assert all(set(stage.shown_metrics) <= stage.metrics.keys() for stage in stages.DEFINITIONS)
    for metric in stages.all_metrics().values():
        assert all(map(str, [metric.label, metric.meaning, metric.healthy]))


@pytest.mark.parametrize(("epochs", "accuracy", "loss"), [
    (1, "healthy 60% to 85%", "healthy 0.35 to 0.69"),
    (5, "healthy above 60%", "healthy below 0.69"),
])  # fmt: skip
def test_rankings_that_are_known_by_heart_after_several_epochs_are_no_warning(
    project: Project, epochs: int, accuracy: str, loss: str
) -> None:
    run = engine_files.make_run(project, "reward", fence=1)
    config = json.loads((run.directory / "config.json").read_text()) | {"epochs": epochs}
    (run.directory / "config.json").write_text(json.dumps(config))
    engine_files.write_metrics(
        run, [{"reward/accuracy": 0.55, "reward/loss": 0.7}, {"reward/accuracy": 0.93, "reward/loss": 0.2}]
    )
    shown = {str(curve.metric.label): curve.metric for curve in curves.build(RunFiles(run))}
    agreement, log_loss = shown["agreement with rankings"], shown["loss"]
    assert (agreement.band, log_loss.band) == (accuracy, loss)
    assert agreement.is_outside(0.93) == log_loss.is_outside(0.2) == (epochs == 1)
    assert agreement.is_outside(0.55) and log_loss.is_outside(0.7)


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("heldout/reward_accuracy_gap_1", "reward accuracy, 1 rank apart"),
        ("heldout/reward_accuracy_gap_3", "reward accuracy, 3 ranks apart"),
        ("heldout/reward_accuracy_round_12", "reward accuracy on answers of round 12"),
        ("data/tied", "left out: all answers ranked equally"),
    ],
)
def test_a_metric_with_a_number_in_its_name_has_words_too(key: str, label: str) -> None:
    assert str(model_metrics.reading(key, 0.5).label) == label


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("heldout/reward_pairs", 18000.0, "18000"),
        ("heldout/reward_pairs", 1234567, "1234567"),
        ("heldout/length", 12345.6, "12346"),
        ("heldout/length", 27.123456, "27.12"),
        ("heldout/length", 27.00001, "27"),
        ("policy/loss", -0.01234567, "−0.01235"),
        ("policy/approx_kl", 0.0001, "0.0001"),
        ("policy/approx_kl", 1.602e-08, "under 0.0001"),
        ("policy/approx_kl", -1.602e-08, "just under 0"),
        ("policy/approx_kl", 0.0, "0"),
        ("rollout/sampler_gap", 0.004, "0.4%"),
        ("value/explained_variance", -0.0001, "0%"),
    ],
)
def test_a_number_has_no_exponent_and_no_digits_that_nobody_reads(key: str, value: float, text: str) -> None:
    assert stages.all_metrics()[key].show(value) == text


def test_every_field_of_a_config_has_words() -> None:
    fields = {field.name for stage in STAGES.values() for field in dataclasses.fields(stage)}
    assert fields - config_fields.FIELDS.keys() - set(config_fields.HIDDEN) == set()


def test_a_thinned_curve_keeps_its_ends_its_peaks_and_its_order() -> None:
    points = [Point(step, 0.0) for step in range(50_000)]
    points[777] = Point(777, 9.0)
    points[31_313] = Point(31_313, -9.0)
    kept = curves.thin(points)
    assert len(kept) <= curves.MOST_POINTS
    assert {points[0], points[777], points[31_313], points[-1]} <= set(kept)
    assert kept == sorted(kept)


@pytest.mark.parametrize(
    ("name", "values", "is_folded"),
    [
        ("skipped_steps", [0.0] * 9, True),
        ("skipped_steps", [0.0] * 4, False),  # too few steps to say
        ("skipped_steps", [0.0] * 8 + [1.0], False),
        ("policy/clip_fraction", [0.10, 0.11, 0.10, 0.105, 0.10], True),  # 0.01 of a band of 0.2 is a twentieth
        ("policy/clip_fraction", [0.10, 0.12, 0.10, 0.11, 0.10], False),
        ("policy/clip_fraction", [0.25] * 9, False),  # flat, and outside
        ("sft/loss", [2.0, 1.95, 1.94, 1.92, 1.91], True),  # open above: 0.09 of a height of 2
        ("sft/loss", [2.0, 1.9, 1.85, 1.81, 1.8], False),
        ("rollout/reward", [1.0] * 9, False),  # nobody knows what is healthy there
    ],
)
def test_only_a_curve_that_hardly_moves_within_its_band_is_folded_away(
    name: str, values: list[float], is_folded: bool
) -> None:
    assert curves.is_flat_and_healthy(stages.all_metrics()[name], values) == is_folded


def test_the_most_telling_curve_of_a_run_is_never_folded_away(project: Project, data_dir: Path) -> None:
    run = engine_files.make_run(project, "sft", fence=1)
    engine_files.write_metrics(run, [{"sft/loss": 2.0, "skipped_steps": 0}] * 9)
    assert {curve.name: curve.is_folded for curve in curves.build(RunFiles(run))} == {
        "sft/loss": False,
        "skipped_steps": True,
    }


def test_a_short_curve_is_not_thinned() -> None:
    points = [Point(step, step % 3) for step in range(curves.MOST_POINTS)]
    assert curves.thin(points) == points


def test_what_an_older_attempt_did_after_its_checkpoint_is_done_again(project: Project, data_dir: Path) -> None:
    run = engine_files.make_run(project, fence=2)
    engine_files.write_metrics(run, [{"rollout/kl": 1.0}] * 9, fence=1)
    engine_files.write_metrics(run, [{"rollout/kl": 1.0}] * 4 + [{"rollout/kl": 2.0}], fence=2)
    assert [(row.step, row.metrics["rollout/kl"]) for row in RunFiles(run).history][3:] == [(4, 1.0), (5, 2.0)]


def test_the_history_stays_while_a_new_attempt_still_loads(project: Project, data_dir: Path) -> None:
    run = engine_files.make_run(project, fence=10)
    engine_files.write_metrics(run, [{"rollout/kl": 1.0}] * 9, fence=9)
    engine_files.attempt(run)
    assert len(RunFiles(run).history) == 9


def test_torn_lines_and_numbers_that_are_none_are_left_out(project: Project, data_dir: Path) -> None:
    run = engine_files.make_run(project, fence=1)
    good = json.dumps({"step": 1, "total": 2, "time": 0, "metrics": {"rollout/kl": 0.5}})
    odd = '{"step": 2, "total": 2, "time": 0, "metrics": {"rollout/kl": NaN, "rollout/reward": 1.0}}'
    (engine_files.attempt(run) / "metrics.jsonl").write_text(f'{good}\n{{"step": 1, "me\n{odd}\n{{"step":3', "utf-8")
    assert [row.metrics for row in RunFiles(run).history] == [{"rollout/kl": 0.5}, {"rollout/reward": 1.0}]


def test_the_band_of_the_distance_ends_at_the_runs_own_limit(project: Project, data_dir: Path) -> None:
    run = engine_files.make_run(project, fence=1)
    engine_files.write_metrics(run, engine_files.ppo_metrics(3))
    drawn = {curve.name: curve for curve in curves.build(RunFiles(run))}
    assert drawn["rollout/kl"].metric.high == 4.0
