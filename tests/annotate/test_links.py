"""One-time links: what they open, for whom, and how often."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Role, SignInLink, User
from annotate.services.people import links

pytestmark = [pytest.mark.django_db, pytest.mark.database]
SIGN_IN, INVITATION, RESET = "sign_in", "invitation", "password_reset"


@pytest.fixture
def ada():
    return User.objects.create_user("ada@example.org", "the old password", name="Ada")


def address(made):
    return reverse("annotate:link", args=[made.secret])


def signed_in(client):
    return User.objects.filter(pk=client.session.get("_auth_user_id")).first()


def test_a_link_signs_in_once(client, ada):
    made = links.make(ada.email, purpose=SIGN_IN)
    assert client.post(address(made)).status_code == 302
    assert signed_in(client) == ada
    client.logout()
    assert client.post(address(made)).status_code == 410
    assert signed_in(client) is None


def test_looking_at_a_link_does_not_use_it_up(client, ada):
    made = links.make(ada.email, purpose=SIGN_IN)
    for _ in range(2):
        response = client.get(address(made))
        assert response.status_code == 200
        assert ada.email in response.content.decode()
    assert signed_in(client) is None
    assert SignInLink.objects.get().used_at is None


def test_an_expired_link_opens_nothing(client, ada):
    made = links.make(ada.email, purpose=SIGN_IN)
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(address(made)).status_code == 410
    assert client.post(address(made)).status_code == 410


def test_a_new_link_replaces_the_older_one(client, ada):
    first, second = links.make(ada.email, purpose=SIGN_IN), links.make("ADA@example.org ", purpose=SIGN_IN)
    assert client.post(address(first)).status_code == 410
    assert client.post(address(second)).status_code == 302


def test_only_the_hash_of_a_secret_is_stored(ada):
    made = links.make(ada.email, purpose=SIGN_IN)
    stored = SignInLink.objects.values().get()
    assert made.secret not in str(stored)
    assert len(made.secret) >= 43  # 256 bits, base64


def test_a_closed_account_is_not_opened_by_a_link(client, ada):
    made = links.make(ada.email, purpose=SIGN_IN)
    User.objects.update(is_active=False)
    assert client.post(address(made)).status_code == 410


def test_an_invitation_makes_the_account_and_the_membership(client, project, ada):
    made = links.make("Grace@Example.org", purpose=INVITATION, project=project, role=Role.REVIEWER, created_by=ada)
    response = client.post(address(made))
    member = Member.objects.get(project=project)
    assert (member.user.email, member.role) == ("grace@example.org", Role.REVIEWER)
    assert not member.user.has_usable_password()
    assert signed_in(client) == member.user
    assert response.url == reverse("annotate:welcome")  # where a newcomer gives a name


def test_an_invitation_is_no_way_into_an_account_that_exists(client, project, ada):
    made = links.make(ada.email, purpose=INVITATION, project=project)
    response = client.post(address(made))
    assert response.status_code == 409
    assert "Ask a site admin for a link: project admins cannot create one." in response.content.decode()
    assert signed_in(client) is None
    assert not Member.objects.exists()

    client.force_login(ada)
    assert client.post(address(made)).status_code == 302
    assert Member.objects.get().user == ada


def test_an_invitation_never_lowers_a_role(project, ada):
    Member.objects.create(project=project, user=ada, role=Role.ADMIN)
    made = links.make(ada.email, purpose=INVITATION, project=project, role=Role.ANNOTATOR)
    links.consume(made.secret, signed_in=ada)
    assert Member.objects.get().role == Role.ADMIN


@pytest.mark.parametrize(
    ("role", "invited_as", "told_before", "role_after"),
    [
        (Role.ADMIN, Role.ANNOTATOR, "Your role is project admin, and joining does not change it.", "project admin"),
        (Role.REVIEWER, Role.REVIEWER, "Your role is reviewer, and joining does not change it.", "reviewer"),
        (Role.ANNOTATOR, Role.REVIEWER, "Your role is annotator; joining changes it to reviewer.", "reviewer"),
    ],
)
def test_a_member_who_is_invited_again_reads_the_role_that_they_really_have(
    client, project, ada, role, invited_as, told_before, role_after
):
    member = Member.objects.create(project=project, user=ada, role=role)
    made = links.make(ada.email, purpose=INVITATION, project=project, role=invited_as)
    client.force_login(ada)
    page = client.get(address(made)).content.decode()
    assert f"You are a member already. {told_before}" in page
    assert f"<dt>Role</dt><dd>{role_after}</dd>" in "".join(line.strip() for line in page.splitlines())

    welcome = client.post(address(made), follow=True).content.decode()
    assert f"Your role is {role_after}." in welcome
    member.refresh_from_db()
    assert member.get_role_display() == role_after


def test_only_the_invited_person_is_told_of_a_membership(client, project, ada):
    Member.objects.create(project=project, user=ada, role=Role.ADMIN)
    made = links.make(ada.email, purpose=INVITATION, project=project)
    assert "a member already" not in client.get(address(made)).content.decode()
    grace = Member.objects.create(project=project, user=User.objects.create_user("grace@example.org"))
    client.force_login(grace.user)
    assert "a member already" not in client.get(address(made)).content.decode()


def test_who_had_left_is_invited_as_anybody_else(client, project, ada):
    Member.objects.create(project=project, user=ada, role=Role.ADMIN, removed_at=timezone.now())
    made = links.make(ada.email, purpose=INVITATION, project=project)
    client.force_login(ada)
    assert "a member already" not in client.get(address(made)).content.decode()
    assert "Your role is annotator." in client.post(address(made), follow=True).content.decode()


def test_who_had_left_comes_back_as_the_same_member(project, ada):
    before = Member.objects.create(project=project, user=ada, role=Role.ADMIN, removed_at=timezone.now())
    made = links.make(ada.email, purpose=INVITATION, project=project, role=Role.ANNOTATOR)
    links.consume(made.secret, signed_in=ada)
    after = Member.objects.get()
    assert (after.pk, after.role, after.removed_at) == (before.pk, Role.ANNOTATOR, None)


def test_a_revoked_invitation_opens_nothing(project, ada):
    made = links.make("grace@example.org", purpose=INVITATION, project=project)
    links.revoke(made.link, actor=ada)
    with pytest.raises(links.LinkSpent):
        links.consume(made.secret)


def test_a_reset_link_lets_a_new_password_be_chosen_and_ends_the_old_one(client, ada):
    made = links.make(ada.email, purpose=RESET)
    response = client.post(address(made), follow=True)
    assert response.redirect_chain[-1][0] == reverse("account_set_password")
    assert not Client().login(email=ada.email, password="the old password")

    fields = {"password1": "seven green bicycles", "password2": "seven green bicycles"}
    assert client.post(reverse("account_set_password"), fields).url == reverse("annotate:account")
    ada.refresh_from_db()
    assert ada.check_password("seven green bicycles")


def test_the_command_prints_a_link_that_works(client, ada, settings):
    out = StringIO()
    call_command("sign_in_link", "ada@example.org", stdout=out)
    link = out.getvalue().strip()
    assert link.startswith(settings.PUBLIC_URL)
    assert client.post(link.removeprefix(settings.PUBLIC_URL)).status_code == 302
    assert signed_in(client) == ada


def test_the_command_makes_the_first_site_admin(client):
    with pytest.raises(CommandError):
        call_command("sign_in_link", "root@example.org", stdout=StringIO())
    call_command("sign_in_link", "root@example.org", "--site-admin", stdout=StringIO())
    assert User.objects.get(email="root@example.org").is_superuser


@pytest.mark.parametrize("typed", ["root", "root@", "a" * 250 + "@example.org"])
def test_what_is_no_address_becomes_no_site_admin(typed):
    with pytest.raises(CommandError, match="is not a valid email address"):
        call_command("sign_in_link", typed, "--site-admin", stdout=StringIO())
    assert not User.objects.exists()
