"""The files of a model folder: which of them are read, and why a folder cannot be used. Imports no torch.

Only files whose names are listed here are ever opened, hashed or copied. A folder from elsewhere may hold code,
pickles, links to other folders and much more; none of it matters as long as it is not read.
"""

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..exits import InvalidInput
from ..run import manifest
from . import weight_files
from .findings import Finding, block
from .weight_files import INDEX, SUFFIX, WEIGHTS

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
TEMPLATE, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
TEXTS = frozenset({TEMPLATE, "merges.txt", "vocab.txt"})
JSONS = frozenset(
    {
        CONFIG,
        GENERATION,
        TOKENIZER,
        TEMPLATE_JSON,
        INDEX,
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
    }
)
ADAPTER = "adapter_config.json"  # never read; but a folder with no model beside it is an adapter alone
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
POINTER = b"version https://git-lfs.github.com/spec/"
LARGEST_JSON = {TOKENIZER: 256_000_000, INDEX: 64_000_000, "vocab.json": 64_000_000}  # bytes
LARGEST_OTHER = 8_000_000  # bytes, of any other text file


class ModelFiles(NamedTuple):
    """The files of a model folder, and what is wrong with them."""

    read: dict[str, Path]  # by the name under which it is copied; links are resolved
    ignored: list[str]  # names as in the folder
    findings: list[Finding]

    @property
    def weights(self) -> list[str]:
        """Names of the files that hold weights."""
        return sorted(name for name in self.read if name.endswith(SUFFIX))

    def sha256(self, on_bytes: manifest.OnBytes = manifest.ignore_bytes) -> str:
        """One hash over what is read, whatever else lies in the folder."""
        return manifest.hash_of(manifest.hashes_of(self.read, on_bytes))


def survey(folder: Path) -> ModelFiles:
    """Check every name in a model folder, and the contents of the files that would be read."""
    if not folder.is_dir():
        return ModelFiles({}, [], [no_folder(folder)])
    folder = folder.resolve()
    findings: list[Finding] = []
    listed, ignored = _listed(folder, findings)
    read = {name: path for name, path in listed.items() if not name.endswith(SUFFIX) and _is_sound(path, findings)}
    if TEMPLATE in read and TEMPLATE_JSON in read:
        ignored.append(read.pop(TEMPLATE_JSON).name)
    index = read.get(INDEX) if WEIGHTS not in listed else None
    wanted = weight_files.named_by(index, findings) if index else [WEIGHTS]
    for name in wanted:
        path = listed.pop(name.lower(), None)
        if path is None and index and not any(finding.field.lower() == name.lower() for finding in findings):
            sentence = f"{INDEX} names {name}, which is not in {folder.name}"
            findings.append(block(sentence, kind="shard_missing", field=name))
        elif path is not None and _is_sound(path, findings) and weight_files.is_whole(path, findings):
            read[name] = path
    ignored += [path.name for name, path in listed.items() if name.endswith(SUFFIX)]
    findings += _missing(folder, read, ignored, findings)
    findings += _own_code(read)
    files = ModelFiles({name: path.resolve() for name, path in read.items()}, sorted(ignored), findings)
    findings += weight_files.quantisation_findings(files.read.get(CONFIG), [files.read[name] for name in files.weights])
    return files


def no_folder(folder: Path) -> Finding:
    """What is said where the model directory is gone."""
    return block(f"there is no model directory {folder.name}", kind="folder_missing")


def _listed(folder: Path, findings: list[Finding]) -> tuple[dict[str, Path], list[str]]:
    """The files that may be read, by the lower case of their names, and the names of all others."""
    listed: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if leaves := _leaves(path, folder):
            findings.append(leaves)
        elif name not in JSONS | TEXTS and not name.endswith(SUFFIX):
            ignored.append(path.name)
        elif name in listed:
            findings.append(_twice(listed[name], path))
        else:
            listed[name] = path
    return listed, ignored


def require(folder: Path) -> ModelFiles:
    """The files of a folder that a stage loads a model from. Raises InvalidInput for the first thing that is wrong."""
    files = survey(folder)
    for finding in files.findings:
        raise finding.refusal()
    return files


def read_json(path: Path) -> Any:
    """The content of a JSON file of a model. Raises InvalidInput where it cannot be read."""
    try:
        if path.stat().st_size > LARGEST_JSON.get(path.name.lower(), LARGEST_OTHER):
            raise InvalidInput(f"{path.name} is too large to be read", kind="json_too_large", field=path.name)
        return json.loads(path.read_text("utf-8-sig"))
    except RecursionError:
        raise InvalidInput(
            f"{path.name} is nested too deeply to be read", kind="json_too_deep", field=path.name
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error}", kind="json_unreadable", field=path.name) from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InvalidInput where it holds anything else."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise InvalidInput(f"{path.name} does not contain a JSON object", kind="json_no_object", field=path.name)
    return raw


