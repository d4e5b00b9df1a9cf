"""The table of what can go wrong: a kind, what it means in one sentence, what helps, and where that is done.

What can go wrong in one stage only stands with the stage (training/stages).
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from training import stages
from training.stages.remedies import Remedy, Rule

UNKNOWN = "unknown"  # the rule that holds where no other does
LEARNING_RATES = ("learning_rate", "value_learning_rate")

RULES: dict[str, Rule] = {
    # the machine
    "disk": Rule(
        _("The disk was full."),
        _("Free some room where the data lies, and let the run go on: nothing that was saved is lost."),
        Remedy.DISK,
    ),
    "memory": Rule(
        _("Memory ran out."),
        _("Copy the run and lower “tokens at once”, or give the worker a machine with more memory."),
        settings=("batch_tokens",),
    ),
    "device": Rule(
        _("The graphics card or its driver gave an error."),
        _("Look at the worker's machine; a restart of it often helps. Then resume."),
    ),
    "install": Rule(
        _("The engine's programs are not all installed."),
        _("Install what requirements.lock names on the worker's machine, and resume."),
    ),
    "stall": Rule(
        _("The engine stood still and was stopped."),
        _("Often a disk or a device that hangs. Resume; if it stands still again, look at the machine."),
    ),
    "killed": Rule(
        _("Something killed the engine. Most often the system does, when memory runs out."),
        _("Resume with more memory free on the worker's machine, or copy the run and lower “tokens at once”."),
        settings=("batch_tokens",),
    ),
    "stopped": Rule(
        _("Somebody or something outside stopped the engine."),
        _("Resume when the machine is at rest."),
    ),
    "killed_by_fault": Rule(
        _("The engine crashed inside one of its libraries."),
        _("Resume. If it crashes at the same step again, report it with the log below."),
    ),
    "silent": Rule(
        _("The worker went silent while it had the run."),
        _("Its machine was switched off, or lost its network. Resume when a worker is back."),
        Remedy.WORKER,
    ),
    "damaged_output": Rule(
        _("What the engine left is missing or damaged."),
        _("Look at the disk of the worker's machine, then resume."),
    ),
    "person": Rule(
        _("The machine could not go on, and a person must act."),
        _("Mend what the engine's sentence names, and let the run go on."),
    ),
    # what it starts from
    "parent_changed": Rule(
        _("The model that the run starts from has changed since the run was planned."),
        _("Put the model's files back as they were, or start a new round, which plans with the model as it is now."),
    ),
    "parent_gone": Rule(
        _("The model that the run starts from is not where it was."),
        _("Put the model's directory back, or start a new round from a model that is there."),
    ),
    "reward_changed": Rule(
        _("The reward model does not give the same scores any more."),
        _("It would judge wrongly. Train a new one with a new round."),
    ),
    "tokens_differ": Rule(
        _("Two of the run's models cut text into different tokens, so they cannot work together."),
        _("Models of one project must descend from one base model."),
    ),
    "model_files": Rule(
        _("A model that the run needs cannot be read."),
        _("Its files are missing or damaged; the engine's sentence says which."),
        Remedy.MODEL_FILES,
    ),
    "weights": Rule(
        _("The weights of a model do not fit its configuration."),
        _("A file is missing or belongs to another model; the engine's sentence names the first weight."),
        Remedy.MODEL_FILES,
    ),
    "tokenizer": Rule(
        _("The tokenizer of the model cannot be used."),
        _("Bring the model's own tokenizer.json, which must fit its embedding."),
        Remedy.MODEL_FILES,
    ),
    "no_eos": Rule(
        _("The model's tokenizer has no token that ends an answer."),
        _("Answers would never end. Name its EOS token in the tokenizer's files."),
        Remedy.MODEL_FILES,
    ),
    "template": Rule(
        _("The model's chat template cannot be used."),
        _("A prompt must be the beginning of the whole conversation as the template writes it."),
        Remedy.MODEL_FILES,
    ),
    # what it was given
    "template_refuses": Rule(
        _("The model's chat template refuses a conversation."),
        _("Withdraw the prompt, or bring a template that takes its turns."),
        Remedy.PROMPTS,
    ),
    "control_text": Rule(
        _("A text holds a control token of the model, and its tokenizer has no other way to write it."),
        _("Withdraw the prompt or return the answer that holds it."),
        Remedy.PROMPTS,
    ),
    "left_out": Rule(
        _("Too many of the texts cannot be read by the model."),
        _(
            "They are too long, or the model's chat template refuses them. Withdraw those that are named below and "
            "start a new round; where they are too long, a lower “longest answer” leaves them more room."
        ),
        Remedy.PROMPTS,
        settings=("max_response",),
    ),
    "nothing_to_learn": Rule(
        _("There was nothing that the run could learn from."),
        _("Ask for more labels, or look at what the snapshot left out, and start a new round."),
    ),
    "held_out_trained": Rule(
        _("A prompt that is held out is trained on as well."),
        _("It would measure nothing any more. Withdraw one of the two, and start a new round."),
        Remedy.PROMPTS,
    ),
    "records": Rule(
        _("A file with labels or prompts cannot be read."),
        _("The line is named below. Start a new round: it freezes the labels anew."),
    ),
    "config": Rule(
        _("A setting of the run does not hold together."),
        _("Copy the run and mend the setting that is named below."),
    ),
    "settings_unreadable": Rule(
        _("The run's settings cannot be read."),
        _("The file config.json in the run's directory is missing or damaged. Start a new round."),
    ),
    "input": Rule(
        _("Something that the run was given is not valid."),
        _("The engine's sentence says what. Trying again as it is would fail again."),
    ),
    # numbers
    "not_finite": Rule(
        _("The numbers went wrong: a gradient was not finite, again and again."),
        _("Copy the run and halve the learning rate. The same run would fail at the same place."),
        settings=LEARNING_RATES,
    ),
    "diverged": Rule(
        _("The numbers went wrong: learning did not converge."),
        _("Copy the run and halve the learning rate. The same run would fail at the same place."),
        settings=LEARNING_RATES,
    ),
    "look_too_long": Rule(
        _("It took too long."),
        _("It is tried again in a minute; the round may start without it."),
        Remedy.WORKER,
    ),
    # what is no fault, or nobody foresaw
    "interrupted": Rule(
        _("The engine was stopped on request."),
        _("It goes on from its last checkpoint when it is resumed."),
    ),
    "fence_lost": Rule(
        _("Another attempt has taken the run over."),
        _("Nothing is to be done."),
    ),
    "crash": Rule(
        _("The engine crashed."),
        _("The log's last lines say where. Resume once; report it if it happens again."),
    ),
    UNKNOWN: Rule(
        _("The engine ended in a way that nobody foresaw."),
        _("The log's last lines say where. Resume once; report it if it happens again."),
    ),
}

_FILES, _WEIGHTS, _TEMPLATE = (RULES[kind] for kind in ("model_files", "weights", "template"))
_UNSAFE = Rule(
    _("A model that the run needs holds files that could run code, or lead elsewhere, and is not read."),
    _("Bring the same model as safetensors, without code of its own and without links out of its folder."),
    Remedy.MODEL_FILES,
)
_CONTEXT = Rule(
    _("How much text the model can read at once is not known, or cannot be right."),
    _("Where its config.json lacks max_position_embeddings, whoever examines the folder states the number."),
    Remedy.MODEL_FILES,
)
_WRONG_NUMBERS = Rule(
    _("The model does not compute what it should on this machine."),
    _("The engine's self-test says which two readings differ. Use another number format, or another model."),
    Remedy.MODEL_FILES,
    settings=("dtype",),
)
_NOT_FINITE = Rule(
    _("The numbers went wrong: what a model computes is not finite."),
    _(
        "Where the run trains that model, copy the run and halve the learning rate. Where it only reads it, the "
        "model's weights are spoilt: go back to the model before it."
    ),
    settings=LEARNING_RATES,
)
_WRONG_KIND = Rule(
    _("A model of this kind cannot be trained here."),
    _("The engine's sentence says why. Choose another base model for a new project."),
)
# What the examination of a base model refuses: a stage meets the same where the files have changed since.
MODEL_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "adapter_alone",
            "adapter_beside",
            "config_missing",
            "config_unreadable",
            "folder_missing",
            "index_unusable",
            "json_no_object",
            "json_too_deep",
            "json_too_large",
            "json_unreadable",
            "lfs_pointer",
            "name_twice",
            "no_file",
            "shard_missing",
            "unreadable",
        ),
        _FILES,
    ),
    **dict.fromkeys(("link_leaves", "own_code", "pickles_only"), _UNSAFE),
    **dict.fromkeys(("weights_missing", "weights_truncated", "weights_unreadable"), _WEIGHTS),
    **dict.fromkeys(("tokenizer_larger", "tokenizer_missing", "tokenizer_unreadable"), RULES["tokenizer"]),
    **dict.fromkeys(("context_missing", "context_too_long", "context_too_short"), _CONTEXT),
    **dict.fromkeys(("template_ambiguous", "template_random"), _TEMPLATE),
    **dict.fromkeys(
        (
            "sampler_gap",
            "selftest_cached",
            "selftest_causal",
            "selftest_error",
            "selftest_padded",
        ),
        _WRONG_NUMBERS,
    ),
    **dict.fromkeys(("not_causal", "quantised", "trunk_unknown", "unknown_architecture"), _WRONG_KIND),
    **dict.fromkeys(
        (
            "kl_not_finite",
            "logits_not_finite",
            "metric_not_finite",
            "reference_not_finite",
            "reward_not_finite",
            "selftest_not_finite",
            "values_not_finite",
        ),
        _NOT_FINITE,
    ),
}
RULES |= MODEL_RULES


def find_rule(kind: str) -> Rule | None:
    """The rule of `kind`; None for one that only an engine of another version knows."""
    of_stages = [stage.failures[kind] for stage in stages.DEFINITIONS if kind in stage.failures]
    return of_stages[0] if of_stages else RULES.get(kind)


def rule_of(kind: str) -> Rule:
    """The rule of `kind`, or the one of what is unknown."""
    return find_rule(kind) or RULES[UNKNOWN]
