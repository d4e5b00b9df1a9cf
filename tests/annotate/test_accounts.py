"""Accounts: closed and reopened by site admins, and what a person handed out ends with the person."""

from __future__ import annotations

from io import StringIO

import pytest
from allauth.account.adapter import get_adapter
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from annotate.models import ApiToken, Assignment, AuditEvent, Kind, Role, SignInLink, User
from annotate.services.people import accounts, links, members, tokens
from tests.factories import make_assignment, make_member, make_project, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def root():
    return make_user("root@example.org", is_site_admin=True)


@pytest.fixture
def ada():
    return make_user("ada@example.org", password="the old password")


def is_open(secret):
    return SignInLink.objects.usable().filter(token_hash=links._hash(secret)).exists()


def test_a_closed_account_comes_in_by_no_way_and_gives_its_work_back(client, root, ada, project):
    member = make_member(project, user=ada)
    assignment = make_assignment(member, Kind.DEMONSTRATION)
    token, link = tokens.make(ada, name="t", scopes=["read"], days=1), links.make(ada.email, purpose="sign_in")
    session = Client()
    session.force_login(ada)
    client.force_login(root)
    client.post(reverse("annotate:close-account", args=[ada.pk]))

    assert session.get(reverse("annotate:home")).status_code == 302
    assert tokens.authenticate(token.secret) is None
    assert not is_open(link.secret)
    assignment.refresh_from_db()
    assert assignment.status == Assignment.Status.RELEASED
    assert AuditEvent.objects.get(action="account.closed").actor == root


def test_a_reopened_account_has_its_projects_but_no_tokens(client, root, ada, project):
    make_member(project, user=ada)
    token = tokens.make(ada, name="t", scopes=["read"], days=1)
    accounts.close(ada, actor=root)
    client.force_login(root)
    client.post(reverse("annotate:reopen-account", args=[ada.pk]))
    back = Client()
    assert back.login(email=ada.email, password="the old password")
    assert project.name in back.get(reverse("annotate:home")).content.decode()
    assert tokens.authenticate(token.secret) is None


def test_a_session_from_before_does_not_wake_up_when_the_account_is_reopened(root, ada):
    left_open, other = Client(), Client()
    left_open.force_login(ada)
    other.force_login(root)
    accounts.close(ada, actor=root)
    accounts.reopen(ada, actor=root)
    assert left_open.get(reverse("annotate:account")).status_code == 302
    assert other.get(reverse("annotate:account")).status_code == 200


def test_a_site_admin_finds_the_link_for_a_lost_password_where_accounts_are_changed(client, root, ada):
    client.force_login(root)
    people = reverse("annotate:people")
    address = reverse("annotate:reset-password", args=[ada.pk])
    assert f'formaction="{address}?q=ada%40example.org"' in client.get(people, {"q": ada.email}).content.decode()
    made = client.post(f"{address}?q=ada%40example.org")
    assert made.context["made"].link.purpose == SignInLink.Purpose.PASSWORD_RESET
    assert made.context["back"] == f"{people}?q=ada%40example.org"
    assert made.context["address"] in made.content.decode()


def test_the_list_of_people_is_the_same_one_after_a_change(client, root, ada):
    client.force_login(root)
    for route in ("close-account", "reopen-account", "make-site-admin", "end-site-admin", "revoke-tokens"):
        answer = client.post(reverse(f"annotate:{route}", args=[ada.pk]) + "?q=ada&before=99")
        assert answer.url == f"{reverse('annotate:people')}?q=ada&before=99"


def test_nobody_is_handed_a_link_into_a_closed_account(client, root, ada, project):
    make_member(project, user=ada)
    accounts.close(ada, actor=root)
    client.force_login(root)
    reset = client.post(reverse("annotate:reset-password", args=[ada.pk]), follow=True)
    assert "is closed" in reset.content.decode()
    invitation = {"email": "Ada@example.org", "role": "admin"}
    invited = client.post(reverse("annotate:invite", args=[project.slug]), invitation)
    assert "This account is closed" in invited.content.decode()
    with pytest.raises(CommandError, match="account reopen"):
        call_command("sign_in_link", ada.email, "--site-admin", stdout=StringIO())
    assert not SignInLink.objects.exists()


def test_invitations_of_somebody_whose_account_is_closed_end_in_every_project(root, ada, project):
    make_member(project, user=ada, role=Role.ADMIN)
    made = links.make("eve@example.org", purpose="invitation", project=project, created_by=ada)
    accounts.close(ada, actor=root)
    accounts.reopen(ada, actor=root)
    assert not is_open(made.secret)


def test_a_site_admin_revokes_anybodys_tokens(client, root, ada):
    secrets = [tokens.make(ada, name="t", scopes=["read"], days=1).secret for _ in range(2)]
    client.force_login(root)
    client.post(reverse("annotate:revoke-tokens", args=[ada.pk]))
    assert [tokens.authenticate(secret) for secret in secrets] == [None, None]
    assert {event.actor for event in AuditEvent.objects.filter(action="token.revoked")} == {root}


def test_the_last_site_admin_stays(client, root):
    client.force_login(root)
    for route in ("annotate:close-account", "annotate:end-site-admin"):
        page = client.post(reverse(route, args=[root.pk]), follow=True)
        assert "needs at least one site admin" in page.content.decode()
    root.refresh_from_db()
    assert root.is_active and root.is_superuser


