"""What the engine found in the records of a round, in words (see training/rlhf/examinations/dataset.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Project
from training import stages
from training.services.planning import record_links
from training.services.planning.failure_rules import rule_of
from training.services.planning.record_links import RecordLink
from training.services.run_files import config_fields
from training.services.run_files.config_fields import SettingLink
from training.stages import Stage
from training.stages.remedies import Remedy

Numbers = dict[str, Any]

ABOUT_LENGTH = ("too_long", "cut")  # of all texts, or of answers that people wrote
ABOUT_PROMPTS = ("too_long", "refused", "lost_text")  # the others that name records name answers


def sentence(kind: str, numbers: Numbers) -> str:
    """The finding as a sentence with its number."""
    return SENTENCES[kind](numbers)


def records(project: Project, kind: str, numbers: Numbers) -> list[RecordLink]:
    """The records that a finding names."""
    ids = numbers.get("ids", [])
    if not ids:
        return []
    if kind in ABOUT_PROMPTS:
        return record_links.prompts(project, ids, what=numbers["what"])
    return record_links.demonstrations(project, ids)


def settings(kind: str, numbers: Numbers) -> list[SettingLink]:
    """The settings that would fix what a finding says, besides its remedy."""
    if kind not in ABOUT_LENGTH:
        return []
    return [
        link for stage in numbers.get("stages", [Stage.SFT]) for link in config_fields.links(stage, ["max_response"])
    ]


def _empty(numbers: Numbers) -> str:
    sentence = ngettext(
        "%(count)d answer is empty after tokenization. It would teach the model to say nothing.",
        "%(count)d answers are empty after tokenization. They would teach the model to say nothing.",
        numbers["count"],
    )
    return sentence % numbers


def _rewritten(numbers: Numbers) -> str:
    sentence = ngettext(
        "The model's chat template changes the text of %(count)d answer. The changed text is used for training.",
        "The model's chat template changes the text of %(count)d answers. The changed text is used for training.",
        numbers["count"],
    )
    return sentence % numbers


def _too_long(numbers: Numbers) -> str:
    sentence = ngettext(
        "%(stages)s: %(dropped)d of %(of)d texts is too long for the model's context of %(context)d tokens "
        "and is left out.",
        "%(stages)s: %(dropped)d of %(of)d texts are too long for the model's context of %(context)d tokens "
        "and are left out.",
        numbers["dropped"],
    )
    return sentence % (numbers | {"stages": _stages(numbers)})


def _refused(numbers: Numbers) -> str:
    sentence = ngettext(
        "%(stages)s: %(dropped)d of %(of)d texts is refused by the model's chat template (“%(reason)s”) "
        "and is left out.",
        "%(stages)s: %(dropped)d of %(of)d texts are refused by the model's chat template (“%(reason)s”) "
        "and are left out.",
        numbers["dropped"],
    )
    return sentence % (numbers | {"stages": _stages(numbers)})


def _lost(numbers: Numbers) -> str:
    sentence = ngettext(
        "%(stages)s: %(count)d of %(of)d texts has characters that the model's tokenizer does not know (%(some)s). "
        "The model neither reads nor learns them.",
        "%(stages)s: %(count)d of %(of)d texts have characters that the model's tokenizer does not know (%(some)s). "
        "The model neither reads nor learns them.",
        numbers["count"],
    )
    some = ", ".join(f"“{piece}”" for piece in numbers["pieces"])
    return sentence % (numbers | {"stages": _stages(numbers), "some": some})


def _stages(numbers: Numbers) -> str:
    return ", ".join(str(stages.find(stage).label) for stage in numbers["stages"])


def _model_refused(numbers: Numbers) -> str:
    """What the engine says of a model that it cannot load, with its own sentence."""
    return f"{rule_of(numbers['kind']).sentence} ({numbers['sentence']})"


def _thought(numbers: Numbers) -> str:
    if numbers["is_opened"]:
        return _(
            "This is a reasoning model: its chat template opens a reasoning block. Answers written by people are "
            "trained with an empty block, answers by models with their own reasoning."
        )
    return _(
        "The model may reason before it answers. Answers without reasoning are trained with an empty reasoning block, "
        "as its chat template writes it; answers by models keep their own reasoning."
    )


SENTENCES: dict[str, Callable[[Numbers], str]] = {
    "model_refused": _model_refused,
    "templates_differ": lambda numbers: (
        _("The models of this round use different chat templates: %(models)s.")
        % {"models": " ≠ ".join(numbers["models"])}
    ),
    "template_rewrites": _rewritten,
    "empty_answer": _empty,
    "end_not_trained": lambda numbers: (
        _(
            "The padding and EOS tokens are the same, %(token)s, and EOS is masked with the padding in "
            "%(lost)d of %(of)d answers, so the model would never learn to stop."
        )
        % numbers
    ),
    "pad_is_end": lambda numbers: (
        ngettext(
            "The padding and EOS tokens are the same, %(token)s. This is harmless "
            "here: EOS is trained in the %(of)d complete answer.",
            "The padding and EOS tokens are the same, %(token)s. This is harmless "
            "here: EOS is trained in all %(of)d complete answers.",
            numbers["of"],
        )
        % numbers
    ),
    "too_long": _too_long,
    "refused": _refused,
    "lost_text": _lost,
    "two_ways": lambda numbers: _(
        "The model's chat template formats some prompts differently once they have an answer. "
        "Training uses each prompt as it is sent to the model, followed by the answer."
    ),
    "thought": _thought,
    "cut": lambda numbers: (
        ngettext(
            "%(cut)d of %(of)d answers is longer than the maximum answer length. It is cut off, so the model does not "
            "learn to end it.",
            "%(cut)d of %(of)d answers are longer than the maximum answer length. They are cut off, so the model does "
            "not learn to end them.",
            numbers["cut"],
        )
        % numbers
    ),
    "pairs": lambda numbers: (
        ngettext(
            "%(stages)s: the rankings give %(pairs)d pair to train on.",
            "%(stages)s: the rankings give %(pairs)d pairs to train on.",
            numbers["pairs"],
        )
        % (numbers | {"stages": _stages(numbers)})
    ),
}
REMEDIES = {
    "model_refused": Remedy.MODEL_FILES,
    "templates_differ": Remedy.MODEL_FILES,
    "template_rewrites": Remedy.LABELS,
    "empty_answer": Remedy.LABELS,
    "end_not_trained": Remedy.MODEL_FILES,
    "pad_is_end": Remedy.MODEL_FILES,
    "too_long": Remedy.PROMPTS,
    "refused": Remedy.PROMPTS,
    "lost_text": Remedy.MODEL_FILES,
    "two_ways": Remedy.EXAMPLES,
    "thought": Remedy.EXAMPLES,
    "cut": Remedy.LABELS,
    "pairs": Remedy.EXAMPLES,
}
