"""The pairs of a round's result: what the old and the new policy answered to a prompt, and how people rank them."""

from __future__ import annotations

from typing import Any

from annotate.models import FinishReason, Prompt, Slate, User
from annotate.services.slates import NewCompletion
from training.models import Result, Run, SentSample
from training.services.labels import sent_samples
from training.services.running import word_diffs
from training.stages import Stage

Pair = dict[str, Any]  # as in training.models.Result


def of_prompt(result: Result, prompt_id: int) -> Pair | None:
    """A pair of `result` that answers the prompt: all that do are the same two texts. None where no pair does."""
    shown = [*result.parting, *result.probes, *result.answers]
    return next((pair for pair in shown if pair.get("prompt") == prompt_id and is_answered(pair)), None)


def is_answered(pair: Pair) -> bool:
    """Whether the round had answers to the pair's prompt."""
    return "before" in pair


def digest(pair: Pair) -> str:
    """By which a slate of the two answers is found again."""
    before, after = _completions(pair)
    return SentSample.digest_of(str(pair["prompt"]), after.text, before.text)


def why_not_ranked(pair: Pair, prompt: Prompt | None) -> str:
    """Why people cannot be asked to rank the two answers to `prompt`; empty where they can."""
    return sent_samples.why_not_sent(prompt, *(completion.text for completion in _completions(pair)))


def let_people_rank(result: Result, pair: Pair, *, sent_by: User) -> Slate:
    """Ask people to rank the two answers of `pair`, without saying who wrote which.

    Raises sent_samples.AlreadySent, or BadSlate where they cannot be ranked.
    """
    run = Run.objects.succeeded().filter(round=result.round, stage=Stage.EVALUATION).earliest("pk")
    before, after = _completions(pair)
    return sent_samples.send(run, prompt_id=str(pair["prompt"]), answer=after, reference=before, sent_by=sent_by)


def _completions(pair: Pair) -> list[NewCompletion]:
    """The old and the new answer, whole."""
    reasons = {True: FinishReason.LENGTH.value, False: FinishReason.STOP.value}
    return [NewCompletion(word_diffs.joined(pair[side]), reasons[pair[f"{side}_cut"]]) for side in ("before", "after")]
