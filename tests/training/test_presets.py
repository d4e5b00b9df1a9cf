"""The presets: values that every stage takes, with their sources, and for which size of base model each is."""

from __future__ import annotations

import pytest

from annotate.models import Project
from training.models import TrainingSettings
from training.presets import PRESETS, for_size, others_for_size_of
from training.rlhf.config import STAGES, to_json
from training.services.registry import configs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

SIZES = ("0.5B", "1.5B", "3B", "8B")


@pytest.fixture
def training(project: Project) -> TrainingSettings:
    return TrainingSettings.objects.create(project=project)


@pytest.mark.parametrize("name", PRESETS)
def test_the_values_of_every_preset_are_taken_by_every_stage(training: TrainingSettings, name: str) -> None:
    training.preset = name
    for stage in STAGES:
        config = to_json(configs.check(training, stage))
        assert config.items() >= PRESETS[name].values.get(stage, {}).items()
    assert all(str(source.where).endswith(".") for source in PRESETS[name].sources)
    assert PRESETS[name].is_measured == (name == "tiny"), "what nobody has measured here says so"
    sources = " ".join(str(source.where) for source in PRESETS[name].sources)
    assert PRESETS[name].is_measured or "Not benchmarked." in sources


@pytest.mark.parametrize(
    ("name", "card_gb", "said"),
    [
        ("0.5B", 80, "on one GPU with 80 GB."),
        ("1.5B", 80, "on one GPU with 80 GB."),
        ("3B", 141, "PPO needs one with 141 GB."),
        ("8B", None, "PPO does not fit on one GPU."),
    ],
)
def test_a_preset_says_on_which_gpu_ppo_fits(name: str, card_gb: int | None, said: str) -> None:
    assert str(PRESETS[name].suits).endswith(said)
    # In fp32 policy and critic, their moments and one gradient; in bf16 reference, reward model, watcher; no batch.
    held = float(name.removesuffix("B")) * 1e9 * (4 * (2 + 4 + 1) + 2 * 3)
    assert next((gb for gb in (80, 141) if held < gb * 1e9), None) == card_gb


@pytest.mark.parametrize(("name", "card_gb"), [("0.5B", 16), ("1.5B", 16), ("3B", 24), ("8B", 40)])
def test_a_lora_preset_fits_on_a_smaller_gpu(name: str, card_gb: int) -> None:
    assert str(PRESETS[f"{name}-lora"].suits).endswith(f"on one GPU with {card_gb} GB.")
    # One copy of the weights in bf16, and up to 10 GB of adapters, answer cache, activations and libraries.
    held = float(name.removesuffix("B")) * 1e9 * 2 + 10e9
    assert next(gb for gb in (16, 24, 40, 80) if held < gb * 1e9) == card_gb


@pytest.mark.parametrize("kind", ["", "-lora"])
def test_a_larger_model_is_never_pushed_harder(kind: str) -> None:
    sizes = [PRESETS[name + kind].values for name in SIZES]
    for stage, name in [("sft", "learning_rate"), ("ppo", "learning_rate"), ("ppo", "batch_tokens")]:
        given = [values[stage][name] for values in sizes]
        assert given == sorted(given, reverse=True)


@pytest.mark.parametrize("name", SIZES)
def test_each_size_has_a_preset_for_adapters_that_go_on_from_one_stage_to_the_next(name: str) -> None:
    full, lora = PRESETS[name], PRESETS[f"{name}-lora"]
    assert others_for_size_of(full) == [lora]
    for stage in ("sft", "reward", "watcher", "ppo"):
        assert (lora.values[stage]["adapter_rank"], lora.values[stage]["adapter_alpha"]) == (16, 32.0)
        assert full.values[stage].get("adapter_rank", 0) == 0
        for rate in ("learning_rate", "value_learning_rate"):
            if rate in full.values[stage]:
                assert 9 <= lora.values[stage][rate] / full.values[stage][rate] <= 20, "about ten times"


@pytest.mark.parametrize("name", PRESETS)
def test_the_watcher_is_trained_as_the_reward_model_is(name: str) -> None:
    values = PRESETS[name].values
    assert values.get("watcher") == values.get("reward")


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (0, "defaults"),
        (640_000, "tiny"),
        (494_000_000, "0.5B"),
        (1_100_000_000, "1.5B"),
        (2_610_000_000, "3B"),
        (4_020_000_000, "3B"),
        (7_620_000_000, "8B"),
        (9_240_000_000, "8B"),
        (14_800_000_000, "defaults"),
    ],
)
def test_a_preset_is_suggested_by_the_size_of_the_base_model(parameters: int, name: str) -> None:
    assert for_size(parameters).name == name
