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
        _("Free up space on the data disk, then continue the run. Saved checkpoints are kept."),
        Remedy.DISK,
    ),
    "memory": Rule(
        _("There was not enough memory."),
        _("Copy the run and lower “batch tokens”, or give the worker a machine with more memory."),
        settings=("batch_tokens",),
    ),
    "device": Rule(
        _("The GPU or its driver reported an error."),
        _("Check the worker's machine; restarting it often helps. Then resume the run."),
    ),
    "install": Rule(
        _("The engine's dependencies are not all installed."),
        _("Install the packages in requirements.lock on the worker's machine, then resume the run."),
    ),
    "launcher": Rule(
        _("The program that starts several processes cannot be run."),
        _("Correct ROUNDTABLE_ENGINE_LAUNCHER on the worker's machine, restart the worker, then resume the run."),
    ),
    "stall": Rule(
        _("The engine made no progress and was stopped."),
        _("The usual cause is a disk or device that hangs. Resume the run; if it stalls again, check the machine."),
    ),
    "killed": Rule(
        _("The engine was killed, most likely because the machine ran out of memory."),
        _("Free up memory on the worker's machine and resume the run, or copy the run and lower “batch tokens”."),
        settings=("batch_tokens",),
    ),
    "stopped": Rule(
        _("The engine was stopped from outside."),
        _("Resume the run once the machine is stable."),
    ),
    "killed_by_fault": Rule(
        _("The engine crashed inside one of its libraries."),
        _("Resume the run. If it crashes at the same step again, report the problem with the log below."),
    ),
    "silent": Rule(
        _("The worker stopped responding during the run."),
        _("Its machine may have been switched off or lost its network. Resume the run when a worker is back."),
        Remedy.WORKER,
    ),
    "damaged_output": Rule(
        _("The engine's output is missing or damaged."),
        _("Check the disk of the worker's machine, then resume the run."),
    ),
    "person": Rule(
        _("The run cannot continue without your help."),
        _("Fix the problem in the error message, then continue the run."),
    ),
    # what it starts from
    "parent_changed": Rule(
        _("The model the run starts from has changed since the run was planned."),
        _("Restore the model's files, or start a new round with the model as it is now."),
    ),
    "parent_gone": Rule(
        _("The model the run starts from no longer exists."),
        _("Restore the model's directory, or start a new round."),
    ),
    "trunk_missing": Rule(
        _("A model the run starts from is an adapter, and the run does not name the whole model it belongs to."),
        _("Start a new round: its runs name that model."),
    ),
    "trunk_differs": Rule(
        _("An adapter belongs to another model than the one it was to be used with."),
        _("Use the model it stands on, which the message names. If its files have changed, restore them."),
    ),
    "adapter_differs": Rule(
        _("Training would continue an adapter of another size than the settings ask for."),
        _(
            "Copy the run with the rank and alpha of the adapter, which the error message gives, or with rank 0 to "
            "train all weights."
        ),
        settings=("adapter_rank", "adapter_alpha"),
    ),
    "adapter_files": Rule(
        _("An adapter the run needs cannot be read."),
        _("Its files are missing or damaged, or belong to another model. The error message says which."),
        Remedy.MODEL_FILES,
    ),
    "not_adaptable": Rule(
        _("A model of this kind cannot have LoRA adapters."),
        _("Copy the run with an adapter rank of 0, which trains all weights."),
        settings=("adapter_rank",),
    ),
    "reward_changed": Rule(
        _("The reward model no longer gives the same scores."),
        _("Its scores cannot be trusted. Start a new round to train a new one."),
    ),
    "tokens_differ": Rule(
        _("Two of the run's models use different tokenizers, so they cannot be used together."),
        _("All models of a project must be trained from the same base model."),
    ),
    "model_files": Rule(
        _("A model the run needs cannot be read."),
        _("Its files are missing or damaged. The error message says which."),
        Remedy.MODEL_FILES,
    ),
    "weights": Rule(
        _("The weights of a model do not fit its configuration."),
        _("A file is missing or belongs to another model. The error message names the first weight affected."),
        Remedy.MODEL_FILES,
    ),
    "tokenizer": Rule(
        _("The tokenizer of the model cannot be used."),
        _("Use the model's own tokenizer.json. It must match the embedding."),
        Remedy.MODEL_FILES,
    ),
    "no_eos": Rule(
        _("The model's tokenizer has no token that ends an answer."),
        _("Answers would never end. Set the EOS token in the tokenizer's files."),
        Remedy.MODEL_FILES,
    ),
    "template": Rule(
        _("The model's chat template cannot be used."),
        _("A formatted prompt must be a prefix of the formatted conversation."),
        Remedy.MODEL_FILES,
    ),
    # what it was given
    "template_refuses": Rule(
        _("The model's chat template refuses a conversation."),
        _("Withdraw the prompt, or use a template that supports its turns."),
        Remedy.PROMPTS,
    ),
    "control_text": Rule(
        _("A text contains a control token of the model that its tokenizer cannot encode as plain text."),
        _("Withdraw the prompt or return the answer that contains it."),
        Remedy.PROMPTS,
    ),
    "left_out": Rule(
        _("The model cannot process too many of the texts."),
        _(
            "They are too long, or the model's chat template refuses them. Withdraw the texts listed below and "
            "start a new round. If they are too long, a lower “maximum answer length” leaves more room for them."
        ),
        Remedy.PROMPTS,
        settings=("max_response",),
    ),
    "nothing_to_learn": Rule(
        _("There was nothing to train on."),
        _("Collect more labels, or check what the snapshot left out, then start a new round."),
    ),
    "held_out_trained": Rule(
        _("A held-out prompt is also used for training."),
        _("This would make the evaluation meaningless. Withdraw one of the two and start a new round."),
        Remedy.PROMPTS,
    ),
    "records": Rule(
        _("A file with labels or prompts cannot be read."),
        _("The line is given below. Start a new round to take a new snapshot."),
    ),
    "config": Rule(
        _("A setting of the run is not valid."),
        _("Copy the run and fix the setting named below."),
    ),
    "settings_unreadable": Rule(
        _("The run's settings cannot be read."),
        _("The file config.json in the run's directory is missing or damaged. Start a new round."),
    ),
    "input": Rule(
        _("An input of the run is not valid."),
        _("The error message says which. Running it again without a change would fail again."),
    ),
    # numbers
    "not_finite": Rule(
        _("Training became unstable: gradients were repeatedly not finite."),
        _("Copy the run and halve the learning rate. The same run would fail at the same step."),
        settings=LEARNING_RATES,
    ),
    "diverged": Rule(
        _("Training became unstable: it did not converge."),
        _("Copy the run and halve the learning rate. The same run would fail at the same step."),
        settings=LEARNING_RATES,
    ),
    "look_too_long": Rule(
        _("the check timed out."),
        _("It is tried again in a minute. The round can start without it."),
        Remedy.WORKER,
    ),
    # what is no fault, or nobody foresaw
    "interrupted": Rule(
        _("The engine was stopped on request."),
        _("When resumed, it continues from its last checkpoint."),
    ),
    "fence_lost": Rule(
        _("Another attempt has taken over the run."),
        _("No action is needed."),
    ),
    "crash": Rule(
        _("The engine crashed."),
        _("The end of the log shows where. Resume the run once; report the problem if it happens again."),
    ),
    UNKNOWN: Rule(
        _("The engine ended unexpectedly."),
        _("The end of the log shows where. Resume the run once; report the problem if it happens again."),
    ),
}

_FILES, _WEIGHTS, _TEMPLATE = (RULES[kind] for kind in ("model_files", "weights", "template"))
_UNSAFE = Rule(
    _("A model the run needs contains files that could run code or links out of its folder, so it is not loaded."),
    _("Use the same model as safetensors, without custom code and without links out of its folder."),
    Remedy.MODEL_FILES,
)
_CONTEXT = Rule(
    _("The model's context length is unknown or not valid."),
    _("If its config.json has no max_position_embeddings, enter the context length when the folder is checked."),
    Remedy.MODEL_FILES,
)
_WRONG_NUMBERS = Rule(
    _("The model does not compute correctly on this machine."),
    _("The engine's self-test says which two results differ. Use another number format or another model."),
    Remedy.MODEL_FILES,
    settings=("dtype",),
)
_NOT_FINITE = Rule(
    _("Training became unstable: a model's output is not finite."),
    _(
        "If the run trains this model, copy the run and halve the learning rate. If not, the model's weights "
        "are damaged: go back to the model before it."
    ),
    settings=LEARNING_RATES,
)
_WRONG_KIND = Rule(
    _("A model of this kind cannot be trained here."),
    _("The error message says why. Create a new project with another base model."),
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
