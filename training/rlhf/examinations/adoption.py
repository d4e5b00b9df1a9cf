"""The examination of a base model before anybody trains it: `python -m training.rlhf adopt DIRECTORY OUT`.

DIRECTORY is only read. OUT/report.json says what was found, whatever it is; OUT/model, where nothing speaks against the
model, holds what of it is read, with its template's date fixed and its context stated. Every stage starts from that,
so nothing else in DIRECTORY, and no later change of it, matters to anybody.
"""

import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from .. import memory
from ..data import templates
from ..data.chat import Chat
from ..exits import InvalidInput, NeedsPerson
from ..model_folder import architecture, model_files, weight_files
from ..model_folder.findings import Findings
from ..model_folder.model_files import ADAPTER, CONFIG, GENERATION, TEMPLATE, TEMPLATE_JSON, TOKENIZER, ModelFiles
from ..networks import networks, selftest
from ..run.manifest import CHUNK, Counted, sealed

SCHEMA = 1
REPORT = "report.json"
MODEL = "model"


@dataclasses.dataclass(kw_only=True)
class Report:
    """What is known of a model folder. `None` where it could not be found out."""

    sha256: str | None = None  # of the files that are read
    files: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)  # names that nobody reads
    architecture: str | None = None
    parameters: int | None = None
    context: int | None = None  # tokens
    context_source: str | None = None
    width: int | None = None  # of what the trunk gives for a token
    vocabulary: int | None = None  # tokens that text can have
    template: dict[str, Any] | None = None
    memory: dict[str, int] | None = None  # bytes at most, by stage
    selftest: dict[str, float] | None = None
    findings: Findings = dataclasses.field(default_factory=Findings)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts["findings"] = [finding.as_json() for finding in self.findings]
        return {"schema": SCHEMA, "fits": not self.findings.blocks, **facts}


def adopt(folder: Path, out: Path, context: int | None = None) -> None:
    """Examine a model folder and, where nothing speaks against it, adopt it. Raises InvalidInput otherwise."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / MODEL, ignore_errors=True)
    (out / REPORT).unlink(missing_ok=True)
    report = Report()

    def touch(_: int = 0) -> None:
        (out / "alive").touch()

    touch()
    try:
        with sealed(out / MODEL, touch) as draft:
            _examine(folder, draft, context, report, touch)
            if blocks := report.findings.blocks:
                raise blocks[0].refusal()
    except InvalidInput:
        shutil.rmtree(out / f".{MODEL}.draft", ignore_errors=True)
        _write_json(out / REPORT, report.as_json())
        raise
    _write_json(out / REPORT, report.as_json())


def _examine(folder: Path, draft: Path, context: int | None, report: Report, touch: Counted) -> None:
    """Fill the report, and `draft` with what is handed on. Every part that can be read is looked at."""
    files = model_files.survey(folder)
    report.findings += files.findings
    report.ignored = files.ignored
    report.files = [{"name": name, "bytes": path.stat().st_size} for name, path in sorted(files.read.items())]
    report.sha256 = files.sha256(touch)
    if any(name.lower() == ADAPTER for name in files.ignored) and files.weights:
        report.findings.note(
            "an adapter lies beside the weights and is not used: merge it into them where it belongs to the model",
            kind="adapter_ignored",
            level="warn",
        )
    _hand_on(files, draft, report, touch)
    with report.findings.gathered():
        report.architecture = architecture.parse(draft).model_type if (draft / CONFIG).exists() else None
    if report.architecture:  # without which no tokenizer is found either
        with report.findings.gathered():
            _settle_context(draft, context, report)
        with report.findings.gathered():
            _examine_text(draft, report)
    touch(0)
    if files.weights and not any(finding.field in files.weights for finding in files.findings):
        report.parameters = weight_files.parameters([files.read[name] for name in files.weights])
        report.memory = memory.at_most(report.parameters, report.vocabulary or 0)
    if not report.findings.blocks:
        with report.findings.gathered():
            _examine_numbers(draft, report)
    touch(0)


def _hand_on(files: ModelFiles, draft: Path, report: Report, touch: Counted) -> None:
    """Everything that is read: weights by another name of the same bytes where the disk can do that, else a copy."""
    for name, path in files.read.items():
        if name in files.weights:
            _link_or_copy(path, draft / name, touch)
        elif name == TEMPLATE_JSON:
            _write_template(path, draft / TEMPLATE)
        elif name == GENERATION and not _is_usable(path):
            _leave_generation_out(path, report)
        else:
            shutil.copyfile(path, draft / name)


def _leave_generation_out(path: Path, report: Report) -> None:
    """Say so: whoever downloads the model may miss it, though nothing here reads it."""
    report.files = [file for file in report.files if file["name"] != GENERATION]
    report.ignored = sorted([*report.ignored, path.name])
    report.findings.note(
        f"{path.name} is left out: transformers loads it, but refuses to save it with a model that was trained",
        kind="generation_ignored",
    )


def _link_or_copy(path: Path, to: Path, touch: Counted) -> None:
    try:
        os.link(path, to)
    except OSError:  # another disk, or one without links; a copy says what else is wrong
        with path.open("rb") as source, to.open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                touch(len(chunk))


def _write_template(path: Path, to: Path) -> None:
    """A template in the JSON file that processors have, as the file that tokenizers read."""
    try:
        template = model_files.read_object(path).get("chat_template")
    except InvalidInput:  # which is a finding already
        return
    if isinstance(template, str):
        to.write_text(template, "utf-8")


def _is_usable(path: Path) -> bool:
    """Whether how a model is used elsewhere can be kept with it: transformers refuses to save some that it loads."""
    try:
        GenerationConfig.from_dict(model_files.read_object(path)).validate(strict=True)
    except Exception:  # of any kind: it is a program's check of somebody else's file
        return False
    return True


def _settle_context(draft: Path, context: int | None, report: Report) -> None:
    """How much the model reads; what its operator states is kept with it."""
    report.context, report.context_source = architecture.context_of(architecture.parse(draft), context)
    if context is not None:
        raw = model_files.read_object(draft / CONFIG)
        _write_json(draft / CONFIG, {**raw, architecture.STATED: context})


def _examine_text(draft: Path, report: Report) -> None:
    """The tokenizer and the template; the latter is handed on as conversations will be written."""
    if not (draft / TOKENIZER).exists():
        return
    tokenizer = _tokenizer(draft)
    template = templates.text_of(tokenizer)
    day = datetime.datetime.now(datetime.UTC).date()
    dated = template is not None and templates.asks_for_date(template)
    if template is None:
        report.findings.note(
            "the model has no chat template, so conversations are written plainly, as User: and Assistant:",
            kind="template_missing",
        )
    else:
        tokenizer.chat_template = templates.fixed(template, day) if dated else template
        report.template = _facts(tokenizer, own=True) | {"date": str(day) if dated else None}
    if dated and template is not None and templates.writes_date(tokenizer, template):
        report.findings.note(
            f"the chat template writes today's date; for this model it is {day} from now on, in every stage",
            kind="template_date",
            date=str(day),
        )
    chat = Chat(tokenizer, report.context or 1)
    report.vocabulary = chat.vocab_size
    report.template = (report.template or _facts(tokenizer, own=False)) | {"hash": chat.template_hash}
    (draft / TEMPLATE).write_text(str(tokenizer.chat_template), "utf-8")
    _note_limits(report.template, report.findings)


def _facts(tokenizer: PreTrainedTokenizerBase, *, own: bool) -> dict[str, Any]:
    """What the tokenizer's template takes and writes, as it is reported."""
    facts = templates.probe(tokenizer, str(tokenizer.chat_template))
    return {"own": own, **facts._asdict(), "date": None, "hash": ""}


