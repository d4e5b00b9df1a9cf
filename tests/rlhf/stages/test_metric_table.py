"""What a stage logs is what the table of metrics names, and the other way round: nothing is plotted without words."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from tests.rlhf.stages.test_ppo_stage import PROMPTS, SMALL
from training import stages
from training.rlhf.__main__ import main
from training.stages.metric import DATASET_METRICS

HELD_OUT = {
    "heldout_prompts": [{"id": n, "messages": question(100 + n)} for n in range(3)],
    "heldout_rankings": [{**ranked_slate(n, [1, 2, 3]), "messages": question(100 + n)} for n in range(3)],
}
MATCHED = {"batch_size": 4, "mismatch_coefficient": 1.0}
STAGES: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "sft": (("base",), {"demonstrations": [demonstration(n) for n in range(4)]}, {"batch_size": 4}),
    "reward": (("policy",), {"rankings": [ranked_slate(n) for n in range(4)]}, MATCHED),
    "watcher": (("policy",), {"watcher_rankings": [ranked_slate(n) for n in range(4)]}, MATCHED),
    "ppo": (
        ("policy", "reference", "reward", "watcher"),
        {"prompts": PROMPTS, "demonstrations": [demonstration(n) for n in range(4)]},
        {**SMALL, "iterations": 1, "gauge_prompts": 8, "ptx_coefficient": 0.1, "kl_target": 1.0},
    ),
    "evaluation": (("policy", "reference", "reward", "watcher"), HELD_OUT, {"draws": 1}),
    "sampling": (("policy",), {"prompts": PROMPTS}, {"k": 2}),
}


def logged(run: Path) -> set[str]:
    lines = (run / "attempts/1/metrics.jsonl").read_text().splitlines()
    return {name for line in lines for name in json.loads(line)["metrics"]}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_logs_is_what_the_table_names(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], stage: str
) -> None:
    roles, data, options = STAGES[stage]
    scorers = ("reward", "watcher")
    parents = {role: reward_models["llama"] if role in scorers else models["llama"] for role in roles}
    run = make_run(stage, parents=parents, data=data, **{"max_response": 8, **options})
    assert main([stage, str(run)]) == 0
    found, known = logged(run), stages.find(stage)
    numbered = {name for name in found for prefix in known.numbered_metrics if name.startswith(prefix)}
    unnamed = found - numbered - known.metrics.keys() - DATASET_METRICS.keys()
    assert unnamed == set()
    assert set(known.shown_metrics) - found == set()
