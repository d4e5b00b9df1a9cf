"""Pages for when something is wrong: in our words, with a way on, and without the machinery of a request."""

from __future__ import annotations

import json

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.urls import get_resolver, reverse

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["403", "403_csrf", "404", "429", "500"])
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
