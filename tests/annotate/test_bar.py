"""The bar: where one is, where one can go, and what waits there; the same on every page of a project."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate import navigation
from annotate.models import Member, Project, Role, Verdict
from annotate.services import reviews
from tests.factories import make_demonstration, make_member, make_project, make_ranking, make_user
from tests.training import engine_files

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def bar(client: Client, member: Member, address: str) -> navigation.Bar:
    client.force_login(member.user)
    answer = client.get(address)
    assert answer.status_code == 200
    found = answer.context["top_bar"]
    assert isinstance(found, navigation.Bar)
    return found


def page(name: str, project: Project, *more: object) -> str:
    return reverse(name, args=[project.slug, *more])


def waiting(shown: navigation.Bar) -> dict[str, str]:
    return {str(link.text): link.waiting for link in shown.links if link.waiting}


def test_the_project_stands_first_with_all_others_to_switch_to(client: Client, project: Project, admin: Member) -> None:
    make_member(make_project("A first one"), user=admin.user)
    shown = bar(client, admin, page("annotate:members", project))
    assert shown.project == project
    assert [(choice.name, choice.digit, choice.is_current) for choice in shown.choices] == [
        ("A first one", "1", False),
        (project.name, "2", True),
    ]
    assert [choice.address for choice in shown.choices] == [
        "/?project=a-first-one",
        page("annotate:project", project),
    ]
    html = client.get(page("annotate:members", project)).content.decode()
    assert html.index("switcher") < html.index("<nav")


def test_the_overview_is_an_admins_first_entry_and_nobody_elses(
    client: Client, project: Project, annotator: Member, reviewer: Member, admin: Member
) -> None:
    entries = {
        member.role: [str(link.text) for link in bar(client, member, page("annotate:guidelines", project)).links]
        for member in (annotator, reviewer, admin)
    }
    assert entries[Role.ANNOTATOR] == ["Home", "My work", "Guidelines"]
    assert entries[Role.REVIEWER] == ["Home", "My work", "Guidelines", "Review"]
    assert entries[Role.ADMIN] == [
        *("Overview", "Home", "My work", "Guidelines", "Review", "Prompts"),
        *("Rounds", "Models", "Members", "Settings"),
    ]


def test_no_two_entries_share_a_key() -> None:
    keys = [each.key for each in navigation.PAGES]
    assert len({*keys, "h", "p", "n"}) == len(keys) + 3


def test_the_entry_of_the_page_at_hand_is_marked_also_below_it(client: Client, project: Project, admin: Member) -> None:
    run = engine_files.make_run(project)
    places = {
        page("annotate:project", project): "Overview",
        page("annotate:escalations", project): "Review",
        page("annotate:add-prompts", project): "Prompts",
        page("annotate:edit-guidelines", project): "Settings",
        page("training:rounds", project): "Rounds",
        page("training:run", project, run.pk): "Rounds",
        page("training:models-history", project): "Models",
        reverse("annotate:home"): "Home",
    }
    for address, entry in places.items():
        current = bar(client, admin, address).current
        assert current is not None
        assert str(current.text) == entry, address


def test_what_waits_is_counted_on_every_page_of_the_project(
    client: Client, project: Project, annotator: Member, admin: Member
) -> None:
    run = engine_files.make_run(project)
    make_demonstration(annotator)
    reviews.record(make_ranking(admin), reviewer=annotator, verdict=Verdict.RETURN, comment="Look again.")
    make_ranking(admin)  # one's own is for somebody else to review
    for address in (
        page("annotate:project", project),
        page("training:rounds", project),
        page("training:models", project),
        page("training:run", project, run.pk),
        page("annotate:rank", project),
        reverse("annotate:home"),
    ):
        assert waiting(bar(client, admin, address)) == {"My work": "1", "Review": "1"}, address


def test_a_count_goes_down_with_the_review_and_the_correction(
    client: Client, project: Project, annotator: Member, reviewer: Member
) -> None:
    label = make_demonstration(annotator)
    here = page("annotate:guidelines", project)
    assert waiting(bar(client, reviewer, here)) == {"Review": "1"}
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Say how much.")
    assert waiting(bar(client, reviewer, here)) == {}
    assert waiting(bar(client, annotator, here)) == {"My work": "1"}


def test_very_many_are_not_counted_one_by_one(
    client: Client, project: Project, annotator: Member, reviewer: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(navigation, "MOST_COUNTED", 1)
    for _ in range(3):
        make_demonstration(annotator)
    assert waiting(bar(client, reviewer, page("annotate:guidelines", project))) == {"Review": "1+"}


def test_a_person_of_one_project_has_its_links_on_pages_of_no_project_too(
    client: Client, project: Project, annotator: Member
) -> None:
    assert bar(client, annotator, reverse("annotate:notices")).project == project


def test_home_of_several_projects_has_the_links_of_the_first_or_of_the_chosen_one(
    client: Client, project: Project, annotator: Member
) -> None:
    other = make_member(make_project("A first one"), user=annotator.user)
    home = reverse("annotate:home")
    assert bar(client, annotator, home).project == other.project
    chosen = bar(client, annotator, f"{home}?project={project.slug}")
    assert chosen.project == project
    assert [str(link.text) for link in chosen.links] == ["Home", "My work", "Guidelines"]
    assert chosen.links[0].address == f"{home}?project={project.slug}"  # which keeps the project
    answer = client.get(home, {"project": project.slug})
    assert [place.member.project for place in answer.context["workplaces"]] == [project, other.project]


def test_a_site_admin_without_a_membership_switches_between_all(client: Client, project: Project) -> None:
    make_project("A first one")
    client.force_login(make_user(is_site_admin=True))
    shown = client.get(reverse("annotate:home")).context["top_bar"]
    assert shown.project is None
    assert [choice.address for choice in shown.choices][1] == page("annotate:project", project)


def test_a_page_costs_the_same_with_many_projects_and_labels(
    client: Client, project: Project, annotator: Member, reviewer: Member
) -> None:
    client.force_login(reviewer.user)

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(page("annotate:guidelines", project))
        return len(captured)

    make_demonstration(annotator)
    few = cost()
    for _ in range(4):
        make_demonstration(annotator)
        make_ranking(annotator)
        make_member(user=reviewer.user)
    assert cost() == few
