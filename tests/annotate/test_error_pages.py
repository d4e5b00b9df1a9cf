"""Pages for when something is wrong: in our words, with a way on, and without the machinery of a request."""

from __future__ import annotations

import json

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.urls import get_resolver, reverse

from tests.hostile_input import WSGIClient

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["403", "403_csrf", "404", "429", "500", "refused"])
def test_an_error_page_needs_no_request_and_no_database(name, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert reverse("annotate:home") in render_to_string(f"{name}.html")


def test_an_unknown_address_is_answered_in_our_words(client):
    answer = client.get("/no/such/page/")
    assert answer.status_code == 404
    assert "Nothing here" in answer.content.decode()


@pytest.mark.parametrize("address", ["/api/", "/api/v1/nothing/", "/api/v1/projects/a/b/c/", "/api/v9/projects/"])
def test_an_unknown_address_of_the_api_is_a_problem_and_no_page(client, address):
    answer = client.get(address)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert {"type", "title", "status", "detail"} == set(answer.json())


def test_a_defect_of_ours_is_a_problem_in_the_api_and_a_page_elsewhere(rf):
    handler = get_resolver().resolve_error_handler(500)
    problem, page = handler(rf.get("/api/v1/projects/")), handler(rf.get("/projects/"))
    assert [answer.status_code for answer in (problem, page)] == [500, 500]
    assert (problem["Content-Type"], json.loads(problem.content)["status"]) == ("application/problem+json", 500)
    assert page["Content-Type"].startswith("text/html")


def test_a_request_for_a_host_that_is_not_ours_is_a_problem_in_the_api(client):
    answer = client.get("/api/v1/projects/", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_a_form_without_its_token_is_refused_with_a_way_on():
    answer = Client(enforce_csrf_checks=True).post(reverse("account_login"), {})
    assert answer.status_code == 403
    assert "reload the page" in answer.content.decode()


@pytest.fixture
def door():
    return WSGIClient()


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "hex", "zlib", "unheard-of", "undefined"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_in_another_charset_is_refused_by_a_sentence(door, kind, charset):
    answer = door.generic("POST", reverse("account_login") + "?next=/", b"login=a", f"{kind}; charset={charset}")
    assert answer.status_code == 415
    assert "Send it as UTF-8" in answer.content.decode()


@pytest.mark.parametrize("charset", ["utf-16", "hex", "unheard-of"])
def test_a_document_in_another_charset_is_refused_by_a_problem(door, charset):
    answer = door.generic("POST", "/api/v1/projects/a/prompts/", b"[]", f"application/json; charset={charset}")
    assert (answer.status_code, answer["Content-Type"]) == (415, "application/problem+json")
    assert "Send it as UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8"])
def test_utf_8_by_its_names_is_read(door, charset):
    kind = f"application/x-www-form-urlencoded; charset={charset}"
    assert door.generic("POST", reverse("account_login"), b"login=a", kind).status_code == 200


def test_a_host_that_is_not_ours_is_told_so_with_every_header_also_behind_https(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    answer = client.get("/projects/", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "could not understand" in answer.content.decode()
    for header in ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"):
        assert header in answer


def test_a_form_that_is_too_large_is_told_so(client):
    kind = "application/x-www-form-urlencoded"
    answer = client.generic("POST", reverse("account_login"), b"login=" + b"a" * 11_000_000, kind)
    assert answer.status_code == 413
    assert "up to 10 MB of text" in answer.content.decode()


def test_a_form_with_too_many_fields_is_refused_by_a_sentence(client):
    body = b"&".join(b"a%d=1" % number for number in range(2000))
    answer = client.generic("POST", reverse("account_login"), body, "application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.content.decode()


def test_a_form_in_parts_without_a_boundary_is_refused_by_a_sentence(client):
    answer = client.generic("POST", reverse("account_login"), b"a", "multipart/form-data")
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.content.decode()


@pytest.mark.parametrize("name", ["name*=unheard-of''a", "charset*=hex''a"])
def test_a_kind_of_body_that_is_written_in_an_unknown_charset_is_refused_by_a_sentence(door, name):
    answer = door.generic("POST", reverse("account_login"), b"login=a", f"application/x-www-form-urlencoded; {name}")
    assert answer.status_code == 415
    assert "Send it as UTF-8" in answer.content.decode()


@pytest.mark.parametrize(
    "header",
    [
        "name=\"file\"; filename*=hex''aa",
        "name=\"file\"; filename*=unheard-of''aa",
        'name="a"\r\nContent-Type: text/plain; charset=hex',
    ],
)
def test_a_part_of_a_form_in_an_unknown_charset_breaks_nothing(door, header):
    body = f"--x\r\nContent-Disposition: form-data; {header}\r\n\r\nb\r\n--x--\r\n".encode()
    answer = door.generic("POST", reverse("account_login"), body, "multipart/form-data; boundary=x")
    assert answer.status_code < 500
