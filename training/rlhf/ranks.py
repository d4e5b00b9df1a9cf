"""Ranks: the processes that train one model together, each with a share of the data and a whole copy of the model.

Where a copy is too large, each has a part of it; see `sharding`.

The launcher (torchrun) starts them and tells each its number; one process alone has no group and pays nothing. All
ranks take part in the same collectives in the same order, or they wait for each other in vain.

Left out on purpose: DistributedDataParallel. It averages gradients during each backward pass; here a step has several
passes, whose losses are already divided by what all ranks count together, so one sum before the step is exact.
"""

import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .exits import InvalidInput, RankLost

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = datetime.timedelta(days=30)  # with other ranks: a supervisor, which knows progress, ends a run that hangs
BUCKET_NUMBERS = 8_000_000  # gradients that are summed at once


Note = Callable[[int, int], None]  # called with the rank and the number of collectives that it has entered

_note: Note | None = None
_collectives = 0


def join(processes: int, note: Note) -> None:
    """Meet the other processes that the launcher has started; one alone has nobody to meet.

    `note` is called before each collective: the rank that hangs is the one that has entered fewest. Raises
    InvalidInput where there are not as many `processes` as the config wants, or fewer cards, and RankLost.
    """
    global _note
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != processes:
        raise InvalidInput(
            f"processes is {processes}, but {started} started: use torchrun --nproc-per-node {processes} -m"
            " training.rlhf STAGE RUN_DIR",
            kind="config",
            field="processes",
        )
    if processes == 1:
        return
    _note = note
    backend = "gloo"
    if cards := torch.cuda.device_count():
        card = int(os.environ["LOCAL_RANK"])
        if card >= cards:
            raise InvalidInput(
                f"processes is {processes}, more than the graphics cards: there are {cards}",
                kind="config",
                field="processes",
            )
        torch.cuda.set_device(card)
        backend = "cpu:gloo,cuda:nccl"
    together(dist.init_process_group, backend, timeout=PATIENCE)


def leave() -> None:
    """The counterpart of `join`, at a good end."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the rank that writes what is written once."""
    return own() == 0


def shares(items: Sequence[T]) -> list[list[T]]:
    """What each rank does of the items: every one of them is in the share of one rank."""
    return [list(items[rank :: count()]) for rank in range(count())]


def spread(items: Sequence[T], work: Callable[[list[T]], Sequence[R]]) -> list[R]:
    """What `work` gives for each item, in their order; each rank works on its share, and gets all results.

    The share of a rank may be empty. It works on that, too: it may have to take part in what the others do.
    """
    results: list[Any] = [None] * len(items)
    for rank, part in enumerate(gathered(list(work(shares(items)[own()])))):
        results[rank :: count()] = part
    return results


def gathered(mine: T) -> list[T]:
    """What each rank gives here, in the order of ranks: ids and numbers, no tensors."""
    if count() == 1:
        return [mine]
    everyones: list[Any] = [None] * count()
    together(dist.all_gather_object, everyones, mine)
    return everyones


def first_says(said: T) -> T:
    """What rank 0 gives here."""
    return gathered(said if is_first() else None)[0]  # type: ignore[return-value]


def any_says(said: bool) -> bool:
    """Whether any rank gives True here."""
    return bool(summed(torch.tensor(int(said))))


def wait_for_all() -> None:
    """Return once every rank has come here."""
    any_says(False)


def summed(numbers: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, the same bytes on each."""
    if count() == 1:
        return numbers
    total = numbers.clone()
    together(dist.all_reduce, total)
    return total


def mean_and_variance(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (without Bessel's correction), fp64 scalars, of the numbers (N,) of all ranks together."""
    numbers = numbers.double()
    total, size = summed(torch.stack([numbers.sum(), torch.ones_like(numbers).sum()]))
    mean = total / size
    return mean, summed((numbers - mean).square().sum()) / size


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their sums over all ranks; one without a gradient on any rank gets none."""
    parameters = list(parameters)
    if count() == 1 or not parameters:
        return
    holders = summed(torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32))
    gradients: list[Tensor] = []
    for parameter, ranks in zip(parameters, holders.tolist(), strict=True):
        if ranks:
            if parameter.grad is None:  # this rank had no data in the step, or none that reaches the parameter
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        total = summed(torch.cat([gradient.flatten() for gradient in bucket]))
        parts = total.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """The gradients in their order, those of one type that are summed at once together."""
    buckets: list[list[Tensor]] = []
    for gradient in gradients:
        fits = buckets and buckets[-1][0].dtype == gradient.dtype
        if fits and sum(other.numel() for other in buckets[-1]) + gradient.numel() <= BUCKET_NUMBERS:
            buckets[-1].append(gradient)
        else:
            buckets.append([gradient])
    return buckets


def together(collective: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """What a collective returns. Raises RankLost where another rank has ended."""
    global _collectives
    _collectives += 1
    if _note:
        _note(int(os.environ["RANK"]), _collectives)
    return unnoted(collective, *arguments, **options)


def unnoted(collective: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """The same without a note, which takes a millisecond: for the many collectives within a pass through a network."""
    try:
        return collective(*arguments, **options)
    except RuntimeError as error:  # which torch's own errors are
        raise RankLost(f"another process of the run has ended: {error}") from error
