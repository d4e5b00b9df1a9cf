"""Pages travel compressed; what is streamed, downloaded or secret travels as it is."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from annotate.models import Member
from annotate.services.people import links
from tests.factories import bearer, make_slate
from tests.training import machine
from training.models import Download

pytestmark = pytest.mark.django_db

HEADERS = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def tokens_on(html: str) -> list[str]:
    return re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', html)


def test_a_page_and_a_part_of_it_are_compressed_with_a_token_that_is_another_one_each_time(
    page: Client, admin: Member
) -> None:
    make_slate(admin.project, completions=9)
    address = reverse("annotate:rank", args=[admin.project.slug])
    seen = set()
    for _ in range(2):
        answer = page.get(address, headers=HEADERS)
        assert answer["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in answer["Vary"]
        assert int(answer["Content-Length"]) == len(answer.content)
        html = gzip.decompress(answer.content).decode()
        assert len(answer.content) < len(html) / 4
        seen |= set(tokens_on(html))
    assert len(seen) > 1
    submit = reverse("annotate:submit", args=[admin.assignments.get().pk])
    part = page.post(submit, headers=HEADERS | {"HX-Request": "true"})
    assert (part.status_code, part["Content-Encoding"]) == (422, "gzip")
    assert "Not ranked yet" in gzip.decompress(part.content).decode()


def test_who_takes_no_compressed_pages_gets_plain_ones(page: Client) -> None:
    assert not page.get(reverse("annotate:home")).has_header("Content-Encoding")


def test_a_page_that_shows_a_secret_is_not_compressed(page: Client, admin: Member) -> None:
    made = page.post(reverse("annotate:make-token"), {"name": "t", "scopes": ["read"], "days": 7}, headers=HEADERS)
    assert "rt_" in made.content.decode()
    slug = admin.project.slug
    invited = page.post(
        reverse("annotate:invite", args=[slug]), {"email": "new@example.org", "role": "annotator"}, headers=HEADERS
    )
    assert "/account/link/" in invited.content.decode()
    link = links.make("other@example.org", purpose="invitation", project=admin.project, created_by=admin.user)
    shown = Client().get(links.path_of(link.secret), headers=HEADERS)
    assert shown.status_code == 200
    for answer in (made, invited, shown, page.get(reverse("annotate:who"), headers=HEADERS)):
        assert not answer.has_header("Content-Encoding")
        assert "no-store" in answer["Cache-Control"]


def test_a_download_a_table_and_the_api_are_left_alone(page: Client, admin: Member, data_dir: Path) -> None:
    model = machine.make_model(admin.project, "sft")
    download = Download.objects.create(project=admin.project, model_version=model, status="ready", total=5000)
    download.path.parent.mkdir(parents=True)
    download.path.write_bytes(b"weights" * 1000)
    file = page.get(reverse("training:download-file", args=[admin.project.slug, download.pk]), headers=HEADERS)
    assert not file.has_header("Content-Encoding")
    assert b"".join(file.streaming_content) == b"weights" * 1000
    assert int(file["Content-Length"]) == 7000
    run = machine.queue_run(admin.project)
    table = page.get(reverse("training:run-csv", args=[admin.project.slug, run.pk]), headers=HEADERS)
    schema = Client().get(reverse("annotate-api:projects"), headers=HEADERS | bearer(admin.user))
    assert not any(answer.has_header("Content-Encoding") for answer in (table, schema))
    assert json.loads(schema.content)["results"]
