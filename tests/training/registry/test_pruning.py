"""Pruning shows what nothing needs before it frees it, and never touches what something needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from annotate.models import AuditEvent, Member, Project
from tests.factories import make_project
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run
from training.services.registry import promotions, pruning
from training.services.registry.pruning import Prunable
from training.services.run_files import directories

pytestmark = [pytest.mark.django_db, pytest.mark.database, pytest.mark.usefixtures("data_dir")]

FORTNIGHT = timedelta(days=14)
Status = Run.Status
MakeModel = Callable[..., ModelVersion]


def found() -> list[str]:
    return [prunable.what for prunable in pruning.find(older_than=FORTNIGHT)]


def prune_all() -> list[bool]:
    return [pruning.free(prunable) for prunable in pruning.find(older_than=FORTNIGHT)]


def ended(project: Project, status: str, *, days_ago: float = 30, **fields: object) -> Run:
    """A run that left a checkpoint, an output and a log."""
    at = timezone.now() - timedelta(days=days_ago) if status in Run.FINISHED else None
    run = machine.queue_run(project, status=status, finished_at=at, fence=1, **fields)
    engine_files.write_checkpoint(run, 3)
    machine.write_output(run, {"model.safetensors": "weights" * 100})
    (directories.attempt(run.directory, 1) / "metrics.jsonl").write_text("")
    return run


def checkpoints(run: Run) -> list[Path]:
    return list(run.directory.glob("attempts/*/checkpoints/*"))


@pytest.fixture
def make_model(project: Project) -> MakeModel:
    def make(kind: str, **fields: object) -> ModelVersion:
        """A model as publishing leaves it: its files are the attempt's output under a second name."""
        run = ended(fields.pop("project", project), Status.SUCCEEDED, stage="pretraining" if kind == "base" else kind)
        shutil.rmtree(directories.attempt(run.directory, 1) / "checkpoints")
        model = machine.make_model(run.project, kind, run=run, attempt=1, **fields)
        output = directories.attempt(run.directory, 1) / "output"
        model.directory.mkdir(parents=True)
        for path in output.iterdir():
            directories.link_or_copy(path, model.directory / path.name)
        return model

    return make


def test_weights_that_were_never_promoted_and_have_a_successor_go_and_their_row_stays(make_model: MakeModel) -> None:
    old, new = make_model("sft"), make_model("sft")
    assert found() == [f"weights of sft-1 in “{old.project.name}”"]
    size = pruning.find(older_than=FORTNIGHT)[0].size
    assert size > len("weights" * 100)
    assert prune_all() == [True]
    old.refresh_from_db()
    assert old.weights_deleted_at is not None
    assert not old.directory.exists()
    assert not (directories.attempt(old.run.directory, 1) / "output").exists()
    assert (directories.attempt(old.run.directory, 1) / "metrics.jsonl").exists()
    assert new.directory.exists()
    assert AuditEvent.objects.get(action="model.weights_deleted").subject == "sft-1"
    assert found() == []


def test_what_was_ever_promoted_stays_since_a_rollback_leads_there(make_model: MakeModel, admin: Member) -> None:
    first, _second = make_model("sft"), make_model("sft")
    promotions.promote(first, promoted_by=admin.user, reason="polite")
    promotions.promote(make_model("ppo", parent=_second), promoted_by=admin.user, reason="better")
    assert found() == []


@pytest.mark.parametrize("role", ["parent", "reward", "reference", "watcher"])
def test_parents_of_the_champion_and_of_the_newest_stay(make_model: MakeModel, admin: Member, role: str) -> None:
    needed, _newest = make_model(role if role in ("reward", "watcher") else "sft"), make_model("sft")
    make_model("reward")
    make_model("watcher")
    champion = make_model("ppo", **{role: needed})
    promotions.promote(champion, promoted_by=admin.user, reason="better")
    make_model("ppo", **{role: needed})
    make_model("ppo", parent=_newest)
    assert needed.name not in " ".join(found())
    assert found() == [f"weights of ppo-2 in “{needed.project.name}”"]


