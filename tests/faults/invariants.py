"""What must hold after every fault: no label is lost, no stage publishes twice, nothing is left behind, pages tell."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client, override_settings
from django.urls import reverse

from annotate.models import Demonstration, Member, Project, Ranking, Role
from tests.factories import make_member
from tests.faults.processes import engines, orphan_processes, temporary_folder, wait_until
from training.models import Adoption, Download, Examination, ModelVersion, Round, Run, Snapshot
from training.rlhf.run.manifest import verifies
from training.services.registry import pruning
from training.services.running import reconciler

ROWS = (("runs", Run), ("snapshots", Snapshot), ("models", ModelVersion))  # whose directories have their uuids


class Invariants:
    """Remembers the labels of a project as they are before the fault, and checks afterwards."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.labels = labels_of(project)
        self.unknown_paths = set(unknown_paths())  # of the tests before

    def check(self, *, says: str = "") -> None:
        """Everything that must hold after a fault; the page of the newest round (or run) says `says`."""
        now = labels_of(self.project)
        assert {key: now.get(key) for key in self.labels} == self.labels, "labels were lost or changed"
        self._check_models()
        self._check_nothing_is_left()
        assert says in self.page(), f"the page does not say {says!r}: {self.page()}"

    def page(self) -> str:
        """The text of the newest round's page."""
        newest = Round.objects.filter(project=self.project).order_by("-number").first()
        if newest:
            return self._text(reverse("training:round", args=[self.project.slug, newest.number]))
        return self._text(reverse("training:rounds", args=[self.project.slug]))

    def run_page(self, run: Run) -> str:
        """The text of the page of `run`."""
        return self._text(reverse("training:run", args=[self.project.slug, run.pk]))

    def _text(self, address: str) -> str:
        """What an admin reads there, without its marks."""
        client = Client()
        client.force_login(self.admin().user)
        text = re.sub(r"<[^>]+>", " ", client.get(address).content.decode())
        return " ".join(html.unescape(text).split())

    def admin(self) -> Member:
        """An admin of the project."""
        found = Member.objects.filter(project=self.project, role=Role.ADMIN).first()
        return found or make_member(self.project, role=Role.ADMIN)

    def _check_models(self) -> None:
        """Every stage has published one model at most, and it is whole."""
        models = ModelVersion.objects.filter(project=self.project).exclude(kind=ModelVersion.Kind.BASE)
        stages = [(model.run.round_id, model.kind) for model in models.select_related("run")]
        assert len(stages) == len(set(stages)), "a stage has published twice"
        assert all(verifies(model.directory) for model in models)

    def _check_nothing_is_left(self) -> None:
        """No process is left, and nothing on the disk that a row does not know, or one thing that can be removed."""
        for run in Run.objects.exclude(status=Run.Status.RUNNING):
            wait_until(lambda run=run: not engines(run.directory), within=10)
        wait_until(lambda: not orphan_processes(), within=10)
        assert drafts() == []
        assert temporary_files() == []
        assert len(set(unknown_paths()) - self.unknown_paths) <= 1, "a fault leaves one directory without a row at most"
        with override_settings(LEFTOVERS_AFTER_S=0):
            reconciler.remove_leftovers()
            unknown = pruning.find_unknown()
            assert unknown is None or pruning.free(unknown)
        left = set(unknown_paths())
        assert left <= self.unknown_paths
        assert not {path for path in left if path.parent.name in dict(ROWS)}, (
            "a sweep or pruning removes these, whoever left them"
        )


def unknown_paths() -> list[Path]:
    """Paths in the data directory that no row knows: a crash between the disk and the database may leave one."""
    known = {folder: {str(uuid) for uuid in model.objects.values_list("uuid", flat=True)} for folder, model in ROWS}
    known["models"] |= {str(uuid) for uuid in Adoption.objects.values_list("uuid", flat=True)}
    known["downloads"] = {one.path.name for one in Download.objects.exclude(status=Download.Status.DELETED)}
    pending = Examination.objects.filter(status=Examination.Status.PENDING)
    known["examinations"] = {str(pk) for pk in pending.values_list("pk", flat=True)}
    return [path for folder, names in known.items() for path in data(folder).glob("*") if path.name not in names]


def temporary_files() -> list[Path]:
    """Files in the processes' TMPDIR. Celery and torch make folders there, which stay empty."""
    return [path for path in temporary_folder().rglob("*") if not path.is_dir()]


def drafts() -> list[Path]:
    """What somebody has begun to write below a run and not finished."""
    return sorted(data("runs").glob("*/attempts/**/.*.draft"))


def data(folder: str) -> Path:
    return Path(settings.DATA_DIR) / folder


def labels_of(project: Project) -> dict[tuple[str, int], Any]:
    """Every label with what it says."""
    demonstrations = Demonstration.objects.filter(prompt__project=project).values_list("pk", "text")
    rankings = Ranking.objects.filter(slate__prompt__project=project).prefetch_related("placements")
    places = {
        ("ranking", ranking.pk): sorted((one.completion_id, one.place) for one in ranking.placements.all())
        for ranking in rankings
    }
    return {("demonstration", pk): text for pk, text in demonstrations} | places
