"""The examination of a base model before anybody trains it: `python -m training.rlhf adopt DIRECTORY OUT`.

DIRECTORY is only read. OUT/report.json always says what was found. If the model can be used, OUT/model holds the files
of it that are ever read, with the date in its template fixed and its context stated. Every stage starts from these, so
nothing else in DIRECTORY, and no later change of it, has an effect.
"""

import dataclasses
import datetime
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
from ..json_files import write_json
from ..model_folder import architecture, model_files, weight_files
from ..model_folder.findings import WARN, Findings
from ..model_folder.model_files import ADAPTER, CONFIG, GENERATION, TEMPLATE, TEMPLATE_JSON, TOKENIZER, ModelFiles
from ..networks import selftest
from ..networks.policy import read_policy
from ..networks.scalar_model import ScalarModel, trunk_of
from ..run.manifest import CHUNK, OnBytes, sealed

SCHEMA = 1
REPORT = "report.json"
MODEL = "model"


@dataclasses.dataclass(kw_only=True)
class Report:
    """What is known about a model folder; None where it could not be found out."""

    sha256: str | None = None  # of the files that are read
    files: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)  # names of files that are never read
    architecture: str | None = None
    parameters: int | None = None
    context: int | None = None  # tokens
    context_source: str | None = None
    width: int | None = None  # numbers that the trunk gives for a token
    vocabulary: int | None = None  # token ids that text can have
    template: dict[str, Any] | None = None
    memory: dict[str, int] | None = None  # bytes that a stage needs at most, by stage
    selftest: dict[str, float] | None = None
    findings: Findings = dataclasses.field(default_factory=Findings)

    def as_json(self) -> dict[str, Any]:
        """The content of report.json."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts["findings"] = [finding.as_json() for finding in self.findings]
        return {"schema": SCHEMA, "fits": not self.findings.blocks, **facts}


def adopt(folder: Path, out: Path, context: int | None = None) -> None:
    """Examine a model folder and adopt it. Raises InvalidInput where it cannot be used, with the report written."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / MODEL, ignore_errors=True)
    (out / REPORT).unlink(missing_ok=True)
    report = Report()

    def report_progress(_: int = 0) -> None:
        (out / "alive").touch()

    report_progress()
    try:
        with sealed(out / MODEL, report_progress) as draft:
            _examine(folder, draft, context, report, report_progress)
            if blocks := report.findings.blocks:
                raise blocks[0].refusal()
    except InvalidInput:
        shutil.rmtree(out / f".{MODEL}.draft", ignore_errors=True)
        write_json(out / REPORT, report.as_json(), indent=1)
        raise
    write_json(out / REPORT, report.as_json(), indent=1)


def _examine(folder: Path, draft: Path, context: int | None, report: Report, report_progress: OnBytes) -> None:
    """Fill the report, and `draft` with what is adopted. Every part that can be read is examined."""
    files = model_files.survey(folder)
    report.findings += files.findings
    report.ignored = files.ignored
    report.files = [{"name": name, "bytes": path.stat().st_size} for name, path in sorted(files.read.items())]
    report.sha256 = files.sha256(report_progress)
    if any(name.lower() == ADAPTER for name in files.ignored) and files.weights:
        report.findings.note(
            "the folder contains an adapter, which is not used: merge it into the weights if it belongs to the model",
            kind="adapter_ignored",
            level=WARN,
        )
    _copy_files(files, draft, report, report_progress)
    with report.findings.gathered():
        report.architecture = architecture.parse(draft).model_type if (draft / CONFIG).exists() else None
    if report.architecture:  # without which no tokenizer is found either
        with report.findings.gathered():
            _settle_context(draft, context, report)
        with report.findings.gathered():
            _examine_text(draft, report)
    report_progress(0)
    if files.weights and not any(finding.field in files.weights for finding in files.findings):
        report.parameters = weight_files.parameters([files.read[name] for name in files.weights])
        report.memory = memory.peak_bytes(report.parameters, report.vocabulary or 0)
    if not report.findings.blocks:
        with report.findings.gathered():
            _examine_numbers(draft, report)
    report_progress(0)


def _copy_files(files: ModelFiles, draft: Path, report: Report, report_progress: OnBytes) -> None:
    """Copy every file that is read; weights get a hard link instead where the file system allows it."""
    for name, path in files.read.items():
        if name in files.weights:
            _link_or_copy(path, draft / name, report_progress)
        elif name == TEMPLATE_JSON:
            _write_template(path, draft / TEMPLATE)
        elif name == GENERATION and not _is_usable(path):
            _leave_out_generation(path, report)
        else:
            shutil.copyfile(path, draft / name)


def _leave_out_generation(path: Path, report: Report) -> None:
    """Report it, because whoever downloads the model may miss the file, though nothing here reads it."""
    report.files = [file for file in report.files if file["name"] != GENERATION]
    report.ignored = sorted([*report.ignored, path.name])
    report.findings.note(
        f"{path.name} is ignored: transformers loads it but refuses to save it with a trained model",
        kind="generation_ignored",
    )