def test_what_an_adapter_stands_on_stays_as_long_as_the_adapter_and_the_command_says_why(
    make_model: MakeModel, admin: Member
) -> None:
    base = make_model("sft")
    make_model("sft")
    adapter = make_model("ppo", stands_on=base)
    promotions.promote(adapter, promoted_by=admin.user, reason="better")
    make_model("ppo")
    assert found() == []
    assert not pruning.free(Prunable("", "", (base.directory,), 0, base.run, base))
    assert base.has_weights
    written = StringIO()
    call_command("prune", "--yes", stdout=written)
    kept = f"kept  weights of sft-1 in “{base.project.name}”: needed by its adapters: ppo-1"
    assert [line.strip() for line in written.getvalue().splitlines()] == [kept, "Nothing to delete."]


def test_an_adapter_that_nothing_needs_goes_first_and_then_what_it_stood_on(make_model: MakeModel) -> None:
    base = make_model("sft")
    make_model("ppo", stands_on=base)
    make_model("sft")
    make_model("ppo")
    for name in ("ppo-1", "sft-1"):
        assert found() == [f"weights of {name} in “{base.project.name}”"]
        assert prune_all() == [True]
    assert found() == []
    assert pruning.kept_for_adapters() == []


def test_base_models_and_folders_of_the_operator_stay(project: Project, make_model: MakeModel) -> None:
    make_model("base")
    make_model("base")
    outside = machine.make_model(project, "sft", external_path="/somewhere")
    make_model("sft")
    assert found() == []
    assert outside.weights_deleted_at is None


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.INTERRUPTED, Status.HELD])
def test_while_a_run_is_under_way_its_project_keeps_every_model(
    project: Project, make_model: MakeModel, status: str
) -> None:
    make_model("sft")
    make_model("sft")
    elsewhere = make_project()
    make_model("sft", project=elsewhere)
    make_model("sft", project=elsewhere)
    machine.queue_run(project, stage="ppo", status=status)
    assert found() == [f"weights of sft-1 in “{elsewhere.name}”"]


def test_while_a_round_is_under_way_its_project_keeps_every_model(project: Project, make_model: MakeModel) -> None:
    make_model("sft")
    make_model("sft")
    Round.objects.create(project=project, number=1, status=Round.Status.RUNNING, plan={})
    assert found() == []


def test_what_came_to_be_needed_after_it_was_shown_stays(make_model: MakeModel, admin: Member) -> None:
    old, _new = make_model("sft"), make_model("sft")
    shown = pruning.find(older_than=FORTNIGHT)
    promotions.promote(old, promoted_by=admin.user, reason="better after all")
    assert [pruning.free(prunable) for prunable in shown] == [False]
    assert old.directory.exists()


def test_deleted_weights_are_not_promoted_even_by_who_saw_them_before(make_model: MakeModel, admin: Member) -> None:
    old, _new = make_model("sft"), make_model("sft")
    prune_all()
    with pytest.raises(promotions.NotAPolicy):
        promotions.promote(old, promoted_by=admin.user, reason="seen a minute ago")


def test_a_crash_between_marking_and_removing_leaves_nothing_for_ever(make_model: MakeModel) -> None:
    old, _new = make_model("sft"), make_model("sft")
    ModelVersion.objects.filter(pk=old.pk).update(weights_deleted_at=timezone.now())
    assert prune_all() == [True]
    assert not old.directory.exists()


