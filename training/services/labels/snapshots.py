"""Snapshots: the labels that a round uses, frozen into files, so that a retry tomorrow reads what was read today."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate.models import Completion, Demonstration, LeftOut, Project, Prompt, Ranking, Split
from training.models import Sample, Snapshot
from training.rlhf.run.manifest import MANIFEST, sealed
from training.services.labels import ranking_shares, trainable_labels
from training.services.run_files.directories import Record, write_records


class Gathered(NamedTuple):
    """The labels that a round opened now would use, and the files that they would become."""

    demonstrations: list[Demonstration]
    reward: list[Ranking]  # train rankings, for the reward model
    watcher: list[Ranking]  # those that are kept for the watcher
    heldout: list[Ranking]
    records: dict[str, list[Record]]


@transaction.atomic
def freeze(project: Project) -> Snapshot:
    """Write what `project` may train on now, and what measures it, to files; remember which labels they hold."""
    snapshot = Snapshot(project=project, created_at=timezone.now())
    demonstrations, reward, watcher, heldout, records = gather(project)
    _write(snapshot, records)
    snapshot.counts = {
        "demonstrations": len(demonstrations),
        "rankings": len(reward),
        "watcher_rankings": len(watcher),
        "heldout_rankings": len(heldout),
        "prompts": len(records["prompts"]),
        "heldout_prompts": len(records["heldout_prompts"]),
        "left_out": _left_out(project),
    }
    snapshot.save()
    snapshot.demonstrations.set(demonstrations)
    snapshot.rankings.set([*reward, *watcher, *heldout])
    return snapshot


def gather(project: Project) -> Gathered:
    """What `project` may train on now, and what measures it."""
    demonstrations = list(trainable_labels.demonstrations(project).select_related("prompt").order_by("pk"))
    train = list(_with_slates(trainable_labels.rankings(project, Split.TRAIN)))
    heldout = list(_with_slates(trainable_labels.rankings(project, Split.HELDOUT)))
    kept = ranking_shares.kept_for_watcher(Counter(ranking.slate.prompt.folded_hash for ranking in train))
    reward = [ranking for ranking in train if ranking.slate.prompt.folded_hash not in kept]
    watcher = [ranking for ranking in train if ranking.slate.prompt.folded_hash in kept]
    records = {
        "demonstrations": [_demonstration(demonstration) for demonstration in demonstrations],
        "rankings": _slates(reward),
        "watcher_rankings": _slates(watcher),
        "heldout_rankings": _slates(heldout),
        "prompts": [prompt_record(prompt) for prompt in _prompts(project, Split.TRAIN)],
        "heldout_prompts": [prompt_record(prompt) for prompt in _prompts(project, Split.HELDOUT)],
    }
    return Gathered(demonstrations, reward, watcher, heldout, records)


def files(snapshot: Snapshot) -> dict[str, Path]:
    """The frozen files by the names that the engine knows."""
    return {name.removesuffix(".jsonl"): snapshot.directory / name for name in snapshot.files}


def prompt_record(prompt: Prompt) -> Record:
    """A prompt as the engine reads it."""
    return {"id": prompt.pk, "messages": prompt.messages}


def _prompts(project: Project, split: str) -> QuerySet[Prompt]:
    return Prompt.objects.active().filter(project=project, split=split).order_by("pk")


def _with_slates(rankings: QuerySet[Ranking]) -> QuerySet[Ranking]:
    everything = rankings.select_related("slate__prompt").order_by("slate", "pk")
    return everything.prefetch_related("placements", "slate__completions__sample__run__round")


def _demonstration(demonstration: Demonstration) -> Record:
    return {"id": demonstration.pk, "messages": demonstration.prompt.messages, "response": demonstration.text}


def _slates(rankings: list[Ranking]) -> list[Record]:
    """A record for each slate that was ranked, with all its judgements; `rankings` are in the order of their slates."""
    return [_slate(list(judgements)) for _pk, judgements in groupby(rankings, key=attrgetter("slate_id"))]


def _slate(rankings: list[Ranking]) -> Record:
    slate = rankings[0].slate
    completions = sorted(slate.completions.all(), key=attrgetter("pk"))
    return {
        "slate_id": slate.pk,
        "prompt_id": slate.prompt_id,
        "messages": slate.prompt.messages,
        "completions": [{"text": one.text, "finish_reason": one.finish_reason} for one in completions],
        "judgements": [_judgement(ranking, completions) for ranking in rankings],
    }


def _judgement(ranking: Ranking, completions: list[Completion]) -> Record:
    places = {placement.completion_id: placement.place for placement in ranking.placements.all()}
    return {
        "id": ranking.pk,
        "annotator": ranking.annotator_id,
        "round": _round_number(completions[0]),
        "places": [places.get(completion.pk) for completion in completions],
    }


def _round_number(completion: Completion) -> int | None:
    """The round whose policy wrote the completion; None for what was made elsewhere."""
    sample: Sample | None = getattr(completion, "sample", None)
    return sample.run.round.number if sample and sample.run.round else None


def _left_out(project: Project) -> dict[str, int]:
    """Why labels that nobody superseded are not in the snapshot: {reason: how many}."""
    counts = project.demonstrations.newest().count_left_out() + project.rankings.newest().count_left_out()
    return {reason: counts[reason] for reason in (LeftOut.RETURNED, LeftOut.SIMULATED, LeftOut.WITHDRAWN)}


def _write(snapshot: Snapshot, records: dict[str, list[Record]]) -> None:
    with sealed(snapshot.directory, lambda: None) as draft:
        for name, rows in records.items():
            write_records(draft / f"{name}.jsonl", rows)
    manifest = json.loads((snapshot.directory / MANIFEST).read_text("utf-8"))
    snapshot.sha256 = manifest["sha256"]
    snapshot.files = {
        name: facts | {"records": len(records[name.removesuffix(".jsonl")])}
        for name, facts in manifest["files"].items()
    }
