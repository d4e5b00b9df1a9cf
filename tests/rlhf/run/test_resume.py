"""Killed at any point and run again, a stage ends in the same weights as if nothing had happened.

Each attempt is a process of its own. It kills itself with SIGKILL at the n-th file that it touches under the run
directory, as the interpreter's audit events count them: in the middle of a checkpoint, of the metrics, of the output.
The engine knows nothing of it.
"""

import io
import json
import os
import random
import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf import adapter_runs
from tests.rlhf.adapter_runs import LORA
from tests.rlhf.conftest import MakeRun
from tests.rlhf.forks import FORKS
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from training.rlhf.run.manifest import verifies

HOW_OFTEN = pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.soak)])
FILE_EVENTS = ("open", "os.rename", "os.utime", "os.mkdir", "os.remove", "os.rmdir")


def live(run: Path, stage: str, events: int | None, counted: Path | None = None) -> None:
    """Run the stage, and die at this number of file events, or write down how many there were."""
    from training.rlhf.__main__ import main as engine

    sys.stderr = io.StringIO()
    ticks = count(1)
    seen = 0

    def tick(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in FILE_EVENTS and str(arguments[0]).startswith(f"{run}{os.sep}"):
            seen = next(ticks)
            if seen == events:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(tick)
    code = engine([stage, str(run)])
    if counted:
        counted.write_text(str(seen))
    os._exit(code)


def attempt(run: Path, stage: str, events: int | None = None, counted: Path | None = None) -> int:
    """The exit status of a process that ran the stage."""
    process = FORKS.Process(target=live, args=(run, stage, events, counted))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def hand_over(run: Path) -> None:
    """Let the next attempt write, as a supervisor does."""
    fence = run / "fence"
    fence.write_text(str(int(fence.read_text()) + 1 if fence.exists() else 2))


def finished(run: Path) -> Path:
    """The attempt that published."""
    (output,) = [path for path in run.glob("attempts/*/output") if verifies(path)]
    return output.parent


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (finished(run) / "output").glob("*.safetensors")}


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (finished(run) / "metrics.jsonl").read_text().splitlines()]
    return [{**row, "time": None} for row in rows]


def samples(run: Path) -> dict[str, str]:
    """What is kept for people to read."""
    return {path.name: path.read_text() for path in (finished(run) / "samples").glob("*")}


def check_that_kills_change_nothing(run: Path, stage: str, kills: int) -> None:
    """Kill the stage so many times, in as many runs as that takes, and compare each with an undisturbed one."""
    pristine, counted = run.with_name("pristine"), run.with_name("counted")
    shutil.copytree(run, pristine)
    assert attempt(run, stage, counted=counted) == 0
    total = int(counted.read_text())
    draw = random.Random(stage)
    deaths = 0
    for number in count():
        if deaths == kills:
            break
        again = run.with_name(f"again-{number}")
        shutil.copytree(pristine, again)
        # The first death of a run may come at any moment of its life, the later ones soon after the one before.
        lifetime = draw.randint(1, total)
        while deaths < kills and attempt(again, stage, lifetime) == -signal.SIGKILL:
            deaths += 1
            lifetime = draw.randint(1, total // 2)
            if draw.random() < 0.5:
                hand_over(again)
        assert attempt(again, stage) == 0
        assert weights(again) == weights(run)
        assert metrics(again) == metrics(run)
        assert samples(again) == samples(run)
        assert not list(again.glob("attempts/*/setbacks.json"))  # a kill damages nothing
        assert not list(again.glob("attempts/**/.*"))


@pytest.mark.slow
@HOW_OFTEN
def test_sft_killed_anywhere_ends_in_the_same_weights(make_run: MakeRun, models: dict[str, Path], kills: int) -> None:
    asked = [{"role": "user", "content": "Where does the rain come from?"}]
    rows = [{"id": str(n), "messages": asked, "response": "From the clouds." * (1 + n % 3)} for n in range(6)]
    run = make_run(
        "sft",
        parents={"base": models["qwen2"]},
        data={"demonstrations": rows},
        epochs=2,
        batch_size=2,
        learning_rate=1e-3,
        max_response=32,
        checkpoint_seconds=0,
    )
    check_that_kills_change_nothing(run, "sft", kills)


@pytest.mark.slow
@HOW_OFTEN
def test_a_reward_model_killed_anywhere_ends_in_the_same_weights(
    make_run: MakeRun, models: dict[str, Path], kills: int
) -> None:
    data = {"rankings": [ranked_slate(n) for n in range(6)], "demonstrations": [demonstration(n) for n in range(2)]}
    options = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "max_response": 32, "checkpoint_seconds": 0}
    options["mismatch_coefficient"] = 0.5
    run = make_run("reward", parents={"policy": models["qwen2"]}, data=data, **options)
    check_that_kills_change_nothing(run, "reward", kills)


