"""The REST API as a program sees it. Who may call what stands in tests/test_permissions.py."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from annotate.models import ApiToken, Assignment, Demonstration, Kind, Member, Prompt, Ranking, Slate, WorkItem
from tests.factories import (
    bearer,
    make_assignment,
    make_demonstration,
    make_project,
    make_prompt,
    make_slate,
    make_user,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Caller:
    """A program with a token of `member`."""

    def __init__(self, member: Member, *scopes: str) -> None:
        self.client = Client(headers=bearer(member.user, *scopes))
        self.project = f"/api/v1/projects/{member.project.slug}/"

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The status and what was answered. `path` is below the project unless it starts with a slash."""
        path = f"/api/v1{path}" if path.startswith("/") else self.project + path
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.generic(method, path, data if body is not None else b"", content_type=content_type)
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
def program(annotator: Member) -> Caller:
    return Caller(annotator)


@pytest.fixture
def admins_program(admin: Member) -> Caller:
    return Caller(admin)


def test_a_program_can_claim_draft_and_submit_a_ranking(program, annotator):
    make_slate(annotator.project, completions=3)
    _, claim = program.send("POST", "claim/", {"kind": "ranking"})
    shown = claim["assignment"]
    assert [set(card) for card in shown["completions"]] == [{"id", "text"}] * 3
    places = {str(card["id"]): place for card, place in zip(shown["completions"], [2, 1, None], strict=True)}
    address = f"/assignments/{shown['id']}/"
    status, saved = program.send("PUT", address + "draft/", {"draft": {"places": places}, "draft_version": 0})
    assert (status, saved["draft_version"]) == (200, 1)
    status, stored = program.send("POST", address + "ranking/", {"submission_id": str(uuid4()), "places": places})
    assert status == 200
    ranking = Ranking.objects.get(pk=stored["id"])
    assert {str(p.completion_id): p.place for p in ranking.placements.all()} == places


def test_a_program_can_claim_and_submit_a_demonstration(program, annotator):
    make_prompt(annotator.project, "How do I treat my headache?")
    _, claim = program.send("POST", "claim/", {"kind": "demonstration"})
    assert claim["assignment"]["messages"] == [{"role": "user", "content": "How do I treat my headache?"}]
    body = {"submission_id": str(uuid4()), "text": "  Rest.\n", "flags": ["short"]}
    status, _ = program.send("POST", f"/assignments/{claim['assignment']['id']}/demonstration/", body)
    assert status == 200
    assert Demonstration.objects.get().text == "  Rest.\n"


def test_a_site_admin_who_is_no_member_may_read_but_not_label(project):
    caller = Client(headers=bearer(make_user(is_site_admin=True)))
    assert caller.get(f"/api/v1/projects/{project.slug}/").status_code == 200
    answer = caller.post(f"/api/v1/projects/{project.slug}/claim/", {"kind": "ranking"}, "application/json")
    assert (answer.status_code, answer.json()["detail"]) == (403, "Only project members can label.")


def test_an_empty_queue_is_answered_with_a_reason(program):
    assert program.send("POST", "claim/", {"kind": "demonstration"}) == (
        200,
        {"assignment": None, "reason": "There are no prompts yet."},
    )


def test_a_replay_returns_the_stored_row_and_another_body_is_a_conflict(program, annotator):
    address = f"/assignments/{make_assignment(annotator, Kind.DEMONSTRATION).pk}/demonstration/"
    body = {"submission_id": str(uuid4()), "text": "Rest."}
    first = program.send("POST", address, body)
    assert program.send("POST", address, body) == first
    status, problem = program.send("POST", address, body | {"text": "Run."})
    assert (status, problem["status"], problem["title"]) == (409, 409, "Conflict")
    assert Demonstration.objects.count() == 1


