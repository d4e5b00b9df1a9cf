"""Token ids become tensors: masks, positions, micro-batches and the order of an epoch."""

from itertools import chain

from training.rlhf import seeding
from training.rlhf.data.batching import collate, collate_prompts, epoch_batches, micro_batches, positions
from training.rlhf.data.chat import Rendered


def test_a_batch_says_which_tokens_are_the_answer() -> None:
    batch = collate([Rendered([1, 2], [3, 4, 9]), Rendered([5], [9])], pad_id=9)
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 9], [5, 9, 9, 9, 9]]
    assert batch.attention.sum(1).tolist() == [5, 2]
    assert batch.response.long().tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]


def test_positions_count_real_tokens_only() -> None:
    _, attention = collate_prompts([[1, 2, 3], [4]], pad_id=0)
    assert positions(attention).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert attention[1].tolist() == [False, False, True]


def test_micro_batches_hold_every_index_once_within_the_budget() -> None:
    lengths = [5, 50, 7, 6, 31, 5, 200]
    groups = micro_batches(lengths, tokens=64)
    assert sorted(index for group in groups for index in group) == list(range(7))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= 64
    assert groups == micro_batches(lengths, tokens=64)


def test_an_epoch_holds_every_index_once_in_another_order_than_the_next() -> None:
    first, second = (epoch_batches(10, 4, seeding.generator(0, "sft", epoch)) for epoch in (0, 1))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
