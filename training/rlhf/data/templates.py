"""A model's chat template, looked at from outside: what it takes, and whether it writes today's date.

A template that writes the date turns one conversation into other tokens every day, and a reward model no longer
recognises its own texts the morning after. So the date is fixed when a base model is adopted. It then is a part of the
template, of its hash, and of every model that descends from this one.
"""

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ..exits import InvalidInput, in_one_line
from .records import Message

SAID = {"system": "a rule", "user": "a question", "assistant": "an answer"}
CLOCK = "strftime_now"  # the only way by which a template learns the time
DIRECTIVES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
PERCENT = "\ufdd1"  # stands for a percent sign meanwhile; Unicode keeps this code point out of all text
FLAGS = ("", "-", "_", "0", "^", "#")
THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>")
# Two days that have nothing in common, by which a template that writes a date betrays itself.
DAYS = (datetime.date(2001, 2, 3), datetime.date(2024, 11, 28))


class Template(NamedTuple):
    """What a template takes and writes."""

    system: bool  # it takes a system turn, and writes what that says
    alternates: bool  # it refuses two turns of one role in a row
    begins_with_assistant: bool  # it takes a conversation that an answer begins
    opens_thought: bool  # it begins a thought where the answer is to begin


def text_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template that conversations are written by. Raises InvalidInput where there are several."""
    if not tokenizer.chat_template:
        return None
    try:
        text: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise InvalidInput(
            "the model has several chat templates and none that is called default: keep the one for conversations",
            kind="template_ambiguous",
            field="chat_template",
        ) from error
    if not isinstance(text, str):
        raise InvalidInput("the model's chat template is no text", kind="template_refuses", field="chat_template")
    return text


def probe(tokenizer: PreTrainedTokenizerBase, template: str) -> Template:
    """What `template` makes of short conversations. Raises InvalidInput where it refuses the plainest one."""
    render = Renderer(tokenizer, template)
    asked = render("user")
    if asked is None or render("user", "assistant", "user") is None or SAID["user"] not in asked:
        raise InvalidInput(
            f"the model's chat template does not write a question, an answer and another question: {render.refusal}",
            kind="template_refuses",
            field="chat_template",
        )
    if render("user") != render("user"):
        raise InvalidInput(
            "the model's chat template writes the same conversation in two ways: it draws at random",
            kind="template_random",
            field="chat_template",
        )
    return Template(
        system=SAID["system"] in (render("system", "user") or ""),
        alternates=render("user", "user") is None,
        begins_with_assistant=render("assistant", "user") is not None,
        opens_thought=_opens_thought(asked),
    )


def writes_date(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether conversations are written otherwise tomorrow."""
    on_two_days = [Renderer(tokenizer, fixed(template, day)) for day in DAYS]
    conversations = (("user",), ("system", "user"), ("user", "assistant", "user"))
    first, second = ([render(*roles) for roles in conversations] for render in on_two_days)
    return first != second


def asks_for_date(template: str) -> bool:
    """Whether a template may ask for the time, in whatever case."""
    return CLOCK in template


def fixed(template: str, day: datetime.date) -> str:
    """The same template, for which it is noon of `day` for ever.

    The first line defines the clock anew. Its line break is no part of the text: a template's blocks swallow it.
    """
    noon = datetime.datetime.combine(day, datetime.time(12))
    answers = [("%" + flag + letter, noon.strftime("%" + flag + letter)) for flag in FLAGS for letter in DIRECTIVES]
    asked = [(directive, answer) for directive, answer in answers if directive in template]
    # A doubled percent sign stands for one, and for no beginning of a directive.
    steps = [("%%", PERCENT), *asked, (PERCENT, "%")]
    chain = "".join(f"|replace('{old}', '{_quoted(new)}')" for old, new in steps)
    return f"{{%- macro {CLOCK}(format) %}}{{{{ format{chain} }}}}{{% endmacro %}}\n{template}"


class Renderer:
    """Writes what people said in turn, by roles. `refusal`: what the template last said against it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self.refusal = "it leaves out what was said"

    def __call__(self, *roles: str) -> str | None:
        """The text up to where an answer begins, or None where the template refuses."""
        messages: Sequence[Message] = [{"role": role, "content": SAID[role]} for role in roles]
        try:
            text = self._tokenizer.apply_chat_template(
                messages,  # type: ignore[arg-type]
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is a program of somebody else's
            self.refusal = in_one_line(error)
            return None
        return str(text)


def _opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside of a thought."""
    marks = THOUGHT.findall(prompt)
    return bool(marks) and marks[-1] == ""


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
