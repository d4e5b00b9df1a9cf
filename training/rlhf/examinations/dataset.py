"""The examination of what a round would train on, before it runs: `python -m training.rlhf examine DIR`.

Read are DIR/request.json ({"models": {name: path}, "stages": {stage: {"model": name, "max_response": tokens}}}) and
DIR/data/*.jsonl; written is DIR/examination.json: findings, each with its numbers, and examples as the engine would
see them. What an example marks as trained comes from the same masks that training uses, and from nothing else.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from ..config import STAGES, RunConfig
from ..data.batching import Batch, collate, micro_batches
from ..data.chat import BREAK, PROBE, THINK_START, Chat, Rendered, Written
from ..data.dataset_filter import NAMED, FilteredRecords, answers_of, cut_to_length, filter_records
from ..data.records import (
    Demonstration,
    Prompt,
    RankedSlate,
    drops_too_many,
    prompt_of,
    read_demonstrations,
    read_prompts,
    read_rankings,
    untied_pairs,
)
from ..exits import InvalidInput
from ..json_files import write_json
from ..model_folder.findings import BLOCK, LEVELS, NOTE, WARN

T = TypeVar("T")

EXAMPLES = 3
NAMED_PIECES, LONGEST_PIECE = 5, 20  # of what the tokenizer cannot write: so many, and characters of each
READ, TRAINED, SCORED, END = "read", "trained", "scored", "end"  # what becomes of a piece of text
ABOUT_THE_TEMPLATE = ("thought", "two_ways")  # kinds reported once, however many stages and records they show in

Example = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RecordFinding:
    """Something about the records that a person should know before the round; a `block` would spoil it."""

    level: str
    kind: str
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """A stage to be examined: how its model writes conversations, and how long an answer may be."""

    stage: str
    file: Path  # its records
    chat: Chat
    max_response: int

    def read(self, reader: Callable[[Path], list[T]]) -> list[T]:
        """The records, none where there is no such file."""
        return reader(self.file) if self.file.exists() else []


def examine(directory: Path) -> None:
    """Examine what DIR/request.json asks for, and write DIR/examination.json. Raises InvalidInput for bad records."""
    request = json.loads((directory / "request.json").read_text("utf-8"))
    result = {"findings": [], "examples": {}} | _examination(request, directory / "data")
    write_json(directory / "examination.json", result, ensure_ascii=False, default=dataclasses.asdict)


def _examination(request: dict[str, Any], data: Path) -> dict[str, Any]:
    try:
        chats = {name: Chat.load(Path(path)) for name, path in request["models"].items()}
    except InvalidInput as refusal:
        return {"findings": [RecordFinding(level=BLOCK, kind="model_refused", numbers=refusal.as_json())]}
    findings, examples = list(template_findings(chats)), {}
    for name, options in request["stages"].items():
        if not (records := STAGES[name].examined_records):
            continue
        file, chat = data / f"{records}.jsonl", chats[options["model"]]
        stage = StageRequest(stage=name, file=file, chat=chat, max_response=options["max_response"])
        found, examples[name] = EXAMINERS[records](stage)
        findings += found
    return {"findings": merged(findings), "examples": examples}


def merged(findings: Iterable[RecordFinding]) -> list[RecordFinding]:
    """What is true of several stages becomes one finding, which names them all and has the gravest level."""
    by_identity: dict[str, RecordFinding] = {}
    for one in findings:
        stages = one.numbers.get("stages", [])
        identity = json.dumps([one.kind, one.numbers | {"stages": []}], sort_keys=True)
        if one.kind in ABOUT_THE_TEMPLATE:
            identity = one.kind
        if before := by_identity.get(identity):
            numbers = before.numbers | ({"stages": [*before.numbers["stages"], *stages]} if stages else {})
            level = min(before.level, one.level, key=LEVELS.index)
            by_identity[identity] = RecordFinding(level=level, kind=one.kind, numbers=numbers)
        else:
            by_identity[identity] = one
    return list(by_identity.values())


def template_findings(chats: dict[str, Chat]) -> Iterator[RecordFinding]:
    """All models of a round must turn a conversation into the same ids."""
    hashes: dict[str, list[str]] = {}
    for name, chat in chats.items():
        hashes.setdefault(chat.template_hash, []).append(name)
    if len(hashes) > 1:
        names = [" = ".join(group) for group in hashes.values()]
        yield RecordFinding(level=BLOCK, kind="templates_differ", numbers={"models": names})


def examine_demonstrations(request: StageRequest) -> tuple[list[RecordFinding], list[Example]]:
    """SFT: which tokens of which answers are trained."""
    chat, rows = request.chat, request.read(read_demonstrations)
    kept = filter_records(rows, chat, request.max_response)
    rendered = cut_to_length(kept, chat, request.max_response)
    written = [chat.written(row.messages, row.response) for row in kept.used]
    findings = [
        *_left_out(request, kept, "demonstrations"),
        *_lost(request, kept.used, "demonstrations"),
        *_empty(zip(kept.used, rendered.used, strict=True), chat),
        *_rewritten(zip(kept.used, written, strict=True)),
        *_two_ways(written),
        *_thought(chat),
        *_cut(rendered.counts["cut"], len(rows)),
    ]
    if not kept.used:
        return findings, []
    findings += end_tokens(_batches(rendered.used, chat), chat)
    batch = collate(rendered.used[:EXAMPLES], chat.pad_id)
    shown = [{"id": row.id, "pieces": pieces(batch, number, chat)} for number, row in enumerate(kept.used[:EXAMPLES])]
    return findings, shown


def examine_rankings(request: StageRequest) -> tuple[list[RecordFinding], list[Example]]:
    """Reward model: which answers are compared, and how many pairs a ranking gives."""
    chat, rows = request.chat, request.read(read_rankings)
    kept = filter_records(rows, chat, request.max_response)
    pairs = sum(len(untied_pairs(one.places)) for row in kept.used for one in row.judgements)
    findings = [*_left_out(request, kept, "rankings"), *_lost(request, kept.used, "rankings")]
    # PROBE, not the answers themselves: a thought in one says nothing about how the template writes the prompt.
    findings += [*_two_ways(chat.written(row.messages, PROBE) for row in kept.used), *_thought(chat)]
    if rows:
        numbers = {"pairs": pairs, "stages": [request.stage]}
        findings.append(RecordFinding(level=NOTE if pairs else BLOCK, kind="pairs", numbers=numbers))
    return findings, [_slate(row, chat) for row in kept.used[:EXAMPLES]]


def examine_prompts(request: StageRequest) -> tuple[list[RecordFinding], list[Example]]:
    """Stages in which a policy writes: what it reads, and where its answer begins."""
    rows: list[Prompt] = request.read(read_prompts)
    kept = filter_records(rows, request.chat, request.max_response)
    shown = [_prompt(row, request) for row in kept.used[:EXAMPLES]]
    return [*_left_out(request, kept, "prompts"), *_lost(request, kept.used, "prompts")], shown


EXAMINERS: dict[str, Callable[[StageRequest], tuple[list[RecordFinding], list[Example]]]] = {  # by the records
    "demonstrations": examine_demonstrations,
    "rankings": examine_rankings,
    "watcher_rankings": examine_rankings,
    "prompts": examine_prompts,
    "heldout_prompts": examine_prompts,
}


def end_tokens(batches: Iterable[tuple[list[Rendered], Batch]], chat: Chat) -> Iterator[RecordFinding]:
    """Whether the id that ends an answer is trained, even where it is the padding id, too."""
    trained = [
        bool(batch.response[row, one.length - 1])
        for rendered, batch in batches
        for row, one in enumerate(rendered)
        if one.response[-1:] == [chat.eos_id]
    ]
    numbers = {"token": _text(chat, [chat.eos_id]), "lost": trained.count(False), "of": len(trained)}
    if not all(trained):
        yield RecordFinding(level=BLOCK, kind="end_not_trained", numbers=numbers)
    elif trained and chat.pad_id == chat.eos_id:
        yield RecordFinding(level=NOTE, kind="pad_is_end", numbers=numbers)


def pieces(batch: Batch, row: int, chat: Chat) -> list[tuple[str, str]]:
    """The text of a row in runs of what is read, what trains, and the id that ends the answer."""
    real = batch.attention[row]
    tokens, trained = batch.tokens[row][real].tolist(), batch.response[row][real].tolist()
    last = len(tokens) - 1
    kinds = [
        END if trains and index == last and token == chat.eos_id else TRAINED if trains else READ
        for index, (token, trains) in enumerate(zip(tokens, trained, strict=True))
    ]
    runs = groupby(zip(kinds, tokens, strict=True), key=lambda pair: pair[0])
    return [(kind, _text(chat, [token for _, token in run])) for kind, run in runs]


def _batches(rendered: Sequence[Rendered], chat: Chat) -> Iterator[tuple[list[Rendered], Batch]]:
    """Batches as large as a stage's: thousands of records in one would fill the memory."""
    for indices in micro_batches([one.length for one in rendered], RunConfig.batch_tokens):
        group = [rendered[index] for index in indices]
        yield group, collate(group, chat.pad_id)


