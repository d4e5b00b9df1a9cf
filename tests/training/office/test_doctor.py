"""The doctor finds each fault that it is there for, says how to mend it, and is silent where all is well."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from annotate.models import Assignment, Project
from tests.factories import make_assignment, make_user
from tests.training import machine
from training.models import ModelVersion, Run, Worker
from training.services.machines import workers
from training.services.office import doctor
from training.services.office.doctor import database, folders, jobs, surroundings
from training.services.office.doctor.findings import Check

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def faults(check: Check) -> str:
    """What `check` says, every sentence with its remedy."""
    found = list(check())
    assert all(finding.fault.endswith((".", "”")) or ":" in finding.fault for finding in found)
    assert all(finding.remedy for finding in found)
    return " ".join(finding.fault for finding in found)


def beat(queue: str, *, name: str = "", seconds_ago: float = 0) -> None:
    name = name or f"{queue}@here"
    workers.beat(name, queue=queue, host="here", device="2 CPU cores", pid=7)
    Worker.objects.filter(name=name).update(heartbeat_at=timezone.now() - timedelta(seconds=seconds_ago))


def ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


@pytest.fixture
def well(base: ModelVersion, settings: Settings, data_dir: Path) -> None:
    """An installation that lacks nothing."""
    beat("gpu")
    beat("default")
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"folder": str(data_dir / "broker")}
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.STATIC_ROOT = data_dir
    settings.LOW_DISK_BYTES = 0
    (data_dir / "staticfiles.json").write_text("{}")
    call_command("createcachetable", verbosity=0)


@pytest.fixture
def mail_server(settings: Settings) -> Iterator[None]:
    """Something that greets like one."""
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    settings.EMAIL_HOST, settings.EMAIL_PORT = listener.getsockname()

    def greet() -> None:
        caller, _address = listener.accept()
        with caller:
            caller.sendall(b"220 here\r\n")
            while line := caller.recv(1024):
                caller.sendall(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 here\r\n")

    threading.Thread(target=greet, daemon=True).start()
    yield
    listener.close()


def test_where_all_is_well_the_doctor_says_so(well: None, mail_server: None) -> None:
    # Databases of tests do without waiting for the disk: nobody pulls their plug.
    assert [found.fault for found in doctor.examine() if "power failure" not in found.fault] == []


def test_missing_workers_are_named_by_their_queue() -> None:
    assert "nothing can train" in faults(jobs.nobody_works)
    beat("gpu")
    assert "nothing can train" not in faults(jobs.nobody_works)
    assert "“default”" in faults(jobs.nobody_works)


def test_a_silent_worker_is_wrong_unless_another_took_its_place() -> None:
    beat("gpu", name="gpu@old", seconds_ago=300)
    assert [found.level for found in jobs.silent_workers()] == ["wrong"]
    beat("gpu")
    assert [found.level for found in jobs.silent_workers()] == ["note"]


def test_a_run_whose_lease_has_passed_long_ago_is_stuck(project: Project) -> None:
    run = machine.queue_run(project, status=Run.Status.RUNNING, lease_until=ago(10))
    assert faults(jobs.runs_without_worker) == ""
    Run.objects.filter(pk=run.pk).update(lease_until=ago(600))
    assert f"Run {run.pk} (SFT) lost its worker" in faults(jobs.runs_without_worker)


def test_a_run_that_waits_beside_a_free_worker_is_stuck(project: Project) -> None:
    run = machine.queue_run(project, created_at=ago(300))
    assert faults(jobs.runs_that_wait) == ""
    beat("gpu")
    assert f"Run {run.pk} (SFT) has been waiting" in faults(jobs.runs_that_wait)
    Worker.objects.update(run=machine.queue_run(project, stage="ppo", status=Run.Status.RUNNING))
    assert faults(jobs.runs_that_wait) == ""


def test_a_worker_that_has_just_got_free_is_given_time(project: Project) -> None:
    machine.queue_run(project, created_at=ago(300))
    machine.queue_run(project, stage="ppo", status=Run.Status.SUCCEEDED, finished_at=ago(5))
    beat("gpu")
    assert faults(jobs.runs_that_wait) == ""


def test_a_held_run_is_reported_with_what_holds_it(project: Project) -> None:
    machine.queue_run(project, status=Run.Status.HELD, error="The disk is full.")
    assert "The disk is full." in faults(jobs.held_runs)


def test_seats_that_nobody_frees_mean_that_nobody_sweeps(annotator) -> None:
    make_assignment(annotator)
    assert faults(jobs.sweeps) == ""
    Assignment.objects.update(lease_until=ago(3600))
    assert "expired" in faults(jobs.sweeps)


def test_a_project_without_a_base_model_is_named(project: Project) -> None:
    machine.make_settings(project)
    assert project.name in faults(jobs.base_models)
    machine.queue_run(project, stage="pretraining")
    assert faults(jobs.base_models) == ""


def test_weights_that_are_gone_or_cut_are_named(base: ModelVersion) -> None:
    assert faults(jobs.weights) == ""
    file = next(base.directory.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    assert file.name in faults(jobs.weights)
    file.unlink()
    assert file.name in faults(jobs.weights)


def test_too_little_disk_space_is_reported_in_gigabytes(settings: Settings, data_dir: Path) -> None:
    settings.LOW_DISK_BYTES = 0
    assert faults(folders.room) == ""
    settings.LOW_DISK_BYTES = 2**60
    assert "GB is free" in faults(folders.room)


def test_a_folder_that_cannot_be_written_is_named(data_dir: Path) -> None:
    assert faults(folders.writable) == ""
    (data_dir / "runs").write_text("not a folder")
    assert f"{data_dir}/runs is not writable: Not a directory." in faults(folders.writable)


def test_a_key_that_others_can_read_is_found(data_dir: Path) -> None:
    (data_dir / "secret_key").write_text("x")
    (data_dir / "secret_key").chmod(0o600)
    assert faults(folders.secret_key) == ""
    (data_dir / "secret_key").chmod(0o640)
    assert "sign in as anyone" in faults(folders.secret_key)


def test_a_data_directory_that_others_can_look_into_is_found(data_dir: Path) -> None:
    data_dir.chmod(0o700)
    assert faults(folders.private) == ""
    data_dir.chmod(0o750)
    assert "can read" in faults(folders.private)


def test_static_files_that_were_never_collected_are_missed(settings: Settings, data_dir: Path) -> None:
    settings.STATIC_ROOT = data_dir
    assert "not been collected" in faults(folders.static_files)


def test_a_checkpoint_that_was_set_aside_is_reported(data_dir: Path) -> None:
    (data_dir / "runs/x/attempts/1/checkpoints/step-000002.damaged").mkdir(parents=True)
    assert "step-000002.damaged" in faults(folders.damaged_checkpoints)


def test_clocks_that_differ_are_found(data_dir: Path) -> None:
    assert faults(database.clock) + faults(folders.file_clock) == ""
    with time_machine.travel(timezone.now() + timedelta(seconds=90)):
        assert "differ by" in faults(database.clock)
        assert "differ from" in faults(folders.file_clock)


def test_directories_that_this_database_does_not_know_are_reported(
    project: Project, settings: Settings, data_dir: Path
) -> None:
    settings.LEFTOVERS_AFTER_S = 60
    machine.queue_run(project)
    (data_dir / "models/of-another-database").mkdir(parents=True)
    assert faults(database.unknown_directories) == ""  # it may be just being made
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert "unknown directories (1, such as models/of-another-database)" in faults(database.unknown_directories)


def test_a_missing_throttle_table_is_found() -> None:
    call_command("createcachetable", verbosity=0)
    assert faults(database.cache_table) == ""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE cache")
    assert "no one can sign in" in faults(database.cache_table)


def test_a_migration_that_is_not_applied_is_named() -> None:
    assert faults(database.migrations) == ""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
    assert "sessions.0001_initial" in faults(database.migrations)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_keep_its_promises_is_found() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous=FULL")
            assert faults(database.sqlite) == ""
            cursor.execute("PRAGMA synchronous=OFF")
            assert "power failure" in faults(database.sqlite)
            cursor.execute("PRAGMA foreign_keys=OFF")
            assert "foreign keys" in faults(database.sqlite)
            cursor.execute("PRAGMA foreign_keys=ON")
        else:
            cursor.execute("SET synchronous_commit = on")
            assert "synchronous_commit" not in faults(database.postgresql)
            cursor.execute("SET synchronous_commit = off")
            assert "synchronous_commit = off" in faults(database.postgresql)
            cursor.execute("RESET synchronous_commit")


def test_a_broker_folder_that_cannot_be_written_is_found(settings: Settings, data_dir: Path) -> None:
    settings.REDIS_URL = ""
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"folder": str(data_dir / "broker")}
    assert faults(surroundings.broker) == ""
    (data_dir / "broker").rmdir()
    (data_dir / "broker").write_text("not a folder")
    assert "The broker cannot be used" in faults(surroundings.broker)


def test_a_broker_that_does_not_answer_is_found(settings: Settings) -> None:
    from celery import current_app

    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    before = current_app.conf.broker_url
    current_app.conf.broker_url = settings.REDIS_URL
    try:
        assert "The broker cannot be used" in faults(surroundings.broker)
    finally:
        current_app.conf.broker_url = before


def test_torn_messages_are_worth_knowing(settings: Settings, data_dir: Path) -> None:
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"folder": str(data_dir)}
    (data_dir / "unreadable").mkdir()
    (data_dir / "unreadable/1.json").write_text("{")
    assert [found.level for found in surroundings.unreadable_messages()] == ["note"]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://localhost:8000", ""),
        ("https://roundtable.example", ""),
        ("http://roundtable.example", "plain http"),
        ("https://elsewhere.example", "ALLOWED_HOSTS does not include elsewhere.example"),
        ("roundtable.example", "not a valid address"),
    ],
)
def test_an_address_by_which_nobody_comes_safely_is_found(settings: Settings, url: str, fault: str) -> None:
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = url, ["localhost", "roundtable.example"]
    assert fault in faults(surroundings.public_url)
    assert bool(fault) == bool(faults(surroundings.public_url))


def test_a_mail_server_that_does_not_answer_is_wrong_and_none_is_a_note(settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert [found.level for found in surroundings.mail()] == ["note"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert [found.level for found in surroundings.mail()] == ["wrong"]


def test_a_check_that_breaks_is_a_finding_and_stops_no_other(settings: Settings) -> None:
    settings.DATA_DIR = Path("/nowhere")
    said = " ".join(found.fault for found in doctor.examine())
    assert "The check “room” itself failed" in said
    assert "nothing can train" in said


def test_the_command_exits_with_1_when_something_is_wrong() -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as leaving:
        call_command("doctor", "--json", stdout=out)
    assert leaving.value.code == 1
    found = json.loads(out.getvalue())
    assert {"about", "fault", "remedy", "level"} == set(found[0])
    assert found[0]["level"] == "wrong"


def test_the_system_page_shows_findings_and_figures_to_site_admins_alone(client: Client, project: Project) -> None:
    beat("gpu", name="gpu@lost", seconds_ago=3600)
    client.force_login(make_user(is_site_admin=True))
    page = client.get(reverse("training:system")).content.decode()
    assert "nothing can train" in page
    assert "gpu@lost" in page
    assert "Django" in page
    client.force_login(make_user())
    assert client.get(reverse("training:system")).status_code == 404
