"""What is known of a folder of BASE_MODELS_DIR, in words. What a finding means is said in training/rlhf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from training import stages
from training.models import Adoption
from training.rlhf.model_folder.findings import BLOCK, LEVELS, NOTE, WARN

if TYPE_CHECKING:
    from training.services.registry.adoptions import Folder

Report = Mapping[str, Any]
Numbers = Mapping[str, Any]

Status = Adoption.Status
# The states of a folder besides the statuses of its newest examination.
UNREADABLE, NEW, CHANGED = "unreadable", "new", "changed"
STATES = {
    UNREADABLE: gettext_lazy("cannot be examined"),
    NEW: gettext_lazy("not examined yet"),
    CHANGED: gettext_lazy("changed"),
    Status.PENDING: gettext_lazy("waiting to be examined"),
    Status.RUNNING: gettext_lazy("being examined"),
    Status.ADOPTED: gettext_lazy("can be used"),
    Status.REFUSED: gettext_lazy("cannot be used"),
    Status.FAILED: gettext_lazy("could not be examined"),
}
TONES = {UNREADABLE: "bad", Status.REFUSED: "bad", Status.FAILED: "bad", CHANGED: "warning", Status.ADOPTED: "good"}
WAITS = {
    NEW: gettext_lazy("A worker examines it as soon as nothing has been written there for a moment."),
    CHANGED: gettext_lazy(
        "Its files have changed since it was examined. It is examined again once nothing is written there."
    ),
    Status.PENDING: gettext_lazy("Its turn comes: a worker examines one folder after the other."),
}
LEVEL_LABELS = {BLOCK: gettext_lazy("blocks"), WARN: gettext_lazy("warning"), NOTE: gettext_lazy("note")}


class Remark(NamedTuple):
    """A finding for a page."""

    level: str
    text: str

    @property
    def label(self) -> str:
        return str(LEVEL_LABELS.get(self.level, self.level))


def why_not(folder: Folder) -> str:
    """Why no project can use `folder` now."""
    if folder.obstacle:
        return folder.obstacle
    if folder.latest and folder.state in (Status.REFUSED, Status.FAILED):
        return folder.latest.error
    if folder.state == Status.RUNNING:
        return _("A worker is examining it.")
    if not folder.has_worker:
        return _("It waits to be examined, and no worker is running: start one.")
    return str(WAITS.get(folder.state, WAITS[NEW]))


def findings(report: Report) -> list[Remark]:
    """What the engine found, what blocks first."""
    found = [Remark(finding["level"], sentence(finding)) for finding in report.get("findings", [])]
    return sorted(found, key=lambda remark: LEVELS.index(remark.level) if remark.level in LEVELS else len(LEVELS))


def refusal(report: Report) -> str:
    """What keeps the folder from being used; empty where nothing does."""
    return " ".join(remark.text for remark in findings(report) if remark.level == BLOCK)


def sentence(finding: Mapping[str, Any]) -> str:
    """The finding in words: from the table, else the engine's own, which names what only it has seen."""
    numbers = {"field": finding.get("field", ""), **finding.get("numbers", {})}
    try:
        return str(SENTENCES[finding["kind"]]) % numbers
    except (KeyError, TypeError, ValueError):  # a kind without words of its own, or an engine that counts other things
        return str(finding.get("sentence") or finding["kind"])


def facts(report: Report) -> str:
    """The model in a line: what somebody looks at who chooses one."""
    parts = [parameters(report.get("parameters")), context(report), template(report)]
    return " · ".join(part for part in parts if part)


def parameters(number: int | None) -> str:
    """How large the model is: 1.1 billion parameters."""
    if not number:
        return ""
    if number >= 1_000_000_000:
        return _("%(number).1f billion parameters") % {"number": number / 1e9}
    if number >= 1_000_000:
        return _("%(number).0f million parameters") % {"number": number / 1e6}
    said = ngettext("%(number)s parameter", "%(number)s parameters", number)
    return said % {"number": number_format(number, force_grouping=True)}


def context(report: Report) -> str:
    """How much the model reads at once."""
    if not report.get("context"):
        return _("context unknown")
    length = number_format(report["context"], force_grouping=True)
    if report.get("context_source") == "operator":
        return _("context of %(length)s tokens, as stated here") % {"length": length}
    return _("context of %(length)s tokens") % {"length": length}


def template(report: Report) -> str:
    """Whether the model brings its own chat template."""
    if not report.get("template"):
        return ""
    return _("own chat template") if report["template"].get("own") else _("plain chat template")


def template_notes(report: Report) -> list[str]:
    """What the chat template does that is no finding, a sentence each."""
    about = report.get("template") or {}
    said = []
    if about.get("begins_with_assistant") is False:
        said.append(_("A conversation must not begin with the assistant: prompts that do are left out."))
    if about.get("opens_thought"):
        said.append(_("It opens a thought before each answer."))
    return said


def memory(report: Report) -> list[tuple[str, int]]:
    """(stage, bytes that it takes) in the order of the stages."""
    needed = report.get("memory") or {}
    return [(str(stage.label), needed[stage.name]) for stage in stages.DEFINITIONS if needed.get(stage.name)]


