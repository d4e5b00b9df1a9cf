"""Models of other architectures: adopted and then fit for every stage, or refused at once by one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf import architectures
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main

PROMPTS = [{"id": n, "messages": question(n)} for n in range(4)]
DATA = {
    "demonstrations": [demonstration(n) for n in range(3)],
    "rankings": [ranked_slate(n) for n in range(3)],
    "prompts": PROMPTS,
}
SHORT = {"max_response": 12, "batch_tokens": 512}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 1, "learning_rate": 1e-4},
    "reward": {"learning_rate": 1e-3},
    "ppo": {"iterations": 1, "rollout_size": 4, "minibatch_size": 2, "learning_rate": 1e-5, "shown_samples": 1},
    "sampling": {"k": 3},
}


def stage(root: Path, name: str, **parents: Path) -> Path:
    """Run a stage from its beginning to its end; returns its output."""
    run = write_run(root / name, name, parents=parents, data=DATA, **SHORT, **STAGES[name])
    assert main([name, str(run)]) == 0
    return run / "attempts/1/output"


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def metrics(output: Path) -> dict[str, float]:
    """All that a stage logged, the newest value of each."""
    newest: dict[str, float] = {}
    for line in (output.parent / "metrics.jsonl").read_text().splitlines():
        newest |= json.loads(line)["metrics"]
    return newest


def adopted(name: str, options: tuple[str, dict[str, Any]], root: Path) -> Path:
    folder = architectures.build(*options, root / "folder")
    says_nothing = {"mamba", "mamba2", "falcon_mamba"}
    stated = ["--context", "192"] if options[0] in says_nothing else []
    assert main(["adopt", str(folder), str(root / "out"), *stated]) == 0
    report = report_of(root / "out")
    assert (report["fits"], report["architecture"], report["context"]) == (True, options[0], 192)
    kinds = {finding["kind"] for finding in report["findings"]}
    assert "rows_stay" not in kinds
    assert ("padding_computed" in kinds) == (name in architectures.PADDED) or name not in architectures.ADOPTED
    return root / "out/model"


def go_round(base: Path, root: Path) -> None:
    """Every stage once, and what the sampler drew is what the policy computes."""
    sft = stage(root, "sft", base=base)
    reward = stage(root, "reward", policy=sft)
    ppo = stage(root, "ppo", policy=sft, reference=sft, reward=reward)
    stage(root, "sampling", policy=ppo, parent=sft, reward=reward)
    assert metrics(ppo)["rollout/sampler_gap"] < 1e-3


@pytest.mark.parametrize("name", architectures.ADOPTED)
def test_what_is_adopted_goes_through_every_stage(tmp_path: Path, name: str) -> None:
    go_round(adopted(name, architectures.ADOPTED[name], tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.ALSO_ADOPTED)
def test_what_else_is_adopted_goes_through_every_stage(tmp_path: Path, name: str) -> None:
    go_round(adopted(name, architectures.ALSO_ADOPTED[name], tmp_path), tmp_path)


@pytest.mark.parametrize("name", architectures.REFUSED)
def test_what_is_refused_is_refused_when_it_is_adopted_by_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model_type, options, kind = architectures.REFUSED[name]
    folder = architectures.build(model_type, options, tmp_path / "folder")
    capsys.readouterr()
    assert main(["adopt", str(folder), str(tmp_path / "out")]) == 77
    report = report_of(tmp_path / "out")
    (finding,) = [finding for finding in report["findings"] if finding["level"] == "block"]
    assert (report["fits"], finding["kind"]) == (False, kind)
    assert capsys.readouterr().err.splitlines()[-1] == finding["sentence"]
    assert not (tmp_path / "out/model").exists()


def test_the_width_of_a_reward_model_is_what_its_trunk_really_gives(tmp_path: Path) -> None:
    adopted("a narrow trunk", architectures.ADOPTED["a narrow trunk"], tmp_path)
    report = report_of(tmp_path / "out")
    assert report["width"] == 16  # where the config speaks of 32
