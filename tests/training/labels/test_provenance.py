"""Exports know what training knows: which model wrote an answer, and which labels a round froze."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from annotate.models import Demonstration, Member, Project, Ranking, Slate, Verdict
from annotate.services import demonstrations, prompts, rankings, reviews
from annotate.services.exporting.exports import KINDS
from annotate.services.people import members
from tests.factories import bearer, make_demonstration, make_ranking, make_slate
from tests.training import machine
from training.models import Answer, Question, Round, Sample, SentSample
from training.services.labels import snapshots

pytestmark = [pytest.mark.django_db, pytest.mark.database, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def lines(client: Client, project: Project, admin: Member) -> Any:
    """What the API exports."""
    headers = bearer(admin.user, "read")

    def get(kind: str, query: str = "") -> list[dict[str, Any]]:
        answer = client.get(f"/api/v1/projects/{project.slug}/export/{kind}/{query}", headers=headers)
        assert answer.status_code == 200, answer.content
        return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]

    return get


def freeze(project: Project) -> Round:
    number = project.rounds.count() + 1
    return Round.objects.create(
        project=project, number=number, plan={}, snapshot=snapshots.freeze(project), status=Round.Status.SUCCEEDED,
        finished_at=timezone.now(),
    )  # fmt: skip


def test_an_answer_to_a_question_names_every_model_that_gave_it(lines: Any, project: Project) -> None:
    slate = make_slate(project, completions=2)
    both, one = slate.completions.order_by("pk")
    question = Question.objects.create(project=project, text="Why?", slate=slate)
    for kind, texts in (("sft", [both.text, one.text]), ("ppo", [both.text])):
        run, model = machine.queue_run(project, "sampling"), machine.make_model(project, kind)
        said = [{"text": text, "finish_reason": "stop"} for text in texts]
        Answer.objects.create(question=question, model_version=model, run=run, texts=said)
    found = {line["completion_id"]: line["written_by"] for line in lines("completions")}
    assert found == {both.pk: "sft-1, ppo-1", one.pk: "sft-1"}


def test_each_answer_names_the_model_that_wrote_it(lines: Any, project: Project, annotator: Member) -> None:
    sampled, sent, imported = (make_slate(project, completions=2) for _ in range(3))
    opened = Round.objects.create(project=project, number=7, plan={})
    run = machine.queue_run(project, "sampling", round=opened)
    model = machine.make_model(project, "sft")
    for completion in sampled.completions.all():
        Sample.objects.create(
            completion=completion, model_version=model, run=run, n_tokens=3, logprob=-1.5, reward=0.25,
            parameters={"temperature": 1.0},
        )  # fmt: skip
    SentSample.objects.create(project=project, run=run, digest="0" * 64, slate=sent)
    machine.rank_what_waits(annotator)
    expected = {sampled.pk: ("sft-1", 7), sent.pk: (f"run-{run.pk}", 7), imported.pk: ("elsewhere", 0)}
    completions = lines("completions")
    assert {(one["slate_id"], (one["written_by"], one["round"])) for one in completions} == set(expected.items())
    sampling = {one["slate_id"]: json.loads(one["sampling"]) for one in completions}
    assert sampling[sampled.pk] == {"temperature": 1.0, "n_tokens": 3, "logprob": -1.5, "reward": 0.25}
    assert sampling[imported.pk] == {}
    for ranking in lines("rankings"):
        said = {(one["written_by"], one["round"]) for one in ranking["completions"]}
        assert said == {expected[ranking["slate_id"]]}
    assert {pair["chosen_written_by"] for pair in lines("comparisons")} == {name for name, _round in expected.values()}


def test_a_snapshot_exports_what_it_froze_whatever_came_after(
    lines: Any, project: Project, annotator: Member, reviewer: Member, admin: Member
) -> None:
    written, ranked = [make_demonstration(annotator) for _ in range(3)], [make_ranking(annotator) for _ in range(3)]
    unranked = make_slate(project)
    frozen_prompts = set(project.prompts.values_list("pk", flat=True))
    freeze(project)
    demonstrations.correct(written[0], annotator=annotator, submission_id=uuid4(), text="Since when?")
    places = dict.fromkeys(ranked[0].assignment.card_order, 1)
    rankings.correct(ranked[0], annotator=annotator, submission_id=uuid4(), places=places)
    for label in (written[1], ranked[1]):
        reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Why?")
    prompts.withdraw(written[2].prompt, actor=admin.user)
    make_demonstration(annotator)
    make_ranking(annotator)
    freeze(project)

    exported = {kind: lines(kind, "?snapshot=1") for kind in KINDS}
    assert [line["demonstration_id"] for line in exported["demonstrations"]] == [label.pk for label in written]
    assert [line["left_out"] for line in exported["demonstrations"]] == ["superseded", "returned", "withdrawn"]
    assert [line["ranking_id"] for line in exported["rankings"]] == [label.pk for label in ranked]
    assert [line["left_out"] for line in exported["rankings"]] == ["superseded", "returned", ""]
    assert {line["ranking_id"] for line in exported["comparisons"]} == {label.pk for label in ranked}
    assert len(exported["comparisons"]) == 9
    assert {line["prompt_id"] for line in exported["prompts"]} == frozen_prompts
    assert {line["slate_id"] for line in exported["completions"]} == {label.slate_id for label in ranked}
    assert unranked.pk not in {line["slate_id"] for line in exported["completions"]}
    newer = {line["demonstration_id"] for line in lines("demonstrations", "?snapshot=2")}
    assert newer == set(Demonstration.objects.trainable().values_list("pk", flat=True))


def test_labels_of_people_who_were_erased_leave_only_with_the_round_that_froze_them(
    lines: Any, project: Project, annotator: Member, admin: Member
) -> None:
    make_ranking(annotator)
    freeze(project)
    members.erase(annotator, actor=admin.user)
    assert lines("rankings", "?labels=all") == []
    (line,) = lines("rankings", "?snapshot=1")
    assert (line["left_out"], line["annotator"]) == ("withdrawn", "")


def test_the_page_offers_each_round_and_counts_what_it_froze(
    client: Client, project: Project, annotator: Member, admin: Member
) -> None:
    make_demonstration(annotator)
    freeze(project)
    make_demonstration(annotator)
    client.force_login(admin.user)
    answer = client.get(f"/projects/{project.slug}/export/?scope=round-1")
    counts = {file.kind: file.count for file in answer.context["files"]}
    assert (counts["demonstrations"], counts["prompts"]) == (1, 1)
    page = answer.content.decode()
    assert "Round 1, snapshot" in page
    assert f"/projects/{project.slug}/export/demonstrations/?format=csv&amp;snapshot=1" in page
    assert f"{project.slug}-demonstrations-round-1.jsonl" in page


def test_a_round_has_its_labels_and_takes_no_other_choice(client: Client, project: Project, admin: Member) -> None:
    freeze(project)
    address = f"/api/v1/projects/{project.slug}/export/rankings/?snapshot=1&labels=current"
    answer = client.get(address, headers=bearer(admin.user))
    assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["labels"])


def test_a_round_whose_files_are_gone_is_refused_by_a_sentence(
    client: Client, project: Project, admin: Member, annotator: Member
) -> None:
    make_demonstration(annotator)
    opened = freeze(project)
    assert opened.snapshot
    (opened.snapshot.directory / "prompts.jsonl").unlink()
    answer = client.get(
        f"/api/v1/projects/{project.slug}/export/prompts/?snapshot=1", headers=bearer(admin.user, "read")
    )
    assert (answer.status_code, answer["Content-Type"]) == (410, "application/problem+json")
    client.force_login(admin.user)
    page = client.get(f"/projects/{project.slug}/export/prompts/?snapshot=1")
    assert page.status_code == 410
    assert "its prompts cannot be exported" in page.content.decode()
    with pytest.raises(CommandError, match="its prompts cannot be exported"):
        call_command("export", project.slug, "prompts", "--snapshot", "1")


def test_the_command_exports_a_snapshot(
    project: Project, annotator: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ranking(annotator)
    freeze(project)
    make_ranking(annotator)
    call_command("export", project.slug, "rankings", "--snapshot", "1")
    assert [json.loads(line)["ranking_id"] for line in capsys.readouterr().out.splitlines()] == [
        Ranking.objects.earliest("pk").pk
    ]


def test_the_number_of_queries_does_not_grow_with_the_number_of_slates(
    lines: Any, project: Project, annotator: Member, django_assert_max_num_queries: Any
) -> None:
    for _ in range(6):
        make_ranking(annotator)
    assert Slate.objects.count() == 6
    with django_assert_max_num_queries(20):
        assert len(lines("rankings")) == 6
