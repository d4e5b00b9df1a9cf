"""`manage.py export` writes what the page hands out, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotate.models import AuditEvent, Member, Project
from annotate.services.exporting.exports import Export
from annotate.services.exporting.selection import Selection
from tests.factories import make_ranking

pytestmark = pytest.mark.django_db


def test_the_command_writes_the_same_file_and_says_how_large(
    project: Project, annotator: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ranking(annotator)
    output = tmp_path / "rankings.jsonl"
    call_command("export", project.slug, "rankings", "--output", str(output))
    assert output.read_bytes() == b"".join(Export("rankings", "jsonl", Selection(project)).pieces())
    assert "bytes to" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [output]
    call_command("export", project.slug, "rankings", "--labels", "trainable")
    assert capsys.readouterr().out == output.read_text()
    assert AuditEvent.objects.filter(action="labels.exported", actor=None).count() == 2


def test_a_command_that_fails_half_way_leaves_the_old_file(
    project: Project, annotator: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ranking(annotator)
    output = tmp_path / "rankings.jsonl"
    output.write_text("the old one")

    def breaks_off(_self: Export) -> Any:
        yield b"half"
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Export, "pieces", breaks_off)
    with pytest.raises(CommandError, match="could not be written: Input/output error"):
        call_command("export", project.slug, "rankings", "--output", str(output))
    assert [(path, path.read_text()) for path in tmp_path.iterdir()] == [(output, "the old one")]


def test_the_command_says_which_projects_there_are(project: Project) -> None:
    with pytest.raises(CommandError, match=f"Projects: {project.slug}"):
        call_command("export", "nowhere", "rankings")
    with pytest.raises(CommandError, match="Round 3 has no snapshot"):
        call_command("export", project.slug, "rankings", "--snapshot", "3")