@pytest.mark.slow
@HOW_OFTEN
@pytest.mark.parametrize(
    ("iterations", "learning_rate", "passed"), [(5, 2e-2, "rollout/kl"), (3, 1e-2, "rollout/final_kl")]
)
def test_ppo_killed_anywhere_ends_in_the_same_weights(
    make_run: MakeRun, models: dict[str, Path], iterations: int, learning_rate: float, passed: str, kills: int
) -> None:
    """The KL limit is passed on the way or by the last update: the policy before has to survive a kill as well."""
    ranked = {"rankings": [ranked_slate(0)]}
    reward = make_run("reward", name="reward", parents={"policy": models["qwen2"]}, data=ranked, max_response=32)
    assert attempt(reward, "reward") == 0
    sizes = {"rollout_size": 4, "minibatch_size": 2, "max_response": 8, "checkpoint_seconds": 0}
    rates = {"learning_rate": learning_rate, "value_learning_rate": 1e-2, "kl_limit": 0.5, "iterations": iterations}
    parents = {"policy": models["qwen2"], "reference": models["qwen2"], "reward": finished(reward) / "output"}
    prompts = [{"id": n, "messages": question(n)} for n in range(3)]
    run = make_run("ppo", parents=parents, data={"prompts": prompts}, **sizes, **rates)
    check_that_kills_change_nothing(run, "ppo", kills)
    assert metrics(run)[-1]["metrics"][passed] > rates["kl_limit"]


@pytest.mark.slow
@HOW_OFTEN
def test_ppo_with_adapters_killed_anywhere_ends_in_the_same_adapter(
    tmp_path: Path, models: dict[str, Path], kills: int
) -> None:
    base = models["qwen2"]
    outputs = []
    for stage in ("sft", "reward"):
        parents = {"policy": outputs[0]} if outputs else {"base": base}
        assert attempt(adapter_runs.write(tmp_path / stage, stage, parents, base, **LORA), stage) == 0
        outputs.append(finished(tmp_path / stage) / "output")
    sft, reward = outputs
    parents = {"policy": sft, "reference": sft, "reward": reward}
    options = {"iterations": 3, "checkpoint_seconds": 0, "epochs": 2, "ema_decay": 0.5}
    run = adapter_runs.write(tmp_path / "run", "ppo", parents, base, **LORA, **options)
    check_that_kills_change_nothing(run, "ppo", kills)
    assert weights(run).keys() == {"adapter_model.safetensors"}


def test_a_stage_that_is_asked_to_stop_leaves_with_75_and_goes_on_later(
    make_run: MakeRun, models: dict[str, Path]
) -> None:
    corpus = [{"text": f"Sentence {n} of many."} for n in range(64)]
    shape = {"hidden_size": 32, "mlp_size": 64, "vocab_size": 300, "tokens": 15_000}
    straight, stopped = (make_run("pretraining", data={"corpus": corpus}, name=name, **shape) for name in "ab")
    assert attempt(straight, "pretraining") == 0
    process = FORKS.Process(target=live, args=(stopped, "pretraining", None))
    process.start()
    assert process.pid is not None
    while len(list(stopped.glob("attempts/*/metrics.jsonl"))) == 0:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 75
    assert attempt(stopped, "pretraining") == 0
    assert weights(stopped) == weights(straight)
