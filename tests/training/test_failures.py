"""Why a run failed, said in one sentence: the table, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotate.models import Project
from tests.training import run_files
from training.models import Run
from training.services import failures, run_directories

# exit code, what the run's row says, what the log ends with -> the line of the table
ENDS = [
    (1, "The engine crashed with exit status 1.", "OSError: [Errno 28] No space left on device", "disk"),
    (78, "the disk is full: [Errno 28] metrics.jsonl", "", "disk"),
    (78, "The disk with the data has 1 MB free, and 500 MB must stay free.", "", "disk"),
    (1, "The engine crashed with exit status 1.", "torch.OutOfMemoryError: CUDA out of memory.", "memory"),
    (1, "", "RuntimeError: DefaultCPUAllocator: can't allocate memory", "memory"),
    (77, "the memory did not suffice, even with half the batch_tokens: set batch_tokens below 512", "", "memory"),
    (77, "the model directory for parents.base has changed: its hash is another one", "", "parent_changed"),
    (77, "there is no model directory for parents.base", "", "parent_gone"),
    (77, "the reward model no longer gives its canary texts their rewards: off by 1", "", "reward_changed"),
    (77, "parents.policy and parents.parent turn conversations into different tokens", "", "tokens_differ"),
    (77, "9 of 100 demonstrations are too long for the model: more than 5 %", "", "too_long"),
    (77, "no rankings", "", "nothing_to_learn"),
    (77, "demonstrations.jsonl:3: response is missing", "", "records"),
    (77, "the model's tokenizer has no EOS token: answers would never end", "", "model_unusable"),
    (77, "rollout_size must be a multiple of minibatch_size", "", "config"),
    (77, "something else", "", "input"),
    (79, "the gradient of the policy was not finite 3 times in a row", "earlier: CUDA out of memory", "diverged"),
    (78, "something else", "", "person"),
    (-9, "The engine made no progress for 15 minutes.", "", "stall"),
    (1, "", "ModuleNotFoundError: No module named 'torch'", "install"),
    (1, "", "RuntimeError: CUDA error: device-side assert triggered", "device"),
    (-9, "The engine was killed by SIGKILL.", "", "killed"),
    (-15, "The engine was killed by SIGTERM.", "", "stopped"),
    (-11, "The engine was killed by SIGSEGV.", "", "crash"),
    (-1, "The worker gpu@here went silent.", "", "silent"),
    (0, "the output of attempt 3 is missing or damaged", "", "damaged_output"),
    (1, "The engine crashed with exit status 1.", "KeyError: 'x'", "unknown"),
]


@pytest.mark.parametrize(("code", "error", "log", "name"), ENDS, ids=[f"{end[3]}-{n}" for n, end in enumerate(ENDS)])
def test_the_table_names_the_cause(
    project: Project, data_dir: Path, code: int, error: str, log: str, name: str
) -> None:
    run = run_files.make_run(project, fence=1, status=Run.Status.FAILED, exit_code=code, error=error)
    (run_files.attempt(run) / run_directories.LOG).write_text(log, "utf-8")
    assert failures.cause_of(run).name == name


def test_every_line_of_the_table_is_reached() -> None:
    assert {end[3] for end in ENDS} == {rule.name for rule in failures.RULES}


@pytest.mark.parametrize(("code", "gave_up"), [(1, True), (-9, True), (77, False), (79, False)])
def test_a_crash_fails_a_run_only_after_several_attempts(
    project: Project, data_dir: Path, code: int, gave_up: bool
) -> None:
    run = run_files.make_run(project, status=Run.Status.FAILED, exit_code=code, error="No.")
    assert failures.cause_of(run).gave_up is gave_up
