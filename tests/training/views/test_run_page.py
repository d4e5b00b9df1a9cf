"""The page of a run as the server tells it: what it was asked, what it does, and whether anybody still does it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from tests.factories import make_member
from tests.training import engine_files, machine
from training.models import Run
from training.rlhf import endings
from training.services.pages import progress
from training.services.planning.plans import StagePlan
from training.services.run_files import curves, judges_decision
from training.services.run_files.reader import RunFiles
from training.services.running import failures, runs

HTMX = {"HX-Request": "true"}  # as a page asks for its parts


@pytest.fixture
def page(client: Client, admin: Member, data_dir: Path) -> Client:
    """The browser of a project admin."""
    client.force_login(admin.user)
    return client


@pytest.fixture
def running(project: Project, data_dir: Path) -> Run:
    """A PPO run in a worker's hands, with a few steps behind it."""
    run = runs.claim(engine_files.make_run(project).pk, owner="gpu@here")
    assert run is not None
    engine_files.write_metrics(run, engine_files.ppo_metrics(5))
    runs.heartbeat(run, step=5, total=40)
    return run


def url(run: Run, name: str = "run") -> str:
    return reverse(f"training:{name}", args=[run.project.slug, run.pk])


def read(run: Run) -> RunFiles:
    files = RunFiles(run)
    files.catch_up()
    return files


def shown(page: Client, run: Run, name: str = "run") -> str:
    return page.get(url(run, name), headers=HTMX if name == "run-live" else {}).content.decode()


def test_the_page_shows_the_config_the_step_and_a_table_behind_every_curve(page: Client, running: Run) -> None:
    html = shown(page, running)
    assert "step 5 of 40" in html
    assert "KL coefficient (beta)" in html
    assert "How far the policy&#x27;s answers have moved from the SFT" in html
    assert html.count("data-curve=") == html.count(">Table</summary>") == 10


def test_flat_and_healthy_curves_stand_in_one_line_that_opens(page: Client, running: Run) -> None:
    engine_files.write_metrics(running, engine_files.ppo_metrics(5))
    html = shown(page, running)
    shown_first, folded = html.split('<details id="flat-curves"')
    folded = folded.split("</section>")[0]
    assert 'id="curve-skipped-steps"' in folded and 'id="curve-rollout-reward"' in shown_first
    summary = " ".join(re.sub(r"<[^>]+>", " ", folded.split("</summary>")[0].split(">", 1)[1]).split())
    assert summary == "2 curves are flat and healthy: explained variance 24%, skipped steps 0"
    engine_files.write_metrics(running, engine_files.ppo_metrics(4))
    assert 'id="flat-curves"' not in shown(page, running), "after four steps nobody can say"


def test_a_phase_says_how_many_bytes_are_through(page: Client, running: Run) -> None:
    said = {"name": "loading", "what": "policy", "done": 212 * 2**20, "total": 488 * 2**20, "unit": "bytes"}
    assert "Loading" not in shown(page, running, "run-live")
    (engine_files.attempt(running) / "phase.json").write_text(json.dumps(said), "utf-8")
    assert "Loading the policy, 212.0\xa0MB of 488.0\xa0MB" in shown(page, running, "run-live")


def test_a_recovery_is_shown(page: Client, running: Run) -> None:
    said = [{"kind": "out_of_memory", "step": 3, "text": "Memory ran out at step 3; half as much goes at once now."}]
    (engine_files.attempt(running) / "setbacks.json").write_text(json.dumps(said), "utf-8")
    assert "half as much goes at once now" in shown(page, running, "run-live")


def test_a_run_whose_worker_is_silent_for_30_seconds_is_lost(page: Client, running: Run) -> None:
    assert "is not responding" not in shown(page, running, "run-live")
    Run.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=30))
    assert "Worker gpu@here is not responding" in shown(page, running, "run-live")


def test_a_run_that_was_taken_from_a_silent_worker_keeps_its_log_and_its_numbers(page: Client, running: Run) -> None:
    (engine_files.attempt(running) / "engine.log").write_text("CUDA error: the card fell out", "utf-8")
    endings.write(engine_files.attempt(running), {"kind": "device", "sentence": "CUDA error: the card fell out"})
    machine.let_lease_end(running)
    assert runs.reclaim() == 1
    waiting = Run.objects.get()
    assert (waiting.status, waiting.fence) == (Run.Status.QUEUED, running.fence + 1)
    assert "the card fell out" in shown(page, waiting, "run-live")
    [stage] = progress.pair_stages([StagePlan(stage="ppo")], [RunFiles(waiting)], is_over=False)
    assert stage.log_tail == "CUDA error: the card fell out"
    assert stage.readings
    Run.objects.update(status=Run.Status.FAILED, exit_code=1)
    assert failures.cause_of(Run.objects.get()).name == "device"