def _slate(row: RankedSlate, chat: Chat) -> Example:
    rendered = [chat.rendered(row.messages, one.text, one.stopped) for one in row.completions]
    batch = collate(rendered, chat.pad_id)
    whole = [pieces(batch, number, chat) for number in range(len(rendered))]
    judged = [{"places": one.places, "pairs": len(untied_pairs(one.places))} for one in row.judgements]
    answers = [[(SCORED if kind == TRAINED else kind, text) for kind, text in shown[1:]] for shown in whole]
    return {"id": row.slate_id, "pieces": whole[0][:1], "answers": answers, "judgements": judged}


def _prompt(row: Prompt, request: StageRequest) -> Example:
    ending = _text(request.chat, [request.chat.eos_id])
    shown = [(READ, _text(request.chat, request.chat.prompt_ids(row.messages)))]
    return {"id": row.id, "pieces": shown, "room": request.max_response, "ending": ending}


def _text(chat: Chat, ids: list[int]) -> str:
    """The text of token ids, special tokens included."""
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _left_out(request: StageRequest, kept: FilteredRecords[Any], what: str) -> Iterator[RecordFinding]:
    """Records that the model cannot read, too long ones and refused ones; all of them together must be few."""
    total = len(kept.used) + kept.left_out
    level = BLOCK if drops_too_many(len(kept.used), kept.left_out) else WARN
    counted = {"stages": [request.stage], "of": total, "what": what}
    if number := kept.counts["too_long"]:
        numbers = {"dropped": number, "context": request.chat.context, "ids": kept.named["too_long"]}
        yield RecordFinding(level=level, kind="too_long", numbers=counted | numbers)
    if number := kept.counts["refused"]:
        numbers = {"dropped": number, "reason": kept.reason, "ids": kept.named["refused"]}
        yield RecordFinding(level=level, kind="refused", numbers=counted | numbers)


