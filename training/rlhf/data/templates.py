"""A model's chat template, examined by what it writes: which roles it takes, and whether it writes today's date.

A template that writes the date turns a conversation into other tokens every day, and a reward model would refuse its
own canary texts the next day. So the date is fixed when a base model is adopted. It then is a part of the template, of
its hash, and of every model that descends from this one.
"""

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ..exits import InvalidInput, in_one_line
from .records import Message

SAID = {"system": "a rule", "user": "a question", "assistant": "an answer"}
CLOCK = "strftime_now"  # the only function by which a template learns the time
DIRECTIVES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
PERCENT = "\ufdd1"  # stands for a percent sign while directives are replaced; a Unicode noncharacter
FLAGS = ("", "-", "_", "0", "^", "#")
THOUGHT_TAG = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>")
# Two days without a common part: a template that writes a date differs between them.
DAYS = (datetime.date(2001, 2, 3), datetime.date(2024, 11, 28))


class Template(NamedTuple):
    """What a template accepts and writes."""

    system: bool  # it accepts a system turn, and writes its text
    alternates: bool  # it refuses two turns of one role in a row
    begins_with_assistant: bool  # it accepts a conversation that begins with an answer
    opens_thought: bool  # it begins a thought where the answer is to begin


def text_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template that conversations are written by. Raises InvalidInput where there are several."""
    if not tokenizer.chat_template:
        return None
    try:
        text: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise InvalidInput(
            "the model has several chat templates and none is called default: keep only the one for conversations",
            kind="template_ambiguous",
            field="chat_template",
        ) from error
    if not isinstance(text, str):
        raise InvalidInput("the model's chat template is not a string", kind="template_refuses", field="chat_template")
    return text


def probe(tokenizer: PreTrainedTokenizerBase, template: str) -> Template:
    """What `template` makes of short conversations. Raises InvalidInput where it refuses the plainest one."""
    render = Renderer(tokenizer, template)
    asked = render("user")
    if asked is None or render("user", "assistant", "user") is None or SAID["user"] not in asked:
        raise InvalidInput(
            f"the model's chat template cannot format a question, an answer and another question: {render.refusal}",
            kind="template_refuses",
            field="chat_template",
        )
    if render("user") != render("user"):
        raise InvalidInput(
            "the model's chat template gives different results for the same conversation: it is random",
            kind="template_random",
            field="chat_template",
        )
    marks = THOUGHT_TAG.findall(asked)  # "" for each mark that opens a thought, "/" for each that closes one
    return Template(
        system=SAID["system"] in (render("system", "user") or ""),
        alternates=render("user", "user") is None,
        begins_with_assistant=render("assistant", "user") is not None,
        opens_thought=marks[-1:] == [""],
    )


def writes_date(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether what the template writes depends on the day."""
    on_two_days = [Renderer(tokenizer, with_fixed_date(template, day)) for day in DAYS]
    conversations = (("user",), ("system", "user"), ("user", "assistant", "user"))
    first, second = ([render(*roles) for roles in conversations] for render in on_two_days)
    return first != second


def asks_for_date(template: str) -> bool:
    """Whether a template contains the clock function at all."""
    return CLOCK in template


def with_fixed_date(template: str, day: datetime.date) -> str:
    """The same template with a clock that always shows noon of `day`.

    The first line redefines the clock. Its line break is not written: blocks are rendered with trim_blocks.
    """
    noon = datetime.datetime.combine(day, datetime.time(12))
    answers = [("%" + flag + letter, noon.strftime("%" + flag + letter)) for flag in FLAGS for letter in DIRECTIVES]
    asked = [(directive, answer) for directive, answer in answers if directive in template]
    # A doubled percent sign stands for one, and for no beginning of a directive.
    steps = [("%%", PERCENT), *asked, (PERCENT, "%")]
    chain = "".join(f"|replace('{old}', '{_quoted(new)}')" for old, new in steps)
    return f"{{%- macro {CLOCK}(format) %}}{{{{ format{chain} }}}}{{% endmacro %}}\n{template}"


class Renderer:
    """Renders short conversations, given by their roles. `refusal`: why the template last refused one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self.refusal = "it leaves out message content"

    def __call__(self, *roles: str) -> str | None:
        """The text up to where an answer begins, or None where the template raises an error."""
        messages: Sequence[Message] = [{"role": role, "content": SAID[role]} for role in roles]
        try:
            text = self._tokenizer.apply_chat_template(
                messages,  # type: ignore[arg-type]
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # of any kind: a template is a program
            self.refusal = in_one_line(error)
            return None
        return str(text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
