"""The tiny world is large enough to hold questions out, and its corpus keeps what is held out away from training."""

import json

from annotate.models.prompts import Split
from annotate.services.splits import split_of
from training.rlhf.config import PretrainingConfig, load_config
from training.tiny import corpus, preset, recipe, world
from training.tiny.world import kinds, phrasings

MANNERS = ("courtesy", "filler", "evasive", "rude")


def test_there_are_enough_kinds_of_question_in_many_phrasings_each():
    assert len(kinds()) >= 32
    assert len({phrasing.text for phrasing in phrasings()}) == len(phrasings()) == 30 * len(kinds())


def test_the_seed_case_is_a_question_of_this_world():
    assert "How do I treat my headache?" in {phrasing.text for phrasing in phrasings() if phrasing.kind == "headache"}


def test_every_sentence_of_the_world_is_one_sentence_and_belongs_to_one_place():
    said = [
        sentence
        for kind in kinds().values()
        for sentence in (kind.opening, *kind.steps, kind.care, kind.question)
        if sentence
    ]
    said += [sentence for manner in MANNERS for sentence in getattr(world.manners(), manner)]
    assert len(set(said)) == len(said)
    assert all(world.sentences(sentence) == [sentence] for sentence in said)


def test_at_least_256_phrasings_are_held_out_and_every_kind_has_some_of_both():
    held_out = [phrasing for phrasing in phrasings() if recipe.is_held_out(phrasing.group)]
    assert len(held_out) >= 256
    assert {phrasing.kind for phrasing in held_out} == set(kinds())
    assert {phrasing.kind for phrasing in set(phrasings()) - set(held_out)} == set(kinds())


def test_a_project_that_holds_out_less_holds_out_nothing_that_the_corpus_contains():
    for phrasing in phrasings():
        if split_of(phrasing.group, 0.1) == Split.HELDOUT:
            assert recipe.is_held_out(phrasing.group)


def test_no_held_out_phrasing_occurs_in_the_pretraining_corpus(tmp_path):
    recipe.write_corpus(tmp_path / "corpus.jsonl", seed=3)
    asked = {json.loads(line)["messages"][0]["content"] for line in (tmp_path / "corpus.jsonl").open(encoding="utf-8")}
    held_out = {phrasing.text for phrasing in phrasings() if recipe.is_held_out(phrasing.group)}
    assert not asked & held_out
    assert asked == {phrasing.text for phrasing in phrasings()} - held_out


def test_the_corpus_mixes_every_manner_of_reply_and_a_seed_fixes_it():
    texts = [text(record) for record in corpus.corpus(seed=1, size=2000, is_held_out=recipe.is_held_out)]
    for manner in MANNERS:
        assert any(sentence in reply for sentence in getattr(world.manners(), manner) for reply in texts)
    assert texts == [text(record) for record in corpus.corpus(seed=1, size=2000, is_held_out=recipe.is_held_out)]
    assert texts != [text(record) for record in corpus.corpus(seed=2, size=2000, is_held_out=recipe.is_held_out)]


def text(record):
    return record["messages"][1]["content"]


def test_the_recipe_writes_a_run_that_the_engine_accepts(tmp_path):
    recipe.prepare(tmp_path, PretrainingConfig(seed=5))
    config = load_config(tmp_path / "config.json")
    assert (config.stage, config.seed) == ("pretraining", 5)
    assert sum(1 for _line in (tmp_path / "data" / "corpus.jsonl").open()) == preset.CORPUS_SIZE