def test_checkpoints_of_a_run_that_succeeded_go(project: Project) -> None:
    run = ended(project, Status.SUCCEEDED, days_ago=0)
    assert found() == [f"checkpoints of run {run.pk} (SFT)"]
    assert prune_all() == [True]
    assert checkpoints(run) == []
    assert (directories.attempt(run.directory, 1) / "output").exists()


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_attempts_of_a_run_that_ended_badly_go_after_a_while_and_what_they_said_stays(
    project: Project, status: str
) -> None:
    old, young = ended(project, status), ended(project, status, days_ago=3)
    assert prune_all() == [True]
    assert checkpoints(old) == []
    assert (directories.attempt(old.directory, 1) / "metrics.jsonl").exists()
    assert len(checkpoints(young)) == 1


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.INTERRUPTED, Status.HELD])
def test_a_run_under_way_keeps_its_checkpoints_the_damaged_ones_too(project: Project, status: str) -> None:
    run = ended(project, status)
    (checkpoints(run)[0].with_name("step-000002.damaged")).mkdir()
    assert found() == []


def test_the_checkpoints_that_an_unfinished_run_goes_on_from_stay(project: Project) -> None:
    first = ended(project, Status.FAILED)
    second = ended(project, Status.FAILED, retry_of=first)
    shown = pruning.find(older_than=FORTNIGHT)
    third = machine.queue_run(project, retry_of=second)
    assert found() == []
    assert not any(pruning.free(prunable) for prunable in shown)
    Run.objects.filter(pk=third.pk).update(status=Status.CANCELLED)
    assert len(found()) == 2


def test_damaged_checkpoints_go_at_once_when_their_run_is_over(project: Project) -> None:
    run = ended(project, Status.FAILED, days_ago=1)
    damaged = checkpoints(run)[0].with_name("step-000002.damaged")
    damaged.mkdir()
    assert prune_all() == [True]
    assert [path.name for path in checkpoints(run)] == ["step-000003"]


def test_the_command_frees_nothing_until_it_is_told_to(project: Project) -> None:
    run = ended(project, Status.FAILED)
    dry, wet, after = StringIO(), StringIO(), StringIO()
    call_command("prune", stdout=dry)
    assert f"attempts of run {run.pk} (SFT): ended more than 14 days ago" in dry.getvalue()
    assert "Nothing was deleted" in dry.getvalue()
    assert checkpoints(run)
    call_command("prune", "--yes", stdout=wet)
    assert "freed." in wet.getvalue()
    assert not checkpoints(run)
    call_command("prune", stdout=after)
    assert after.getvalue() == "Nothing to delete.\n"


def test_what_this_database_does_not_know_goes_only_when_it_is_named(
    project: Project, settings: Settings, data_dir: Path
) -> None:
    settings.LEFTOVERS_AFTER_S = 0
    known, unknown = machine.queue_run(project), data_dir / "runs/of-another-database"
    for path in (known.directory, unknown):
        path.mkdir(parents=True)
    (unknown / "config.json").write_text("{}")
    kept, shown, deleted = StringIO(), StringIO(), StringIO()
    call_command("prune", "--yes", stdout=kept)
    assert "unknown directories (1, such as runs/of-another-database): 2 bytes" in kept.getvalue()
    call_command("prune", "--unknown", stdout=shown)
    assert "Nothing was deleted" in shown.getvalue()
    assert unknown.exists()
    call_command("prune", "--unknown", "--yes", stdout=deleted)
    assert "2 bytes freed." in deleted.getvalue()
    assert [path.exists() for path in (unknown, known.directory)] == [False, True]


def test_a_directory_whose_row_has_come_since_it_was_found_stays(
    project: Project, settings: Settings, data_dir: Path
) -> None:
    settings.LEFTOVERS_AFTER_S = 0
    run = Run(project=project, stage="sft")
    run.directory.mkdir(parents=True)
    found = pruning.find_unknown()
    run.save()
    assert found
    assert not pruning.free(found)
    assert run.directory.exists()


def test_a_file_with_a_second_name_elsewhere_frees_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one/file").write_text("1234")
    directories.link_or_copy(tmp_path / "one/file", tmp_path / "two/file")
    assert directories.size_of(tmp_path / "one") == 0
    assert directories.size_of(tmp_path / "one", tmp_path / "two") == 4
