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
    UNREADABLE: gettext_lazy("cannot be checked"),
    NEW: gettext_lazy("not checked yet"),
    CHANGED: gettext_lazy("changed"),
    Status.PENDING: gettext_lazy("waiting for check"),
    Status.RUNNING: gettext_lazy("being checked"),
    Status.ADOPTED: gettext_lazy("can be used"),
    Status.REFUSED: gettext_lazy("cannot be used"),
    Status.FAILED: gettext_lazy("check failed"),
}
TONES = {UNREADABLE: "bad", Status.REFUSED: "bad", Status.FAILED: "bad", CHANGED: "warning", Status.ADOPTED: "good"}
WAITS = {
    NEW: gettext_lazy("A worker checks it shortly after the last file has been written."),
    CHANGED: gettext_lazy(
        "Its files have changed since the last check. It is checked again shortly after the last file has been written."
    ),
    Status.PENDING: gettext_lazy("It is in the queue: a worker checks one folder at a time."),
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
        return _("A worker is checking it.")
    if not folder.has_worker:
        return _("It is waiting for a check, but no worker is running. Start one.")
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
        return _("context of %(length)s tokens, set here") % {"length": length}
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
        said.append(_("Conversations cannot start with an assistant turn. Prompts that do are left out."))
    if about.get("opens_thought"):
        said.append(_("It opens a reasoning block before each answer."))
    return said


def memory(report: Report) -> list[tuple[str, int]]:
    """(stage, bytes that it takes) in the order of the stages."""
    needed = report.get("memory") or {}
    return [(str(stage.label), needed[stage.name]) for stage in stages.DEFINITIONS if needed.get(stage.name)]


# By kind, filled with the finding's numbers and its `field`: the file that it is about, as a rule. A kind is left to
# the engine's own sentence where that quotes what another program said.
SENTENCES = {
    # Files
    "folder_missing": gettext_lazy("The folder no longer exists."),
    "config_missing": gettext_lazy("It has no config.json, so it is not a transformers model folder."),
    "tokenizer_missing": gettext_lazy(
        "It has no tokenizer.json. Load its tokenizer with transformers and save it again to create the file."
    ),
    "weights_missing": gettext_lazy("It has no safetensors weights. Add model.safetensors, or all its shards."),
    "pickles_only": gettext_lazy(
        "Its weights are a pickle (%(field)s), which can run code and is never read. Load the model in a trusted "
        "environment and save it as safetensors."
    ),
    "adapter_alone": gettext_lazy(
        "It contains an adapter without its base model. Merge the adapter into the base model and save the merged "
        "model."
    ),
    "generation_ignored": gettext_lazy(
        "Its generation_config.json is ignored: transformers loads it but refuses to save it with a trained model."
    ),
    "adapter_ignored": gettext_lazy(
        "It contains an adapter, which is not used. Merge it into the weights if it belongs to the model."
    ),
    "own_code": gettext_lazy("%(field)s requires custom model code (auto_map), which is never run here."),
    "quantised": gettext_lazy(
        "Its weights are quantised (see %(field)s) and cannot be trained. Use the unquantised weights."
    ),
    "link_leaves": gettext_lazy(
        "%(field)s is a link to a file outside the folder. Copy the file itself, or remove the link."
    ),
    "name_twice": gettext_lazy(
        "Another file has the same name as %(field)s except for capitalisation. Remove the one that does not belong "
        "there."
    ),
    "no_file": gettext_lazy("%(field)s is not a regular file. Remove it, or replace it with the file."),
    "lfs_pointer": gettext_lazy("%(field)s is only a Git LFS pointer. Fetch the file with “git lfs pull”."),
    "shard_missing": gettext_lazy("%(field)s, a part of the weights, is missing. Copy it too."),
    "index_unusable": gettext_lazy("%(field)s does not say which files hold the weights. Copy the folder again."),
    "weights_unreadable": gettext_lazy("%(field)s is not a safetensors file. Copy it again."),
    "weights_truncated": gettext_lazy("%(field)s has %(size)d bytes, but its header says %(expected)d. Copy it again."),
    "json_too_large": gettext_lazy("%(field)s is too large to be read."),
    "json_too_deep": gettext_lazy("%(field)s is nested too deeply to be read."),
    "json_no_object": gettext_lazy("%(field)s does not contain a JSON object."),
    # Network
    "context_missing": gettext_lazy("Its config does not give a context length. Set it, in tokens."),
    "context_too_long": gettext_lazy(
        "It can process %(limit)d tokens, so its context cannot be %(stated)d. Set a lower number, or none."
    ),
    "context_too_short": gettext_lazy(
        "Its context of %(stated)d tokens is too short for a prompt and its answer. The minimum is %(limit)d."
    ),
    "tokenizer_larger": gettext_lazy(
        "Its tokenizer has %(tokens)d tokens, but its embedding has only %(embedding)d. "
        "Use the tokenizer it was trained with."
    ),
    "rows_stay": gettext_lazy(
        "Its cache cannot drop finished answers, so a batch takes as long as its longest answer."
    ),
    "padding_computed": gettext_lazy(
        "Its attention cannot be replaced, so padding and repeated prompts are computed, too: training takes "
        "longer than with a model like Llama or Qwen2."
    ),
    "weights_unused": gettext_lazy("%(weights)d weights are not used by the model here and are left out."),
    # Numbers
    "selftest_causal": gettext_lazy(
        "It looks ahead: a later token changes the logits of earlier ones (by %(measured).2g; the limit is "
        "%(limit).2g). Use a causal language model."
    ),
    "selftest_padded": gettext_lazy(
        "Its logits for a text depend on the other texts in the batch (by %(measured).2g; the limit is "
        "%(limit).2g), so it cannot be trained here."
    ),
    "selftest_cached": gettext_lazy(
        "Its logits differ with and without the cache (by %(measured).2g; the limit is %(limit).2g), so it "
        "cannot be trained here."
    ),
    "selftest_not_finite": gettext_lazy(
        "Its output is not finite: its weights are damaged or too large for this number format."
    ),
    # Template
    "template_missing": gettext_lazy(
        "It has no chat template, so conversations use a plain format with User: and Assistant:."
    ),
    "template_no_system": gettext_lazy(
        "Its chat template does not support system turns. Prompts that have one are left out."
    ),
    "template_alternates": gettext_lazy(
        "Its chat template requires turns to alternate. Prompts with two turns of the same role in a row are left out."
    ),
    "template_date": gettext_lazy(
        "Its chat template inserts the current date. For this model the date is fixed at %(date)s in every stage."
    ),
    "template_random": gettext_lazy(
        "Its chat template gives different results for the same conversation: it is random."
    ),
    "template_ambiguous": gettext_lazy(
        "It has several chat templates and none is called “default”. Keep only the one for conversations."
    ),
}
