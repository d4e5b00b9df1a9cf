"""Running a finished run again, from the same config, data and parents, and comparing the bytes of both.

It runs as it was asked to, not as it went: a kill and a resume change nothing, and a recovery happens again only where
its cause lies in the data or the config. Where a machine's memory had run out, the origins tell the difference.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config import RunConfig, load_config, to_json
from ..exits import FIRST_FENCE, InvalidInput
from ..json_files import write_json
from . import origin_differences, origin_file
from .manifest import MANIFEST, file_hashes

METRICS = "metrics.jsonl"

RunAttempt = Callable[[str, Path], None]  # called with the stage and the run directory; raises EngineExit
Files = Mapping[str, Any]  # {name: {"size", "sha256"}}


class Original(NamedTuple):
    """The attempt that finished the run, and what it had written by then."""

    attempt: Path
    files: Files
    origin: Mapping[str, Any]  # empty for a run from before there were origins


def reproduce(run_dir: Path, run_attempt: RunAttempt) -> bool:
    """Run it again in a temporary directory, and print whether the bytes agree and what explains it if not.

    Raises InvalidInput where the run has not finished or had several processes, or its data or parents are not there
    any more; EngineExit where the stage does not end well this time.
    """
    cfg = load_config(run_dir / "config.json")
    if cfg.processes > 1:
        raise InvalidInput(
            f"this run had {cfg.processes} processes, and only those of one can be repeated",
            kind="config",
            field="processes",
        )
    original = find_original(run_dir, cfg.stage)
    require_files(run_dir, original)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as scratch:
        again = Path(scratch) / "run"
        prepare(again, run_dir, cfg)
        run_attempt(cfg.stage, again)
        return report(original, again / "attempts" / FIRST_FENCE)


def find_original(run_dir: Path, stage: str) -> Original:
    """The newest attempt that finished, even if its output was deleted since. Raises InvalidInput."""
    folders = sorted((run_dir / "attempts").glob("*"), key=lambda folder: (len(folder.name), folder.name))
    for attempt in reversed(folders):
        origin = origin_file.read(attempt)
        if files := _files_written(attempt, origin):
            return Original(attempt, files, origin)
    raise InvalidInput(
        f"this run has not finished, so there is nothing to compare with: finish it with"
        f" python -m training.rlhf {stage} {run_dir}",
        kind="input",
    )


def require_files(run_dir: Path, original: Original) -> None:
    """Raises InvalidInput where records that the run has read are gone, or its metrics are gone or damaged."""
    metrics = original.attempt / METRICS
    for path in [*(run_dir / "data" / name for name in original.origin.get("data", {})), metrics]:
        fault = None
        if not path.is_file():
            fault = "is no longer there"
        elif path == metrics and (line := _damaged_line(metrics)):
            fault = f"is damaged in line {line}"
        if fault:
            name = path.relative_to(run_dir).as_posix()
            raise InvalidInput(
                f"{name} {fault}, and the run cannot be reproduced without it: restore it first",
                kind="records",
                field=name,
            )


def prepare(again: Path, run_dir: Path, cfg: RunConfig) -> None:
    """A run directory with the same config and data; paths of parents that were relative are absolute in it."""
    again.mkdir()
    (again / "data").symlink_to((run_dir / "data").resolve())
    parents = {
        role: dataclasses.replace(parent, path=str((run_dir / parent.path).resolve()))
        for role, parent in cfg.parents.items()
    }
    write_json(again / "config.json", to_json(dataclasses.replace(cfg, parents=parents)))


def report(original: Original, attempt: Path) -> bool:
    """Print how the new attempt differs from the original, and why; whether both agree."""
    again = file_hashes(attempt / "output")
    differences = [
        *_changed_since(original),
        *_different_files(original.files, again),
        *_different_metrics(original.attempt / METRICS, attempt / METRICS),
    ]
    changes = list(_changes(original.origin, origin_file.read(attempt)))
    if not differences:
        print(f"The run was reproduced: its metrics agree, and all bytes of {', '.join(again)}.")
        _print_list("Changed since the run, without effect on its bytes:", changes)
        return True
    _print_list("The run was not reproduced:", differences)
    _print_list(
        "Changed since the run, which may explain it:", changes or [f"Nothing that {origin_file.FILE} records."]
    )
    return False


def _files_written(attempt: Path, origin: Mapping[str, Any]) -> Files:
    """The hashes of an attempt's output when it was sealed; empty where it has none, or none that can be read."""
    try:
        sealed = origin.get("output") or json.loads((attempt / "output" / MANIFEST).read_text("utf-8"))
        files: Files = sealed["files"]
        is_sound = all("size" in facts for facts in files.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # JSON of any form
        return {}
    return files if is_sound else {}


def _changed_since(original: Original) -> Iterator[str]:
    """Files of the original output that are no longer as they were written; none where all of it was deleted."""
    output = original.attempt / "output"
    if output.is_dir():
        now = file_hashes(output)
        for name in sorted(original.files.keys() | now.keys()):
            if original.files.get(name) != now.get(name):
                yield f"output/{name} of the run has changed since it was written."


def _different_files(then: Files, now: Files) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if name not in now:
            yield f"output/{name} was not written this time."
        elif name not in then:
            yield f"output/{name} was written only this time."
        elif then[name] != now[name]:
            yield f"output/{name} differs ({then[name]['size']} bytes then, {now[name]['size']} now)."


def _different_metrics(then: Path, now: Path) -> Iterator[str]:
    """The first line that differs, without its time."""
    old, new = _measured(then), _measured(now)
    for one, other in zip(old, new, strict=False):
        if one != other:
            names = sorted(
                name for name in one["metrics"] | other["metrics"] if _value(one, name) != _value(other, name)
            )
            compared = ", ".join(f"{name} was {_value(one, name)} and is now {_value(other, name)}" for name in names)
            yield f"{METRICS} differs from step {one['step']} on{': ' if compared else ''}{compared}."
            return
    if len(old) != len(new):
        yield f"{METRICS} has {len(new)} lines this time instead of {len(old)}."


def _value(line: Mapping[str, Any], name: str) -> object:
    return line["metrics"].get(name, "absent")


def _damaged_line(metrics: Path) -> int | None:
    """The number of the first line that is no measurement, counted from 1; None where all are."""
    for number, line in enumerate(metrics.read_bytes().splitlines(), start=1):
        try:
            measured = json.loads(line)
        except ValueError:
            return number
        if not (isinstance(measured, dict) and "step" in measured and isinstance(measured.get("metrics"), dict)):
            return number
    return None


def _measured(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) | {"time": None} for line in path.read_text("utf-8").splitlines()]


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then:
        yield from origin_differences.sentences(then, now)
    else:
        yield f"Nobody can say what: the run is older than {origin_file.FILE}."


def _print_list(title: str, sentences: list[str]) -> None:
    if sentences:
        print(title, *sentences, sep="\n  ")
