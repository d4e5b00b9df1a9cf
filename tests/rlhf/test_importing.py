"""Imports of the engine: they are done sooner, and what they make is never looked through for garbage again."""

import json
import subprocess
import sys

REPORT = """
import gc, json
from training.rlhf.importing import importing
with importing():
    collects = gc.isenabled()
    import torch
print(json.dumps({"in": collects, "after": gc.isenabled(), "kept": gc.get_freeze_count(),
                  "seen": len(gc.get_objects())}))
with importing():
    print(json.dumps(gc.isenabled()))
"""


def test_garbage_is_looked_for_after_the_imports_and_not_among_what_they_made() -> None:
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    first, again = map(json.loads, done.stdout.splitlines())
    assert (first["in"], first["after"]) == (False, True)
    assert first["seen"] < 0.05 * first["kept"]
    assert again is True  # a process that has imported torch has garbage of its own to be rid of


def test_an_import_that_fails_leaves_the_search_for_garbage_as_it_was() -> None:
    report = (
        "import gc\nfrom training.rlhf.importing import importing\ntry:\n    with importing():\n        import nothing"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\nexcept ImportError:\n    print(gc.isenabled())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
