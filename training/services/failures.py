"""Why a run failed, in one sentence, and what helps: a table that is asked from top to bottom."""

from __future__ import annotations

import re
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from training.models import Run
from training.rlhf import exits
from training.services import vitals
from training.services.metric_names import Words
from training.services.runs import SILENCE

INVALID, PERSON, DIVERGED = exits.InvalidInput.code, exits.NeedsPerson.code, exits.Diverged.code
DELIBERATE = (INVALID, PERSON, DIVERGED)
SIGKILL, SIGTERM, SIGINT = -9, -15, -2
UNKNOWN = "unknown"  # the rule that holds where no other does
CRASH_SIGNALS = (-11, -4, -6, -7, -8)  # SEGV, ILL, ABRT, BUS, FPE


class Rule(NamedTuple):
    """One line of the table. It holds where the exit code is one of `codes` (any, if none) and `pattern` is found."""

    name: str
    sentence: Words
    advice: Words
    pattern: str = ""
    codes: tuple[int, ...] = ()


class Cause(NamedTuple):
    """What a failure card says."""

    name: str
    sentence: Words
    advice: Words
    detail: str  # what the engine said last, or what its worker saw; empty where there was nothing
    gave_up: bool  # several attempts in a row came no further

    @property
    def headline(self) -> str:
        """The cause in a few words; what nobody foresaw is told as it was seen."""
        return self.detail if self.detail and self.name == UNKNOWN else str(self.sentence)

    def __str__(self) -> str:
        is_told = self.detail in ("", self.headline)
        return self.headline if is_told else f"{self.headline} ({self.detail})"


RULES = (
    Rule(
        "disk",
        _("The disk was full."),
        _("Free some room where the data lies, and let the run go on: nothing that was saved is lost."),
        r"No space left on device|(?i:the disk is full)|Disk quota exceeded|must stay free",
    ),
    Rule(
        "memory",
        _("Memory ran out."),
        _("Copy the run and lower “tokens at once”, or give the worker a machine with more memory."),
        r"(?i:out of memory|can('t|not) allocate memory|memory did not suffice)|MemoryError|std::bad_alloc",
    ),
    Rule(
        "parent_changed",
        _("The model that the run starts from has changed since the run was planned."),
        _("Put the model's files back as they were, or start a new round, which plans with the model as it is now."),
        r"has changed: its hash is another one",
        (INVALID,),
    ),
    Rule(
        "parent_gone",
        _("The model that the run starts from is not where it was."),
        _("Put the model's directory back, or start a new round from a model that is there."),
        r"there is no model directory",
        (INVALID,),
    ),
    Rule(
        "reward_changed",
        _("The reward model does not give the same scores any more."),
        _("It would judge wrongly. Train a new one with a new round."),
        r"no longer gives its canary texts",
        (INVALID,),
    ),
    Rule(
        "tokens_differ",
        _("Two of the run's models cut text into different tokens, so they cannot work together."),
        _("Models of one project must descend from one base model."),
        r"into different tokens",
        (INVALID,),
    ),
    Rule(
        "too_long",
        _("Too many of the texts are too long for the model."),
        _("Copy the run and shorten “longest answer”, or withdraw the longest prompts and start a new round."),
        r"too long for the model",
        (INVALID,),
    ),
    Rule(
        "nothing_to_learn",
        _("There was nothing that the run could learn from."),
        _("Ask for more labels, or look at what the snapshot left out, and start a new round."),
        r"^no |nothing to learn|the corpus is empty",
        (INVALID,),
    ),
    Rule(
        "records",
        _("A file with labels or prompts cannot be read."),
        _("The line is named below. Start a new round: it freezes the labels anew."),
        r"\.jsonl\b",
        (INVALID,),
    ),
    Rule(
        "model_unusable",
        _("A model that the run needs cannot be used."),
        _("Its files are damaged or not of a kind that is allowed here; the engine's sentence says which."),
        r"the model|the reward model",
        (INVALID,),
    ),
    Rule(
        "config",
        _("A setting of the run does not hold together."),
        _("Copy the run and mend the setting that is named below."),
        r"must |unknown field|is missing|cannot be|needs parents|knows no parents",
        (INVALID,),
    ),
    Rule(
        "input",
        _("Something that the run was given is not valid."),
        _("The engine's sentence says what. Trying again as it is would fail again."),
        codes=(INVALID,),
    ),
    Rule(
        "diverged",
        _("The numbers went wrong: learning did not converge."),
        _("Copy the run and halve the learning rate. The same run would fail at the same place."),
        codes=(DIVERGED,),
    ),
    Rule(
        "person",
        _("The machine could not go on, and a person must act."),
        _("Mend what the engine's sentence names, and let the run go on."),
        codes=(PERSON,),
    ),
    Rule(
        "stall",
        _("The engine stood still and was stopped."),
        _("Often a disk or a device that hangs. Resume; if it stands still again, look at the machine."),
        r"made no progress for",
    ),
    Rule(
        "install",
        _("The engine's programs are not all installed."),
        _("Install what requirements.lock names on the worker's machine, and resume."),
        r"ModuleNotFoundError|ImportError|No module named",
    ),
    Rule(
        "device",
        _("The graphics card or its driver gave an error."),
        _("Look at the worker's machine; a restart of it often helps. Then resume."),
        r"CUDA error|CUDA driver|NCCL|cuDNN|CUBLAS",
    ),
    Rule(
        "killed",
        _("Something killed the engine. Most often the system does, when memory runs out."),
        _("Resume with more memory free on the worker's machine, or copy the run and lower “tokens at once”."),
        codes=(SIGKILL,),
    ),
    Rule(
        "stopped",
        _("Somebody or something outside stopped the engine."),
        _("Resume when the machine is at rest."),
        codes=(SIGTERM, SIGINT),
    ),
    Rule(
        "crash",
        _("The engine crashed inside one of its libraries."),
        _("Resume. If it crashes at the same step again, report it with the log below."),
        codes=CRASH_SIGNALS,
    ),
    Rule(
        "silent",
        _("The worker went silent while it had the run."),
        _("Its machine was switched off, or lost its network. Resume when a worker is back."),
        codes=(SILENCE,),
    ),
    Rule(
        "damaged_output",
        _("What the engine left is missing or damaged."),
        _("Look at the disk of the worker's machine, then resume."),
        r"output of attempt",
    ),
    Rule(
        UNKNOWN,
        _("The engine ended in a way that nobody foresaw."),
        _("The log's last lines say where. Resume once; report it if it happens again."),
    ),
)


def cause_of(run: Run) -> Cause:
    """Why `run` failed or is held."""
    # Who leaves on purpose says why in the last sentence; the log before it may tell of trouble that was overcome.
    log = "" if run.exit_code in DELIBERATE else vitals.log_tail(run)
    said = f"{run.error}\n{log}"
    rule = next(rule for rule in RULES if _holds(rule, run.exit_code, said))
    gave_up = run.status == Run.Status.FAILED and run.exit_code not in (INVALID, DIVERGED)
    return Cause(rule.name, rule.sentence, rule.advice, run.error.partition("\n\n")[0], gave_up)


def _holds(rule: Rule, code: int | None, said: str) -> bool:
    return (not rule.codes or code in rule.codes) and bool(re.search(rule.pattern, said, re.MULTILINE))
