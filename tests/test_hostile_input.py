"""Whatever is sent to any address, in any field: no answer is a 5xx, each has the security headers and a sentence."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.urls import resolve, reverse
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import hostile_input as hostile
from tests.permission_world import PEOPLE, World, make_world
from tests.test_permissions import ROWS, Row

pytestmark = [pytest.mark.django_db, pytest.mark.database]

EXAMPLES = 10  # of each address and method
SECURITY_HEADERS = ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy")
PAGES = [row for row in ROWS if "-api:" not in row.route]
ENDPOINTS = [row for row in ROWS if "-api:" in row.route]
VIEWS = {row.route: resolve(reverse(row.route, kwargs=dict.fromkeys(row.values, "1"))).func.cls for row in ENDPOINTS}
LISTS = [row for row in ENDPOINTS if row.method == "GET" and "cursor" in getattr(VIEWS[row.route], "parameters", ())]
READ_IN_QUERY, READ_IN_FORM = hostile.names_read("GET"), hostile.names_read("POST")
hurried = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
values = st.sampled_from(hostile.VALUES)
seen: dict[tuple[str, str], dict[str, str]] = {}  # the fields on a page, by its route and who looks


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """One world for all calls: what each does is undone."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


def name_of(row: Row) -> str:
    return f"{row.method} {row.route}"


@pytest.mark.parametrize("row", PAGES, ids=name_of)
def test_a_page_answers_whatever_it_is_asked(world: World, row: Row) -> None:
    fields = fields_around(world, row)

    @hurried
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        send(world, row, data, draw_form(data, fields) if row.method != "GET" else (b"", ""))

    ask()


@pytest.mark.parametrize("row", ENDPOINTS, ids=name_of)
def test_the_api_answers_whatever_it_is_asked(world: World, row: Row) -> None:
    @hurried
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        send(world, row, data, draw_document(data, world, row) if row.method != "GET" else (b"", ""))

    ask()


