"""The rounds of a project as admins see and steer them, on pages and by the API."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project, Prompt, Split
from tests.factories import bearer, make_member
from tests.training import engine_files, machine
from training.models import ModelVersion, Promotion, Result, Round, Run, Worker
from training.services.machines import workers
from training.services.planning import plans
from training.services.run_files import directories
from training.services.running import runs
from training.stages import Stage
from training.templatetags import training_tags

HTMX = {"HX-Request": "true"}  # as a page asks for its parts


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    """A project whose first round can be opened."""
    machine.write_demonstrations(annotator, 3)
    return project


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    """The browser of a project admin."""
    client.force_login(admin.user)
    return client


def rounds_url(project: Project, name: str = "rounds", *args: object) -> str:
    return reverse(f"training:{name}", args=[project.slug, *args])


def test_the_plan_stands_on_the_page_before_anything_runs(page: Client, ready: Project) -> None:
    shown = page.get(rounds_url(ready)).content.decode()
    assert "Round 1: plan" in shown
    assert "base-1" in shown
    assert "No rankings yet." in shown
    assert not Run.objects.exists()


def test_a_project_that_lacks_labels_says_how_many(page: Client, project: Project, base: ModelVersion) -> None:
    shown = page.get(rounds_url(project)).content.decode()
    assert "2 more answers before round 1 can train" in shown
    page.post(rounds_url(project, "rounds-start"))
    assert not Round.objects.exists()


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=59, seconds=3), "59 min 3 s"),
        (timedelta(hours=47, minutes=59), "47 h 59 min"),
        (timedelta(hours=1062, minutes=4), "44 d 6 h"),
    ],
)
def test_a_time_span_is_told_in_the_units_that_a_reader_needs(length: timedelta, text: str) -> None:
    assert training_tags.span(length) == text


@pytest.mark.parametrize("content", ["[]", "5", "{"])
def test_a_base_model_whose_config_holds_no_object_takes_no_page_away(
    page: Client, ready: Project, base: ModelVersion, content: str
) -> None:
    (base.directory / "config.json").write_text(content)
    assert page.get(rounds_url(ready)).status_code == 200


def test_two_admins_who_press_at_once_meet_in_one_round(page: Client, ready: Project) -> None:
    other = Client()
    other.force_login(make_member(ready, role="admin").user)
    first, second = (browser.post(rounds_url(ready, "rounds-start")) for browser in (page, other))
    assert first.url == second.url == rounds_url(ready, "round", 1)
    assert Round.objects.count() == 1


def test_a_running_stage_shows_its_step_its_newest_metrics_and_its_log(page: Client, ready: Project) -> None:
    page.post(rounds_url(ready, "rounds-start"))
    run = runs.claim(Run.objects.get().pk, owner="gpu@here")
    assert run is not None
    runs.heartbeat(run, step=7, total=20)
    attempt = directories.attempt(run.directory, run.fence)
    attempt.mkdir(parents=True, exist_ok=True)
    (attempt / "metrics.jsonl").write_text('{"step":7,"total":20,"time":0,"metrics":{"sft/loss":1.2345}}\n')
    (attempt / directories.LOG).write_text("reading <b>3</b> demonstrations\n")
    shown = page.get(rounds_url(ready, "round-live", 1), headers=HTMX).content.decode()
    assert "step 7 of 20" in shown
    assert "1.234" in shown
    assert "reading &lt;b&gt;3&lt;/b&gt; demonstrations" in shown


def test_the_steps_of_ppo_lead_to_their_answers_and_its_numbers_say_what_is_healthy(
    page: Client, project: Project, base: ModelVersion
) -> None:
    plan = plans.draft(project).to_json()
    round = Round.objects.create(project=project, number=1, status=Round.Status.RUNNING, plan=plan)
    run = engine_files.make_run(project, round=round, status=Run.Status.RUNNING, fence=1, step=3, total=12)
    rows = [{"rollout/kl": distance, "rollout/stop_rate": 0.99} for distance in (1.0, 2.0, 5.0)]
    engine_files.write_metrics(run, rows, total=12)
    engine_files.write_samples(run, 2)
    shown = page.get(rounds_url(project, "round-live", 1), headers=HTMX).content.decode()
    assert f'href="{rounds_url(project, "run-step", run.pk, 2)}"' in shown
    words = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
    assert "5 nats per answer (the last step) ! out of range: healthy 0.3 to 4" in words
    assert "99% (the last step) healthy 95% to 100%" in words
    engine_files.write_metrics(run, rows, total=40)
    early = page.get(rounds_url(project, "round-live", 1), headers=HTMX).content.decode()
    assert "out of range:" not in early, "the first steps may be anywhere"


def test_a_gpu_worker_that_has_been_silent_for_30_seconds_counts_as_none(page: Client, ready: Project) -> None:
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    assert "No gpu-worker is running" not in page.get(rounds_url(ready)).content.decode()
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=30))
    assert "No gpu-worker is running" in page.get(rounds_url(ready)).content.decode()


def test_a_cancelled_round_says_so_and_its_waiting_run_never_starts(page: Client, ready: Project) -> None:
    page.post(rounds_url(ready, "rounds-start"))
    page.post(rounds_url(ready, "round-cancel", 1))
    machine.work_off()
    assert Run.objects.get().status == Run.Status.CANCELLED
    assert "cancelled" in page.get(rounds_url(ready, "round", 1)).content.decode()


def test_a_cancellation_is_asked_about_first(page: Client, ready: Project) -> None:
    page.post(rounds_url(ready, "rounds-start"))
    asked = page.get(rounds_url(ready, "round-cancel", 1)).content.decode()
    assert "Its labels count towards the next round again." in asked
    assert Round.objects.get().is_active


def test_a_failed_round_is_named_beside_the_plan_of_the_next_one(page: Client, ready: Project) -> None:
    page.post(rounds_url(ready, "rounds-start"))
    Round.objects.update(status=Round.Status.FAILED)
    shown = page.get(rounds_url(ready)).content.decode()
    assert "Round 1 failed. Until the next round is started" in shown
    assert "Round 2: plan" in shown


def test_a_finished_round_shows_what_it_published_and_measured(page: Client, ready: Project) -> None:
    held_out = machine.make_prompts(ready, 1)[0]
    Prompt.objects.filter(pk=held_out.pk).update(split=Split.HELDOUT)
    page.post(rounds_url(ready, "rounds-start"))
    machine.work_off()
    assert Result.objects.exists(), "its worker works the figures out, and no page has to"
    listed = page.get(rounds_url(ready)).content.decode()
    assert 'data-label="Length Δ"' in listed
    shown = page.get(rounds_url(ready, "round", 1)).content.decode()
    assert "Published sft-1." in shown
    assert "hx-trigger" not in shown.split('id="live"')[1].split(">")[0], "a round that is over asks no more"


def test_the_api_opens_watches_and_cancels_a_round(client: Client, ready: Project, admin: Member) -> None:
    headers = bearer(admin.user)
    address = f"/api/v1/projects/{ready.slug}/rounds/"
    opened = client.post(address, content_type="application/json", headers=headers)
    again = client.post(address, content_type="application/json", headers=headers)
    assert (opened.status_code, opened.json()["number"]) == (201, 1)
    assert (again.status_code, again.json()["round"]) == (409, 1)
    watched = client.get(f"{address}1/", headers=headers).json()
    states = {stage["stage"]: stage["state"] for stage in watched["stages"]}
    assert states == {
        "sft": "queued",
        "reward": "left_out",
        "watcher": "left_out",
        "ppo": "left_out",
        "evaluation": "left_out",
        "sampling": "waiting",
    }
    cancelled = client.post(f"{address}1/cancel/", content_type="application/json", headers=headers)
    assert cancelled.json()["status"] == "cancelled"
    assert client.get(address, headers=headers).json()["results"][0]["number"] == 1


def test_the_api_refuses_a_round_that_lacks_labels(
    client: Client, project: Project, base: ModelVersion, admin: Member
) -> None:
    address = f"/api/v1/projects/{project.slug}/rounds/"
    refused = client.post(address, content_type="application/json", headers=bearer(admin.user))
    assert refused.status_code == 409
    assert "2 more answers" in refused.json()["detail"]


def test_a_promoted_policy_is_the_champion_and_a_reward_model_cannot_be(
    client: Client, project: Project, base: ModelVersion, admin: Member
) -> None:
    headers = bearer(admin.user)
    address = f"/api/v1/projects/{project.slug}/models/"
    sft, reward = (
        ModelVersion.objects.create(project=project, kind=kind, number=1, parent=base, manifest_sha256="0" * 64)
        for kind in (Stage.SFT, Stage.REWARD)
    )
    promote = [
        client.post(f"{address}{model.pk}/promote/", {"reason": "reads better"}, "application/json", headers=headers)
        for model in (sft, sft, reward)  # the first answer was lost
    ]
    assert [answer.status_code for answer in promote] == [200, 200, 409]
    assert Promotion.objects.count() == 1
    listed = client.get(address, headers=headers).json()["results"]
    assert [model["name"] for model in listed if model["is_champion"]] == ["sft-1"]


def test_a_project_without_training_settings_is_sent_to_them(page: Client, project: Project) -> None:
    shown = page.get(rounds_url(project)).content.decode()
    assert "not set up yet" in shown
    assert reverse("annotate:settings", args=[project.slug]) in shown
    page.post(rounds_url(project, "rounds-start"))
    assert not Round.objects.exists()


def test_a_model_is_called_by_what_a_stage_does_with_it() -> None:
    assert training_tags.role_label("parent", "evaluation") == "compared with"
    assert training_tags.role_label("parent", "sampling") == "a quarter from"
    assert training_tags.role_label("reward", "ppo") == "reward model"
    assert training_tags.role_label("base") == "from"
