"""Chat templates from outside: what they take, and a date that stays the same."""

import datetime
from pathlib import Path

import pytest
import time_machine
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.rlhf import tiny_models
from training.rlhf.data.templates import Renderer, Template, asks_for_date, probe, text_of, with_fixed_date, writes_date
from training.rlhf.exits import InvalidInput

DATED = (
    "{{ bos_token }}{% set today = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}"
    "<|system|>Today is {{ today }}.{{ eos_token }}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WITHIN = (
    "{%- macro head(lead) %}{% if strftime_now is defined and not date_string is defined %}{{ lead }}: "
    '{{ strftime_now(format="%-d. %m. %y, 100 %%d, %H") }}{% endif %}{% endmacro %}\n'
    "{% for m in messages %}{% if loop.first %}{{ head('Day') }}{% endif %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% endfor %}"
)
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
)
PLAIN = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"


@pytest.fixture
def tokenizer(models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(models["llama"])


@pytest.mark.parametrize("template", [DATED, WITHIN], ids=["at the top", "within a macro"])
def test_a_fixed_template_writes_for_ever_what_it_wrote_on_its_day(
    tokenizer: PreTrainedTokenizerBase, template: str
) -> None:
    with time_machine.travel(datetime.datetime(2026, 3, 4, 12), tick=False):
        written = Renderer(tokenizer, template)("user", "assistant", "user")
    assert written
    assert "2026" in written or "4. 03. 26, 100 %d, 12" in written
    later = with_fixed_date(template, datetime.date(2026, 3, 4))
    assert Renderer(tokenizer, later)("user", "assistant", "user") == written


@pytest.mark.parametrize("beginning", ["\n", "  ", "\n\n  {% if true %}x{% endif %}", ""])
def test_fixing_the_date_changes_nothing_else(tokenizer: PreTrainedTokenizerBase, beginning: str) -> None:
    template = beginning + PLAIN
    assert Renderer(tokenizer, with_fixed_date(template, datetime.date(2026, 3, 4)))("user") == Renderer(
        tokenizer, template
    )("user")


def test_a_template_that_writes_the_date_is_known_from_one_that_only_could(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    silent = "{% if tools %}{{ strftime_now('%Y') }}{% endif %}" + PLAIN
    assert [writes_date(tokenizer, template) for template in (DATED, WITHIN, silent, PLAIN)] == [1, 1, 0, 0]
    assert [asks_for_date(template) for template in (DATED, WITHIN, silent, PLAIN)] == [1, 1, 1, 0]


def test_what_a_template_takes_is_found_by_trying(tokenizer: PreTrainedTokenizerBase) -> None:
    takes = Template(system=True, alternates=False, begins_with_assistant=True, opens_thought=False)
    strict = Template(system=False, alternates=True, begins_with_assistant=False, opens_thought=False)
    assert probe(tokenizer, PLAIN) == takes
    assert probe(tokenizer, STRICT) == strict


def test_a_system_turn_that_is_left_out_without_a_word_is_not_taken(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not probe(tokenizer, "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}").system


@pytest.mark.parametrize(
    ("ending", "opens"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False), ("<reasoning>", True)]
)
def test_a_template_that_opens_a_thought_is_noticed(
    tokenizer: PreTrainedTokenizerBase, ending: str, opens: bool
) -> None:
    template = PLAIN + "{% if add_generation_prompt %}<|assistant|>" + ending + "{% endif %}"
    assert probe(tokenizer, template).opens_thought is opens


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ raise_exception('not today') }}", "template_refuses"),
        ("{{ messages.nothing.at.all }}", "template_refuses"),
        ("a text of its own", "template_refuses"),
        (PLAIN + "{{ range(99999) | random }}", "template_random"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(
    tokenizer: PreTrainedTokenizerBase, template: str, kind: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        probe(tokenizer, template)
    assert refusal.value.kind == kind


def test_of_several_templates_the_default_one_counts(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = {"default": PLAIN, "tool_use": STRICT}
    assert text_of(tokenizer) == PLAIN
    tokenizer.chat_template = {"one": PLAIN, "other": STRICT}
    with pytest.raises(InvalidInput) as refusal:
        text_of(tokenizer)
    assert refusal.value.kind == "template_ambiguous"
    assert text_of(tiny_models.TOKENIZERS["gpt2"]()) is None