@pytest.mark.parametrize("cursor", hostile.CURSORS, ids=lambda cursor: repr(cursor[:12]))
@pytest.mark.parametrize("row", LISTS, ids=name_of)
def test_a_list_does_not_go_on_from_a_cursor_that_it_did_not_make(world: World, row: Row, cursor: bytes) -> None:
    address = reverse(row.route, kwargs={part: world.values.get(name, name) for part, name in row.values.items()})
    headers = {"Authorization": f"Bearer {world.secrets[insider(row)]}"}
    answer = hostile.WSGIClient().get(address, {"cursor": b64encode(cursor).decode()}, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Invalid cursor")
    assert answer["Content-Type"] == "application/problem+json"


def send(world: World, row: Row, data: st.DataObject, body: tuple[bytes, str]) -> None:
    person = insider(row)
    client = visitor(world, row, person)
    headers = {"Host": "localhost"}
    if "-api:" in row.route and person != "anonymous":
        headers["Authorization"] = f"Bearer {world.secrets[person]}"
    if data.draw(st.integers(0, 3)) == 0:
        headers[data.draw(st.sampled_from(hostile.HEADERS))] = data.draw(values)[:4000].decode("latin-1")
    if data.draw(st.integers(0, 7)) == 0:
        client.cookies[data.draw(st.sampled_from(hostile.COOKIES))] = data.draw(values)[:4000].decode("latin-1")
    path, query = draw_address(data, world, row)
    content, content_type = body
    with transaction.atomic():
        answer = client.generic(row.method, path, content, content_type, headers=headers, QUERY_STRING=query)
        said = content_of(answer)
        transaction.set_rollback(True)
    assert answer.status_code < 500, (answer.status_code, path[:200], query[:200], content[:300], content_type, headers)
    assert [name for name in SECURITY_HEADERS if name not in answer] == [], (answer.status_code, path[:200])
    if answer.status_code in (400, 404, 413, 415, 422):
        assert b" " in said.strip(), (answer.status_code, path[:200], query[:200], content[:300], said[:100])


def insider(row: Row) -> str:
    """Somebody whom only the input can keep out; signing out leads everybody to the door."""
    return next((person for person in reversed(PEOPLE) if row.who[person] == "in"), "annotator")


def visitor(world: World, row: Row, person: str) -> hostile.WSGIClient:
    client = hostile.WSGIClient()
    if "-api:" not in row.route and (user := world.people[person]):
        client.force_login(user)
    return client


def content_of(answer: HttpResponse) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def draw_address(data: st.DataObject, world: World, row: Row) -> tuple[str, str]:
    """The address of the row, now and then with something else in one of its parts, and something in its query."""
    parts = {part: str(world.values.get(value, value)) for part, value in row.values.items()}
    path = reverse(row.route, kwargs=parts)
    if parts and data.draw(st.integers(0, 4)) == 0:
        old = parts[data.draw(st.sampled_from(sorted(parts)))]
        new = hostile.escaped(data.draw(values)[:2000]).decode()
        path = path.replace(f"/{old}/", f"/{new}/", 1)
    if data.draw(st.booleans()):
        return path, ""
    named = {data.draw(st.sampled_from([*READ_IN_QUERY, "next", "cursor", "format"])): data.draw(values)}
    query = hostile.form_body(named) if data.draw(st.integers(0, 3)) else b"%zz=%ff&\xff\xfe&a=%00"
    return path, query.decode("latin-1")


def draw_form(data: st.DataObject, fields: dict[str, str]) -> tuple[bytes, str]:
    """A form as a browser sends it, with something else in one or two of its fields; or a body that is none."""
    if data.draw(st.integers(0, 5)) == 0:
        return data.draw(st.sampled_from(hostile.BODIES)), data.draw(st.sampled_from(hostile.CONTENT_TYPES))
    sent = {name: value.encode() for name, value in fields.items()}
    names = sorted({*fields, *READ_IN_FORM})
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
        sent[name] = data.draw(values)
    if data.draw(st.integers(0, 2)) == 0:
        return hostile.multipart_body(sent), "multipart/form-data; boundary=x"
    return hostile.form_body(sent), data.draw(
        st.sampled_from(hostile.CONTENT_TYPES[:1] * 4 + hostile.CONTENT_TYPES[1:4])
    )


def draw_document(data: st.DataObject, world: World, row: Row) -> tuple[bytes, str]:
    """A document as a program sends it, with something else in one of its places; or a body that is none."""
    if data.draw(st.integers(0, 3)) == 0:
        return data.draw(st.sampled_from(hostile.BODIES)), data.draw(st.sampled_from(hostile.CONTENT_TYPES))
    document = data.draw(st.sampled_from(documents_for(row.route)))
    document = replaced(data, document, data.draw(st.sampled_from(hostile.JSON_VALUES)))
    return json.dumps(document).encode(), "application/json"


def documents_for(route: str) -> list[Any]:
    return [DOCUMENTS.get(route, {}), *([OTHER_DOCUMENTS[route]] if route in OTHER_DOCUMENTS else [])]


UUID = "11111111-1111-4111-8111-111111111111"
DOCUMENTS: dict[str, Any] = {
    "annotate-api:prompts": [
        {"messages": [{"role": "user", "content": "Why?"}], "external_id": "a", "group": "g", "metadata": {"a": 1}},
        {"text": "Why not?", "external_id": "b"},
    ],
    "annotate-api:slates": {
        "prompt": {"messages": [{"role": "user", "content": "Why?"}], "external_id": "a", "metadata": {}},
        "completions": [{"text": "So.", "finish_reason": "stop"}, {"text": "Thus.", "finish_reason": "length"}],
    },
    "annotate-api:claim": {"kind": "ranking"},
    "annotate-api:draft": {"draft": {"text": "So", "places": {"1": 1}}, "draft_version": 0},
    "annotate-api:demonstration": {"submission_id": UUID, "text": "So.", "flags": ["a"], "note": "n"},
    "annotate-api:ranking": {
        "submission_id": UUID, "places": {"1": 1, "2": None}, "ratings": {"1": 3}, "flags": {"1": ["a"]}, "note": "n",
    },
    "annotate-api:skip": {"reason": "too hard"},
    "training-api:rounds": {},
    "training-api:model-promote": {"reason": "It wins."},
    "training-api:training-settings": {
        "preset": "tiny", "stages": {"ppo": {"beta": 0.1, "iterations": 5}, "sft": {"dtype": "fp32"}},
        "seen": {"ppo": {"beta": 0.2}},
    },
    "training-api:base-model-examine": {"context": 512},
}  # fmt: skip
OTHER_DOCUMENTS: dict[str, Any] = {  # with what excludes a field of the first
    "annotate-api:slates": {
        "prompt": {"text": "Why?", "external_id": "a", "group": "g"}, "prompt_external_id": "a",
        "completions": [{"text": "So."}, {"text": "Thus."}],
    },
}  # fmt: skip


def test_every_field_of_the_api_is_driven() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    left_out = {}
    for address, operations in schema["paths"].items():
        route = resolve(
            address.replace("{id}", "1").replace("{number}", "1").replace("{", "").replace("}", "")
        ).view_name
        for method in operations.keys() & {"post", "put", "patch", "delete"}:
            content = operations[method].get("requestBody", {}).get("content", {})
            fields = fields_of(schema, content.get("application/json", {}).get("schema", {}))
            if missing := fields - places_in(documents_for(route)):
                left_out[method, route] = missing
    assert left_out == {}
    assert fields_of(schema, {"$ref": "#/components/schemas/NewSlate"}) >= {"prompt.text", "completions.text"}


def fields_of(schema: dict[str, Any], part: dict[str, Any], above: str = "") -> set[str]:
    """The names of what `part` of the OpenAPI document may hold, with those above them."""
    part = schema["components"]["schemas"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    found = fields_of(schema, part["items"], above) if "items" in part else set()
    for inner in part.get("allOf", []):
        found |= fields_of(schema, inner, above)
    for name, inner in part.get("properties", {}).items():
        found |= {above + name} | fields_of(schema, inner, f"{above}{name}.")
    return found


def places_in(document: Any, above: str = "") -> set[str]:
    """The same for a document."""
    if isinstance(document, list):
        return set().union(*(places_in(each, above) for each in document))
    found = set()
    for name, inner in document.items() if isinstance(document, dict) else ():
        found |= {above + name} | places_in(inner, f"{above}{name}.")
    return found


def replaced(data: st.DataObject, document: Any, value: object) -> Any:
    """`document` with `value` in one of its places, or as one more key, or instead of it all."""
    if not isinstance(document, dict | list) or not document or data.draw(st.integers(0, 5)) == 0:
        return value
    if isinstance(document, list):
        at = data.draw(st.integers(0, len(document) - 1))
        return [replaced(data, each, value) if index == at else each for index, each in enumerate(document)]
    at = data.draw(st.sampled_from([*sorted(document), "__class__"]))
    return document | {at: replaced(data, document.get(at), value)}


def fields_around(world: World, row: Row) -> dict[str, str]:
    """What the pages that a person sees around this address would send to it."""
    person, app = insider(row), row.route.partition(":")[0]
    fields: dict[str, str] = {}
    for each in PAGES:
        is_near = each.values.items() <= row.values.items() and each.route.partition(":")[0] == app
        if is_near and each.method == "GET" and each.who[person] == "in" and each.route != "account_logout":
            fields |= fields_on(world, each, person)
    return fields


def fields_on(world: World, row: Row, person: str) -> dict[str, str]:
    """What the forms of a page send; each page is looked at once by each person."""
    if (row.route, person) not in seen:
        with suppress(UnicodeDecodeError), transaction.atomic():
            address = reverse(row.route, kwargs={part: world.values.get(v, v) for part, v in row.values.items()})
            page = content_of(visitor(world, row, person).get(address)).decode()
            seen[row.route, person] = hostile.Fields(page).found
            transaction.set_rollback(True)
    return seen.get((row.route, person), {})
