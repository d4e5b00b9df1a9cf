"""What a stage's steps really take on a CPU: `python -m tests.rlhf.memory_count.measured SIZE STAGE`.

Prints by how many bytes a process that does nothing else grew, from before its networks were made to the peak.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from training.rlhf.config import Parent, PPOConfig, RewardConfig, RunConfig, SFTConfig, trunk_role
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Prompt
from training.rlhf.model_folder.adapter_files import Shape
from training.rlhf.networks import adapters
from training.rlhf.networks.policy import Policy
from training.rlhf.networks.scalar_model import ScalarModel, scalar_on
from training.rlhf.stages import ppo, reward, sft
from training.rlhf.stages.gauge import Gauge
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.reward import Slate
from training.rlhf.stages.rollouts import Episode
from training.rlhf.stages.scoring import Answer, Scorer

LENGTH = 64  # tokens of a prompt, and of an answer
VOCABULARY = 2048
WATCHED = "watched ppo"
ADAPTER = Shape(rank=8, alpha=16.0)
# name -> hidden size, size of the MLP, layers, heads, tokens of a micro-batch
SIZES = {"1M": (128, 344, 2, 4, 1024), "8M": (320, 880, 6, 8, 512), "40M": (512, 1408, 12, 8, 1024)}
# Memory that is freed goes back at once, so that what the process has is what is in use.
FREEING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}


def shape(size: str) -> LlamaConfig:
    hidden, mlp, layers, heads, _tokens = SIZES[size]
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        tie_word_embeddings=True,
    )


def config(size: str, name: str, **options: Any) -> RunConfig:
    """The config of one of RUNS with micro-batches as large as this size's; with adapters, all parents are some."""
    stage, with_adapters = RUNS[name][0], name.endswith("adapters")
    roles = set(stage.required_parents)
    if name == WATCHED:
        roles, options = roles | {"watcher"}, options | {"ema_decay": 0.5}
    if with_adapters:
        roles |= {trunk_role(role) for role in roles}
        options |= {"adapter_rank": ADAPTER.rank, "adapter_alpha": ADAPTER.alpha}
    parents = {role: Parent(path="", manifest_sha256="") for role in roles}
    return stage(seed=0, dtype="fp32", batch_tokens=SIZES[size][-1], parents=parents, **options)  # type: ignore[arg-type]