def test_a_late_submission_is_taken_through_the_api_too(program, annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        queue_was_swept = program.send("POST", "claim/", {"kind": "ranking"})[0]
        body = {"submission_id": str(uuid4()), "text": "Late, but here."}
        assert program.send("POST", f"/assignments/{assignment.pk}/demonstration/", body)[0] == 200
    assert queue_was_swept == 200


def test_a_stale_draft_is_a_conflict_that_carries_the_stored_one(program, annotator):
    address = f"/assignments/{make_assignment(annotator).pk}/draft/"
    program.send("PUT", address, {"draft": {"note": "first"}, "draft_version": 0})
    status, problem = program.send("PUT", address, {"draft": {"note": "second"}, "draft_version": 0})
    assert (status, problem["draft"], problem["draft_version"]) == (409, {"note": "first"}, 1)


@pytest.mark.parametrize(
    "draft",
    [
        {"places": [1, 2]},
        {"places": {"first": 1}},
        {"places": {"1": "best"}},
        {"places": {"9" * 20: 1}},
        {"places": {"9" * 5000: 1}},
        {"places": {"٣": 1}},
        {"text": 7},
        {"note": None},
    ],
)
def test_a_draft_that_no_page_can_show_again_is_refused(program, annotator, draft):
    assignment = make_assignment(annotator)
    status, problem = program.send("PUT", f"/assignments/{assignment.pk}/draft/", {"draft": draft, "draft_version": 0})
    assert (status, list(problem["errors"])) == (400, ["draft"])
    assignment.refresh_from_db()
    assert assignment.draft_version == 0


@pytest.mark.parametrize("levels", [49, 450, 600, 850])
def test_a_draft_that_is_nested_too_deeply_is_refused_with_a_sentence(program, annotator, levels):
    assignment = make_assignment(annotator)
    body = b'{"draft": {"text": "Rest.", "more": %b}, "draft_version": 0}' % (b"[" * levels + b"]" * levels)
    status, problem = program.send("PUT", f"/assignments/{assignment.pk}/draft/", body)
    detail = "The JSON is nested too deeply; at most 50 levels are allowed."
    assert (status, problem["detail"]) == (400, detail)
    assignment.refresh_from_db()
    assert assignment.draft is None


def test_a_draft_may_have_some_levels(program, annotator):
    address = f"/assignments/{make_assignment(annotator).pk}/draft/"
    body = b'{"draft": {"text": "Rest.", "more": %b}, "draft_version": 0}' % (b"[" * 48 + b"]" * 48)
    assert program.send("PUT", address, body)[0] == 200


def test_a_draft_that_is_too_long_is_refused_with_a_sentence(program, annotator):
    address = f"/assignments/{make_assignment(annotator, Kind.DEMONSTRATION).pk}/draft/"
    status, problem = program.send("PUT", address, {"draft": {"text": "x" * 100_001}, "draft_version": 0})
    assert status == 422
    assert "100001 characters; at most 100000 are allowed" in problem["detail"]


def test_a_skip_frees_the_seat(program, annotator):
    assignment = make_assignment(annotator)
    assert program.send("POST", f"/assignments/{assignment.pk}/skip/", {"reason": "Not my field"}) == (204, None)
    assignment.item.refresh_from_db()
    assert assignment.item.seats_taken == 0


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"A": 1},
        {"1": 1},
        "first",
        None,
        {"first": 0, "second": 1},
        {"first": 1.5, "second": 1},
        {"first": True, "second": 1},
        {"first": 10**30, "second": 1},
        {"first": None, "second": None},
    ],
)
def test_what_is_no_ranking_of_the_slate_is_refused_with_a_problem(program, annotator, places):
    assignment = make_assignment(annotator, completions=2)
    names = dict(zip(("first", "second"), map(str, assignment.card_order), strict=True))
    if isinstance(places, dict):
        places = {names.get(key, key): place for key, place in places.items()}
    body = {"submission_id": str(uuid4()), "places": places}
    status, problem = program.send("POST", f"/assignments/{assignment.pk}/ranking/", body)
    assert status in (400, 422)
    assert problem["detail"]
    assert not Ranking.objects.exists()


def test_a_demonstration_is_not_taken_for_ranking_work(program, annotator):
    body = {"submission_id": str(uuid4()), "text": "Rest."}
    assert program.send("POST", f"/assignments/{make_assignment(annotator).pk}/demonstration/", body)[0] == 409


def test_prompts_come_in_as_a_list_and_as_lines(admins_program):
    prompts = [{"text": "One?", "external_id": "1"}, {"text": "Two?"}]
    status, answer = admins_program.send("POST", "prompts/", prompts)
    assert (status, answer["created"], answer["existing"], answer["rejected"]) == (200, 2, 0, [])
    lines = b'{"text": "Two?"}\nnonsense\n\n{"text": "Three?"}\n'
    status, answer = admins_program.send("POST", "prompts/", lines, content_type="application/x-ndjson")
    assert (status, answer["created"], answer["existing"]) == (200, 1, 1)
    assert [rejected["line"] for rejected in answer["rejected"]] == [2]


@pytest.mark.parametrize(
    "media_type", ["application/x-ndjson", "application/jsonl", "Application/JSONL; charset=utf-8"]
)
def test_json_lines_are_taken_under_either_of_their_names(admins_program, media_type):
    lines = b'{"text": "One?"}\n{"text": "Two?"}\n'
    status, answer = admins_program.send("POST", "prompts/", lines, content_type=media_type)
    assert (status, answer.get("created")) == (200, 2)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_what_is_sent_as_json_must_be_a_list_of_prompts(admins_program, media_type):
    status, problem = admins_program.send("POST", "prompts/", {"text": "One?"}, content_type=media_type)
    assert (status, problem["detail"]) == (400, "The body must be a list of prompts.")


