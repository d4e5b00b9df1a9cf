"""Signing in by password: closed sign-up, no hints, a brake on guessing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings as configured
from django.core.cache import cache
from django.urls import reverse

from annotate.models import User

pytestmark = pytest.mark.django_db
LOGIN = "/account/login/"
PASSWORD = "seven green bicycles"


@pytest.fixture(autouse=True)
def _an_empty_throttle():
    cache.clear()


@pytest.fixture
def ada():
    return User.objects.create_user("ada@example.org", PASSWORD)


def sign_in(client, email, password):
    return client.post(LOGIN, {"login": email, "password": password})


def test_the_address_is_the_login_name_in_any_case(client, ada):
    assert sign_in(client, "Ada@Example.org", PASSWORD).url == reverse("annotate:home")
    assert client.session["_auth_user_id"] == str(ada.pk)


def test_the_page_one_came_for_follows_the_sign_in(client, ada):
    response = client.post(f"{LOGIN}?next=/account/", {"login": ada.email, "password": PASSWORD})
    assert response.url == "/account/"


def test_a_foreign_address_does_not_follow_the_sign_in(client, ada):
    response = client.post(f"{LOGIN}?next=https://evil.example/", {"login": ada.email, "password": PASSWORD})
    assert response.url == reverse("annotate:home")


def test_a_refusal_does_not_tell_whether_the_account_exists(client, ada):
    known = sign_in(client, ada.email, "wrong password").context["form"].errors
    unknown = sign_in(client, "nobody@example.org", "wrong password").context["form"].errors
    assert known
    assert known == unknown


def test_guessing_is_stopped_even_if_the_sixth_guess_is_right(client, ada):
    for number in range(5):
        sign_in(client, ada.email, f"guess {number}")
    sign_in(client, ada.email, PASSWORD)
    assert "_auth_user_id" not in client.session


def test_behind_a_proxy_one_guesser_does_not_lock_out_the_others(client, ada, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    for number in range(31):
        fields = {"login": f"guess{number}@example.org", "password": "guess"}
        client.post(LOGIN, fields, headers={"X-Forwarded-For": "192.0.2.1"})
    fields = {"login": ada.email, "password": PASSWORD}
    assert client.post(LOGIN, fields, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 429
    assert client.post(LOGIN, fields, headers={"X-Forwarded-For": "192.0.2.2"}).status_code == 302


def test_nobody_signs_up_without_an_invitation(client):
    fields = {"email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/account/signup/", fields).status_code == 404
    assert not User.objects.exists()


def test_a_closed_account_does_not_sign_in(client, ada):
    User.objects.update(is_active=False)
    sign_in(client, ada.email, PASSWORD)
    assert "_auth_user_id" not in client.session


def test_the_admin_site_has_no_door_of_its_own(client, ada):
    User.objects.update(is_staff=True, is_superuser=True)
    response = client.get("/django-admin/login/?next=/django-admin/")
    assert response.status_code == 302
    assert response.url.startswith(LOGIN)


def test_signing_out_takes_a_post(client, ada):
    client.force_login(ada)
    assert client.get(reverse("account_logout")).status_code == 200
    assert "_auth_user_id" in client.session
    client.post(reverse("account_logout"))
    assert "_auth_user_id" not in client.session


def test_who_has_no_password_is_told_before_signing_out_what_it_takes_to_come_back(client, ada):
    told = "You have no password: once signed out, you need a link from a site admin."
    for password, times in ((PASSWORD, 0), (None, 2)):  # in the menu of every page, and on the page itself
        ada.set_password(password)
        ada.save()
        client.force_login(ada)
        assert client.get(reverse("account_logout")).content.decode().count(told) == times


def test_the_sign_in_page_says_who_can_help(client):
    page = client.get(LOGIN).content.decode()
    assert "Ask a site admin for a link: project admins cannot create one." in page


def test_the_password_is_changed_by_who_knows_the_old_one(client, ada):
    client.force_login(ada)
    new = {"password1": "eight blue bicycles", "password2": "eight blue bicycles"}
    assert client.post("/account/password/change/", {"oldpassword": "wrong", **new}).status_code == 200
    assert client.post("/account/password/change/", {"oldpassword": PASSWORD, **new}).url == "/account/"
    ada.refresh_from_db()
    assert ada.check_password("eight blue bicycles")


def test_nothing_that_was_seen_stays_in_the_browser_after_signing_out(client, ada):
    client.force_login(ada)
    assert "no-store" in client.get(reverse("annotate:home"))["Cache-Control"]


SIGN_IN_WITHOUT_REDIS = """
import django; django.setup()
from django.core.management import call_command
from django.test import Client
from annotate.models import User
for command in ("migrate", "createcachetable"): call_command(command, verbosity=0)
User.objects.create_user("ada@example.org", "seven green bicycles")
form = {"login": "ada@example.org", "password": "seven green bicycles"}
answer = Client(headers={"Host": "localhost"}).post("/account/login/", form)
print(answer.status_code, answer["Location"])
"""


@pytest.mark.slow
def test_signing_in_needs_no_redis(tmp_path):
    own = {"DATABASE_URL": f"sqlite:///{tmp_path}/db", "DATA_DIR": str(tmp_path)}
    nobody = {"REDIS_URL": "redis://127.0.0.1:1/0", "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment = os.environ | own | nobody
    done = subprocess.run(
        [sys.executable, "-c", SIGN_IN_WITHOUT_REDIS], cwd=configured.BASE_DIR, env=environment,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.stdout.split() == ["302", "/"], done.stderr
