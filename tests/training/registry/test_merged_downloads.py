"""Downloads of adapters: merged with their base, or alone. A merge that succeeds is in test_adapter_rounds.py."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from tests.training import engine_files, machine
from training import engine_process
from training.models import Download, LostRace, ModelVersion
from training.services.registry import downloads, merging, promotions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

Status = Download.Status


@pytest.fixture
def base(project: Project, data_dir: Path) -> ModelVersion:
    return engine_files.make_parent(project)


@pytest.fixture
def adapter(base: ModelVersion) -> ModelVersion:
    """An adapter whose files the engine cannot read."""
    return machine.make_adapter(base, "sft")


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def address(model: ModelVersion) -> str:
    return reverse("training:model-download", args=[model.project.slug, model.pk])


def left(data_dir: Path) -> list[str]:
    return [path.name for path in (data_dir / "downloads").iterdir()]


def claimed(adapter: ModelVersion, admin: Member) -> Download:
    """The merged download as a packer holds it."""
    download = downloads.ask(adapter, asked_by=admin.user)
    download.move_to(Status.PACKING, fence=1)
    return download


def test_an_adapter_is_offered_merged_first_and_alone_second(page: Client, adapter: ModelVersion) -> None:
    fragment = page.get(address(adapter), headers={"HX-Request": "true"}).content.decode()
    assert fragment.index("Prepare merged model") < fragment.index("Prepare adapter")
    page.post(address(adapter), {"form": "adapter"})
    page.post(address(adapter))
    page.post(address(adapter), {"form": "merged"})
    assert list(Download.objects.order_by("pk").values_list("is_merged", flat=True)) == [False, True]


def test_the_adapter_alone_is_packed_under_a_name_of_its_own(adapter: ModelVersion, admin: Member) -> None:
    download = downloads.ask(adapter, asked_by=admin.user, adapter_alone=True)
    downloads.pack(download.pk)
    with tarfile.open(download.path) as tar:
        assert set(tar.getnames()) == {"sft-1-adapter/base.json", "sft-1-adapter/adapter_model.safetensors"}


def test_a_whole_model_is_packed_as_it_is_whatever_form_was_asked_for(page: Client, base: ModelVersion) -> None:
    page.post(address(base), {"form": "merged"})
    download = Download.objects.get()
    assert (download.is_merged, download.name) == (False, "base-1")


def test_why_the_engine_could_not_merge_stands_on_the_page_and_nothing_is_left(
    page: Client, adapter: ModelVersion, data_dir: Path
) -> None:
    page.post(address(adapter))
    downloads.pack(Download.objects.get().pk)
    fragment = page.get(address(adapter), headers={"HX-Request": "true"}).content.decode()
    assert "The adapter could not be merged: " in fragment
    assert "adapter_config.json" in fragment
    assert left(data_dir) == []


def test_while_an_adapter_is_merged_the_page_says_so(page: Client, adapter: ModelVersion, admin: Member) -> None:
    claimed(adapter, admin)
    fragment = page.get(address(adapter), headers={"HX-Request": "true"}).content.decode()
    assert "Merging sft-1 with base-1." in fragment
    assert fragment.count("hx-get") == 1


def test_a_merged_model_needs_room_for_itself_and_for_its_file(
    adapter: ModelVersion, admin: Member, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelVersion.objects.filter(kind="base").update(manifest={"files": {"model.safetensors": {"size": 3 << 30}}})
    (adapter.stands_on.directory / "config.json").write_text('{"dtype": "bfloat16"}')  # type: ignore[union-attr]
    monkeypatch.setattr(downloads, "RESERVE", shutil.disk_usage(data_dir).total * 2)
    adapter.refresh_from_db()
    download = downloads.ask(adapter, asked_by=admin.user)
    downloads.pack(download.pk)
    download.refresh_from_db()
    assert download.error.startswith("Not enough disk space: packing needs 12.0")
    assert left(data_dir) == []


def test_a_packer_that_another_has_replaced_stops_its_engine_and_leaves_nothing(
    adapter: ModelVersion, admin: Member, data_dir: Path
) -> None:
    def replaced() -> None:
        raise LostRace

    with pytest.raises(LostRace), merging.merged(claimed(adapter, admin), replaced):
        pass
    assert left(data_dir) == []


def test_what_an_earlier_packer_reports_changes_nothing(adapter: ModelVersion, admin: Member) -> None:
    download = claimed(adapter, admin)
    Download.objects.update(fence=2)  # another packer has it now
    with pytest.raises(LostRace):
        download.move_to(Status.READY, under=1)
    assert Download.objects.get().status == Status.PACKING


def test_a_worker_that_is_told_to_stop_leaves_the_merge_to_another(
    adapter: ModelVersion, admin: Member, data_dir: Path
) -> None:
    download = downloads.ask(adapter, asked_by=admin.user)
    engine_process.draining.set()
    try:
        downloads.pack(download.pk)
    finally:
        engine_process.draining.clear()
    download.refresh_from_db()
    assert (download.status, download.error) == (Status.WAITING, "")
    assert left(data_dir) == []


def test_what_a_killed_packer_left_is_swept_and_what_is_in_use_is_not(
    adapter: ModelVersion, admin: Member, data_dir: Path
) -> None:
    download = claimed(adapter, admin)
    folder = data_dir / "downloads"
    dead, living = folder / f".{download.uuid}-0.merge", folder / f".{download.uuid}-1.merge"
    for path in (dead, living):
        (path / "model").mkdir(parents=True)
    downloads.delete_old()
    assert list(folder.iterdir()) == [living]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_without_its_base_an_adapter_can_only_be_had_alone(
    page: Client, adapter: ModelVersion, base: ModelVersion, is_deleted: bool
) -> None:
    if is_deleted:
        ModelVersion.objects.filter(pk=base.pk).update(weights_deleted_at=timezone.now())
    else:
        shutil.rmtree(base.directory)
    answer = page.post(address(adapter), follow=True)
    assert "sft-1 is an adapter of base-1, whose weights no longer exist." in answer.content.decode()
    assert not Download.objects.exists()
    page.post(address(adapter), {"form": "adapter"})
    assert Download.objects.exists()


def test_who_promotes_an_adapter_is_led_to_the_merged_model(page: Client, adapter: ModelVersion, admin: Member) -> None:
    promote = reverse("training:model-promote", args=[adapter.project.slug, adapter.pk])
    assert "It is an adapter of base-1, rank 16" in page.get(promote).content.decode()
    promotions.promote(adapter, promoted_by=admin.user, reason="better")
    models = page.get(reverse("training:models", args=[adapter.project.slug])).content.decode()
    assert f"{reverse('training:model', args=[adapter.project.slug, adapter.pk])}#download" in models
