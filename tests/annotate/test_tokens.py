"""API tokens: made and revoked on the account page, shown once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.models import ApiToken, User
from annotate.services.people import tokens

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return User.objects.create_user("ada@example.org")


def test_a_token_is_shown_once_and_kept_as_a_hash(client, ada):
    client.force_login(ada)
    response = client.post(reverse("annotate:make-token"), {"name": "import", "scopes": ["read", "admin"], "days": 30})
    secret = response.context["made"].secret
    assert secret in response.content.decode()
    assert secret not in client.get(reverse("annotate:account")).content.decode()
    assert secret not in str(ApiToken.objects.values().get())
    assert secret.startswith("rt_")
    assert ApiToken.objects.get().scopes == ["admin", "read"]


def test_a_token_stands_for_its_user_until_it_is_revoked(client, ada):
    made = tokens.make(ada, name="import", scopes=["read"], days=30)
    assert tokens.authenticate(made.secret).user == ada
    client.force_login(ada)
    client.post(reverse("annotate:revoke-token", args=[made.token.pk]))
    assert tokens.authenticate(made.secret) is None


def test_an_expired_token_and_a_closed_account_open_nothing(ada):
    made = tokens.make(ada, name="import", scopes=["read"], days=30)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert tokens.authenticate(made.secret) is None
    other = tokens.make(ada, name="import", scopes=["read"], days=30)
    User.objects.update(is_active=False)
    assert tokens.authenticate(other.secret) is None


def test_its_use_is_noted_without_a_write_for_every_request(ada, django_assert_num_queries):
    made = tokens.make(ada, name="import", scopes=["read"], days=30)
    tokens.authenticate(made.secret)
    assert ApiToken.objects.get().last_used_at
    with django_assert_num_queries(1):
        tokens.authenticate(made.secret)


def test_a_token_without_scopes_is_refused(client, ada):
    client.force_login(ada)
    assert client.post(reverse("annotate:make-token"), {"name": "import", "days": 30}).status_code == 422
    assert not ApiToken.objects.exists()


def test_somebody_elses_token_is_not_there(client, ada):
    made = tokens.make(ada, name="import", scopes=["read"], days=30)
    client.force_login(User.objects.create_user("eve@example.org"))
    assert client.post(reverse("annotate:revoke-token", args=[made.token.pk])).status_code == 404
    assert tokens.authenticate(made.secret)


def test_times_are_shown_in_the_zone_that_was_chosen(client, ada):
    client.force_login(ada)
    client.post(reverse("annotate:account"), {"name": "Ada", "time_zone": "Asia/Tokyo"})
    ada.refresh_from_db()
    assert (ada.name, ada.time_zone) == ("Ada", "Asia/Tokyo")
    made = tokens.make(ada, name="import", scopes=["read"], days=30)
    ApiToken.objects.filter(pk=made.token.pk).update(last_used_at="2026-01-01T20:00:00Z")
    assert "2 Jan 2026 05:00" in client.get(reverse("annotate:account")).content.decode()


def test_a_time_zone_that_does_not_exist_is_refused(client, ada):
    client.force_login(ada)
    response = client.post(reverse("annotate:account"), {"name": "Ada", "time_zone": "Mars/Olympus"})
    assert response.status_code == 422