def _note_limits(template: Mapping[str, Any], findings: Findings) -> None:
    """Say which prompts a template does not take, once for the model and not for every prompt."""
    if not template["system"]:
        findings.note(
            "the chat template takes no system turn, or leaves out what it says: prompts that have one cannot be used",
            kind="template_no_system",
        )
    if template["alternates"]:
        findings.note(
            "the chat template wants questions and answers to alternate: prompts with two turns of one role in a row"
            " cannot be used",
            kind="template_alternates",
        )


def _tokenizer(draft: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            draft, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # of any kind: tokenizers are written in many ways, and damaged in more
        raise InvalidInput(
            f"the model's tokenizer cannot be read: {architecture.said_of(draft, error)}",
            kind="tokenizer_unreadable",
            field=TOKENIZER,
        ) from error
    return tokenizer


def _examine_numbers(draft: Path, report: Report) -> None:
    """Load the model as every stage will, and let it prove its numbers."""
    try:
        chat = Chat.load(draft)
        policy, unused = networks.read_policy(draft, chat, "auto")
        report.selftest = selftest.check(policy, chat)._asdict()
        report.width = networks.ScalarModel(networks.trunk_of(policy.network), "auto").head.in_features
    except (RuntimeError, MemoryError, OSError) as error:
        if not memory.ran_out(error):
            raise
        raise NeedsPerson(
            "the memory of this machine does not suffice to load the model: let a larger worker examine it",
            kind="memory",
        ) from error
    if unused:
        report.findings.note(
            f"{len(unused)} weights belong to no part of the model as it is used here and are left out:"
            f" {unused[0]} and so on",
            kind="weights_unused",
            weights=len(unused),
        )
    if not policy.rows_leave:
        report.findings.note(
            "the model's cache does not let go of single answers, so a batch is sampled as long as its longest answer",
            kind="rows_stay",
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=1), "utf-8")
    draft.replace(path)
