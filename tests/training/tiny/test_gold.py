"""What the simulated people like, in numbers a person can add up."""

import random
from statistics import fmean

import pytest

from training.tiny import gold
from training.tiny.annotators import Behaviour, rank, write
from training.tiny.gold import UnknownQuestion, utility
from training.tiny.world import kinds, manners, phrasings

HEADACHE = "How do I treat my headache?"
WATER = "Drink a big glass of water."
DARK = "Lie down in a dark room."


@pytest.mark.parametrize(
    ("reply", "worth"),
    [
        (WATER, 1.0),
        (f"{WATER} {DARK}", 1.9),
        (f"First, drink a big glass of water. Finally, {DARK[0].lower()}{DARK[1:]}", 1.9),
        (f"A headache often goes away with rest. {WATER}", 1.0 + gold.OPENING_WORTH),
        (f"{WATER} See a doctor if it lasts three days.", 1.0 + gold.CARE_WORTH),
        (f"How long has your head been hurting? {WATER}", 1.0 + gold.QUESTION_WORTH),
        (f"{WATER} Do you like the yolk soft or firm?", 1.0 + gold.OFF_TOPIC),
        (f"Soup forgives almost everything. {WATER}", 1.0 + gold.OFF_TOPIC),
        (f"{WATER} Bring a pot of water to the boil.", 1.0 + gold.OFF_TOPIC),
        (f"{WATER} {WATER}", 1.0 + gold.REPEAT),
        (f"What a silly question. {WATER}", 1.0 + gold.RUDE),
        (f"{WATER} It is what it is.", 1.0 + gold.FILLER),
        ("That depends on many things.", gold.EVASIVE),
        (f"{WATER} Drink a glass of dark doctor", 1.0 + gold.GARBLED),
        (f"I am sorry to hear that. {WATER}", 1.0),
        ("   ", gold.SILENCE),
    ],
)
def test_a_reply_to_the_seed_case_is_worth_the_sum_of_its_sentences(reply, worth):
    assert utility(HEADACHE, reply) == pytest.approx(worth)


def test_a_fourth_step_adds_little():
    steps = kinds()["headache"].steps
    assert utility(HEADACHE, " ".join(steps[:4])) - utility(HEADACHE, " ".join(steps[:3])) == pytest.approx(0.1)


def test_asking_back_is_off_topic_where_nothing_has_to_be_known_first():
    assert kinds()["hiccups"].question is None
    assert utility("How do I stop the hiccups?", "How long has your head been hurting?") == gold.OFF_TOPIC


def test_a_question_from_outside_the_world_cannot_be_judged():
    with pytest.raises(UnknownQuestion):
        utility("What is the capital of France?", "Paris.")


def test_what_simulated_people_write_helps_though_they_have_their_weaknesses():
    generator = random.Random(0)
    worths = [utility(phrasing.text, write(phrasing.text, generator)) for phrasing in phrasings()]
    assert fmean(worths) > 2.5
    assert fmean(worth > 1.0 for worth in worths) > 0.9
    assert any(sentence in write(phrasings()[0].text, generator) for _ in range(100) for sentence in manners().rude)


def test_without_noise_a_ranking_follows_the_gold_utility_and_equal_answers_tie():
    texts = {"a": WATER, "b": "What a silly question.", "c": f"{WATER} {DARK}", "d": DARK}
    assert rank(HEADACHE, texts, Behaviour(noise=0.0), random.Random(0)) == {"c": 1, "a": 2, "d": 2, "b": 3}


def test_shuffled_rankings_say_nothing_about_the_answers():
    texts = {"good": f"{WATER} {DARK}", "bad": "What a silly question."}
    generator = random.Random(0)
    placed = [rank(HEADACHE, texts, Behaviour(shuffle=1.0), generator)["good"] for _ in range(1000)]
    assert 0.45 < placed.count(1) / 1000 < 0.55
