"""An answer trains as the model's own template writes it, with its white space and its thought; else as it was said."""

from __future__ import annotations

import pytest

from tests.rlhf import templates
from tests.rlhf.templates import REASONING, chat_of
from training.rlhf.data.chat import Chat

ASK = [{"role": "user", "content": "What is a fox?"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a fox?"},
    {"role": "assistant", "content": "A dog."},
    {"role": "user", "content": "And a wolf?"},
]
THOUGHT = "<think>\nIt asks for a dog.\n</think>\n\nA small wild dog."


def text_of(chat: Chat, ids: list[int]) -> str:
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False))


def whole(chat: Chat, messages: list[dict[str, str]], text: str) -> str:
    answered = [*messages, {"role": "assistant", "content": text}]
    return str(chat.tokenizer.apply_chat_template(answered, tokenize=False))


@pytest.mark.parametrize("text", [" A dog. ", "A dog.\n\n", "\n A dog.", "A dog."])
@pytest.mark.parametrize("content", ["m['content'] | trim", "m['content']"], ids=["trims", "keeps"])
def test_white_space_at_the_ends_of_an_answer_trains_as_the_template_writes_it(content: str, text: str) -> None:
    template = templates.WITHOUT_SYSTEM.replace("m['content'] | trim", content)
    chat = chat_of(template)
    rendered = chat.rendered(ASK, text, stopped=True)
    assert text_of(chat, rendered.prompt + rendered.response) == whole(chat, ASK, text)
    assert (text_of(chat, rendered.response) == f"{text}</s>") is (content == "m['content']" or text == text.strip())


def test_a_template_that_puts_the_system_turn_elsewhere_once_answered_trains_on_what_is_sampled() -> None:
    chat = chat_of(templates.SYSTEM_IN_LAST_USER_TURN, "[ASK]", "[/ASK]")
    written = chat.written(TALK, "A larger one.")
    assert not written.as_template
    assert written.prompt == "<s>[ASK]What is a fox?[/ASK] A dog.</s>[ASK]Be brief.\n\nAnd a wolf?[/ASK]"
    assert written.answer == " A larger one."
    rendered = chat.rendered(TALK, "A larger one.", stopped=True)
    assert rendered.prompt == chat.prompt_ids(TALK), "what trains is what was asked"
    assert chat.decode(rendered.response) == "A larger one."
    assert chat.written(ASK, "A dog.").as_template


def test_an_answer_that_only_the_template_refuses_follows_its_prompt_all_the_same() -> None:
    refuses = "{% if m['content'] == 'No.' %}{{ raise_exception('no') }}{% endif %}"
    chat = chat_of(templates.ALTERNATING.replace("<|{{", refuses + "<|{{"))
    assert chat.decode(chat.rendered(ASK, "No.", stopped=True).response) == "No."


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")], ids=["text", "tokens"])
@pytest.mark.parametrize("template", REASONING.values(), ids=REASONING)
def test_an_answer_without_a_thought_follows_an_empty_one(template: str, special: tuple[str, ...]) -> None:
    chat = chat_of(template, *special)
    rendered = chat.rendered(ASK, "A small wild dog.", stopped=True)
    shown = text_of(chat, rendered.prompt + rendered.response)
    assert shown == "<|user|>What is a fox?<|assistant|><think>\n\n</think>\n\nA small wild dog.</s>"
    assert chat.decode(rendered.response) == "A small wild dog."


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")], ids=["text", "tokens"])
@pytest.mark.parametrize("template", REASONING.values(), ids=REASONING)
def test_a_thought_that_was_sampled_is_part_of_the_text_and_trains_as_it_was(
    template: str, special: tuple[str, ...]
) -> None:
    chat = chat_of(template, *special)
    prompt = chat.prompt_ids(ASK)
    rest = THOUGHT.removeprefix(chat.opened_thought)
    sampled = [*chat.tokenizer.encode(rest, add_special_tokens=False), chat.eos_id]
    text = chat.decode(sampled)
    assert text == THOUGHT, "the thought that the template opens is put back in front"
    rendered = chat.rendered(ASK, text, stopped=True)
    assert (rendered.prompt, rendered.response) == (prompt, sampled)


@pytest.mark.parametrize("template", REASONING.values(), ids=REASONING)
def test_a_thought_that_was_cut_off_stays_open(template: str) -> None:
    chat = chat_of(template)
    sampled = chat.tokenizer.encode("<think>\nIt asks".removeprefix(chat.opened_thought), add_special_tokens=False)
    text = chat.decode(sampled)
    assert text == "<think>\nIt asks"
    assert chat.rendered(ASK, text, stopped=False).response == sampled


@pytest.mark.parametrize("template", REASONING.values(), ids=REASONING)
def test_a_thought_follows_a_prompt_of_several_turns_just_so(template: str) -> None:
    chat = chat_of(template)
    rendered = chat.rendered(TALK, THOUGHT, stopped=True)
    assert rendered.prompt == chat.prompt_ids(TALK)
    assert text_of(chat, rendered.response) == THOUGHT.removeprefix(chat.opened_thought) + "</s>"


def test_white_space_is_stripped_after_a_thought_that_the_template_leaves_out_too() -> None:
    chat = chat_of(templates.OPENS_AND_DROPS.replace("{{ said }}", "{{ said | trim }}"))
    written = chat.written(ASK, " A dog.\n")
    assert (written.answer, written.as_template) == ("\n</think>\n\nA dog.", True)


def test_a_word_among_the_control_tokens_that_open_an_answer_is_no_part_of_its_text() -> None:
    opens = "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}<|says|>"
    template = templates.ALTERNATING.replace("{{ m['content'] }}", opens + "{{ m['content'] }}")
    chat = chat_of(template, "<|channel|>", "<|says|>")
    assert chat.answer_prefix == "<|channel|>final<|says|>"
    assert chat.decode(chat.rendered(ASK, "A dog.", stopped=True).response) == "A dog."
