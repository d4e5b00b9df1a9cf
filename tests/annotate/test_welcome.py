"""The way of an invited person: welcome, first piece of work, and later the offer of a password."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Kind, Member, Project, Role, SignInLink, User
from annotate.services.people import links, time_zones
from tests.factories import (
    make_assignment,
    make_demonstration,
    make_member,
    make_project,
    make_prompt,
    make_slate,
    make_user,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]
WELCOME = "/welcome/"
ABOUT = {"name": "Grace", "time_zone": "Europe/Zurich"}


def accept(client: Client, project: Project, *, role: str = Role.ANNOTATOR, email: str = "grace@example.org"):
    made = links.make(email, purpose=SignInLink.Purpose.INVITATION, project=project, role=role)
    return client.post(links.path_of(made.secret))


@pytest.fixture
def newcomer(client: Client, project: Project) -> User:
    """Somebody who has accepted an invitation and said nothing yet."""
    assert accept(client, project).url == WELCOME
    return User.objects.get(email="grace@example.org")


def test_a_newcomer_says_who_they_are_and_starts_with_the_first_piece_of_work(
    client: Client, newcomer: User, project: Project
) -> None:
    make_slate(project)
    shown = client.get(WELCOME).content.decode()
    assert f"Welcome to “{project}”" in shown
    assert client.post(WELCOME, ABOUT).url == reverse("annotate:rank", args=[project.slug])
    newcomer.refresh_from_db()
    assert (newcomer.name, newcomer.time_zone) == ("Grace", "Europe/Zurich")
    assert newcomer.welcomed_at
    assert AuditEvent.objects.get(action="account.welcomed").actor == newcomer
    assert client.get(WELCOME).url == reverse("annotate:home"), "asked once"


def test_a_newcomer_without_work_to_do_starts_at_home(client: Client, newcomer: User) -> None:
    assert client.post(WELCOME, ABOUT).url == reverse("annotate:home")


def test_answers_are_written_where_nothing_is_to_be_ranked(client: Client, newcomer: User, project: Project) -> None:
    make_prompt(project)
    assert client.post(WELCOME, ABOUT).url == reverse("annotate:write", args=[project.slug])


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.ADMIN])
def test_invited_reviewers_and_admins_start_at_home(client: Client, project: Project, role: str) -> None:
    make_slate(project)
    accept(client, project, role=role)
    assert client.post(WELCOME, ABOUT).url == reverse("annotate:home")


def test_without_a_name_nobody_starts_and_what_was_chosen_stays(client: Client, newcomer: User) -> None:
    answer = client.post(WELCOME, ABOUT | {"name": " "})
    assert answer.status_code == 422
    assert "Enter your name." in answer.content.decode()
    assert '<option value="Europe/Zurich" selected>' in answer.content.decode()
    newcomer.refresh_from_db()
    assert newcomer.welcomed_at is None


def test_whoever_leaves_the_welcome_meets_it_on_the_next_page(client: Client, newcomer: User, project: Project) -> None:
    for name in ("rank", "my-work"):
        assert client.get(reverse(f"annotate:{name}", args=[project.slug])).url == WELCOME
    assert client.get(reverse("annotate:home")).url == WELCOME


def test_guidelines_account_and_signing_out_are_never_behind_the_welcome(
    client: Client, newcomer: User, project: Project
) -> None:
    assert client.get(reverse("annotate:guidelines", args=[project.slug])).status_code == 200
    assert client.get(reverse("annotate:account")).status_code == 200
    assert client.get(reverse("account_set_password")).status_code == 200
    assert client.get(reverse("account_logout")).status_code == 200
    client.post(reverse("account_logout"))
    assert client.get(reverse("account_login")).status_code == 200


def test_long_guidelines_are_folded_and_short_ones_stand_open(client: Client, newcomer: User, project: Project) -> None:
    Project.objects.update(guidelines="Be kind.")
    shown = client.get(WELCOME).content.decode()
    assert "Be kind." in shown
    assert "read-guidelines" not in shown
    Project.objects.update(guidelines="Be kind. " * 300)
    assert '<details id="read-guidelines">' in client.get(WELCOME).content.decode()


def test_who_is_known_goes_from_a_second_invitation_straight_to_that_project(client: Client) -> None:
    ada = make_user("ada@example.org")
    landings = {Role.ADMIN: "project", Role.REVIEWER: "reviews", Role.ANNOTATOR: "guidelines"}
    for role, page in landings.items():
        project = make_project()
        client.force_login(ada)
        answer = accept(client, project, role=role, email=ada.email)
        assert answer.url == reverse(f"annotate:{page}", args=[project.slug])
        assert "Your role is" in client.get(answer.url).content.decode()
    busy = make_project()
    make_slate(busy)
    assert accept(client, busy, email=ada.email).url == reverse("annotate:rank", args=[busy.slug])


def test_a_site_admin_made_by_the_command_is_welcomed_without_guidelines(client: Client) -> None:
    out = StringIO()
    call_command("sign_in_link", "root@example.org", "--site-admin", stdout=out)
    path = "/" + out.getvalue().strip().split("/", 3)[3]
    assert client.post(path).url == WELCOME
    assert "Welcome to Roundtable" in client.get(WELCOME).content.decode()
    assert client.post(WELCOME, ABOUT).url == reverse("annotate:home")


@pytest.mark.parametrize("zone", ["Mars/Olympus_Mons", "localtime", "Factory", "../etc/passwd", ""])
@pytest.mark.parametrize("page", ["annotate:welcome", "annotate:account"])
def test_a_zone_that_there_is_not_is_refused_with_a_sentence(
    client: Client, newcomer: User, page: str, zone: str
) -> None:
    answer = client.post(reverse(page), ABOUT | {"time_zone": zone})
    assert answer.status_code == 422
    said = "Unknown time zone" if zone else "This field is required."
    assert said in answer.content.decode()


def test_a_zone_that_only_the_browser_names_is_taken_and_stays_in_the_list(client: Client, newcomer: User) -> None:
    client.post(WELCOME, ABOUT | {"time_zone": "America/Argentina/Ushuaia"})
    shown = client.get(reverse("annotate:account")).content.decode()
    assert '<option value="America/Argentina/Ushuaia" selected>Ushuaia</option>' in shown


def test_some_sixty_zones_are_offered_by_region_and_the_server_knows_each() -> None:
    grouped = dict(time_zones.choices()[1:])
    assert set(grouped) == {"Africa", "America", "Asia", "Australia", "Europe", "Pacific"}
    names = [name for zones in grouped.values() for name, _city in zones]
    assert 55 <= len(names) <= 75
    assert len(names) == sum(len(cities) for _label, cities in time_zones.OFFERED.values()), "none is misspelt"


def offer(client: Client) -> bool:
    return "password-offer" in client.get(reverse("annotate:home")).content.decode()


def test_a_password_is_offered_after_the_first_piece_of_work_until_it_is_declined(client: Client) -> None:
    member = make_member()
    client.force_login(member.user)
    assert not offer(client)
    make_demonstration(member)
    assert offer(client)
    client.post(reverse("annotate:decline-password"))
    assert not offer(client)


def test_a_password_is_offered_at_the_second_sign_in_and_not_to_those_who_have_one(client: Client) -> None:
    member = make_member()
    for is_offered in (False, True):
        made = links.make(member.user.email, purpose=SignInLink.Purpose.SIGN_IN)
        client.post(links.path_of(made.secret))
        assert offer(client) == is_offered
    member.user.set_password("seven green bicycles")
    member.user.save()
    client.force_login(member.user)
    assert not offer(client)


def test_work_that_a_newcomer_sends_from_an_open_page_is_not_lost(client: Client, project: Project) -> None:
    member = Member.objects.create(project=project, user=make_user(welcomed_at=None), role=Role.ANNOTATOR)
    assignment = make_assignment(member, Kind.DEMONSTRATION)
    client.force_login(member.user)
    sent = {"draft_version": "0", "text": "Rest."}
    assert client.post(reverse("annotate:save-draft", args=[assignment.pk]), sent).status_code in (200, 204)
