"""What an admin may do about the pairs of a round's result: let people rank both answers, and watch the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.models import Project, Prompt, Slate
from training.models import Probe, Result, SentSample
from training.services.running import pairs
from training.services.running.pairs import Pair

SECTIONS = ("parting", "probes", "answers")  # of a result, that show pairs


@dataclass(frozen=True, kw_only=True)
class PairActions:
    """The state of one pair."""

    prompt: Prompt | None  # None where it no longer exists
    slate: Slate | None  # in which people have been asked to rank the two answers
    why_not_ranked: str  # empty where they can be asked, and for a prompt that the round did not answer
    probe: Probe | None  # while the prompt is watched

    @property
    def can_be_watched(self) -> bool:
        return self.probe is None and self.prompt is not None and self.prompt.withdrawn_at is None


def sections(result: Result, project: Project) -> dict[str, list[Pair]]:
    """The pairs of each section of `result`, each with its `actions`; pairs of older results have none."""
    found: dict[str, list[Pair]] = {name: getattr(result, name) for name in SECTIONS}
    with_prompt = [pair for shown in found.values() for pair in shown if "prompt" in pair]
    ids = {pair["prompt"] for pair in with_prompt}
    prompts = Prompt.objects.filter(project=project).in_bulk(ids)
    probes = {probe.prompt_id: probe for probe in Probe.objects.filter(prompt__in=prompts).select_related("round")}
    digests = {pairs.digest(pair) for pair in with_prompt if pairs.is_answered(pair)}
    sent = SentSample.objects.filter(project=project, digest__in=digests).select_related("slate")
    slates = {sample.digest: sample.slate for sample in sent}

    def with_actions(pair: Pair) -> Pair:
        if "prompt" not in pair:
            return pair
        prompt, is_answered = prompts.get(pair["prompt"]), pairs.is_answered(pair)
        actions = PairActions(
            prompt=prompt,
            slate=slates.get(pairs.digest(pair)) if is_answered else None,
            why_not_ranked=pairs.why_not_ranked(pair, prompt) if is_answered else "",
            probe=probes.get(pair["prompt"]),
        )
        return pair | {"actions": actions}

    return {name: [with_actions(pair) for pair in shown] for name, shown in found.items()}
