"""A trained reward model in use: one function from an answer's text to its reward, wherever a reward is needed.

The model's card holds the hash of the template that it was trained with and its rewards of 64 canary texts; loading it
checks both. A reward model that reads other ids than it was trained on fails silently, with rewards that look fine.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import ranks, sharding
from ..data.batching import micro_batches
from ..data.chat import Chat, Rendered
from ..data.records import Message
from ..exits import InvalidInput
from ..limits import require_finite
from ..networks.parents import ParentNetworks
from ..networks.scalar_model import ScalarModel

CANARIES = 64
# Rewards have standard deviation 1. Batches of another shape change one by 1e-6, another machine by more.
FP32_TOLERANCE, BF16_TOLERANCE = 1e-3, 0.1


class Answer(NamedTuple):
    """What a reward is given for. `stopped`: it ended by itself, and not at the length limit."""

    messages: list[Message]
    text: str
    stopped: bool
    rendered: Rendered | None = None  # its ids, where the same chat has rendered it before
    sampled: list[int] | None = None  # what a policy drew, if one wrote it


class Scorer:
    """A scalar model that scores answers as `chat` renders them."""

    def __init__(self, model: ScalarModel, chat: Chat, batch_tokens: int, report_progress: Callable[[], None]) -> None:
        self.model = model
        self.chat = chat
        self.batch_tokens = batch_tokens
        self.report_progress = report_progress

    @classmethod
    def load(
        cls, networks: ParentNetworks, policy: Chat, report_progress: Callable[[], None], role: str = "reward"
    ) -> "Scorer":
        """The reward model in a role of a run, for answers of a policy whose chat is `policy`.

        Raises InvalidInput where it renders texts in another way, or no longer gives its canaries their rewards.
        """
        model, card = networks.reward_model(role)
        chat = Chat.load(networks.directory(role))
        if not card["template_hash"] == chat.template_hash == policy.template_hash:
            raise InvalidInput(
                "the reward model and the policy tokenize conversations differently", kind="tokens_differ"
            )
        scorer = cls(model, chat, networks.cfg.batch_tokens, report_progress)
        scorer._replay(card)
        return scorer

    def scores(self, answers: Sequence[Answer]) -> Tensor:
        """(N,) fp32 on the CPU: the reward of each answer, in reward units. Raises Diverged where one is not finite.

        Of a sharded model all ranks have to ask, each for any number of answers.
        """
        return require_finite(self._scores(answers), "the rewards", "reward_not_finite")

    def scores_by_all_ranks(self, answers: Sequence[Answer]) -> Tensor:
        """What `scores` gives, where all ranks ask for the same answers: each scores a share of them."""
        return torch.tensor(ranks.spread(answers, lambda share: self.scores(share).tolist()))

    @torch.no_grad()
    def _scores(self, answers: Sequence[Answer]) -> Tensor:
        rendered = [one.rendered or self._rendered(one) for one in answers]
        scores = torch.zeros(len(rendered))
        groups = micro_batches([one.length for one in rendered], self.batch_tokens)
        for indices in sharding.with_idle_passes(self.model, groups):
            chosen = [rendered[index] for index in indices]
            scores[indices] = self.model.final_scores(chosen, self.chat.pad_id).cpu()
            self.report_progress()
        return scores

    def _rendered(self, answer: Answer) -> Rendered:
        if answer.sampled is None:
            return self.chat.rendered(answer.messages, answer.text, answer.stopped)
        return self.chat.rendered_sample(answer.messages, answer.text, answer.sampled, answer.stopped)

    def card(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """What loading the model has to check, with canaries spread over `answers`. Raises Diverged."""
        chosen = answers[:: -(-len(answers) // CANARIES)]
        canaries = [
            {"messages": answer.messages, "text": answer.text, "stopped": answer.stopped, "reward": reward}
            for answer, reward in zip(chosen, self.scores(chosen).tolist(), strict=True)
        ]
        dtype = "bf16" if self.model.bf16 else "fp32"
        return {"template_hash": self.chat.template_hash, "dtype": dtype, "canaries": canaries}

    def _replay(self, card: dict[str, Any]) -> None:
        canaries = card["canaries"]
        # `auto` depends on the machine, so the rewards in the card may have been computed in bf16 and these in fp32.
        in_bf16 = self.model.bf16 or card.get("dtype") == "bf16"  # older cards have no dtype
        expected = torch.tensor([canary["reward"] for canary in canaries])
        answers = [Answer(canary["messages"], canary["text"], canary["stopped"]) for canary in canaries]
        worst = (self._scores(answers) - expected).abs().max().item()
        if not worst <= (BF16_TOLERANCE if in_bf16 else FP32_TOLERANCE):
            raise InvalidInput(
                f"the reward model no longer gives its canary texts their stored rewards: off by {worst:.3g}",
                kind="reward_changed",
                off_by=worst,
            )
