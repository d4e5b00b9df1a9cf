"""A snapshot holds what may train, and says what it left out."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from annotate.models import Demonstration, Member, Project, Ranking, Verdict
from annotate.services import demonstrations, prompts, reviews
from tests.factories import make_member, make_slate
from tests.training import machine
from training.models import Round, Sample, Snapshot
from training.rlhf.data import records
from training.rlhf.run.manifest import verifies
from training.services.labels import snapshots

pytestmark = [pytest.mark.django_db, pytest.mark.database, pytest.mark.usefixtures("data_dir")]


def lines(snapshot: Snapshot, name: str) -> list[dict]:
    return [json.loads(line) for line in (snapshot.directory / f"{name}.jsonl").read_text().splitlines()]


def test_the_engine_reads_what_was_frozen(project: Project, annotator: Member) -> None:
    machine.write_demonstrations(annotator, 2)
    machine.rank_new_slates(annotator, 2)
    snapshot = snapshots.freeze(project)
    assert verifies(snapshot.directory)
    files = snapshots.files(snapshot)
    assert [row.response for row in records.read_demonstrations(files["demonstrations"])] == [
        "Behind house 0.",
        "Behind house 1.",
    ]
    slates = records.read_rankings(files["rankings"])
    assert [slate.judgements[0].places for slate in slates] == [[1, 2], [1, 2]]
    assert len(records.read_prompts(files["prompts"])) == 4
    assert records.read_rankings(files["heldout_rankings"]) == []


def test_files_counts_and_labels_agree(project: Project, annotator: Member) -> None:
    machine.write_demonstrations(annotator, 2)
    machine.rank_new_slates(annotator, 3)
    snapshot = snapshots.freeze(project)
    assert snapshot.counts["demonstrations"] == snapshot.files["demonstrations.jsonl"]["records"] == 2
    assert snapshot.counts["rankings"] == snapshot.files["rankings.jsonl"]["records"] == 3
    assert set(snapshot.demonstrations.all()) == set(Demonstration.objects.all())
    assert set(snapshot.rankings.all()) == set(Ranking.objects.all())


def test_the_same_labels_freeze_to_the_same_bytes(project: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, 3)
    assert snapshots.freeze(project).sha256 == snapshots.freeze(project).sha256


def test_only_the_newest_version_of_a_label_is_used(project: Project, annotator: Member) -> None:
    machine.write_demonstrations(annotator, 1)
    first = Demonstration.objects.get()
    demonstrations.correct(first, annotator=annotator, submission_id=uuid4(), text="At the corner.")
    assert [row["response"] for row in lines(snapshots.freeze(project), "demonstrations")] == ["At the corner."]


def test_left_out_labels_are_counted_by_reason(project: Project, annotator: Member, reviewer: Member) -> None:
    machine.write_demonstrations(annotator, 3)
    returned, withdrawn, kept = Demonstration.objects.order_by("pk")
    reviews.record(returned, reviewer=reviewer, verdict=Verdict.RETURN, comment="Which house?")
    prompts.withdraw(withdrawn.prompt, actor=reviewer.user)
    machine.rank_new_slates(make_member(project, is_simulated=True), 2)
    snapshot = snapshots.freeze(project)
    assert [row["id"] for row in lines(snapshot, "demonstrations")] == [kept.pk]
    assert lines(snapshot, "rankings") == []
    assert snapshot.counts["left_out"] == {"returned": 1, "simulated": 2, "withdrawn": 1}


def test_simulated_labels_train_where_the_project_says_so(project: Project) -> None:
    Project.objects.update(trains_on_simulated=True)
    project.refresh_from_db()
    machine.rank_new_slates(make_member(project, is_simulated=True), 2)
    snapshot = snapshots.freeze(project)
    assert snapshot.counts["rankings"] == 2
    assert snapshot.counts["left_out"]["simulated"] == 0


def test_held_out_prompts_and_their_rankings_are_frozen_apart(project: Project, annotator: Member) -> None:
    Project.objects.update(heldout_share=0.5)
    annotator.refresh_from_db()
    machine.rank_new_slates(annotator, 20)
    snapshot = snapshots.freeze(annotator.project)
    trained, held_out = (
        {row["prompt_id"] for row in lines(snapshot, name)} for name in ("rankings", "heldout_rankings")
    )
    assert len(trained) + len(held_out) == 20
    assert trained == {row["id"] for row in lines(snapshot, "prompts")}
    assert held_out == {row["id"] for row in lines(snapshot, "heldout_prompts")}


def test_a_judgement_names_the_round_whose_policy_wrote(project: Project, annotator: Member) -> None:
    slate = make_slate(project)
    round = Round.objects.create(project=project, number=7, plan={})
    run = machine.queue_run(project, "sampling", round=round)
    model = machine.make_model(project, "sft")
    for completion in slate.completions.all():
        Sample.objects.create(completion=completion, model_version=model, run=run, n_tokens=1, logprob=-1.0)
    make_slate(project)
    machine.rank_what_waits(annotator)
    round_numbers = [row["judgements"][0]["round"] for row in lines(snapshots.freeze(project), "rankings")]
    assert round_numbers == [7, None]
