"""Every address that changes something: the audit says who did it, or what was done is a record with its author."""

from __future__ import annotations

import pytest
from django.db import transaction

from annotate.models import AuditEvent, User
from tests.permission_world import PEOPLE, make_world
from tests.permitted_input import BODIES, CONDITIONS
from tests.test_permissions import ROWS, send

pytestmark = [pytest.mark.django_db, pytest.mark.database]

RECORDS = {  # assignments and labels keep who and when, and are never changed
    "annotate:submit", "annotate:skip", "annotate:correct", "annotate-api:claim", "annotate-api:demonstration",
    "annotate-api:ranking", "annotate-api:skip",
}  # fmt: skip
OWN_WORK = {  # concerns nobody else, and nothing that was handed in
    "annotate:save-draft", "annotate:save-correction", "annotate:leave-correction", "annotate-api:draft",
    "annotate:preview", "annotate:read-notices", "annotate:open-notice",
    "annotate:decline-password",
}  # fmt: skip
# With the world's input they change nothing: their own tests say what they leave in the audit.
IDLE = {
    "annotate:check-tokens", "annotate:reopen-account", "annotate:end-site-admin", "account_logout",
    "annotate:welcome",
}  # fmt: skip
ACTIONS = [row for row in ROWS if row.method != "GET" and row.route not in RECORDS | OWN_WORK | IDLE]


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: f"{row.method} {row.route}")
def test_an_action_leaves_its_actor_in_the_audit(world, row):
    person = next(each for each in PEOPLE if row.who[each] == "in")
    with transaction.atomic():
        if prepare := CONDITIONS.get((row.method, row.route)):
            prepare(world)
        before = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        body = BODIES.get((row.method, row.route), {})
        answer = send(world, row, person, body(world) if callable(body) else body)
        events = AuditEvent.objects.filter(pk__gt=before)
        if person != "anonymous":  # others are signed in for the test
            events = events.exclude(action="person.signed_in")
        actors = {event.actor for event in events} - {None}
        doer = world.people[person] or User.objects.exclude(last_login=None).latest("last_login")
        transaction.set_rollback(True)
    assert answer.status_code in (200, 201, 302)
    assert actors == {doer}