def _lost(
    request: StageRequest, rows: Sequence[Demonstration | Prompt | RankedSlate], what: str
) -> Iterator[RecordFinding]:
    """Records of which the model would not read every character, nor learn it."""
    pieces: set[str] = set()
    ids = []
    for row in rows:
        texts = [*(turn["content"] for turn in row.messages), *answers_of(row)]
        if lost := set().union(*map(request.chat.lost, texts)):
            pieces |= lost
            ids.append(prompt_of(row))
    if ids:
        counted = {"stages": [request.stage], "what": what, "count": len(ids), "of": len(rows), "ids": ids[:NAMED]}
        some = [piece[:LONGEST_PIECE] for piece in sorted(pieces)[:NAMED_PIECES]]
        yield RecordFinding(level=WARN, kind="lost_text", numbers=counted | {"pieces": some})


def _empty(kept: Iterable[tuple[Demonstration, Rendered]], chat: Chat) -> Iterator[RecordFinding]:
    """Answers that hold nothing but their end would teach the model to say nothing."""
    empty = [row.id for row, one in kept if not chat.decode(one.response).strip()]
    if empty:
        yield RecordFinding(
            level=BLOCK,
            kind="empty_answer",
            numbers={"what": "demonstrations", "count": len(empty), "ids": empty[:NAMED]},
        )


def _rewritten(rows: Iterable[tuple[Demonstration, Written]]) -> Iterator[RecordFinding]:
    """Answers whose words the template changes: they train as it writes them, and nobody wrote that."""
    changed = [
        row.id for row, written in rows if not _without_space(written.answer).endswith(_without_space(row.response))
    ]
    if changed:
        numbers = {"what": "demonstrations", "count": len(changed), "ids": changed[:NAMED]}
        yield RecordFinding(level=WARN, kind="template_rewrites", numbers=numbers)


def _without_space(text: str) -> str:
    """The text without white space and BREAK."""
    return "".join(text.replace(BREAK, "").split())


def _two_ways(written: Iterable[Written]) -> Iterator[RecordFinding]:
    """A template that writes a prompt otherwise once it is answered: what is sampled decides what trains."""
    if not all(one.as_template for one in written):
        yield RecordFinding(level=NOTE, kind="two_ways")


def _thought(chat: Chat) -> Iterator[RecordFinding]:
    """Whether the model thinks before it answers, and so what answers without a thought follow."""
    if chat.opened_thought or THINK_START in chat.answer_prefix:
        yield RecordFinding(level=NOTE, kind="thought", numbers={"is_opened": bool(chat.opened_thought)})


def _cut(number: int, total: int) -> Iterator[RecordFinding]:
    if number:
        yield RecordFinding(level=WARN, kind="cut", numbers={"cut": number, "of": total})