def test_who_ends_an_own_right_lands_where_it_is_not_needed(client, root):
    make_user(is_site_admin=True)
    client.force_login(root)
    answer = client.post(reverse("annotate:end-site-admin", args=[root.pk]))
    assert answer.url == reverse("annotate:home")
    assert client.get(reverse("annotate:people")).status_code == 403


def test_links_that_a_site_admin_made_end_with_the_right(root, ada):
    other = make_user(is_site_admin=True)
    reset = links.make(ada.email, purpose="password_reset", created_by=other)
    accounts.end_site_admin(other, actor=root)
    assert not is_open(reset.secret)


@pytest.mark.parametrize(
    "end",
    [
        lambda member, actor: members.remove(member, actor=actor),
        lambda member, actor: members.erase(member, actor=actor),
        lambda member, actor: members.change_role(member, role=Role.REVIEWER, actor=actor),
    ],
    ids=["removed", "erased", "demoted"],
)
def test_invitations_that_an_admin_made_end_with_the_role(project, admin, end):
    other = make_member(project, role=Role.ADMIN)
    elsewhere = make_member(make_project(), user=other.user, role=Role.ADMIN).project
    here = links.make("eve@example.org", purpose="invitation", project=project, created_by=other.user, role="admin")
    there = links.make("eve@example.org", purpose="invitation", project=elsewhere, created_by=other.user)
    by_another = links.make("joe@example.org", purpose="invitation", project=project, created_by=admin.user)
    end(other, admin.user)
    assert (is_open(here.secret), is_open(there.secret), is_open(by_another.secret)) == (False, True, True)


def test_a_promotion_revokes_nothing(project, admin):
    other = make_member(project, role=Role.REVIEWER)
    made = links.make("eve@example.org", purpose="invitation", project=project, created_by=other.user)
    members.change_role(other, role=Role.ADMIN, actor=admin.user)
    assert is_open(made.secret)


def test_a_password_reset_ends_sessions_and_links_and_asks_about_tokens(client, root, ada):
    token = tokens.make(ada, name="import", scopes=["read"], days=1)
    older = links.make(ada.email, purpose="sign_in")
    thief = Client()
    thief.force_login(ada)
    reset = links.make(ada.email, purpose="password_reset", created_by=root)
    client.post(reverse("annotate:link", args=[reset.secret]))
    assert thief.get(reverse("annotate:home")).status_code == 302
    assert not is_open(older.secret)

    fields = {"password1": "seven green bicycles", "password2": "seven green bicycles"}
    asked = client.post(reverse("account_set_password"), fields, follow=True)
    assert asked.redirect_chain[-1][0] == reverse("annotate:check-tokens")
    assert "import" in asked.content.decode()
    assert tokens.authenticate(token.secret), "nothing is revoked before the answer"
    client.post(reverse("annotate:check-tokens"), {"token": [token.token.pk]})
    assert tokens.authenticate(token.secret) is None


def test_nobody_revokes_somebody_elses_token_by_its_number(client, ada):
    foreign = tokens.make(make_user(), name="t", scopes=["read"], days=1)
    client.force_login(ada)
    client.post(reverse("annotate:check-tokens"), {"token": [foreign.token.pk, "٣", "x"]})
    assert tokens.authenticate(foreign.secret)


def test_the_command_does_what_the_page_does(root, ada):
    tokens.make(ada, name="t", scopes=["read"], days=1)
    for action in ("revoke-tokens", "close", "reopen", "make-site-admin", "end-site-admin"):
        call_command("account", action, "Ada@example.org", stdout=StringIO())
    assert not ApiToken.objects.usable().exists()
    ada.refresh_from_db()
    assert (ada.is_active, ada.is_superuser) == (True, False)
    with pytest.raises(CommandError, match="needs at least one site admin"):
        call_command("account", "close", root.email, stdout=StringIO())
    with pytest.raises(CommandError, match="There is no account"):
        call_command("account", "close", "nobody@example.org", stdout=StringIO())


def test_the_list_of_people_is_searched_and_costs_the_same_for_any_number(client, root, django_assert_max_num_queries):
    for number in range(20):
        make_user(f"someone{number}@example.org", name="Grace")
    client.force_login(root)
    with django_assert_max_num_queries(10):
        found = client.get(reverse("annotate:people"), {"q": "someone7@"})
    assert [person.email for person in found.context["page"]] == ["someone7@example.org"]
    assert User.objects.count() == 21


def change_name(ada):
    ada.name = "Ada"
    accounts.change(ada, changed=["name"])


def choose_password(ada):
    get_adapter().set_password(ada, "seven green bicycles")


@pytest.mark.parametrize("save", [change_name, choose_password])
def test_what_people_save_at_the_moment_their_account_is_closed_does_not_reopen_it(root, ada, save):
    ada = User.objects.get(pk=ada.pk)
    accounts.make_site_admin(ada, actor=root)
    accounts.close(ada, actor=root)
    save(ada)
    ada.refresh_from_db()
    assert (ada.is_active, ada.is_superuser) == (False, True)


@pytest.mark.parametrize("query", ["\0", "a\0da"])
def test_people_are_searched_for_what_cannot_be_there(client, root, ada, query):
    client.force_login(root)
    found = client.get(reverse("annotate:people"), {"q": query}).context["page"]
    assert ada in found