def test_the_log_of_the_newest_attempt_that_has_one_is_shown(page: Client, running: Run) -> None:
    for fence in (9, 10):
        (engine_files.attempt(running, fence) / "engine.log").write_text(f"attempt {fence}", "utf-8")
    (engine_files.attempt(running, 11)).mkdir(exist_ok=True)
    assert "attempt 10" in shown(page, running, "run-live")


def test_the_step_is_the_one_that_the_engine_reported_last(page: Client, running: Run) -> None:
    engine_files.write_metrics(running, engine_files.ppo_metrics(17))
    assert "step 17 of 40" in shown(page, running, "run-live")
    assert Run.objects.get().step < 17, "the row learns it with the next heartbeat"


def test_the_last_forty_lines_of_the_log_are_shown_whole(page: Client, running: Run) -> None:
    lines = [f"line {number:02} {'of a long trace ' * 40}.".replace("  ", " ") for number in range(60)]
    (engine_files.attempt(running) / "engine.log").write_text("\n".join(lines), "utf-8")
    html = shown(page, running, "run-live")
    assert all(line in html for line in lines[20:])
    assert lines[19] not in html


def test_a_curve_without_a_band_says_so_and_what_is_healthy(page: Client, running: Run) -> None:
    html = shown(page, running)
    reward, distance = (
        html.split(f'id="curve-rollout-{name}"')[1].split("</figcaption>")[0] for name in ("reward", "kl")
    )
    assert "No fixed range. Healthy: Rises, then levels off." in reward
    assert "No fixed range" not in distance


def judged(project: Project, *, steps: int, best: int, **last: float) -> Run:
    """A PPO run of 40 iterations that has ended after `steps`, and whose judge liked the policy of step `best`."""
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=steps, total=40)
    rows = engine_files.ppo_metrics(steps)
    rows[-1] |= {"gauge/watcher": 0.4, "gauge/best_step": best, **last}
    engine_files.write_metrics(run, rows)
    return run


def test_a_run_that_the_judge_stopped_says_so_and_names_the_policy_that_was_published(
    page: Client, project: Project
) -> None:
    run = judged(project, steps=30, best=20, **{"rollout/kl": 2.0})
    said = (
        "PPO stopped at step 30 of 40: the independent judge saw no further improvement."
        " Published is the policy of step 20."
    )
    assert said in shown(page, run, "run-live")
    assert progress.describe(StagePlan(stage="ppo"), read(run), lost=()).remark == said


def test_the_judges_decision_has_its_scores_of_the_published_and_of_the_last_policy(project: Project) -> None:
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=20, total=40)
    engine_files.write_metrics(run, engine_files.watched_metrics(20))
    said = judges_decision.in_words(read(run))
    assert "no further improvement. Its score was 0.4 σ at step 10 and 0.2 σ at step 20. Published is" in said


@pytest.mark.parametrize(
    ("steps", "best", "kl", "said"),
    [
        (40, 40, 2.0, ""),
        (40, 35, 2.0, "The independent judge liked an earlier policy best. Published is the policy of step 35."),
        (12, 10, 9.0, "The independent judge liked an earlier policy best. Published is the policy of step 10."),
        (
            10,
            0,
            2.0,
            "PPO stopped at step 10 of 40: the independent judge saw no certain improvement."
            " Published is the policy PPO started from.",
        ),
        (40, 0, 2.0, "The independent judge saw no certain improvement. Published is the policy PPO started from."),
    ],
)
def test_what_the_judge_decided_is_told_from_what_the_kl_limit_did(
    page: Client, project: Project, steps: int, best: int, kl: float, said: str
) -> None:
    run = judged(project, steps=steps, best=best, **{"rollout/kl": kl})
    assert judges_decision.in_words(read(run)) == said
    html = shown(page, run, "run-live")
    assert ("PPO stopped at its KL limit." in html) == (kl > 4)
    assert "kept the policy from the step before" not in html


def test_without_a_judge_nothing_is_said_of_one(page: Client, project: Project) -> None:
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=30, total=40)
    engine_files.write_metrics(run, engine_files.ppo_metrics(30))
    assert "judge" not in shown(page, run, "run-live")


def test_the_judges_score_is_the_first_curve(page: Client, project: Project) -> None:
    run = judged(project, steps=10, best=0)
    assert [curve.name for curve in curves.build(read(run))][:2] == ["gauge/watcher", "rollout/reward"]


