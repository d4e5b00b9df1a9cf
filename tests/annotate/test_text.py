"""The one door that text comes through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.services.text import (
    BadText,
    clean_filled_text,
    clean_text,
    control_count,
    folded_hash,
    json_depth,
    repair_json,
    repair_text,
    split_thought,
    text_hash,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a\tb", "a\tb"),
        ("a\x1b[31mb\x7f\x85c", "a [31mb  c"),
        ("a\x0bb", "a b"),
        ("שלום\u200f \u202bx\u202c 👩\u200d🔬", "שלום\u200f \u202bx\u202c 👩\u200d🔬"),
        ("  two  spaces  ", "  two  spaces  "),
        ("e\u0301", "e\u0301"),
    ],
)
def test_text_is_stored_as_written_but_for_line_ends_and_controls(written, stored):
    assert clean_text(written, limit=100) == stored


@pytest.mark.parametrize("unstorable", ["a\x00b", "\ud83d", "x\udc00"])
def test_what_no_database_stores_is_refused_with_a_sentence(unstorable):
    with pytest.raises(BadText, match="cannot be stored"):
        clean_text(unstorable, limit=100)


def test_too_long_a_text_is_refused_with_both_numbers():
    assert clean_text("x" * 100, limit=100)
    with pytest.raises(BadText, match=r"101 characters; at most 100"):
        clean_text("x" * 101, limit=100)


@pytest.mark.parametrize("blank", ["", " \n\t", "\x07"])
def test_where_text_is_needed_white_space_is_not_enough(blank):
    with pytest.raises(BadText, match="is empty"):
        clean_filled_text(blank, limit=100)


def test_a_models_output_is_repaired_and_said_to_be():
    assert repair_text("fine\n") == ("fine\n", False)
    assert repair_text("a\x00b\ud800\x07") == ("a\ufffdb\ufffd ", True)


@settings(deadline=None)
@given(ANY_TEXT)
def test_whatever_is_repaired_can_be_stored(text):
    repaired, was_repaired = repair_text(text)
    assert clean_text(repaired, limit=100) == repaired
    assert repaired.encode().decode() == repaired
    assert was_repaired == (repaired != text)


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(ANY_TEXT | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner))
)
def test_whatever_json_is_repaired_stays_as_it_is_from_then_on(value):
    assert repair_json(repair_json(value)) == repair_json(value)


@pytest.mark.parametrize(("value", "levels"), [("a", 0), ([], 1), ({"a": [1, {}], "b": 2}, 3), ([[], [[[]]]], 4)])
def test_the_levels_of_lists_and_objects_are_counted(value, levels):
    assert json_depth(value) == levels


def test_no_depth_of_nesting_is_too_much_to_be_counted():
    nested: list[object] = []
    for _ in range(9_999):
        nested = [nested]
    assert json_depth(nested) == 10_000


@pytest.mark.parametrize("same", ["how  do i\nsleep? ", "HOW DO I SLEEP?", "How do I sleep?\t"])
def test_texts_that_differ_in_case_and_spacing_are_near_duplicates(same):
    assert text_hash(asked(same)) != text_hash(asked("How do I sleep?"))
    assert folded_hash(asked(same)) == folded_hash(asked("How do I sleep?"))


def test_composed_and_decomposed_letters_are_near_duplicates():
    assert text_hash(asked("cafe\u0301")) != text_hash(asked("café"))
    assert folded_hash(asked("cafe\u0301")) == folded_hash(asked("café"))


def test_who_says_it_makes_a_difference():
    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *asked("c")]
    other = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, *asked("c")]
    assert folded_hash(first) != folded_hash(other)
    assert text_hash(first) != text_hash(other)


def test_controls_are_counted_and_line_ends_are_none():
    assert control_count("a\x0bb\x1b\x85\r\n\r\n\tc\rd\u200f") == 3


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60))
def test_as_many_characters_are_changed_as_are_counted(text):
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    changed = sum(before != after for before, after in zip(plain, clean_text(text, limit=100), strict=True))
    assert changed == control_count(text)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>\nIs it?\n</think>\n\nYes.", "Is it?", "Yes."),
        ("\n<think>Is it?</think>Yes </think>.", "Is it?", "Yes </think>."),
        ("<think>\n\n</think>\n\nYes.", "", "Yes."),
        ("<think>\nIs it?", "", "<think>\nIs it?"),
        ("Yes. <think>Is it?</think>", "", "Yes. <think>Is it?</think>"),
        ("Yes.", "", "Yes."),
        ("", "", ""),
    ],
)
def test_a_thought_is_set_apart_from_its_answer_and_one_that_does_not_end_is_shown_as_it_is(text, thought, answer):
    assert split_thought(text) == (thought, answer)
