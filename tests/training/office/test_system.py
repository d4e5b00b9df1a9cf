"""The figures of the system page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.services.office import system


@pytest.mark.django_db
def test_weights_that_a_run_and_its_model_share_count_for_the_model(data_dir: Path) -> None:
    model, run = data_dir / "models" / "1" / "weights", data_dir / "runs" / "1" / "output" / "weights"
    for path in (model, run):
        path.parent.mkdir(parents=True)
    model.write_bytes(bytes(1000))
    os.link(model, run)
    (run.parent / "log").write_bytes(bytes(10))
    disk = system.disk()
    assert {str(part.name): part.used for part in disk.parts} | {"Database": 0} == {
        "Models": 1000,
        "Runs": 10,
        "Snapshots of labels": 0,
        "Database": 0,
    }
