"""Train rankings are shared by prompt between the reward model and the watcher, and no prompt ever changes sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotate.models import Member, Project, Prompt, Ranking
from annotate.services import prompts, slates
from annotate.services.slates import NewCompletion, NewSlate
from annotate.services.text import folded_hash
from tests.training import machine
from training.models import Snapshot
from training.services.labels import ranking_shares, snapshots
from training.stages import watcher

pytestmark = [pytest.mark.django_db, pytest.mark.database]

MINIMUM = 10
MANY = 30  # so many that both sides have some, whatever their texts


@pytest.fixture
def small_minimum(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setattr(watcher, "WATCHER_MINIMUM", MINIMUM)


def hash_of(text: str) -> str:
    return folded_hash([{"role": "user", "content": text}])


def side_of(text: str) -> bool:
    return ranking_shares.is_watchers(hash_of(text))


def rows(snapshot: Snapshot, name: str) -> list[dict]:
    return [json.loads(line) for line in (snapshot.directory / f"{name}.jsonl").read_text().splitlines()]


def prompts_in(snapshot: Snapshot, name: str) -> set[int]:
    return {row["prompt_id"] for row in rows(snapshot, name)}


def test_a_third_of_the_prompts_is_kept_for_the_watcher() -> None:
    kept = sum(side_of(f"What is number {number}?") for number in range(3000))
    assert 900 < kept < 1100


def test_sides_are_the_same_on_every_machine() -> None:
    assert [number for number in range(24) if side_of(f"What is number {number}?")] == [4, 15, 19]


def test_near_duplicates_are_on_one_side() -> None:
    for number in range(50):
        assert side_of(f"What  is number {number}, CAFÉ?") == side_of(f"what is NUMBER {number}, cafe\u0301?")


def test_fewer_rankings_than_the_minimum_are_shared_with_nobody() -> None:
    few = {hash_of(f"Question {number}?"): 1 for number in range(watcher.WATCHER_MINIMUM - 1)}
    assert ranking_shares.kept_for_watcher(few) == frozenset()
    assert ranking_shares.kept_for_watcher({**few, hash_of("One more?"): 1}) != frozenset()


def test_rankings_of_a_single_prompt_all_go_to_the_reward_model() -> None:
    for number in range(6):
        assert ranking_shares.kept_for_watcher({hash_of(f"What is number {number}?"): 1000}) == frozenset()


@pytest.mark.usefixtures("small_minimum")
def test_the_two_files_of_a_snapshot_share_no_prompt_and_hold_all_train_rankings(
    project: Project, annotator: Member
) -> None:
    machine.rank_new_slates(annotator, MANY)
    snapshot = snapshots.freeze(project)
    reward, judge = prompts_in(snapshot, "rankings"), prompts_in(snapshot, "watcher_rankings")
    assert reward and judge and not reward & judge
    judged_slates = rows(snapshot, "rankings") + rows(snapshot, "watcher_rankings")
    judged = [judgement["id"] for row in judged_slates for judgement in row["judgements"]]
    assert sorted(judged) == sorted(Ranking.objects.values_list("pk", flat=True))
    assert set(snapshot.rankings.values_list("pk", flat=True)) == set(judged)
    assert (snapshot.counts["rankings"], snapshot.counts["watcher_rankings"]) == (len(reward), len(judge))
    assert snapshot.train_rankings == MANY


@pytest.mark.usefixtures("small_minimum")
def test_no_prompt_changes_sides_when_more_are_ranked(project: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, MANY)
    before = snapshots.freeze(project)
    machine.rank_new_slates(annotator, MANY)
    after = snapshots.freeze(project)
    for name in ("rankings", "watcher_rankings"):
        assert prompts_in(before, name) < prompts_in(after, name)


@pytest.mark.usefixtures("small_minimum")
def test_the_rankings_of_near_duplicates_are_frozen_into_one_file(project: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, MANY)
    for text in ("Where  is the STATION?", "where is the station?"):
        prompt, _created = prompts.add_one(project, {"text": text})
        slates.add_many(project, [NewSlate(prompt, [NewCompletion("There."), NewCompletion("Here.")])])
    machine.rank_what_waits(annotator)
    snapshot = snapshots.freeze(project)
    alike = set(Prompt.objects.filter(folded_hash=hash_of("where is the station?")).values_list("pk", flat=True))
    found = [prompts_in(snapshot, name) & alike for name in ("rankings", "watcher_rankings")]
    assert len(alike) == 2 and alike in found


def test_a_project_with_few_rankings_keeps_none(project: Project, annotator: Member, data_dir: Path) -> None:
    machine.rank_new_slates(annotator, 3)
    snapshot = snapshots.freeze(project)
    assert (len(rows(snapshot, "rankings")), rows(snapshot, "watcher_rankings")) == (3, [])


@pytest.mark.usefixtures("small_minimum")
def test_each_model_names_the_rankings_that_taught_it(project: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, MANY)
    snapshot = snapshots.freeze(project)
    for kind, name in (("reward", "rankings"), ("watcher", "watcher_rankings")):
        model = machine.make_model(project, kind, snapshot=snapshot)
        taught = Ranking.objects.filter(ranking_shares.is_of(model, snapshot), snapshots=snapshot)
        assert set(taught.values_list("slate__prompt", flat=True)) == prompts_in(snapshot, name)
