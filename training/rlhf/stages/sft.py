"""Step 1 of three: supervised fine-tuning, by which the base model learns to answer as in the demonstrations.

Maximum likelihood of the answers' tokens (Ouyang et al. 2022, section 3.5 and appendix C.1); pretraining takes the same
step. Left out on purpose: packing of several demonstrations into a row, and choosing among epochs.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from .. import ranks, seeding, sharding
from ..config import SFTConfig
from ..data.batching import collate, epoch_batches, own_micro_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords, cut_to_length, usable_records
from ..data.records import Demonstration, read_demonstrations
from ..logprobs import masked_sum
from ..networks.parents import ParentNetworks
from ..networks.policy import Policy, save_policy, token_logprobs
from ..run.directory import RunDirectory
from .learner import Learner, cosine, prepare


def run_stage(run: RunDirectory, cfg: SFTConfig) -> None:
    """The stage: the base model, fitted to all demonstrations. Raises EngineExit."""
    chat = Chat.load(run.parent(cfg, "base"))
    rows = read_demonstrations(run.data("demonstrations"))
    filtered = render(run.phases.read("demonstrations", rows), chat, cfg.max_response)
    samples = filtered.used
    policy = ParentNetworks(cfg, partial(run.parent, cfg)).policy("base", trains=True)
    prepare(policy, cfg)
    learner = Learner(policy, "policy")
    per_epoch = -(-len(samples) // cfg.batch_size)
    total = cfg.epochs * per_epoch

    def step(number: int) -> dict[str, float]:
        epoch, position = divmod(number, per_epoch)
        batches = epoch_batches(len(samples), cfg.batch_size, seeding.generator(cfg.seed, cfg.stage, epoch))
        batch = [samples[index] for index in batches[position]]
        rate = cfg.learning_rate * cosine(number / total)
        loss = train_step(policy, learner, batch, rate, chat.pad_id, cfg.batch_tokens, run.report_progress)
        return {"sft/loss": loss}

    learner.take_steps(run, cfg, total, step, filtered.metrics())
    run.write_output(partial(save_policy, policy, chat, state=sharding.gathered_state(policy.network)))


def train_step(
    policy: Policy,
    learner: Learner,
    batch: Sequence[Rendered],
    learning_rate: float,
    pad_id: int,
    batch_tokens: int,
    report_progress: Callable[[], None],
) -> float:
    """One update that makes the answers of a batch more likely; returns the loss in nats per answer token.

    The loss is the mean over the answer tokens of the whole batch, so the cut into ranks and micro-batches of at most
    `batch_tokens` changes nothing. Raises Diverged, as Learner.step does.
    """
    loss = add_gradient(policy, batch, pad_id, batch_tokens, report_progress)
    learner.step(learning_rate)
    return ranks.summed(loss).item()


def add_gradient(
    policy: Policy,
    batch: Sequence[Rendered],
    pad_id: int,
    batch_tokens: int,
    report_progress: Callable[[], None] = lambda: None,
    *,
    weight: float = 1.0,
) -> Tensor:
    """Add `weight` times the gradient of a batch's loss to the policy's; this rank's part of the loss, a scalar."""
    answer_tokens = sum(len(sample.response) for sample in batch)
    loss = torch.zeros((), device=policy.device)
    for indices in own_micro_batches([sample.length for sample in batch], batch_tokens):
        part = collate([batch[index] for index in indices], pad_id, policy.device)
        part_loss = -masked_sum(token_logprobs(policy, part), part.response) / answer_tokens
        (weight * part_loss).backward()
        loss += part_loss.detach()
        report_progress()
    return loss


def render(demonstrations: Iterable[Demonstration], chat: Chat, max_response: int) -> FilteredRecords[Rendered]:
    """The demonstrations as ids, without those whose prompt leaves no room for an answer.

    Raises InvalidInput where too few are left.
    """
    return cut_to_length(usable_records(demonstrations, chat, max_response, "demonstrations"), chat, max_response)
