"""Run directories as the platform writes them."""

import json
from pathlib import Path
from typing import Any

from training.rlhf.run.manifest import manifest_sha256


def write_run(
    run: Path,
    stage: str,
    *,
    parents: dict[str, Path] | None = None,
    data: dict[str, list[dict[str, Any]]] | None = None,
    **options: Any,
) -> Path:
    """Write a run directory: a stage, the directories of its parents, its records by name, and its options."""
    (run / "data").mkdir(parents=True)
    roles = {role: {"path": str(at), "manifest_sha256": manifest_sha256(at)} for role, at in (parents or {}).items()}
    config = {"schema": 1, "stage": stage, "seed": 0, "threads": 1, "dtype": "fp32", "parents": roles, **options}
    (run / "config.json").write_text(json.dumps(config))
    for records, rows in (data or {}).items():
        (run / "data" / f"{records}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run