def sequences(tokens: int) -> list[Rendered]:
    """Two micro-batches."""
    return [Rendered([5] * LENGTH, [6] * LENGTH)] * (2 * tokens // (2 * LENGTH))


def slates(tokens: int) -> list[Slate]:
    """Two micro-batches of slates of four, each with a prompt of its own."""
    count = 2 * tokens // (2 * LENGTH) // 4
    return [Slate([Rendered([5 + n] * LENGTH, [6] * LENGTH)] * 4, [[1, 2, 3, 4]]) for n in range(count)]


def measured(size: str, stage: str, model: Path, *, recomputes: bool = False) -> int:
    """The bytes that a process of its own takes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.rlhf.memory_count.measured", size, stage, str(model), "on" if recomputes else ""],
        env={**os.environ, **FREEING},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def run_sft(size: str, chat: Chat, *, recomputes: bool) -> None:
    policy = Policy(LlamaForCausalLM(shape(size)), VOCABULARY, "fp32")
    if recomputes:
        policy.trunk.checkpoint_activations()
    learner, tokens = Learner(policy, "policy"), SIZES[size][-1]
    for _ in range(2):
        sft.train_step(policy, learner, sequences(tokens), 1e-5, chat.pad_id, tokens, lambda: None)


def run_reward(size: str, chat: Chat, *, recomputes: bool) -> None:
    model = ScalarModel(LlamaModel(shape(size)), "fp32")
    if recomputes:
        model.trunk.checkpoint_activations()
    tokens = SIZES[size][-1]
    scorer, learner = Scorer(model, chat, tokens, lambda: None), Learner(model, "reward")
    for _ in range(2):
        reward.train_step(scorer, learner, slates(tokens), 1e-5)


def run_ppo(size: str, chat: Chat, *, recomputes: bool) -> None:
    """Two updates of whole networks."""
    policy, reference = (Policy(LlamaForCausalLM(shape(size)), VOCABULARY, "fp32") for _ in range(2))
    critic, scorer = (ScalarModel(LlamaModel(shape(size)), "fp32") for _ in range(2))
    update_twice(size, chat, policy, reference, critic, recomputes=recomputes)
    del scorer


def run_watched_ppo(size: str, chat: Chat, *, recomputes: bool) -> None:
    """The same with a watcher, for which the best weights are kept, and an average of the weights."""
    policy, reference = (Policy(LlamaForCausalLM(shape(size)), VOCABULARY, "fp32") for _ in range(2))
    critic, scorer, watcher = (ScalarModel(LlamaModel(shape(size)), "fp32") for _ in range(3))
    update_twice(size, chat, policy, reference, critic, watcher, recomputes=recomputes)
    del scorer


def run_ppo_with_adapters(size: str, chat: Chat, *, recomputes: bool) -> None:
    """Two updates of adapters on one base."""
    base = Policy(LlamaForCausalLM(shape(size)), VOCABULARY, "fp32")
    base.freeze()

    def adapted(name: str, *, trains: bool) -> Policy:
        adapter = adapters.inject(adapters.Base(base.network, ""), name, ADAPTER, trains=trains)
        adapter.reset(0, name)
        return base.with_adapter(adapter)

    scorer, critic = (scalar_on(adapted(name, trains=name == "critic")) for name in ("reward", "critic"))
    policy, reference = adapted("policy", trains=True), adapted("reference", trains=False)
    update_twice(size, chat, policy, reference, critic, recomputes=recomputes)
    del scorer


def update_twice(
    size: str,
    chat: Chat,
    policy: Policy,
    reference: Policy,
    critic: ScalarModel,
    watcher: ScalarModel | None = None,
    *,
    recomputes: bool,
) -> None:
    """Two updates of PPO, without sampling: so long answers would take minutes."""
    if recomputes:
        for network in (policy, critic):
            network.trunk.checkpoint_activations()
    cfg = config(size, WATCHED if watcher else "ppo")
    assert isinstance(cfg, PPOConfig)
    trainer = ppo.Trainer(policy, reference, critic, chat, nothing, cfg, lambda: None)
    if watcher:
        scorer, prompt = Scorer(watcher, chat, cfg.batch_tokens, lambda: None), Prompt(id="1", messages=[])
        trainer.gauge = Gauge(policy, reference, chat, nothing, scorer, [prompt], cfg, lambda: None)
    parts = [sequences(cfg.batch_tokens)[: cfg.batch_tokens // (2 * LENGTH)]] * 2
    for _ in range(2):
        networks = (policy, reference, critic)
        rollouts = [ppo.evaluate_rollout(*networks, _episodes(part), 0, cfg.beta, cfg) for part in parts]
        trainer.update([rollouts], 0)


def nothing(answers: Sequence[Answer]) -> torch.Tensor:
    """No reward."""
    return torch.zeros(len(answers))


def _episodes(part: Sequence[Rendered]) -> list[Episode]:
    return [Episode(0, "", one, [-1.0] * LENGTH, stopped=False, canonical=True, reward=1.0) for one in part]


RUNS: dict[str, tuple[type[RunConfig], Callable[..., None]]] = {
    "sft": (SFTConfig, run_sft),
    "reward": (RewardConfig, run_reward),
    "ppo": (PPOConfig, run_ppo),
    WATCHED: (PPOConfig, run_watched_ppo),
    "ppo with adapters": (PPOConfig, run_ppo_with_adapters),
}


def main(size: str, stage: str, model: str, recomputes: str) -> None:
    torch.set_num_threads(1)
    chat, run = Chat.load(Path(model)), RUNS[stage][1]
    run("1M", chat, recomputes=bool(recomputes))  # what libraries keep for themselves is there from now on
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    run(size, chat, recomputes=bool(recomputes))
    print(_status("VmHWM") - before)


def _status(name: str) -> int:
    """Bytes of this process, by the kernel."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
