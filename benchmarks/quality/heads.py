"""An ensemble of heads on the trunk of one reward model: the mean of their scores minus their spread.

It costs next to nothing, as the trunk is trained once. Every head begins as the trained one and is fitted, by the loss
of the reward stage, to slates that are drawn with replacement (Osband et al. 2016, "Deep Exploration via Bootstrapped
DQN"; Coste et al. 2023 for pessimism).
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from training.rlhf import seeding
from training.rlhf.config import RewardConfig
from training.rlhf.data.batching import micro_batches
from training.rlhf.data.chat import Rendered
from training.rlhf.data.records import read_rankings
from training.rlhf.networks.layouts import SharedPrompts
from training.rlhf.stages.reward import (
    Comparisons,
    Slate,
    mismatched,
    ranking_loss,
    render_slate,
    usable_slates,
    weigh,
)
from training.rlhf.stages.scoring import Scorer

STEPS = 100  # at most, of L-BFGS
PULL = 1e-2  # nats for each unit of the squared distance to the trained head, in standard deviations of the features


class Heads:
    """Heads that were fitted on the features of a trained reward model."""

    def __init__(self, scorer: Scorer, data: Path, cfg: RewardConfig, count: int) -> None:
        """`data`: the folder with the rankings that trained the scorer's model, by `cfg`."""
        self._scorer = scorer
        ranked = usable_slates(read_rankings(data / "rankings.jsonl"), scorer.chat, cfg.max_response).used
        slates = [render_slate(slate, scorer.chat) for slate in ranked]
        draw = seeding.generator(cfg.seed, "heads")
        slates = mismatched(slates, range(len(slates)), draw, scorer.chat.context)
        features = self._features([text for slate in slates for text in slate.texts])
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        features = (features - self._mean) / self._scale
        trained = scorer.model.head.weight[0].detach() * self._scale
        drawn = [
            random.Random(f"{cfg.seed} {number}").choices(range(len(slates)), k=len(slates)) for number in range(count)
        ]
        heads = [fitted(trained, features, slates, chosen, cfg.mismatch_coefficient) for chosen in drawn]
        self._weights = torch.stack(heads, dim=1)  # (width, heads)
        self._spread = (features @ self._weights).std(0)  # (heads,)

    def pessimistic(self, texts: Sequence[Rendered]) -> Tensor:
        """(N,) the mean of the heads' scores minus their standard deviation, each in its own standard deviations."""
        scores = (self._features(texts) - self._mean) / self._scale @ self._weights / self._spread  # (N, heads)
        return scores.mean(1) - scores.std(1, correction=0)

    @torch.no_grad()
    def _features(self, texts: Sequence[Rendered]) -> Tensor:
        """(N, width) what the trunk gives for the last token of each text."""
        model, width = self._scorer.model, self._scorer.model.head.in_features
        found = torch.empty(len(texts), width)
        for part in micro_batches([text.length for text in texts], self._scorer.batch_tokens):
            layout = SharedPrompts([texts[index] for index in part], model.backbone.device)
            found[part] = model.trunk.read(layout)[layout.last].float()
        return found


def fitted(
    trained: Tensor, features: Tensor, slates: Sequence[Slate], chosen: Sequence[int], contrast: float
) -> Tensor:
    """(width,) a head for the chosen slates, from the trained one (width,) and the features (N, width) of all texts."""
    first = [0]
    for slate in slates:
        first.append(first[-1] + len(slate.texts))
    rows = torch.tensor([row for index in chosen for row in range(first[index], first[index + 1])])
    own, features = [slates[index] for index in chosen], features[rows]
    pairs, contrasts = weigh([slate.places() for slate in own]), weigh([slate.contrasts() for slate in own])
    head = trained.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([head], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = pulled(head, trained, features, pairs, contrasts, contrast)
        total.backward()
        return total

    optimizer.step(loss)
    return head.detach()


def pulled(
    head: Tensor, trained: Tensor, features: Tensor, pairs: Comparisons, contrasts: Comparisons, contrast: float
) -> Tensor:
    """Scalar: the loss of the reward stage, and what keeps the head near the trained one."""
    scores = features @ head
    loss = ranking_loss(scores, pairs) + contrast * ranking_loss(scores, contrasts)
    return loss + PULL * (head - trained).square().sum()
