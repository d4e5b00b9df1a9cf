"""What each stage of a planned round needs, counted by a worker, beside what the gpu-workers have."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Member, Project
from tests.factories import bearer
from tests.training import machine
from training import engine_process, examiner
from training.models import Examination, ModelVersion, TrainingSettings, Worker
from training.services.machines import workers
from training.services.planning import adapters, plans, preflight
from training.services.planning.memory_plan import MemoryPlan, PlanChanged, StageMemory

GB = 1_000_000_000


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    machine.write_demonstrations(annotator, 3)
    return project


def planned(project: Project) -> MemoryPlan:
    plan = plans.draft(project)
    return preflight.memory_of(project, plan, preflight.gather(project), adapters.existing(plan))


def sft(project: Project) -> StageMemory:
    return next(stage for stage in planned(project).stages if stage.stage == "sft")


def small_worker(memory: int | None, *, name: str = "gpu@here", device: str = "2 CPU cores") -> None:
    workers.beat(name, queue="gpu", host=name, device=device, pid=1, memory=memory)


def count(project: Project) -> None:
    """Let a worker do the count that the plan asks for."""
    planned(project)
    examiner.examine(Examination.objects.get(kind="memory", status="pending").pk)
    Worker.objects.update(heartbeat_at=Now())  # which a live one goes on writing meanwhile


def counted(project: Project, needed: dict[str, int], *lighter: tuple[dict[str, object], int]) -> None:
    """A count of which `needed` came, by kind of device, for SFT; `lighter` settings need less, on each kind."""
    planned(project)
    ladder = [{"settings": settings, "needed": bytes} for settings, bytes in lighter]
    counts = {
        kind: [{"run": "sft", "counted": [{"settings": {}, "needed": bytes}, *ladder]}, {"run": "sampling", "counted": [
            {"settings": {}, "needed": GB}
        ]}]
        for kind, bytes in needed.items()
    }  # fmt: skip
    Examination.objects.filter(kind="memory").update(status="done", counts=counts)


def lines(project: Project, level: str) -> list[str]:
    found = preflight.check(project, plans.draft(project), preflight.gather(project))
    return [line.text.replace("\xa0", " ") for line in found.lines if line.level == level]


def use(project: Project, admin: Member) -> list[str]:
    shown = planned(project).shown
    return preflight.use_lighter_settings(project, shown=shown, actor=admin.user)


def test_a_worker_counts_what_the_stages_of_a_plan_need(ready: Project) -> None:
    small_worker(16 * GB)
    bounds = {stage.stage: stage.needed for stage in planned(ready).stages}
    assert not any(stage.is_counted for stage in planned(ready).stages)
    count(ready)
    stages = planned(ready).stages
    assert [stage.stage for stage in stages] == ["sft", "sampling"]
    assert all(stage.is_counted for stage in stages)
    assert all(0 < stage.needed < bounds[stage.stage] for stage in stages)
    assert planned(ready).changes == []
    assert any("needed (counted), 14.9 GB free" in line for line in lines(ready, "note"))


def test_a_worker_that_is_told_to_stop_leaves_its_count_to_another_one(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_worker(16 * GB)
    planned(ready)
    monkeypatch.setattr(examiner, "HEARTBEAT_S", 0.1)
    engine_process.draining.set()
    try:
        examiner.examine(Examination.objects.get(kind="memory").pk)
    finally:
        engine_process.draining.clear()
    left = Examination.objects.get(kind="memory")
    assert (left.status, left.alive_at) == ("pending", None)


def test_stages_that_start_from_adapters_are_counted_with_one_base(ready: Project) -> None:
    small_worker(16 * GB)

    def needed_by_sampling() -> int:
        """Which has the new SFT model and the base."""
        count(ready)
        return next(stage.needed for stage in planned(ready).stages if stage.stage == "sampling")

    whole = needed_by_sampling()
    training = TrainingSettings.objects.get()
    training.overrides["sft"] = {**training.overrides.get("sft", {}), "adapter_rank": 2}
    training.save()
    base_bytes = sum(path.stat().st_size for path in ModelVersion.objects.get().directory.glob("*.safetensors"))
    assert whole - needed_by_sampling() > base_bytes / 2


def test_the_settings_that_the_engine_found_make_a_stage_fit(ready: Project, admin: Member) -> None:
    overrides = TrainingSettings.objects.get().overrides
    TrainingSettings.objects.update(
        overrides=overrides | {"sft": overrides["sft"] | {"activation_checkpointing": "off"}}
    )
    small_worker(16 * GB)
    count(ready)
    (found,) = Examination.objects.get(kind="memory").counts["cpu"][0]["counted"]
    small_worker(found["needed"] - 1)
    assert not sft(ready).is_counted, "settings for so small a worker have not been looked for"
    count(ready)
    short = sft(ready)
    assert short.missing == 1
    assert short.settings == {"activation_checkpointing": "on"}
    assert any("SFT does not fit on any gpu-worker" in line for line in lines(ready, "warn"))
    assert use(ready, admin) == ["sft.activation_checkpointing"]
    count(ready)
    assert sft(ready).lacks == []
    assert lines(ready, "block") == []


def test_a_count_holds_until_the_base_or_a_setting_that_matters_changes(ready: Project, annotator: Member) -> None:
    small_worker(16 * GB)
    counted(ready, {"cpu": GB})
    training = TrainingSettings.objects.get()
    training.overrides["sft"] |= {"learning_rate": 1e-4, "epochs": 7}
    training.save()
    small_worker(15 * GB)  # free memory rises and falls
    assert sft(ready).is_counted
    training.overrides["sft"] |= {"batch_tokens": 512}
    training.save()
    assert not sft(ready).is_counted
    training.overrides["sft"] |= {"batch_tokens": 8192}
    training.save()
    assert sft(ready).is_counted, "what was counted before is kept"
    ModelVersion.objects.update(manifest_sha256="1" * 64)
    assert not sft(ready).is_counted


def test_labels_that_come_later_do_not_take_the_count_away(ready: Project, annotator: Member) -> None:
    small_worker(16 * GB)
    counted(ready, {"cpu": GB})
    machine.write_demonstrations(annotator, 1)
    assert sft(ready).is_counted
    assert Examination.objects.filter(kind="memory").count() == 1
    Examination.objects.update(created_at=timezone.now() - timedelta(minutes=11))
    assert sft(ready).is_counted
    assert Examination.objects.filter(kind="memory", status="pending").count() == 1, "it is counted again meanwhile"


def test_of_several_workers_the_plan_says_on_which_a_stage_fits(ready: Project) -> None:
    small_worker(80 * GB, name="gpu@large", device="1 × NVIDIA A100, bf16")
    small_worker(16 * GB, name="gpu@small", device="1 × NVIDIA T4")
    counted(ready, {"cuda": 20 * GB}, ({"batch_tokens": 4096}, 17 * GB), ({"batch_tokens": 2048}, 15 * GB))
    stage = sft(ready)
    assert [worker.name for worker in stage.fits] == ["gpu@large"]
    assert [worker.name for worker in stage.lacks] == ["gpu@small"]
    assert stage.settings == {"batch_tokens": 2048}, "any worker may run it"
    (line,) = [line for line in lines(ready, "warn") if line.startswith("SFT")]
    assert "fits on gpu@large (74.5 GB), not on gpu@small (14.9 GB)" in line


def test_where_no_settings_fit_everywhere_those_for_the_largest_worker_are_offered(ready: Project) -> None:
    small_worker(24 * GB, name="gpu@large", device="1 × NVIDIA A10")
    small_worker(8 * GB, name="gpu@small", device="1 × NVIDIA P4")
    counted(ready, {"cuda": 30 * GB}, ({"batch_tokens": 4096}, 22 * GB), ({"batch_tokens": 2048}, 20 * GB))
    assert sft(ready).settings == {"batch_tokens": 4096}


def test_workers_of_two_kinds_are_counted_each_as_its_own(ready: Project) -> None:
    small_worker(16 * GB, name="gpu@card", device="1 × NVIDIA T4")
    small_worker(8 * GB, name="gpu@cores")
    counted(ready, {"cuda": 20 * GB, "cpu": 6 * GB})
    stage = sft(ready)
    assert [worker.name for worker in stage.fits] == ["gpu@cores"]
    assert stage.needed == 20 * GB
    counted_again = {"cuda": 17 * GB, "cpu": 15 * GB}
    Examination.objects.filter(kind="memory").delete()
    counted(ready, counted_again)
    assert (sft(ready).needed, sft(ready).missing) == (17 * GB, GB), "of two that lack, the one that lacks less"


def test_what_nothing_makes_fit_says_what_the_least_would_be(ready: Project, admin: Member) -> None:
    small_worker(8 * GB)
    counted(ready, {"cpu": 30 * GB}, ({"batch_tokens": 1}, 20 * GB))
    assert planned(ready).changes == []
    assert any("Even with the lightest settings it needs 18.6 GB" in line for line in lines(ready, "warn"))
    with pytest.raises(PlanChanged):
        use(ready, admin)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"status": "failed", "ending": {"kind": "look_too_long"}},
            "Memory could not be counted: the check timed out.",
        ),
        (
            {"status": "done", "counts": {"cpu": [{"run": "sft", "refusal": {"kind": "model_files"}}]}},
            "The memory of SFT could not be counted: A model the run needs cannot be read.",
        ),
    ],
)
def test_a_count_that_fails_says_why_and_leaves_the_bound(ready: Project, fields: dict[str, object], said: str) -> None:
    small_worker(16 * GB)
    bound = sft(ready)
    Examination.objects.filter(kind="memory").update(**fields)
    assert sft(ready).needed == bound.needed
    assert any(line.startswith(said) for line in lines(ready, "warn"))


def test_a_count_that_takes_too_long_is_ended(ready: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(examiner, "LONGEST_COUNT_S", 0.1)
    small_worker(16 * GB)
    count(ready)
    assert any(line.startswith("Memory could not be counted: the check timed out.") for line in lines(ready, "warn"))
    assert list((settings.DATA_DIR / "examinations").iterdir()) == []


def test_a_count_of_settings_that_have_changed_meanwhile_is_not_kept(ready: Project) -> None:
    small_worker(16 * GB)
    planned(ready)
    asked = Examination.objects.get(kind="memory")
    TrainingSettings.objects.update(overrides={"sft": {"batch_tokens": 512}})
    examiner.examine(asked.pk)
    assert not Examination.objects.filter(kind="memory").exists()


def test_while_a_worker_counts_the_plan_says_so_and_the_round_can_start(ready: Project) -> None:
    small_worker(16 * GB)
    workers.beat("default@here", queue="default", host="here", device="", pid=1)
    assert any("is counting what each stage needs" in line for line in lines(ready, "note"))
    assert lines(ready, "block") == ["The label check is about to start. The round can start when it is done."]
    Examination.objects.filter(kind="records").update(status="done")
    assert lines(ready, "block") == []


def test_where_no_worker_says_what_it_has_nothing_is_counted(ready: Project) -> None:
    small_worker(None)
    assert planned(ready).count is None
    assert not Examination.objects.filter(kind="memory").exists()


def test_the_button_takes_the_settings_that_were_shown_and_no_others(
    client: Client, ready: Project, admin: Member
) -> None:
    client.force_login(admin.user)
    small_worker(16 * GB)
    counted(ready, {"cpu": 20 * GB}, ({"batch_tokens": 4096}, 15 * GB))
    page, button = (reverse(f"training:{name}", args=[ready.slug]) for name in ("rounds", "rounds-make-fit"))
    shown = client.get(page).content.decode()
    assert "Batch tokens (SFT): 4096 instead of 8192" in shown
    assert 'id="make-fit"' in shown
    for other in ("", "{}", json.dumps({"sft": {"batch_tokens": 1}})):
        said = client.post(button, {"shown": other}, follow=True).content.decode()
        assert "The plan has changed in the meantime" in said
    assert "batch_tokens" not in TrainingSettings.objects.get().overrides["sft"]
    said = client.post(button, {"shown": planned(ready).shown}, follow=True).content.decode()
    assert "The settings are saved" in said
    assert "instead of" not in said
    assert TrainingSettings.objects.get().overrides["sft"]["batch_tokens"] == 4096
    audited = AuditEvent.objects.get(action="training_settings.changed")
    assert audited.actor == admin.user
    assert audited.detail["fields"] == {"sft.batch_tokens": [8192, 4096]}


def test_the_page_shows_for_each_stage_what_it_needs_and_where_it_fits(
    client: Client, ready: Project, admin: Member
) -> None:
    client.force_login(admin.user)
    address = reverse("training:rounds", args=[ready.slug])
    small_worker(16 * GB)
    assert "Memory: at most" in client.get(address).content.decode()
    counted(ready, {"cpu": 20 * GB})
    shown = client.get(address).content.decode().replace("\xa0", " ")
    assert "Memory: 18.6 GB at its peak" in shown
    assert "does not fit: 14.9 GB is there, 3.7 GB too little" in shown
    assert "gpu@here has 14.9 GB" in shown, "where answers are written"


def test_the_plan_says_the_same_to_a_program(client: Client, ready: Project, admin: Member) -> None:
    address = reverse("training-api:round-plan", args=[ready.slug])
    small_worker(16 * GB)
    asked = client.get(address, headers=bearer(admin.user)).json()
    assert (asked["number"], asked["memory_count"]) == (1, "pending")
    counted(ready, {"cpu": 20 * GB}, ({"batch_tokens": 4096}, 15 * GB))
    plan = client.get(address, headers=bearer(admin.user)).json()
    memory = {stage["stage"]: stage["memory"] for stage in plan["stages"]}
    assert memory["sft"] == {
        "needed": 20 * GB,
        "counted": True,
        "fits": [],
        "lacks": ["gpu@here"],
        "settings": {"batch_tokens": 4096},
        "smallest": 15 * GB,
    }
    assert memory["reward"] is None
    assert any("SFT does not fit" in line["text"] for line in plan["preflight"])