def test_what_the_judge_measures_is_drawn_once_in_one_picture_with_one_table(page: Client, project: Project) -> None:
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=20, total=20)
    engine_files.write_metrics(run, engine_files.watched_metrics(20), total=20)
    html = shown(page, run)
    assert 'data-curve="rollout/reward"' in html and 'data-curve="gauge/' not in html
    picture = html.split('<figure id="gauge"')[1].split("</figure>")[0]
    assert picture.count("data-gauge-panel=") == 5
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in picture.split("<tbody>")[1].split("<tr>")[1:]]
    assert rows[1] == ["○", "published:", "step", "10:", "10", "0.4", "0.5", "1.8", "43", "95%"]
    assert len(rows) == 4


def test_one_measurement_of_the_judge_is_figures_and_no_picture(page: Client, project: Project) -> None:
    run = engine_files.make_run(project, status=Run.Status.SUCCEEDED, fence=1, step=5, total=20)
    engine_files.write_metrics(run, engine_files.watched_metrics(5), total=20)
    html = shown(page, run)
    assert "data-gauge-panel=" not in html
    assert '<strong data-gauge-value="gauge/watcher">0.3</strong>' in html


def test_steps_without_samples_are_announced_to_screen_readers(page: Client, running: Run) -> None:
    bar = shown(page, running).split('id="bar"')[1].split("</ol>")[0]
    assert '<span class="visually-hidden">step 5: KL 0.46 nats, no samples were kept</span>' in bar
    assert '<span class="visually-hidden">step 6: not reached yet</span>' in bar


def test_a_run_that_is_over_asks_for_nothing_any_more(page: Client, running: Run) -> None:
    assert shown(page, running).count("hx-trigger") == 2
    running.move_to(Run.Status.SUCCEEDED, finished_at=timezone.now())
    assert shown(page, running).count("hx-trigger") == 0


def test_curves_are_sent_again_only_when_something_came(page: Client, running: Run) -> None:
    seen = page.get(url(running)).context["seen"]
    assert page.get(url(running, "run-curves"), {"seen": seen}, headers=HTMX).status_code == 204
    engine_files.write_metrics(running, engine_files.ppo_metrics(6))
    assert page.get(url(running, "run-curves"), {"seen": seen}, headers=HTMX).status_code == 200


def test_the_csv_holds_every_step_and_every_metric(page: Client, running: Run) -> None:
    lines = shown(page, running, "run-csv").splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("step,total,policy/approx_kl,policy/clip_fraction")
    assert lines[5].startswith("5,40,")


def test_what_was_left_out_of_the_data_is_counted(page: Client, running: Run) -> None:
    told = {"step": 0, "total": 40, "time": 0, "metrics": {"data/used": 311, "data/too_long": 4}}
    (engine_files.attempt(running) / "metrics.jsonl").write_text(json.dumps(told) + "\n", "utf-8")
    html = shown(page, running)
    assert "Left out: the prompt is too long for the model" in html
    assert "Nothing has been measured yet." in html


def test_two_browsers_see_the_same_picture(page: Client, running: Run) -> None:
    other = Client()
    other.force_login(make_member(running.project, role="admin").user)
    first, second = (browser.get(url(running)).context for browser in (page, other))
    assert [curve.drawing for curve in first["curves"]] == [curve.drawing for curve in second["curves"]]


def test_a_run_whose_directory_is_gone_still_has_a_page(page: Client, project: Project) -> None:
    run = Run.objects.create(project=project, stage="sft", status=Run.Status.CANCELLED)
    assert "directory no longer exists" in shown(page, run)


def test_the_page_says_what_the_run_was_computed_with_and_offers_the_file(page: Client, running: Run) -> None:
    engine_files.write_origin(running)
    html = " ".join(shown(page, running).split('id="origin-title"')[1].split("</section>")[0].split())
    assert f"python -m training.rlhf reproduce $DATA_DIR/runs/{running.uuid}</code>" in html
    assert "0.1.0, commit c0ffeec0…" in html
    assert "python 3.11.2, torch 2.13.0 </dd>" in html
    assert "Tensor Works T1 with 80.0 GB, driver 570.1, Abacus 9 (AVX2), 2 threads" in html
    assert "1 min 13 s </dd>" in html
    answer = page.get(url(running, "run-origin"))
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == f'attachment; filename="run-{running.pk}-ppo-origin.json"'
    assert answer.json()["wall_s"] == 73.2


def test_the_origin_is_that_of_the_newest_attempt_and_counts_those_before(page: Client, running: Run) -> None:
    code = {"version": None, "commit": None, "is_changed": None, "sha256": "ab" * 32}
    engine_files.write_origin(running)
    engine_files.write_origin(running, fence=running.fence + 1, code=code, earlier=[{"attempt": "1"}])
    html = shown(page, running)
    assert "?, files abababab…" in html
    assert "after 1 earlier attempt</span>" in html


def test_a_run_from_before_origins_has_a_page_without_one(page: Client, running: Run) -> None:
    assert "Origin" not in shown(page, running)
    assert page.get(url(running, "run-origin")).status_code == 404
