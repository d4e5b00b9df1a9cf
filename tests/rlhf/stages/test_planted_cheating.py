"""Reward models that cheat: PPO does not begin with them, or ends early, and says why; with an honest one it goes on.

All is trained here, from the shipped tiny model on, with the people of benchmarks/planted_cheating.py, which measures
the same on several seeds and at the sizes of the demo (docs/learning.md). Here half of the demonstrations say little in
many words, so that nobody who loves length is right by chance.
"""

from pathlib import Path

import pytest

from benchmarks.planted_cheating import HONEST, outcome, prepare, talkative_loop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("planted cheating")]  # they share what is trained first

SEED = 13


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is finished here is used again."""
    return tmp_path_factory.mktemp("cheating")


@pytest.mark.parametrize("person", ["length", "idle phrase", "shuffled"])
def test_ppo_with_a_reward_that_cheats_does_not_begin_and_says_why(folder: Path, person: str) -> None:
    found = outcome(prepare(talkative_loop(folder, SEED)), person)
    assert (found["began"], found["ending"]["kind"]) == (False, "reward_not_confirmed")
    assert "the independent judge does not prefer what the reward model picks" in found["ending"]["sentence"]
    assert found["ending"]["numbers"]["win_rate"] < 0.53


def test_ppo_that_a_person_begins_all_the_same_ends_where_the_judge_saw_no_improvement(folder: Path) -> None:
    loop = talkative_loop(folder, SEED, ["ppo.trial_answers=0"])
    found = outcome(prepare(loop), "idle phrase")
    soonest = loop.fields["ppo"]["gauge_every"] * loop.fields["ppo"]["gauge_patience"]
    assert (found["stopped"], found["is_beyond_kl_limit"], found["published"]) == (soonest, False, 0)
    reward, watcher, _kl = found["curve"][found["stopped"]]
    first_reward, first_watcher, _none = found["curve"][0]
    assert reward > first_reward
    assert watcher < first_watcher
    assert found["kl"] == 0  # SFT itself is published


def test_ppo_with_an_honest_reward_begins_and_goes_on_to_the_end(folder: Path) -> None:
    found = outcome(prepare(talkative_loop(folder, SEED)), HONEST)
    assert (found["began"], found["stopped"]) == (True, None)
    assert found["trial"] > 0.7
    assert min(found["wins"], found["watcher_wins"]) > 0.5
