"""The OpenAPI document is kept by every address: whatever is sent, nothing breaks, and the answer is as announced."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.permission_world import World, make_world

pytestmark = [pytest.mark.django_db, pytest.mark.database]
CALLS = 20  # of each operation; three of four to things that exist
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOST = {"Host": "localhost"}
API = schemathesis.openapi.from_wsgi("/api/v1/schema/?format=json", get_wsgi_application(), headers=HOST)
OPERATIONS = {operation.label: operation for operation in (found.ok() for found in API.get_all_operations())}
# What an operation's address is built from: a key of World.values.
THINGS = {"slug": "project", "number": "round", "folder": "folder"}


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    """One world for all calls: what each does is undone."""
    for signal in (request_started, request_finished):  # a request of its own process would leave no connection open
        signal.disconnect(close_old_connections)
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_whatever_is_sent_the_answer_is_as_the_document_says(world: World, label: str) -> None:
    @settings(
        max_examples=CALLS, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=OPERATIONS[label].as_strategy(), is_there=st.sampled_from([True, True, True, False]))
    def call(case: schemathesis.Case, is_there: bool) -> None:
        if is_there:
            case.path_parameters |= things_at(world, label)
        headers = HOST | {"Authorization": f"Bearer {world.secrets[caller(label)]}"}
        with transaction.atomic():
            case.call_and_validate(headers=headers, checks=CHECKS)
            transaction.set_rollback(True)

    call()


def caller(label: str) -> str:
    """Who may: the work is the annotator's, folders are the site admin's, all else is steered by the admin."""
    if "/base-models/" in label:
        return "site_admin"
    return "annotator" if "/assignments/" in label or label.endswith("claim/") else "admin"


def things_at(world: World, label: str) -> dict[str, Any]:
    kind = "demonstration_work" if label.endswith("demonstration/") else "ranking_work"
    pk = "model" if "/models/" in label else kind
    return {part: world.values[name] for part, name in (THINGS | {"id": pk}).items() if f"{{{part}}}" in label}
