"""Throttles: a program that runs wild is slowed down, and guessing at one account locks nobody out but the guesser."""

from __future__ import annotations

import pytest
from django.core.cache import cache, caches
from django.urls import reverse

from annotate.models import User
from tests.factories import bearer, make_user

pytestmark = pytest.mark.django_db
LOGIN, PASSWORD = "/account/login/", "seven green bicycles"


@pytest.fixture(autouse=True)
def _empty_throttles():
    cache.clear()
    caches["throttle"].clear()


def call(client, headers):
    return client.get(reverse("annotate-api:projects"), headers=headers)


def test_a_token_that_calls_too_often_is_told_when_to_come_back(client, settings):
    settings.API_CALLS_PER_MINUTE = {"token": 3, "person": 100}
    user = make_user()
    wild, calm = bearer(user), bearer(user)
    assert [call(client, wild).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = call(client, wild)
    assert 0 < int(refused["Retry-After"]) <= 60
    assert refused["Content-Type"] == "application/problem+json"
    assert "seconds" in refused.json()["detail"]
    assert call(client, calm).status_code == 200


def test_all_tokens_of_a_person_together_have_a_limit(client, settings):
    settings.API_CALLS_PER_MINUTE = {"token": 100, "person": 3}
    user = make_user()
    assert [call(client, bearer(user)).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert call(client, bearer(make_user())).status_code == 200


def test_a_wrong_guess_from_elsewhere_does_not_lock_the_owner_out(client, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    ada = User.objects.create_user("ada@example.org", PASSWORD)
    for number in range(8):
        guess = {"login": ada.email, "password": f"guess {number}"}
        client.post(LOGIN, guess, headers={"X-Forwarded-For": "192.0.2.1"})
    right = {"login": ada.email, "password": PASSWORD}
    client.post(LOGIN, right, headers={"X-Forwarded-For": "192.0.2.1"})
    assert "_auth_user_id" not in client.session, "where the guesses came from, even the right one is refused"
    client.post(LOGIN, right, headers={"X-Forwarded-For": "192.0.2.2"})
    assert client.session["_auth_user_id"] == str(ada.pk)
