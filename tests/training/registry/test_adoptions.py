"""A folder of BASE_MODELS_DIR is examined before a project can choose it: the rows, the sweep and who wins."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from annotate.models import AuditEvent, Project
from tests.factories import make_project, make_user
from tests.training import machine
from training.models import Adoption, ModelVersion, TrainingSettings
from training.rlhf.run.manifest import visible_files
from training.services.machines import workers
from training.services.office.doctor import jobs
from training.services.planning import plans
from training.services.registry import adoption_words, adoptions, base_models, configs, model_folders, pruning

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = Adoption.Status


@pytest.fixture
def folder(data_dir: Path, settings: Settings) -> Path:
    """A folder that the operator has put there an hour ago, with something that nobody reads."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    return make_folder(settings.BASE_MODELS_DIR / "ours")


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text("weights")
    return path


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has just written counts as lying there for long."""
    monkeypatch.setattr(model_folders, "QUIET_S", 0.0)


def rewrite(folder: Path, text: str = "other weights") -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_text(text)


def state_of(name: str) -> str:
    return adoptions.find(name).state


def settled(name: str, **facts: object) -> Adoption:
    return machine.adopt(name, **facts)


def refused(name: str) -> Adoption:
    taken = adoptions.claim(adoptions.create_pending(name, context=None).pk, worker="w")
    assert taken
    adoptions.refuse(taken, {"sha256": "1" * 64}, "It has no safetensors weights.")
    return taken


def test_the_sweep_asks_for_each_folder_once_and_again_when_its_files_change(folder: Path) -> None:
    for _ in range(2):
        adoptions.ask_for_changed()
    asked = Adoption.objects.get()
    assert (asked.folder, asked.status, state_of("ours")) == ("ours", Status.PENDING, "pending")
    Adoption.objects.all().delete()
    settled("ours")
    adoptions.ask_for_changed()
    assert Adoption.objects.count() == 1
    rewrite(folder)
    assert state_of("ours") == "changed"
    with pytest.raises(adoptions.NotAdopted, match=r"have changed|no worker"):
        adoptions.adopted("ours")
    adoptions.ask_for_changed()
    assert state_of("ours") == "pending"
    assert Adoption.objects.count() == 2


def test_a_folder_that_is_still_being_copied_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folders, "QUIET_S", 60.0)
    os.utime(folder / "model.safetensors", (1, 1))  # as a copy that keeps the times of the files
    adoptions.ask_for_changed()
    assert not Adoption.objects.exists()
    assert state_of("ours") == "new"


def test_everything_below_the_folder_of_folders_is_listed_with_what_speaks_against_it(
    folder: Path, settings: Settings
) -> None:
    (settings.BASE_MODELS_DIR / "notes.txt").write_text("no folder")
    (settings.BASE_MODELS_DIR / ".cache").mkdir()
    (settings.BASE_MODELS_DIR / "empty").mkdir()
    make_folder(settings.BASE_MODELS_DIR / "tiny")
    make_folder(settings.BASE_MODELS_DIR / ("long" * 60))
    (settings.BASE_MODELS_DIR / os.fsdecode(b"caf\xe9")).mkdir()
    states = {found.name: found.state for found in adoptions.folders()}
    assert states == {"long" * 60: "unreadable", "tiny": "unreadable", "caf\\udce9": "unreadable"} | dict.fromkeys(
        ["ours", "empty"], "new"
    )
    adoptions.ask_for_changed()
    assert set(Adoption.objects.values_list("folder", flat=True)) == {"ours", "empty"}
    assert "built-in" in adoption_words.why_not(adoptions.find("tiny"))


def test_a_folder_that_may_not_be_read_is_said_to_be_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Iterator[Path]:  # the tests' user may be one who reads everything
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(model_folders, "names", lambda: ["ours"])
        patched.setattr(Path, "iterdir", refuse)
        found = adoptions.find("ours")
    assert found.state == "unreadable"
    assert "cannot be read: Permission denied" in found.obstacle


def test_a_link_into_nothing_or_to_itself_is_a_change_and_no_crash(folder: Path) -> None:
    settled("ours")
    (folder / "vocab.json").symlink_to(folder / "nowhere")
    (folder / "merges.txt").symlink_to(folder / "merges.txt")
    assert state_of("ours") == "changed"


def test_one_folder_has_one_live_examination_and_one_is_done_at_a_time(folder: Path, settings: Settings) -> None:
    make_folder(settings.BASE_MODELS_DIR / "theirs")
    first, second = (adoptions.create_pending(name, context=None) for name in ("ours", "theirs"))
    assert adoptions.create_pending("ours", context=None) == first
    with pytest.raises(IntegrityError), transaction.atomic():
        Adoption.objects.create(folder="ours", fingerprint="0" * 64)
    assert adoptions.claim(first.pk, worker="one")
    assert adoptions.claim(first.pk, worker="two") is None
    assert adoptions.claim(second.pk, worker="two") is None
    adoptions.fail(Adoption.objects.get(pk=first.pk), "no")
    assert adoptions.claim(second.pk, worker="two")


def test_the_context_that_is_stated_goes_into_the_examination_that_waits_and_not_into_a_running_one(
    folder: Path,
) -> None:
    waiting = adoptions.create_pending("ours", context=None)
    assert adoptions.create_pending("ours", context=512) == waiting
    taken = adoptions.claim(waiting.pk, worker="w")
    assert taken and taken.context == 512
    with pytest.raises(adoptions.UnderWay, match="being checked"):
        adoptions.create_pending("ours", context=1024)
    adoptions.refuse(taken, {}, "no")
    rewrite(folder)
    adoptions.ask_for_changed()
    assert Adoption.objects.live().get().context == 512  # as long as nobody takes it back


def test_what_a_silent_worker_held_goes_back_and_its_late_word_changes_nothing(folder: Path) -> None:
    first = adoptions.claim(adoptions.create_pending("ours", context=None).pk, worker="dead")
    assert first and adoptions.heartbeat(first)
    let_heartbeat_age()
    adoptions.reclaim()
    second = adoptions.claim(first.pk, worker="alive")
    assert second and second.fence == first.fence + 1
    assert not adoptions.heartbeat(first)
    with pytest.raises(adoptions.LostRace):
        adoptions.refuse(first, {}, "too late")
    assert adoptions.heartbeat(second)


def test_an_examination_that_kills_every_worker_is_given_up_in_words(folder: Path) -> None:
    pk = adoptions.create_pending("ours", context=None).pk
    for _ in range(adoptions.MOST_DEATHS):
        assert adoptions.claim(pk, worker="dead")
        let_heartbeat_age()
        adoptions.reclaim()
    assert adoptions.claim(pk, worker="next") is None
    assert "memory" in adoption_words.why_not(adoptions.find("ours"))
    adoptions.ask_for_changed()
    assert Adoption.objects.count() == 1  # until somebody asks, or the files change


def let_heartbeat_age() -> None:
    Adoption.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))


@pytest.mark.broker
def test_a_lost_message_is_rung_again(
    folder: Path, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        adoptions.ask("ours", context=None)
    rung = Adoption.objects.get().rung_at
    assert rung
    adoptions.ring_again()
    assert Adoption.objects.get().rung_at == rung  # a moment ago
    Adoption.objects.update(rung_at=rung - timedelta(minutes=1))
    adoptions.ring_again()
    assert (Adoption.objects.get().rung_at or rung) > rung - timedelta(seconds=30)


def test_a_project_gets_the_adopted_copy_and_keeps_it_when_the_folder_changes(folder: Path, data_dir: Path) -> None:
    old = make_project()
    machine.make_settings(old, base_model="ours")
    base = machine.make_base(old)
    assert base.adoption
    assert base.directory == data_dir / "models" / str(base.adoption.uuid)
    assert (base.directory / "model.safetensors").read_text() == "weights"
    assert set(base.manifest["files"]) == {"config.json", "model.safetensors"}
    rewrite(folder)
    adoptions.ask_for_changed()
    assert state_of("ours") == "pending"
    Adoption.objects.live().delete()
    settled("ours")
    new = make_project()
    machine.make_settings(new, base_model="ours")
    base_models.register(new)
    assert (base.directory / "model.safetensors").read_text() == "weights"
    newer = ModelVersion.objects.get(project=new)
    assert (newer.directory / "model.safetensors").read_text() == "other weights"


def test_a_project_waits_in_words_for_a_folder_that_nobody_has_adopted(folder: Path, project: Project) -> None:
    machine.make_settings(project, base_model="ours")
    with pytest.raises(base_models.NotAdopted):
        base_models.register(project)
    assert "ours" in plans.draft(project).obstacle
    refused("ours")
    assert "It has no safetensors weights." in plans.draft(project).obstacle
    with pytest.raises(base_models.NotAdopted, match="no safetensors weights"):
        base_models.register(project)
    assert not ModelVersion.objects.exists()


def test_the_doctor_says_what_a_project_without_a_base_model_waits_for(folder: Path, project: Project) -> None:
    machine.make_settings(project, base_model="ours")
    refused("ours")
    assert "It has no safetensors weights." in " ".join(found.fault for found in jobs.base_models())


def test_a_project_of_before_there_were_adoptions_goes_on_with_its_folder(folder: Path, project: Project) -> None:
    machine.make_settings(project, base_model="ours")
    base = machine.make_model(project, "base", external_path=str(folder))
    base_models.register(project)
    assert ModelVersion.objects.get() == base
    assert base.directory == folder
    training = TrainingSettings.objects.get()
    config = configs.make(training, "sft", round_number=1, parents={"base": base})
    assert config.parents["base"].path == str(folder)


def test_a_run_finds_the_adopted_model_wherever_the_data_directory_is_moved_to(folder: Path, project: Project) -> None:
    machine.make_settings(project, base_model="ours")
    base = machine.make_base(project)
    config = configs.make(TrainingSettings.objects.get(), "sft", round_number=1, parents={"base": base})
    assert config.parents["base"].path == f"../../{base.external_path}"


def test_an_examination_that_failed_by_chance_takes_nothing_away(folder: Path) -> None:
    kept = settled("ours")
    again = adoptions.claim(adoptions.create_pending("ours", context=None).pk, worker="w")
    assert again
    assert adoptions.adopted("ours") == kept  # while somebody looks
    adoptions.fail(again, "The disk is full.")
    assert adoptions.adopted("ours") == kept
    refused("ours")
    with pytest.raises(adoptions.NotAdopted):
        adoptions.adopted("ours")


def test_an_earlier_copy_that_no_project_has_goes_when_the_folder_has_been_examined_again(folder: Path) -> None:
    used = settled("ours")
    project = make_project()
    machine.make_settings(project, base_model="ours")
    base_models.register(project)
    unused = settled("ours")
    newest = settled("ours")
    assert [used.directory.exists(), unused.directory.exists(), newest.directory.exists()] == [True, False, True]
    assert set(Adoption.objects.all()) == {used, newest}


def test_what_was_adopted_is_no_leftover(folder: Path, settings: Settings, data_dir: Path) -> None:
    settings.LEFTOVERS_AFTER_S = 0
    adoption = settled("ours")
    stranger = data_dir / "models" / "stranger"
    stranger.mkdir()
    assert adoption.directory.exists()
    assert pruning.unknown_directories() == [stranger]


def test_only_what_was_adopted_is_handed_on(folder: Path, project: Project) -> None:
    machine.make_settings(project, base_model="ours")
    base = machine.make_base(project)
    (folder / "secret.py").write_text("")
    assert {path.name for path in visible_files(base.directory)} == {
        "config.json",
        "model.safetensors",
        "manifest.json",
    }


def test_who_asked_and_what_came_of_it_is_written_down(folder: Path) -> None:
    person = make_user(is_site_admin=True)
    asked = adoptions.create_pending("ours", context=64, asked_by=person)
    taken = adoptions.claim(asked.pk, worker="w")
    assert taken
    adoptions.refuse(taken, {}, "no")
    events = AuditEvent.objects.filter(subject="ours").order_by("pk")
    assert [event.action for event in events] == ["adoption.asked", "adoption.running", "adoption.refused"]
    assert {event.actor for event in events} == {person}
    assert events[0].detail == {"context": 64}


def test_a_status_that_nobody_knows_is_refused_by_the_database(folder: Path) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Adoption.objects.create(folder="ours", fingerprint="0" * 64, status="perhaps")
    assert connection.is_usable()


def test_a_folder_that_waits_behind_another_is_told_that_its_turn_comes(folder: Path, settings: Settings) -> None:
    make_folder(settings.BASE_MODELS_DIR / "theirs")
    adoptions.ask_for_changed()
    workers.beat("default@test", queue="default", host="test", device="cpu", pid=1)
    first = adoptions.claim(Adoption.objects.get(folder="ours").pk, worker="w")
    assert first and state_of("theirs") == "pending"
    assert "one folder at a time" in adoption_words.why_not(adoptions.find("theirs"))
