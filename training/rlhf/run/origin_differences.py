"""What differs between the origins of two attempts, in sentences: each may explain why their bytes do not agree."""

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN_OF_HASH = 12  # characters
HARDWARE = {
    "cpu": "The CPU",
    "instructions": "The CPU instructions that torch uses",
    "matrix_tiles": "Matrix tiles in the CPU",
    "threads": "The number of threads",
    "gpus": "The GPU",
    "driver": "The GPU's driver",
    "cuda": "CUDA",
    "world_size": "The number of processes",
}
DTYPE_DECIDES = ("gpus", "matrix_tiles")  # what `auto` goes by


def sentences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What was otherwise in `then` than it is in `now`, a sentence each."""
    yield from _code(then["code"], now["code"])
    if then["lock_sha256"] != now["lock_sha256"]:
        yield "requirements.lock has changed."
    yield from _changes(then["versions"], now["versions"])
    yield from _hardware(then, now)
    yield from _changes(then["config"], now["config"], where=" in the config")
    for role in sorted(then["parents"].keys() | now["parents"].keys()):
        if then["parents"].get(role) != now["parents"].get(role):
            yield f"The model for parents.{role} is another one: its hash differs."
    for name in sorted(then["data"].keys() | now["data"].keys()):
        if then["data"].get(name) != now["data"].get(name):
            yield f"data/{name} has changed: its hash differs."
    yield from _recoveries(then["recoveries"], now["recoveries"])


def _code(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then["sha256"] != now["sha256"]:
        yield f"The engine's code has changed: it was {code_name(then)} and is now {code_name(now)}."


def code_name(code: Mapping[str, Any]) -> str:
    """A version of the engine's code in a sentence."""
    if not code["commit"]:
        return f"{code['version'] or 'an unknown version'} (files {code['sha256'][:SHOWN_OF_HASH]})"
    changed = " with changes" if code["is_changed"] else ""
    return f"{code['version'] or 'an unknown version'} (commit {code['commit'][:SHOWN_OF_HASH]}{changed})"


def _hardware(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    yield from _changes(then["hardware"], now["hardware"], words=HARDWARE)
    is_auto = then["config"].get("dtype") == now["config"].get("dtype") == "auto"
    if is_auto and any(then["hardware"].get(name) != now["hardware"].get(name) for name in DTYPE_DECIDES):
        yield "dtype is auto, so it may be another one on this hardware."


def _changes(
    then: Mapping[str, Any], now: Mapping[str, Any], *, words: Mapping[str, str] | None = None, where: str = ""
) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            subject = (words or {}).get(name, name)
            yield f"{subject}{where} was {_said(then.get(name))} and is now {_said(now.get(name))}."


def _said(value: Any) -> str:
    """A value as a sentence shows it."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):  # of GPUs
        return ", ".join(str(each["name"]) for each in value)
    return str(value)


def _recoveries(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """Those that changed what was computed. A damaged checkpoint did not: the one before it led to the same bytes."""
    old, new = (_texts(entries) for entries in (then, now))
    for text in old:
        if text not in new:
            yield f"The run recovered from a problem that did not come again in the same way: “{text}”"
    for text in new:
        if text not in old:
            yield f"This time there was a problem that the run had not met in the same way: “{text}”"


def _texts(recoveries: list[dict[str, Any]]) -> list[str]:
    return [each["text"] for each in recoveries if each["kind"] != "damaged_checkpoint"]
