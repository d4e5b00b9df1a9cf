"""`python -m training.rlhf memory RUN_DIR`, and what a stage makes of the count."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.rlhf import adapter_runs
from tests.rlhf.adapter_runs import LORA
from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from training.rlhf import memory
from training.rlhf.__main__ import main
from training.rlhf.config import LearningConfig, load_config
from training.rlhf.memory_count.decision import with_auto_decided
from training.rlhf.networks import device

PROMPTS = [{"id": n, "messages": question(n)} for n in range(4)]
DATA = {
    "sft": {"demonstrations": [demonstration(n) for n in range(8)]},
    "reward": {"rankings": [ranked_slate(n) for n in range(8)]},
    "ppo": {"prompts": PROMPTS},
    "evaluation": {"heldout_prompts": PROMPTS},
    "sampling": {"prompts": PROMPTS},
}
ROLES = {
    "sft": ["base"],
    "reward": ["policy"],
    "ppo": ["policy", "reference", "reward"],
    "evaluation": ["policy", "reference", "parent", "reward"],
    "sampling": ["policy", "parent", "reward"],
}
SMALL_ROLLOUT = {"rollout_size": 8, "minibatch_size": 4}


@pytest.fixture
def parents(models: dict[str, Path], reward_models: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """A policy's and a reward model's directory, both without weights."""
    directories = {"policy": models["qwen2"], "reward": reward_models["qwen2"]}
    for name, directory in directories.items():
        shutil.copytree(directory, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    return {name: tmp_path / name for name in directories}


@pytest.fixture(scope="module")
def outputs(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{role: output} of a round with adapters, whose matrices are gone: they are not read. Read only."""
    outputs = adapter_runs.chain(tmp_path_factory.mktemp("round"), models["qwen2"])
    for role in ("sft", "reward", "policy"):
        (outputs[role] / "adapter_model.safetensors").unlink()
    return outputs


@pytest.fixture(params=DATA)
def run(request: pytest.FixtureRequest, parents: dict[str, Path], make_run: MakeRun) -> Path:
    """A run directory of each stage in turn, whose parents have no weights."""
    stage = request.param
    roles = {role: parents["reward" if role == "reward" else "policy"] for role in ROLES[stage]}
    options = SMALL_ROLLOUT if stage == "ppo" else {}
    return make_run(stage, parents=roles, data=DATA[stage], max_response=16, **options)


@pytest.fixture
def free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which the machine says how much memory is free."""
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "cgroup")
    return tmp_path / "meminfo"


def counted(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, int]]:
    """The peaks of a run that has all the room that it would like, so that it is counted in one way only."""
    assert main(["memory", str(run), "--json", "--within", str(1 << 50), *options]) == 0
    return json.loads(capsys.readouterr().out)["stages"][0]["counted"][0]["peaks"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_stage_is_counted_without_weights(run: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    for peak in counted(run, capsys, "--device", device):
        parts = [peak[part] for part in ("weights", "gradients", "optimiser", "cache", "activations")]
        assert peak["weights"] > 0
        assert min(parts) >= 0
        assert peak["total"] == sum(parts)
    assert not (run / "attempts").exists()


def test_the_table_has_a_row_for_each_moment_and_marks_the_highest(
    parents: dict[str, Path], make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("sft", parents={"base": parents["policy"]}, data=DATA["sft"], max_response=16)
    assert main(["memory", str(run)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("sft on ")
    assert shown.count("* step ") == 2  # without and with activation checkpointing


def test_a_stage_that_trains_holds_weights_a_gradient_and_two_moments(
    parents: dict[str, Path], make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("sft", parents={"base": parents["policy"]}, data=DATA["sft"], max_response=16)
    (peak,) = counted(run, capsys, "--device", "cpu")
    assert peak["optimiser"] == pytest.approx(2 * peak["gradients"], rel=0.01)
    assert peak["weights"] == pytest.approx(peak["gradients"], rel=0.01)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("", "no demonstrations"),
        ("Why? " * 200, "no usable demonstrations: 1 leaves no room for an answer of max_response tokens"),
    ],
)
def test_a_run_without_usable_records_is_refused_with_the_reason(
    parents: dict[str, Path], make_run: MakeRun, capsys: pytest.CaptureFixture[str], question: str, says: str
) -> None:
    row = {"id": 1, "messages": [{"role": "user", "content": question}], "response": "Because."}
    data = {"demonstrations": [row] if question else []}
    run = make_run("sft", parents={"base": parents["policy"]}, data=data)
    assert main(["memory", str(run)]) == 77
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("free_gb", "chosen"), [(64, "off"), (0.3, "on")])
def test_auto_computes_activations_again_only_where_memory_is_short(
    models: dict[str, Path], make_run: MakeRun, free: Path, free_gb: float, chosen: str
) -> None:
    free.write_text(f"MemAvailable: {int(free_gb * 1e6)} kB\n")
    run = make_run("sft", parents={"base": models["qwen2"]}, data=DATA["sft"], max_response=16)
    cfg = with_auto_decided(run, load_config(run / "config.json"))
    assert cfg.activation_checkpointing == chosen  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_adapters_on_one_base_need_its_weights_once(
    outputs: dict[str, Path], tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = outputs["base"]
    parents = {"policy": outputs["sft"], "reference": outputs["sft"], "reward": outputs["reward"]}
    whole = adapter_runs.write(tmp_path / "whole", "sft", {"base": base})
    (alone,) = counted(whole, capsys, "--device", device)
    peaks = counted(adapter_runs.write(tmp_path / "run", "ppo", parents, base, **LORA), capsys, "--device", device)
    steps = [peak for peak in peaks if peak["gradients"]]
    assert [peak["moment"] for peak in steps] == ["step of the policy", "step of the critic"]
    assert steps[0]["optimiser"] == pytest.approx(2 * sum(peak["gradients"] for peak in steps), rel=0.02)
    assert all(peak["gradients"] < 0.2 * alone["gradients"] for peak in steps)
    # Four adapters, and a copy of the policy's for stepping back, which counts where the networks are on the CPU, too.
    weights = alone["weights"] + {"cpu": 5, "cuda": 4}[device] * steps[0]["gradients"]
    assert peaks[0]["weights"] == pytest.approx(weights, rel=0.02)


TRAINED = [(stage, rank) for stage in ("sft", "reward", "ppo") for rank in (0, LORA["adapter_rank"])]


@pytest.mark.parametrize(("stage", "rank"), [*TRAINED, ("evaluation", None), ("sampling", None)])
def test_every_stage_is_counted_that_starts_from_adapters(
    outputs: dict[str, Path], tmp_path: Path, stage: str, rank: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that train go on with the adapters, or with all weights."""
    roles = {"base": outputs["sft"], "policy": outputs["sft"], "reference": outputs["sft"], "parent": outputs["policy"]}
    parents = {name: roles.get(name, outputs["reward"]) for name in ROLES[stage]}
    options = {} if rank is None else {**LORA, "adapter_rank": rank}
    run = adapter_runs.write(tmp_path / "run", stage, parents, outputs["base"], **options)
    assert min(peak["total"] for peak in counted(run, capsys)) > 0