def _link_or_copy(path: Path, to: Path, report_progress: OnBytes) -> None:
    try:
        os.link(path, to)
    except OSError:  # another disk, or one without links; copying raises any other error again
        with path.open("rb") as source, to.open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                report_progress(len(chunk))


def _write_template(path: Path, to: Path) -> None:
    """Write the template in a processor's JSON file as the file that tokenizers read."""
    try:
        template = model_files.read_object(path).get("chat_template")
    except InvalidInput:  # which is a finding already
        return
    if isinstance(template, str):
        to.write_text(template, "utf-8")


def _is_usable(path: Path) -> bool:
    """Whether transformers saves a generation config: it refuses to save some that it loads."""
    try:
        GenerationConfig.from_dict(model_files.read_object(path)).validate(strict=True)
    except Exception:  # of any kind, depending on what the file holds
        return False
    return True


def _settle_context(draft: Path, context: int | None, report: Report) -> None:
    """The context of the model; one that its operator states is written into its config."""
    report.context, report.context_source = architecture.context_of(architecture.parse(draft), context)
    if context is not None:
        raw = model_files.read_object(draft / CONFIG)
        write_json(draft / CONFIG, {**raw, architecture.STATED: context}, indent=1)


def _examine_text(draft: Path, report: Report) -> None:
    """Examine tokenizer and template, and write the template as every stage will use it."""
    if not (draft / TOKENIZER).exists():
        return
    tokenizer = _tokenizer(draft)
    template = templates.text_of(tokenizer)
    day = datetime.datetime.now(datetime.UTC).date()
    dated = template is not None and templates.asks_for_date(template)
    if template is None:
        report.findings.note(
            "the model has no chat template, so conversations use a plain format with User: and Assistant:",
            kind="template_missing",
        )
    else:
        tokenizer.chat_template = templates.with_fixed_date(template, day) if dated else template
        report.template = _facts(tokenizer, own=True) | {"date": str(day) if dated else None}
    if dated and template is not None and templates.writes_date(tokenizer, template):
        report.findings.note(
            f"the chat template inserts the current date; for this model it is fixed at {day} in every stage",
            kind="template_date",
            date=str(day),
        )
    chat = Chat(tokenizer, report.context or 1)
    report.vocabulary = chat.vocab_size
    report.template = (report.template or _facts(tokenizer, own=False)) | {"hash": chat.template_hash}
    (draft / TEMPLATE).write_text(str(tokenizer.chat_template), "utf-8")
    _note_limits(report.template, report.findings)


def _facts(tokenizer: PreTrainedTokenizerBase, *, own: bool) -> dict[str, Any]:
    """What the tokenizer's template accepts and writes, for the report."""
    facts = templates.probe(tokenizer, str(tokenizer.chat_template))
    return {"own": own, **facts._asdict(), "date": None, "hash": ""}


def _note_limits(template: Mapping[str, Any], findings: Findings) -> None:
    """Report which prompts a template refuses, once for the model instead of once for each prompt."""
    if not template["system"]:
        findings.note(
            "the chat template does not support system turns: prompts that have one cannot be used",
            kind="template_no_system",
        )
    if template["alternates"]:
        findings.note(
            "the chat template requires turns to alternate: prompts with two turns of the same role in a row cannot"
            " be used",
            kind="template_alternates",
        )


def _tokenizer(draft: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            draft, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # of any kind: tokenizers are written in many ways, and damaged in more
        raise InvalidInput(
            f"the model's tokenizer cannot be read: {architecture.error_text(draft, error)}",
            kind="tokenizer_unreadable",
            field=TOKENIZER,
        ) from error
    return tokenizer


def _examine_numbers(draft: Path, report: Report) -> None:
    """Load the model as every stage will, and run its self-test."""
    try:
        chat = Chat.load(draft)
        policy, unused = read_policy(draft, chat, "auto")
        report.selftest = selftest.check(policy, chat)._asdict()
        report.width = ScalarModel(trunk_of(policy.network), "auto").head.in_features
    except (RuntimeError, MemoryError, OSError) as error:
        if not memory.ran_out(error):
            raise
        raise NeedsPerson(
            "not enough memory to load the model: check it on a worker with more memory",
            kind="memory",
        ) from error
    if unused:
        report.findings.note(
            f"{len(unused)} weights are not used by the model here and are left out: {unused[0]} and so on",
            kind="weights_unused",
            weights=len(unused),
        )
    if not policy.cache_drops_rows:
        report.findings.note(
            "the model's cache cannot drop finished answers, so a batch takes as long as its longest answer",
            kind="rows_stay",
        )
    if not policy.trunk.packs:
        report.findings.note(
            "the model's attention cannot be replaced, so padding and repeated prompts are computed, too: training"
            " takes longer than with a model like Llama or Qwen2",
            kind="padding_computed",
        )
