"""A model as one file: packed by a worker, streamed to admins, gone after a day."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from annotate.models import Member, Project
from config import celery_app
from tests.training import machine
from training import doorbell
from training.models import Download, ModelVersion
from training.services.registry import downloads

Status = Download.Status


@pytest.fixture
def model(project: Project, data_dir: Path) -> ModelVersion:
    """A model with two files."""
    made = machine.make_model(project, "sft")
    made.directory.mkdir(parents=True)
    (made.directory / "model.safetensors").write_bytes(b"weights" * 1000)
    (made.directory / "config.json").write_text("{}")
    (made.directory / ".draft").write_text("not part of it")
    return made


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def packed(model: ModelVersion, admin: Member) -> Download:
    download = downloads.ask(model, asked_by=admin.user)
    downloads.pack(download.pk)
    download.refresh_from_db()
    return download


def test_what_is_downloaded_is_the_model_as_it_lies_on_the_disk(page: Client, model: ModelVersion) -> None:
    address = reverse("training:model-download", args=[model.project.slug, model.pk])
    page.post(address)
    download = Download.objects.get()
    assert "Waiting for a worker" in page.get(address, headers={"HX-Request": "true"}).content.decode()
    downloads.pack(download.pk)
    assert "Download sft-1" in page.get(address, headers={"HX-Request": "true"}).content.decode()
    answer = page.get(reverse("training:download-file", args=[model.project.slug, download.pk]))
    content = io.BytesIO(b"".join(answer.streaming_content))
    with tarfile.open(fileobj=content) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert files == {"sft-1/model.safetensors": b"weights" * 1000, "sft-1/config.json": b"{}"}
    assert f'filename="{model.project.slug}-sft-1.tar"' in answer["Content-Disposition"]


def test_who_asks_twice_gets_the_same_download(model: ModelVersion, admin: Member) -> None:
    first = packed(model, admin)
    assert downloads.ask(model, asked_by=admin.user) == first
    downloads.pack(first.pk)  # a message that comes again
    first.refresh_from_db()
    assert (first.status, first.done) == (Status.READY, first.total)


def test_a_short_disk_is_a_sentence_and_leaves_nothing_behind(
    model: ModelVersion, admin: Member, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A reserve that no disk has, instead of a disk that is full.
    monkeypatch.setattr(downloads, "RESERVE", shutil.disk_usage(data_dir).total * 2)
    download = packed(model, admin)
    assert download.status == Status.FAILED
    assert download.error.startswith("Not enough disk space: packing needs 6.8")
    assert list((data_dir / "downloads").iterdir()) == []


def test_a_packer_that_went_silent_is_replaced(
    model: ModelVersion, admin: Member, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    download = downloads.ask(model, asked_by=admin.user)
    long_ago = timezone.now() - timedelta(minutes=5)
    Download.objects.update(status=Status.PACKING, touched_at=long_ago)
    with django_capture_on_commit_callbacks() as rings:
        downloads.ring_again()
    assert len(rings) == 1
    downloads.pack(download.pk)
    assert Download.objects.get().status == Status.READY


def test_a_download_goes_after_a_day_and_can_be_asked_for_again(model: ModelVersion, admin: Member) -> None:
    download = packed(model, admin)
    downloads.delete_old()
    assert download.path.exists()
    Download.objects.update(touched_at=timezone.now() - timedelta(days=1, seconds=1))
    downloads.delete_old()
    assert not download.path.exists()
    assert packed(model, admin).status == Status.READY
    assert Download.objects.count() == 2


@pytest.mark.django_db
def test_what_a_dead_packer_left_goes_too(data_dir: Path) -> None:
    folder = data_dir / "downloads"
    folder.mkdir()
    old, fresh = folder / ".old.draft", folder / ".fresh.draft"
    for draft in (old, fresh):
        draft.touch()
    os.utime(old, (0, 0))
    downloads.delete_old()
    assert list(folder.iterdir()) == [fresh]


def test_deleted_weights_cannot_be_packed(page: Client, model: ModelVersion) -> None:
    ModelVersion.objects.update(weights_deleted_at=timezone.now())
    address = reverse("training:model-download", args=[model.project.slug, model.pk])
    answer = page.post(address, follow=True)
    assert "The weights of sft-1 have been deleted." in answer.content.decode()
    assert not Download.objects.exists()


@pytest.mark.broker
def test_asking_rings_for_a_worker_that_knows_the_task(
    model: ModelVersion,
    admin: Member,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    celery_app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert {doorbell.PACKING_TASK, *scheduled} <= set(celery_app.tasks)
    with django_capture_on_commit_callbacks(execute=True) as rings:
        downloads.ask(model, asked_by=admin.user)
    assert len(rings) == 1
    assert "could not send the message" not in caplog.text


def test_a_link_out_of_the_folder_is_packed_by_nobody(model: ModelVersion, admin: Member, data_dir: Path) -> None:
    (data_dir / "secret").write_text("the key")
    (model.directory / "vocab.json").symlink_to(data_dir / "secret")
    with pytest.raises(downloads.NoWeights, match=r"vocab\.json is a link to a file outside the folder"):
        downloads.ask(model, asked_by=admin.user)


def test_a_link_that_comes_after_the_question_is_not_followed_either(
    model: ModelVersion, admin: Member, data_dir: Path
) -> None:
    download = downloads.ask(model, asked_by=admin.user)
    (data_dir / "secret").write_text("the key")
    (model.directory / "vocab.json").symlink_to(data_dir / "secret")
    downloads.pack(download.pk)
    download.refresh_from_db()
    assert (download.status, download.path.exists()) == (Status.FAILED, False)
    assert "outside the folder" in download.error


def test_a_link_within_the_folder_is_packed_as_the_file_it_stands_for(model: ModelVersion, admin: Member) -> None:
    (model.directory / "vocab.json").symlink_to("config.json")
    with tarfile.open(packed(model, admin).path) as tar:
        member = tar.getmember("sft-1/vocab.json")
        assert member.isfile()
        assert tar.extractfile(member).read() == b"{}"  # type: ignore[union-attr]
