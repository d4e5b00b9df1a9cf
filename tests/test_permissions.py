"""Who may go where: one row for every address and method, for every kind of person.

A new address fails here until it has its row. "in" means that nothing but the input can be wrong any more.
"""

from __future__ import annotations

import json
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.db import transaction
from django.test import Client
from django.urls import resolve, reverse

from annotate.models import ApiToken, User
from tests.permission_world import PEOPLE, World, make_world, routes
from tests.permitted_input import BODIES, CONDITIONS, LANDINGS

pytestmark = pytest.mark.django_db

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
LOGIN = "login"  # a page sends to the login, the API says 401
EVERYBODY = dict.fromkeys(PEOPLE, "in")
SIGNED_IN = EVERYBODY | {"anonymous": LOGIN}
MEMBERS = SIGNED_IN | {"outsider": 404}
REVIEWERS = MEMBERS | {"annotator": 403}
ADMINS = REVIEWERS | {"reviewer": 403}
SITE_ADMINS = dict.fromkeys(PEOPLE, 403) | {"anonymous": LOGIN, "site_admin": "in"}
LABELLERS = MEMBERS | {"site_admin": 403}  # a site admin who is no member looks, but does not label
OWNER = dict.fromkeys(PEOPLE, 404) | {"anonymous": LOGIN, "annotator": "in"}


class Row(NamedTuple):
    """Who gets in at `route` with `method`; `values` name where in the World the address's parts come from."""

    route: str
    method: str
    who: dict[str, str | int]
    values: dict[str, str] = {}  # a part of the address: a key of World.values, or a literal
    scope: str = "read"  # API only: what the token needs


def page(route: str, who: dict[str, str | int], methods: str = "GET", **values: str) -> list[Row]:
    return [Row(route, method, who, values) for method in methods.split()]


def api(route: str, who: dict[str, str | int], method: str, scope: str, **values: str) -> list[Row]:
    return [Row(route, method, who, values, scope)]


