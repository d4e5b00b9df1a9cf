"""Slates: what a policy wrote goes to the people who rank; which model wrote it is stored where they do not see it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path

from django.db.models import Count, Q

from annotate.models import Project, Prompt, Slate, Split
from annotate.services import slates
from annotate.services.slates import AddedSlate, NewCompletion, NewSlate
from annotate.services.text import repair_text
from training.models import ModelVersion, Run, Sample, SentSample
from training.rlhf.data.records import SampledCompletion, read_completions

ROUNDS_KEPT = 2  # answers of policies this many rounds old say little about the newest one
TEMPERATURE = 1.0  # the engine knows no other


def choose_prompts(project: Project, *, train: int, heldout: int, seed: int) -> list[Prompt]:
    """The prompts that a round answers: those with the fewest slates so far, among equals in an order of `seed`."""
    wanted = {Split.TRAIN: train, Split.HELDOUT: heldout}
    chosen = [_least_used(project, split, number, seed) for split, number in wanted.items()]
    # Held-out prompts are spread evenly among the others: after a tenth of the slates a tenth of them is ranked.
    positions = [((index + 0.5) / len(prompts), prompt) for prompts in chosen for index, prompt in enumerate(prompts)]
    return [prompt for _position, prompt in sorted(positions, key=itemgetter(0))]


def open_slates(run: Run, output: Path, parents: Mapping[str, ModelVersion]) -> None:
    """Put what the sampling `run` wrote into the queue; `parents` are its models by role.

    The newest policy's slates come first, and what is still open of old ones is withdrawn. Called inside the
    transaction that ends the run.
    """
    by_prompt = [
        list(rows) for _, rows in groupby(read_completions(output / "completions.jsonl"), attrgetter("prompt_id"))
    ]
    prompts = Prompt.objects.active().in_bulk([int(rows[0].prompt_id) for rows in by_prompt])
    wanted = [rows for rows in by_prompt if int(rows[0].prompt_id) in prompts]  # the others were withdrawn meanwhile
    number = run.round.number if run.round else 0
    added = slates.add_many(
        run.project,
        [NewSlate(prompts[int(rows[0].prompt_id)], [_completion(row) for row in rows]) for rows in wanted],
        priority=-number,
    )
    pairs = zip(added, wanted, strict=True)
    Sample.objects.bulk_create(sample for slate, rows in pairs for sample in _samples(run, parents, slate, rows))
    _withdraw_until(number - ROUNDS_KEPT, run.project)


def _withdraw_until(number: int, project: Project) -> None:
    """Withdraw the slates of round `number` and before, sampled for ranking or sent by an admin."""
    of_old_runs = {"run__project": project, "run__round__number__lte": number}
    sampled = Sample.objects.filter(**of_old_runs).values("completion__slate")
    sent = SentSample.objects.filter(**of_old_runs).values("slate")
    slates.withdraw(Slate.objects.filter(Q(pk__in=sampled) | Q(pk__in=sent)))


def _least_used(project: Project, split: str, number: int, seed: int) -> list[Prompt]:
    prompts = Prompt.objects.active().filter(project=project, split=split)
    uses = dict(prompts.annotate(uses=Count("slates")).values_list("pk", "uses"))

    def order(pk: int) -> tuple[int, bytes]:
        return uses[pk], hashlib.sha256(f"{seed}/{pk}".encode()).digest()

    chosen = sorted(uses, key=order)[:number]
    found = prompts.in_bulk(chosen)
    return [found[pk] for pk in chosen]


def _completion(row: SampledCompletion) -> NewCompletion:
    return NewCompletion(text=repair_text(row.text)[0], finish_reason=row.finish_reason)


def _samples(
    run: Run, parents: Mapping[str, ModelVersion], slate: AddedSlate, rows: list[SampledCompletion]
) -> Iterator[Sample]:
    for completion, row in zip(slate.completions, rows, strict=True):
        yield Sample(
            completion=completion,
            model_version=parents[row.policy],
            run=run,
            parameters={"temperature": TEMPERATURE, "index": row.index},
            n_tokens=row.n_tokens,
            logprob=row.logprob,
            reward=row.reward,
            is_repaired=repair_text(row.text)[1],
        )