def _leaves(path: Path, folder: Path) -> Finding | None:
    """A finding where `path` is a link out of the folder, whatever its name."""
    if not manifest.leads_out(path, folder):
        return None
    return block(
        f"{path.name} is a link to a file outside the folder: copy the file itself, or remove the link",
        kind="link_leaves",
        field=path.name,
    )


def _twice(first: Path, second: Path) -> Finding:
    return block(
        f"{first.name} and {second.name} differ only in capitalisation: remove the one that does not belong here",
        kind="name_twice",
        field=second.name,
    )


def _is_sound(path: Path, findings: list[Finding]) -> bool:
    """Whether a file that would be read is a readable file and no git-lfs pointer. Adds to `findings` if not."""
    fault = _fault(path)
    if fault:
        findings.append(fault)
    return fault is None


def _fault(path: Path) -> Finding | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return block(
                f"{path.name} is not a regular file: remove it, or replace it with the file",
                kind="no_file",
                field=path.name,
            )
        with path.open("rb") as source:
            beginning = source.read(len(POINTER))
    except OSError as error:
        return block(f"{path.name} cannot be read: {error.strerror}", kind="unreadable", field=path.name)
    if beginning == POINTER:
        return block(
            f"{path.name} is only a Git LFS pointer: fetch the file with `git lfs pull`",
            kind="lfs_pointer",
            field=path.name,
        )
    return None


def _missing(folder: Path, read: Mapping[str, Path], ignored: list[str], findings: list[Finding]) -> Iterator[Finding]:
    """What a model needs and the folder lacks, except files that a finding names already."""
    reported = [finding.field.lower() for finding in findings]
    is_adapter = ADAPTER in map(str.lower, ignored)
    if CONFIG not in read and CONFIG not in reported and not is_adapter:
        yield block(
            f"the model directory {folder.name} has no config.json: is it a transformers model?",
            kind="config_missing",
            field=CONFIG,
        )
    if not any(name.endswith((SUFFIX, INDEX)) for name in (*read, *reported)):
        yield _no_weights(folder, ignored)
    if TOKENIZER not in read and TOKENIZER not in reported and not is_adapter:
        yield block(
            f"the model directory {folder.name} has no tokenizer.json: load its tokenizer with transformers and save it"
            " again to create the file",
            kind="tokenizer_missing",
            field=TOKENIZER,
        )


def _no_weights(folder: Path, ignored: list[str]) -> Finding:
    if ADAPTER in map(str.lower, ignored):
        return block(
            f"the model directory {folder.name} contains an adapter without its base model: merge it into the base"
            " model and save the merged model",
            kind="adapter_alone",
            field=ADAPTER,
        )
    if pickles := [name for name in ignored if Path(name).suffix.lower() in PICKLES]:
        return block(
            f"the weights in {folder.name} are a pickle, which can run code and is never read: {pickles[0]}; load the"
            " model in a trusted environment and save it as safetensors",
            kind="pickles_only",
            field=pickles[0],
        )
    return block(
        f"the model directory {folder.name} has no safetensors weights: {WEIGHTS}, or the files named in {INDEX}",
        kind="weights_missing",
        field=WEIGHTS,
    )


def _own_code(listed: Mapping[str, Path]) -> Iterator[Finding]:
    """JSON that cannot be read, and JSON that asks for code of its own at any depth."""
    for name in sorted(JSONS & set(listed)):
        path = listed[name]
        try:
            raw = read_object(path)
        except InvalidInput as error:
            yield block(str(error), kind=error.kind, field=path.name)
            continue
        if name not in (TOKENIZER, INDEX, "vocab.json", "added_tokens.json") and _holds(raw, "auto_map"):
            yield block(
                f"the model requires custom code, which is never run here: auto_map in {path.name}",
                kind="own_code",
                field=path.name,
            )


def _holds(raw: Any, key: str) -> bool:
    """Whether any object in `raw` has this key, at any depth."""
    unvisited = [raw]
    while unvisited:
        part = unvisited.pop()
        if isinstance(part, dict):
            if key in part:
                return True
            unvisited += part.values()
        elif isinstance(part, list):
            unvisited += part
    return False
