"""Addresses that are no pages lead to one: those that forms send to, and those of the parts that pages renew."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotate.models import User
from tests.permission_world import PEOPLE, World, make_world, routes
from tests.test_permissions import PAGES, ROWS, Row

pytestmark = pytest.mark.django_db

ONLY_POST = {
    name: row for name, row in PAGES.items() if {each.method for each in ROWS if each.route == name} == {"POST"}
}
FRAGMENTS = {
    "training:rounds-next": "training:rounds",
    "training:round-live": "training:round",
    "training:run-live": "training:run",
    "training:run-curves": "training:run",
    "training:question-live": "training:question",
    "training:model-download": "training:model",
    "training:base-model-live": "training:base-models",
}


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    """One world for all rows: every visit is undone."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


@pytest.mark.parametrize("row", ONLY_POST.values(), ids=ONLY_POST)
def test_a_get_of_an_address_that_only_takes_forms_leads_to_its_page(world, row):
    answer = follow(world, row, insider(row))
    assert answer.redirect_chain, "the address itself is no page"
    assert_whole_page(answer)


@pytest.mark.parametrize("row", ONLY_POST.values(), ids=ONLY_POST)
def test_who_signs_in_on_the_way_comes_to_the_page_too(world, row):
    with transaction.atomic():
        person = User.objects.get(pk=world.people[insider(row)].pk)
        person.set_password("a long enough password")
        person.save()
        client = Client()
        to_login = client.post(address(world, row))
        assert to_login["Location"].startswith(reverse("account_login"))
        form = {"login": person.email, "password": "a long enough password"}
        answer = client.post(to_login["Location"], form, follow=True)
        transaction.set_rollback(True)
    assert_whole_page(answer)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_part_of_a_page_that_is_opened_by_itself_leads_to_the_page(world, name):
    row = PAGES[name]
    answer = follow(world, row, insider(row))
    page = PAGES[FRAGMENTS[name]]
    assert [place for place, _status in answer.redirect_chain] == [address(world, page)]
    assert_whole_page(answer)


@pytest.mark.parametrize("name", PAGES)
def test_no_address_that_is_opened_by_itself_shows_a_part_of_a_page(world, name):
    answer = follow(world, PAGES[name], insider(PAGES[name]))
    if answer["Content-Type"].startswith("text/html"):
        assert_whole_page(answer)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_page_gets_the_part_that_it_asks_for(world, name):
    row = PAGES[name]
    client = signed_in(world, insider(row))
    answer = client.get(address(world, row), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert "<html" not in answer.content.decode()


READ = {row.route for row in ROWS if row.method == "GET"}
WRITTEN = {row.route: row for row in ROWS if "-api:" in row.route and row.route not in READ}


@pytest.mark.parametrize("row", WRITTEN.values(), ids=WRITTEN)
def test_the_api_says_which_methods_it_takes(world, row):
    headers = {"Authorization": f"Bearer {world.secrets[insider(row)]}"}
    assert Client().get(address(world, row), headers=headers).status_code == 405


def test_every_address_is_walked():
    assert {name for name in routes() if name.startswith(("annotate:", "training:"))} == set(PAGES)


def address(world: World, row: Row) -> str:
    return reverse(row.route, kwargs={part: world.values.get(value, value) for part, value in row.values.items()})


def insider(row: Row) -> str:
    """Somebody who gets in: the one who owns what it is about, where it is somebody's."""
    return next(person for person in reversed(PEOPLE) if row.who[person] == "in")


def signed_in(world: World, name: str) -> Client:
    client, person = Client(), world.people[name]
    assert isinstance(person, User)
    client.force_login(person)
    return client


def follow(world: World, row: Row, person: str) -> HttpResponse:
    with transaction.atomic():
        answer = signed_in(world, person).get(address(world, row), follow=True)
        transaction.set_rollback(True)
    return answer


def assert_whole_page(answer: HttpResponse) -> None:
    assert answer.status_code == 200
    assert answer.request["PATH_INFO"] != reverse("account_login")
    assert answer.content.decode().lstrip().lower().startswith("<!doctype html>")