P = {"slug": "project"}
ROUND = P | {"number": "round"}
PAIR = ROUND | {"prompt": "judged_prompt"}
RUN = P | {"pk": "run"}
STEP = RUN | {"step": "step"}
MODEL = P | {"pk": "model"}
OWN_RANKING = {"pk": "ranking_work"}
ROWS = [
    *page("annotate:home", SIGNED_IN),
    *page("annotate:rank", MEMBERS, **P),
    *page("annotate:write", MEMBERS, **P),
    *page("annotate:my-work", MEMBERS, **P),
    *page("annotate:guidelines", MEMBERS, **P),
    *page("annotate:assignment", OWNER, **OWN_RANKING),
    *page("annotate:save-draft", OWNER, "POST", **OWN_RANKING),
    *page("annotate:submit", OWNER, "POST", **OWN_RANKING),
    *page("annotate:skip", OWNER, "POST", **OWN_RANKING),
    *page("annotate:correct", OWNER, "GET POST", kind="demonstration", pk="label"),
    *page("annotate:save-correction", OWNER, "POST", kind="demonstration", pk="label"),
    *page("annotate:leave-correction", OWNER, "POST", kind="demonstration", pk="label"),
    *page("annotate:preview", SIGNED_IN, "POST"),
    *page("annotate:account", SIGNED_IN, "GET POST"),
    *page("annotate:decline-password", SIGNED_IN, "POST"),
    *page("annotate:who", EVERYBODY),
    *page("annotate:welcome", SIGNED_IN, "GET POST"),
    *page("annotate:make-token", SIGNED_IN, "POST"),
    *page("annotate:revoke-token", OWNER, "POST", pk="own_token"),
    *page("annotate:notices", SIGNED_IN),
    *page("annotate:read-notices", SIGNED_IN, "POST"),
    *page("annotate:open-notice", OWNER, "POST", pk="notice"),
    *page("annotate:choose-mail", SIGNED_IN, "POST"),
    *page("annotate:link", EVERYBODY, "GET POST", secret="secret"),
    *page("annotate:check-tokens", SIGNED_IN, "GET POST"),
    *page("annotate:people", SITE_ADMINS),
    *page("annotate:site-audit", SITE_ADMINS),
    *page("annotate:close-account", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:reopen-account", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:reset-password", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:revoke-tokens", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:make-site-admin", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:end-site-admin", SITE_ADMINS, "POST", pk="person"),
    *page("annotate:projects", SIGNED_IN),
    *page("annotate:create-project", SITE_ADMINS, "GET POST"),
    *page("annotate:project", ADMINS, **P),
    *page("annotate:settings", ADMINS, "GET POST", **P),
    *page("annotate:edit-guidelines", ADMINS, "GET POST", **P),
    *page("annotate:audit", ADMINS, **P),
    *page("annotate:export", ADMINS, **P),
    *page("annotate:export-file", ADMINS, kind="rankings", **P),
    *page("annotate:members", ADMINS, **P),
    *page("annotate:invite", ADMINS, "POST", **P),
    *page("annotate:revoke-invitation", ADMINS, "POST", pk="invitation", **P),
    *page("annotate:change-role", ADMINS, "POST", pk="member", **P),
    *page("annotate:remove-member", ADMINS, "POST", pk="member", **P),
    *page("annotate:prompts", ADMINS, **P),
    *page("annotate:add-prompts", ADMINS, "GET POST", **P),
    *page("annotate:withdraw-prompt", ADMINS, "POST", pk="prompt", **P),
    *page("annotate:reviews", REVIEWERS, **P),
    *page("annotate:next-review", REVIEWERS, **P),
    *page("annotate:review", REVIEWERS, "GET", kind="demonstration", pk="label", **P),
    *page("annotate:record-review", REVIEWERS | {"site_admin": 403}, "POST", kind="demonstration", pk="label", **P),
    *page("annotate:escalations", REVIEWERS, **P),
    *page("annotate:settle", REVIEWERS, "POST", pk="escalated", **P),
    *page("training:simulation", ADMINS, "GET POST", **P),
    *page("training:stop-simulation", ADMINS, "POST", **P),
    *page("training:remove-example", ADMINS, "POST", **P),
    *page("training:settings", ADMINS, "GET POST", **P),
    *page("training:settings-preset", ADMINS, "POST", **P),
    *page("training:rounds", ADMINS, **P),
    *page("training:rounds-next", ADMINS, **P),
    *page("training:rounds-start", ADMINS, "POST", **P),
    *page("training:rounds-make-fit", ADMINS, "POST", **P),
    *page("training:round", ADMINS, **ROUND),
    *page("training:round-live", ADMINS, **ROUND),
    *page("training:round-cancel", ADMINS, **ROUND),
    *page("training:round-cancel", ADMINS, "POST", **ROUND),
    *page("training:pair-rank", ADMINS, "POST", **PAIR),
    *page("training:pair-watch", ADMINS, "POST", **PAIR),
    *page("training:pair-unwatch", ADMINS, "POST", **PAIR),
    *page("training:run", ADMINS, **RUN),
    *page("training:run-live", ADMINS, **RUN),
    *page("training:run-curves", ADMINS, **RUN),
    *page("training:run-csv", ADMINS, **RUN),
    *page("training:run-origin", ADMINS, **RUN),
    *page("training:run-resume", ADMINS, "POST", **RUN),
    *page("training:run-repeat", ADMINS, "POST", **RUN),
    *page("training:run-change", ADMINS, "GET POST", **RUN),
    *page("training:run-release", ADMINS, "POST", **RUN),
    *page("training:run-close", ADMINS, "POST", **RUN),
    *page("training:run-first", ADMINS, "POST", **RUN),
    *page("training:run-last", ADMINS, "POST", **RUN),
    *page("training:run-cancel", ADMINS, "GET POST", **RUN),
    *page("training:run-step", ADMINS, **STEP),
    *page("training:run-send", ADMINS, "POST", index="index", **STEP),
    *page("training:system", dict.fromkeys(PEOPLE, 404) | {"anonymous": LOGIN, "site_admin": "in"}),
    *page("training:system-queue", dict.fromkeys(PEOPLE, 404) | {"anonymous": LOGIN, "site_admin": "in"}),
    *page("training:base-models", SITE_ADMINS),
    *page("training:base-model-live", SITE_ADMINS, folder="folder"),
    *page("training:base-model-examine", SITE_ADMINS, "POST", folder="folder"),
    *page("training:models", ADMINS, **P),
    *page("training:models-compare", ADMINS, **P),
    *page("training:models-history", ADMINS, **P),
    *page("training:models-roll-back", ADMINS, "GET POST", **P),
    *page("training:model", ADMINS, **MODEL),
    *page("training:model-labels", ADMINS, kind="demonstration", pk="sft", **P),
    *page("training:model-promote", ADMINS, "GET POST", **MODEL),
    *page("training:model-download", ADMINS, "GET POST", **MODEL),
    *page("training:download-file", ADMINS, pk="download", **P),
    *page("training:questions", ADMINS, "GET POST", **P),
    *page("training:question", ADMINS, pk="question", **P),
    *page("training:question-live", ADMINS, pk="question", **P),
    *page("training:question-rank", ADMINS, "POST", pk="question", **P),
    *page("account_login", EVERYBODY, "GET POST"),
    *page("account_logout", SIGNED_IN),
    *page("account_logout", dict.fromkeys(PEOPLE, LOGIN), "POST"),  # where everybody is when signed out
    *page("account_inactive", EVERYBODY),
    *page("account_change_password", SIGNED_IN, "GET POST"),
    *page("account_set_password", SIGNED_IN, "GET POST"),
    *page("annotate-api:schema", EVERYBODY),
    *api("annotate-api:projects", SIGNED_IN, "GET", "read"),
    *api("annotate-api:project", MEMBERS, "GET", "read", **P),
    *api("annotate-api:prompts", ADMINS, "POST", "admin", **P),
    *api("annotate-api:slates", ADMINS, "POST", "admin", **P),
    *api("annotate-api:export", ADMINS, "GET", "read", kind="rankings", **P),
    *api("annotate-api:claim", LABELLERS, "POST", "annotate", **P),
    *api("annotate-api:draft", OWNER, "PUT", "annotate", pk="ranking_work"),
    *api("annotate-api:demonstration", OWNER, "POST", "annotate", pk="demonstration_work"),
    *api("annotate-api:ranking", OWNER, "POST", "annotate", pk="ranking_work"),
    *api("annotate-api:skip", OWNER, "POST", "annotate", pk="ranking_work"),
    *api("training-api:base-models", SITE_ADMINS, "GET", "read"),
    *api("training-api:base-model-examine", SITE_ADMINS, "POST", "admin", folder="folder"),
    *api("training-api:training-settings", ADMINS, "GET", "read", **P),
    *api("training-api:training-settings", ADMINS, "PATCH", "admin", **P),
    *api("training-api:rounds", ADMINS, "GET", "read", **P),
    *api("training-api:rounds", ADMINS, "POST", "admin", **P),
    *api("training-api:round-plan", ADMINS, "GET", "read", **P),
    *api("training-api:round", ADMINS, "GET", "read", **ROUND),
    *api("training-api:round-cancel", ADMINS, "POST", "admin", **ROUND),
    *api("training-api:models", ADMINS, "GET", "read", **P),
    *api("training-api:model-promote", ADMINS, "POST", "admin", pk="model", **P),
]


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    """One world for all rows: every visit is undone."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.route}")
def test_everybody_gets_exactly_as_far_as_the_table_says(world, row):
    assert {person: visit(world, row, person) for person in PEOPLE} == row.who


PERMITTED = [(row, person) for row in ROWS for person in PEOPLE if row.who[person] == "in"]


@pytest.mark.parametrize(
    ("row", "person"), PERMITTED, ids=[f"{row.method} {row.route} {person}" for row, person in PERMITTED]
)
def test_who_may_get_in_gets_through_with_good_input(world, row, person):
    with transaction.atomic():
        if prepare := CONDITIONS.get((row.method, row.route)):
            prepare(world)
        body = BODIES.get((row.method, row.route), {})
        answer = send(world, row, person, body(world) if callable(body) else body)
        transaction.set_rollback(True)
    complaints = [str(told) for told in get_messages(answer.wsgi_request) if told.level_tag == "error"]
    landing_page = LANDINGS.get((row.method, row.route), "")
    if row.route == "account_login" and person != "anonymous":
        landing_page = "annotate:home"
    assert (landing(answer), complaints) == (landing_page, [])


SCOPED = [row for row in ROWS if "-api:" in row.route and row.who != EVERYBODY]


@pytest.mark.parametrize("row", SCOPED, ids=lambda row: f"{row.method} {row.route}")
def test_a_token_opens_nothing_beyond_its_scopes(world, row):
    insiders = [person for person in PEOPLE if row.who[person] == "in"]
    with transaction.atomic():
        ApiToken.objects.update(scopes=sorted({"read", "annotate", "admin"} - {row.scope}))
        assert {visit(world, row, person) for person in insiders} == {403}
        transaction.set_rollback(True)


def test_every_address_has_its_row():
    assert sorted(routes()) == sorted({row.route for row in ROWS})


def test_every_method_of_the_api_has_its_row():
    methods = {
        (name, method.upper())
        for name, pattern in routes().items()
        for method in map(str.lower, METHODS)
        if hasattr(getattr(pattern.callback, "cls", None), method)
    }
    assert methods == {(row.route, row.method) for row in ROWS if "-api:" in row.route}


# One row for each page of ours; allauth's own take what Django's form views take.
PAGES = {row.route: row for row in ROWS if row.route.startswith(("annotate:", "training:"))}


@pytest.mark.parametrize("row", PAGES.values(), ids=PAGES)
def test_a_page_takes_no_method_without_a_row(world, row):
    others = METHODS - {each.method for each in ROWS if each.route == row.route}
    insider = next(person for person in reversed(PEOPLE) if row.who[person] == "in")
    taken = {method: visit(world, row._replace(method=method), insider) for method in others}
    leads_to_its_page = {"GET": "in"} if "GET" in others else {}  # where: tests/test_addresses.py
    assert taken == dict.fromkeys(others, 405) | leads_to_its_page


CHANGELISTS = [f"{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry]


@pytest.mark.parametrize("name", ["index", *CHANGELISTS])
def test_the_django_admin_is_for_site_admins(world, name):
    row = Row(f"admin:{name}", "GET", SITE_ADMINS)
    reached = {person: visit(world, row, person) for person in PEOPLE}
    assert reached == dict.fromkeys(PEOPLE, LOGIN) | {"site_admin": "in"}


def visit(world: World, row: Row, person: str) -> str | int:
    """How far `person` gets; what the visit changed is undone."""
    with transaction.atomic():
        answer = send(world, row, person)
        transaction.set_rollback(True)
    return outcome(answer)


def send(world: World, row: Row, person: str, body: object = None):
    """The answer to `person`, who sends `body` the way a form or a program does."""
    address = reverse(row.route, kwargs={part: world.values.get(value, value) for part, value in row.values.items()})
    client, headers = Client(), {}
    is_api = "-api:" in row.route
    if is_api and person != "anonymous":
        headers = {"Authorization": f"Bearer {world.secrets[person]}"}
    elif world.people[person]:
        client.force_login(User.objects.get(pk=world.people[person].pk))
    content_type = "application/json" if is_api else "application/x-www-form-urlencoded"
    sent = json.dumps(body) if is_api else urlencode(body or {}, doseq=True)
    return client.generic(row.method, address, "" if body is None else sent, headers=headers, content_type=content_type)


def landing(answer) -> str:
    """The route of the page that a redirect leads to; empty for an answer that is a success by itself."""
    if answer.status_code in (200, 201, 204):
        return ""
    assert answer.status_code == 302, (answer.status_code, answer.content.decode()[:2000])
    return resolve(urlsplit(answer["Location"]).path).view_name


def outcome(answer) -> str | int:
    sent_to_login = answer.status_code == 302 and answer["Location"].startswith(
        (reverse("account_login"), "/django-admin/login")
    )
    if sent_to_login or answer.status_code == 401:
        return LOGIN
    return "in" if answer.status_code in (200, 201, 204, 302, 400, 409, 422) else answer.status_code
