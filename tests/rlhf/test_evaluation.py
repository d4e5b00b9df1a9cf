"""What is counted when a reward model or a policy is measured."""

import pytest

from training.rlhf.evaluation import count_ties, proxy, verdicts


def test_a_verdict_knows_how_many_ranks_lie_between_and_whose_round_it_was() -> None:
    found = list(verdicts([1, 4, 2, None, 2], rewards=[3.0, 5.0, 1.0, 9.0, 2.0], of_round=7))
    assert {(one.agrees, one.gap) for one in found} == {(True, 1), (False, 2), (False, 1)}
    assert len(found) == 5
    assert {one.round for one in found} == {7}


def test_equal_rewards_do_not_agree_with_a_preference() -> None:
    (verdict,) = verdicts([1, 2], rewards=[1.0, 1.0], of_round=None)
    assert not verdict.agrees


def test_ties_are_counted_pair_by_pair_and_what_could_not_be_judged_is_none() -> None:
    assert count_ties([1, 1, 1, 2, None]) == 3
    assert count_ties([1, 2, 3]) == 0


def test_every_answer_of_the_policy_meets_every_answer_of_the_reference() -> None:
    metrics = proxy([1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 5.0], draws=2)
    # prompt 1: 1<2, 1>0, 3>2, 3>0; prompt 2: 0=0 and 0<5, twice
    assert metrics["proxy/win_rate"] == pytest.approx((3 + 2 * 0.5) / 8)
    assert (metrics["proxy/reward"], metrics["proxy/reference_reward"]) == (1.0, 1.75)