def test_completions_made_elsewhere_become_a_slate(admins_program, project):
    make_prompt(project, external_id="p-1")
    completions = [{"text": "A", "finish_reason": "length"}, {"text": "B"}]
    status, added = admins_program.send("POST", "slates/", {"prompt_external_id": "p-1", "completions": completions})
    assert status == 201
    by_id = Slate.objects.get(pk=added["slate"]).completions.in_bulk()
    assert [by_id[pk].text for pk in added["completions"]] == ["A", "B"]


def test_a_slate_may_bring_its_prompt_along(admins_program):
    body = {"prompt": {"text": "New?"}, "completions": [{"text": "A"}, {"text": "B"}]}
    assert admins_program.send("POST", "slates/", body)[0] == 201
    assert Prompt.objects.get().question == "New?"


def test_what_is_no_part_of_a_completion_is_named(admins_program):
    completions = [{"text": "A", "score": 3, "model": "m"}, {"text": "B", "score": 1}]
    status, added = admins_program.send("POST", "slates/", {"prompt": {"text": "New?"}, "completions": completions})
    assert status == 201
    assert [note[: note.index(":")] for note in added["notes"]] == [
        "“model” was ignored in 1 completion",
        "“score” was ignored in 2 completions",
    ]


def test_a_field_that_does_not_exist_is_refused(program, annotator):
    status, problem = program.send("POST", "claim/", {"kind": "ranking", "notes": "Why?"})
    assert (status, problem["errors"]) == (400, {"notes": ["Unknown field."]})
    assert not Assignment.objects.exists()


@pytest.mark.parametrize("number", [0, 1, 10])
def test_a_slate_needs_two_to_nine_completions(admins_program, number):
    body = {"prompt": {"text": "New?"}, "completions": [{"text": str(n)} for n in range(number)]}
    status, problem = admins_program.send("POST", "slates/", body)
    assert (status, problem["status"]) == (400, 400)
    assert not Prompt.objects.exists()


def test_projects_are_listed_with_their_counts_and_my_work(program, annotator):
    make_demonstration(annotator)
    make_project()
    _, listed = program.send("GET", "/projects/")
    assert [row["slug"] for row in listed["results"]] == [annotator.project.slug]
    _, detail = program.send("GET", "")
    assert detail["counts"] == {"prompts": 1, "demonstrations": 1, "rankings": 0}
    assert [row["kind"] for row in detail["work"]] == ["demonstration", "ranking"]
    assert all(row["reason"] for row in detail["work"])


def test_a_parameter_that_does_not_exist_is_refused(program):
    status, problem = program.send("GET", "/projects/?members__user__password=x")
    assert (status, list(problem["errors"])) == (400, ["members__user__password"])


@pytest.mark.parametrize(
    "body", [b"{", b'{"kind": NaN}', b"[" * 100_000, b'"ranking"', b"\xff", b'{"kind": "\\ud800"}']
)
def test_a_broken_body_is_a_problem_and_no_crash(program, body):
    status, problem = program.send("POST", "claim/", body)
    assert (status, problem["status"]) == (400, 400)


def test_a_body_above_the_limit_is_refused(program, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    status, _ = program.send("POST", "claim/", {"kind": "x" * 100})
    assert status == 413


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer rt_unknown", "Basic cnQ6cnQ=", "Bearer a b", "Bearer \xff"])
def test_without_a_good_token_nothing_opens(client, db, header):
    answer = client.get("/api/v1/projects/", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer["Content-Type"] == "application/problem+json"


def test_a_session_opens_nothing(client, annotator):
    client.force_login(annotator.user)
    assert client.get("/api/v1/projects/").status_code == 401


def test_revoked_and_expired_tokens_open_nothing(annotator):
    headers = bearer(annotator.user)
    client = Client(headers=headers)
    assert client.get("/api/v1/projects/").status_code == 200
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        assert client.get("/api/v1/projects/").status_code == 401
    ApiToken.objects.update(revoked_at=timezone.now())
    assert client.get("/api/v1/projects/").status_code == 401


def test_a_long_list_comes_in_pages(program, annotator):
    for _ in range(50):
        Member.objects.create(project=make_project(), user=annotator.user)
    _, first = program.send("GET", "/projects/")
    _, second = program.send("GET", first["next"].partition("/api/v1")[2])
    assert [len(page["results"]) for page in (first, second)] == [50, 1]


def test_removed_members_lose_their_work(program, annotator):
    assignment = make_assignment(annotator)
    Member.objects.filter(pk=annotator.pk).update(removed_at=timezone.now())
    assert program.send("POST", f"/assignments/{assignment.pk}/skip/", {"reason": "bye"})[0] == 404
    assert WorkItem.objects.of_kind(Kind.RANKING).waiting_for([annotator]).count() == 0


def test_the_openapi_document_names_every_address(client, db):
    document = client.get("/api/v1/schema/?format=json").json()
    assert "/api/v1/projects/{slug}/claim/" in document["paths"]
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
