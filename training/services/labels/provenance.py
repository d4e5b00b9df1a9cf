"""Provenance: which model wrote a completion, and which labels a round froze; for exports, see annotate/hooks.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial

from annotate.hooks import FrozenLabels, Writer
from annotate.models import Completion, Demonstration, Project, Ranking
from training.models import Answer, Round, Sample, Snapshot

PROMPT_FILES = ("prompts", "heldout_prompts")


def writers(slate_ids: Sequence[int]) -> dict[int, Writer]:
    """What wrote the completions of slates, by the completions' ids, where a model did."""
    samples = Sample.objects.filter(completion__slate__in=slate_ids)
    facts = samples.values_list(
        "completion", "model_version__kind", "model_version__number", "run__round__number", "parameters", "n_tokens",
        "logprob", "reward",
    )  # fmt: skip
    found = _sent(slate_ids) | _asked(slate_ids)
    for pk, kind, number, round_number, parameters, n_tokens, logprob, reward in facts:
        sampling = {**parameters, "n_tokens": n_tokens, "logprob": logprob, "reward": reward}
        found[pk] = Writer(f"{kind}-{number}", round_number, sampling)
    return found


def frozen_labels(project: Project) -> list[FrozenLabels]:
    """What each round of `project` froze, the newest first."""
    rounds = Round.objects.filter(project=project, snapshot__isnull=False).select_related("snapshot")
    return [_frozen(opened, opened.snapshot) for opened in rounds.order_by("-number") if opened.snapshot]


def _frozen(opened: Round, snapshot: Snapshot) -> FrozenLabels:
    return FrozenLabels(
        round=opened.number,
        frozen_at=snapshot.created_at,
        demonstrations=Demonstration.objects.filter(snapshots=snapshot),
        rankings=Ranking.objects.filter(snapshots=snapshot),
        prompts=partial(_prompt_ids, snapshot),
        prompt_count=sum(snapshot.counts.get(name, 0) for name in PROMPT_FILES),
    )


def _prompt_ids(snapshot: Snapshot) -> Iterator[int]:
    """The prompts in the files of `snapshot`: what was withdrawn since then is still in them."""
    for name in PROMPT_FILES:
        with (snapshot.directory / f"{name}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["id"]


def _sent(slate_ids: Sequence[int]) -> dict[int, Writer]:
    """Of what an admin sent from a step or a result: which run; which of its two policies wrote which is not kept."""
    sent = Completion.objects.filter(slate__in=slate_ids, slate__sent_sample__isnull=False)
    facts = sent.values_list("pk", "slate__sent_sample__run", "slate__sent_sample__run__round__number")
    return {pk: Writer(f"run-{run}", number) for pk, run, number in facts}


def _asked(slate_ids: Sequence[int]) -> dict[int, Writer]:
    """Of the answers to a question: every model that gave the text, since a text that several gave is ranked once."""
    answers = Answer.objects.filter(question__slate__in=slate_ids).order_by("pk")
    names: dict[tuple[int | None, str], list[str]] = {}
    for answer in answers.select_related("model_version", "question"):
        for text in {draw["text"] for draw in answer.texts}:
            names.setdefault((answer.question.slate_id, text), []).append(answer.model_version.name)
    asked = Completion.objects.filter(slate__in={slate for slate, _text in names})
    return {
        pk: Writer(", ".join(names[slate, text]))
        for pk, slate, text in asked.values_list("pk", "slate", "text")
        if (slate, text) in names
    }
