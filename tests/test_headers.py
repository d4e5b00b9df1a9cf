"""Every answer has the security headers, whoever made it: a view, a middleware, an error, a file on the disk."""

from __future__ import annotations

import pytest
from django.core.cache import cache, caches
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path, reverse
from pytest_django import Settings

from annotate.models import Member
from config import urls
from config.urls import handler500
from tests.factories import bearer, make_user
from tests.hostile_input import WSGIClient
from tests.test_hostile_input import SECURITY_HEADERS
from training.models import Download, ModelVersion

pytestmark = pytest.mark.django_db


def _fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError


urlpatterns = [*urls.urlpatterns, path("fails/", _fail), path("api/fails/", _fail)]
__all__ = ["handler500"]


def assert_safe(answer: HttpResponse, status: int) -> None:
    assert answer.status_code == status
    assert [name for name in SECURITY_HEADERS if name not in answer] == []


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/static/css/components.css", 200),
        ("HEAD", "/static/css/components.css", 200),
        ("GET", "/static/no/such.css", 404),
        ("GET", "/static/../manage.py", 404),
        ("GET", "/no/such/page/", 404),
        ("GET", "/api/no/such/", 404),
        ("GET", "/account", 301),
        ("GET", "/", 302),
        ("PUT", "/account/link/x/", 405),
        ("DELETE", "/api/v1/projects/", 405),
        ("TRACE", "/", 302),
        ("GET", "/api/v1/projects/", 401),
        ("GET", "/account/link/x/", 410),
    ],
)
def test_what_needs_no_sign_in(client: Client, method: str, address: str, status: int) -> None:
    headers = bearer(make_user()) if method == "DELETE" else {}
    assert_safe(client.generic(method, address, headers=headers), status)


def test_a_redirect_to_https(client: Client, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert_safe(client.get("/account/login/"), 301)
    assert_safe(client.get("/static/css/components.css"), 301)


@pytest.mark.parametrize("address", ["/fails/", "/api/fails/"])
@pytest.mark.urls(__name__)
def test_a_defect_of_ours(address: str) -> None:
    answer = WSGIClient().get(address)
    assert_safe(answer, 500)
    assert b"went wrong" in answer.content


def test_a_body_that_is_too_large(client: Client) -> None:
    kind = "application/x-www-form-urlencoded"
    assert_safe(client.generic("POST", "/account/login/", b"login=" + b"a" * 11_000_000, kind), 413)


def test_too_many_guesses_and_too_many_calls(client: Client, settings: Settings) -> None:
    cache.clear()
    caches["throttle"].clear()
    settings.API_CALLS_PER_MINUTE = {"token": 1, "person": 1}
    headers = bearer(make_user())
    assert client.get("/api/v1/projects/", headers=headers).status_code == 200
    assert_safe(client.get("/api/v1/projects/", headers=headers), 429)
    for number in range(30):
        client.post("/account/login/", {"login": f"a{number}@example.org", "password": "x"})
    refused = client.post("/account/login/", {"login": "a@example.org", "password": "x"})
    assert_safe(refused, 429)
    assert "minute" in refused.content.decode()
    cache.clear()
    caches["throttle"].clear()


def test_a_download(client: Client, admin: Member) -> None:
    model = ModelVersion.objects.create(project=admin.project, kind="base", number=1, manifest_sha256="0" * 64)
    packed = Download.objects.create(project=admin.project, model_version=model, status="ready", total=0)
    packed.path.parent.mkdir(parents=True, exist_ok=True)
    packed.path.write_bytes(b"a" * 1000)
    client.force_login(admin.user)
    answer = client.get(reverse("training:download-file", args=[admin.project.slug, packed.pk]))
    assert_safe(answer, 200)
    assert b"".join(answer.streaming_content) == b"a" * 1000
    assert "no-store" in answer["Cache-Control"]