# By kind, filled with the finding's numbers and its `field`: the file that it is about, as a rule. A kind is left to
# the engine's own sentence where that quotes what another program said.
SENTENCES = {
    # Files
    "folder_missing": gettext_lazy("The folder is gone."),
    "config_missing": gettext_lazy("It has no config.json: this is not the folder of a transformers model."),
    "tokenizer_missing": gettext_lazy(
        "It has no tokenizer.json. Load its tokenizer with transformers and save it again, which writes the file."
    ),
    "weights_missing": gettext_lazy("It has no weights as safetensors: bring model.safetensors, or all its parts."),
    "pickles_only": gettext_lazy(
        "Its weights are a pickle (%(field)s), which can run code and is never read. Load the model where you trust "
        "it, and save it as safetensors."
    ),
    "adapter_alone": gettext_lazy(
        "It holds an adapter without its base model. Merge it into the base model, and save the whole."
    ),
    "generation_ignored": gettext_lazy(
        "Its generation_config.json is left out: transformers loads it, but refuses to save it with a trained model."
    ),
    "adapter_ignored": gettext_lazy(
        "An adapter lies beside the weights and is not used. Merge it into them if it belongs to the model."
    ),
    "own_code": gettext_lazy("%(field)s asks for code of the model's own (auto_map), which is never run here."),
    "quantised": gettext_lazy(
        "Its weights are quantised (see %(field)s), and such weights cannot be trained. Bring the full ones."
    ),
    "link_leaves": gettext_lazy(
        "%(field)s is a link that leads out of the folder. Put the file itself there, or remove the link."
    ),
    "name_twice": gettext_lazy(
        "Another file is called %(field)s but for capital letters. Remove the one that does not belong there."
    ),
    "no_file": gettext_lazy("%(field)s is no file. Remove it, or put the file there."),
    "lfs_pointer": gettext_lazy("%(field)s is only a pointer of git-lfs. Fetch the file with “git lfs pull”."),
    "shard_missing": gettext_lazy("%(field)s is missing, a part of the weights. Copy it, too."),
    "index_unusable": gettext_lazy("%(field)s does not say which files hold the weights. Copy the folder again."),
    "weights_unreadable": gettext_lazy("%(field)s is no file of safetensors. Copy it again."),
    "weights_truncated": gettext_lazy(
        "%(field)s has %(size)d bytes where its header speaks of %(expected)d. Copy it again."
    ),
    "json_too_large": gettext_lazy("%(field)s is too large to be read."),
    "json_too_deep": gettext_lazy("%(field)s is nested too deeply to be read."),
    "json_no_object": gettext_lazy("%(field)s holds no JSON object, so it says nothing of the model."),
    # Network
    "context_missing": gettext_lazy("Its config does not say how long its context is. State it, in tokens."),
    "context_too_long": gettext_lazy(
        "It can read %(limit)d tokens, so its context cannot be %(stated)d. State less, or nothing."
    ),
    "context_too_short": gettext_lazy(
        "Its context of %(stated)d tokens holds no question with its answer: %(limit)d are the least."
    ),
    "tokenizer_larger": gettext_lazy(
        "Its tokenizer has %(tokens)d tokens, but the network knows %(embedding)d of them. "
        "Bring the tokenizer that it was trained with."
    ),
    "rows_stay": gettext_lazy(
        "Its cache does not let go of single answers, so writing many takes as long as the longest of them."
    ),
    "weights_unused": gettext_lazy(
        "%(weights)d weights belong to no part of the model as it is used here, and are left out."
    ),
    # Numbers
    "selftest_causal": gettext_lazy(
        "It looks ahead: a later token changes what it says of earlier ones (by %(measured).2g, %(limit).2g at most). "
        "Bring a causal language model."
    ),
    "selftest_padded": gettext_lazy(
        "What it says of a text depends on the texts beside it (by %(measured).2g, %(limit).2g at most), "
        "so it cannot be trained here."
    ),
    "selftest_cached": gettext_lazy(
        "What it writes with its cache is not what it computes when it learns (it differs by %(measured).2g, "
        "%(limit).2g at most), so it cannot be trained here."
    ),
    "selftest_not_finite": gettext_lazy(
        "What it computes is not finite: its weights are damaged, or too large for this number format."
    ),
    # Template
    "template_missing": gettext_lazy(
        "It has no chat template, so conversations are written plainly, as User: and Assistant:."
    ),
    "template_no_system": gettext_lazy("Its chat template takes no system turn: prompts that have one are left out."),
    "template_alternates": gettext_lazy(
        "Its chat template wants turns to alternate: prompts with two turns of one role in a row are left out."
    ),
    "template_date": gettext_lazy(
        "Its chat template writes today's date. For this model that is %(date)s from now on, in every stage."
    ),
    "template_random": gettext_lazy("Its chat template writes the same conversation in two ways: it draws at random."),
    "template_ambiguous": gettext_lazy(
        "It has several chat templates and none that is called default. Keep the one for conversations."
    ),
}