def test_an_adapter_whose_base_the_config_does_not_name_is_refused_as_the_stage_does(
    outputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = adapter_runs.write(tmp_path / "run", "sampling", {"policy": outputs["sft"]})
    assert main(["memory", str(run)]) == 77
    said = capsys.readouterr().err.strip()
    assert said == "parents.policy is an adapter: name the whole model that it stands on as parents.policy_trunk"
    assert main(["memory", str(run), "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["refusal"]["kind"] == "trunk_missing"


def decided(run: Path) -> LearningConfig:
    cfg = with_auto_decided(run, load_config(run / "config.json"))
    assert isinstance(cfg, LearningConfig)
    return cfg


@pytest.mark.parametrize(("processes", "free_gb", "chosen"), [(2, 64, "off"), (2, 0.3, "on"), (1, 0.3, "off")], ids=str)
def test_auto_shards_only_where_whole_networks_do_not_fit_a_card(
    models: dict[str, Path],
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    free_gb: float,
    chosen: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free_gb * 1e9), int(80e9)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    parents = {"base": models["qwen2"]}
    run = make_run("sft", parents=parents, data=DATA["sft"], max_response=16, processes=processes)
    with device.following("cuda"):
        assert decided(run).sharding == chosen


def test_auto_does_not_shard_on_a_cpu_whose_processes_share_its_memory(
    models: dict[str, Path], make_run: MakeRun, free: Path
) -> None:
    free.write_text("MemAvailable: 300000 kB\n")
    run = make_run("sft", parents={"base": models["qwen2"]}, data=DATA["sft"], max_response=16, processes=2)
    assert decided(run).sharding == "off"


def test_one_process_shards_nothing_even_where_it_is_told_to(
    models: dict[str, Path], make_run: MakeRun, free: Path
) -> None:
    free.write_text("MemAvailable: 64000000 kB\n")
    run = make_run("sft", parents={"base": models["qwen2"]}, data=DATA["sft"], max_response=16, sharding="on")
    assert decided(run).sharding == "off"


def test_several_processes_are_counted_with_whole_networks_and_with_sharded_ones(
    parents: dict[str, Path], make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("sft", parents={"base": parents["policy"]}, data=DATA["sft"], max_response=16, processes=2)
    assert main(["memory", str(run), "--json", "--device", "cuda"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    whole, _whole_again, sharded, _sharded_again = (one["peaks"][0] for one in stage["counted"])
    assert sharded["optimiser"] == pytest.approx(whole["optimiser"] / 2, rel=0.01)
    assert whole["weights"] / 2 < sharded["weights"]  # a layer and the embedding are gathered
    assert sharded["activations"] == whole["activations"]
