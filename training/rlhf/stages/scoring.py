"""A finished reward model in use: one function from an answer's text to its reward, wherever a reward is needed.

The model's card says how texts were rendered when it was trained and what it gave to 64 canary texts; who loads it
checks both. A reward model that reads other ids than it was trained on fails silently, in rewards that look fine.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config import RunConfig
from ..data.batching import collate, last_token, micro_batches
from ..data.chat import Chat, Rendered
from ..data.records import Message
from ..exits import InvalidInput
from ..limits import require_finite
from ..networks.networks import ScalarModel, device, load_reward

CANARIES = 64
# A reward has standard deviation 1. Batches of another shape move it by 1e-6, another machine by more.
FP32_TOLERANCE, BF16_TOLERANCE = 1e-3, 0.1


class Answer(NamedTuple):
    """What a reward is given for. `stopped`: it ended by itself, and not at the length limit."""

    messages: list[Message]
    text: str
    stopped: bool


class Scorer:
    """A scalar model that reads answers as `chat` renders them."""

    def __init__(self, model: ScalarModel, chat: Chat, batch_tokens: int, touch: Callable[[], None]) -> None:
        self.model = model
        self.chat = chat
        self.batch_tokens = batch_tokens
        self.touch = touch

    @classmethod
    def load(cls, directory: Path, policy: Chat, cfg: RunConfig, touch: Callable[[], None]) -> "Scorer":
        """The reward model in a directory, to judge what a policy that speaks `policy` writes.

        Raises InvalidInput where it renders texts in another way, or does not give its canaries their rewards.
        """
        model, card = load_reward(directory, cfg.dtype)
        chat = Chat.load(directory)
        if not card["template_hash"] == chat.template_hash == policy.template_hash:
            raise InvalidInput(
                "the reward model and the policy turn conversations into different tokens", kind="tokens_differ"
            )
        scorer = cls(model, chat, cfg.batch_tokens, touch)
        scorer._replay(card)
        return scorer

    def scores(self, answers: Sequence[Answer]) -> Tensor:
        """(N,) fp32 on the CPU: the reward of each answer. Raises Diverged where one is no number."""
        return require_finite(self._scores(answers), "the rewards", "reward_not_finite")

    @torch.no_grad()
    def _scores(self, answers: Sequence[Answer]) -> Tensor:
        rendered = [self.chat.reward_ids(*answer) for answer in answers]
        scores = torch.zeros(len(rendered))
        for indices in micro_batches([one.length for one in rendered], self.batch_tokens):
            scores[indices] = final_scores(self.model, [rendered[index] for index in indices], self.chat.pad_id).cpu()
            self.touch()
        return scores

    def card(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """What a later user has to check, with canaries spread over `answers`."""
        chosen = answers[:: -(-len(answers) // CANARIES)]
        canaries = [
            {**answer._asdict(), "reward": reward}
            for answer, reward in zip(chosen, self.scores(chosen).tolist(), strict=True)
        ]
        dtype = "bf16" if self.model.bf16 else "fp32"
        return {"template_hash": self.chat.template_hash, "dtype": dtype, "canaries": canaries}

    def _replay(self, card: dict[str, Any]) -> None:
        canaries = card["canaries"]
        # `auto` means something else on another machine, so whoever wrote the rewards may have rounded more than we do.
        in_bf16 = self.model.bf16 or card.get("dtype") == "bf16"  # older cards do not tell
        expected = torch.tensor([canary["reward"] for canary in canaries])
        answers = [Answer(canary["messages"], canary["text"], canary["stopped"]) for canary in canaries]
        worst = (self._scores(answers) - expected).abs().max().item()
        if not worst <= (BF16_TOLERANCE if in_bf16 else FP32_TOLERANCE):
            raise InvalidInput(
                f"the reward model no longer gives its canary texts their rewards: off by {worst:.3g}",
                kind="reward_changed",
                off_by=worst,
            )


def final_scores(model: ScalarModel, rendered: Sequence[Rendered], pad_id: int) -> Tensor:
    """(N,): the score of each sequence, read at its last token. Training and every use read it here."""
    batch = collate(rendered, pad_id, device())
    scores: Tensor = model(batch.tokens, batch.attention)  # (N, T)
    return scores.gather(1, last_token(batch.attention)[:, None]).squeeze(1)
