"""Chat templates that read conversations in ways of their own, and chats that speak them."""

import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.rlhf.tiny_models import CONTEXT, bpe
from training.rlhf.data.chat import Chat

CASES = Path(__file__).parent.parent / "cases"
WITHOUT_SYSTEM = (CASES / "template-without-system.jinja").read_text("utf-8")
SYSTEM_IN_LAST_USER_TURN = (CASES / "template-system-in-last-user-turn.jinja").read_text("utf-8")
ALTERNATING = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# As reasoning models have them: a thought is taken apart from its answer, and written again only in the last turn.
PARSE = (
    "{% set said = m['content'] %}{% set thought = '' %}"
    "{% if '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
)
TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}"
    + PARSE
    + "ANSWER{{ eos_token }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>OPENED{% endif %}"
)
REWRITTEN = "{% if loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ said }}"
THINKS = TURNS.replace("ANSWER", REWRITTEN).replace("OPENED", "")  # it writes an empty thought where there is none
OPENS = TURNS.replace("ANSWER", REWRITTEN).replace("OPENED", "<think>\n")
OPENS_AND_DROPS = TURNS.replace("ANSWER", "{{ said }}").replace(
    "OPENED", "<think>\n"
)  # thoughts of what is written already
REASONING = {"thinks": THINKS, "opens": OPENS, "opens and drops": OPENS_AND_DROPS}

ROLES = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]


def chat_of(template: str, *special: str) -> Chat:
    """A chat that speaks `template`, whose tokenizer has these special tokens beside the usual ones."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe([*ROLES, *special], bos="<s>"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=template,
    )
    return Chat(tokenizer, CONTEXT)


def model_with(template: str, model: Path, to: Path) -> Path:
    """A copy of a model that speaks `template`."""
    shutil.copytree(model, to)
    (to / "chat_template.jinja").write_text(template, "utf-8")
    return to
