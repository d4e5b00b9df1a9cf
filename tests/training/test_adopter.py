"""The adopter and the real engine: a folder goes in, and what came of it stands in the row and on the disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from annotate.models import Project
from tests.training import machine
from training import adopter, engine_process
from training.models import Adoption, ModelVersion
from training.rlhf.run.manifest import verifies
from training.services.registry import adoption_words, adoptions, base_models

pytestmark = pytest.mark.django_db(transaction=True)  # workers and pages are other processes
Status = Adoption.Status


@pytest.fixture
def folder(built_base: Path, data_dir: Path, settings: Settings) -> Path:
    """A model that can be trained, with things beside it that nobody reads."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    folder = Path(shutil.copytree(built_base, settings.BASE_MODELS_DIR / "ours"))
    (folder / "README.md").write_text("hello")
    (folder / "optimizer.pt").write_text("a pickle")
    return folder


def examine(name: str = "ours", *, context: int | None = None) -> Adoption:
    adoption = adoptions.create_pending(name, context=context)
    adopter.examine(adoption.pk, worker="default@test")
    adoption.refresh_from_db()
    return adoption


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))


def test_a_good_folder_is_adopted_and_a_project_trains_from_the_sealed_copy(
    folder: Path, data_dir: Path, project: Project
) -> None:
    adoption = examine()
    assert (adoption.status, adoption.error) == (Status.ADOPTED, "")
    assert verifies(adoption.directory)
    assert adoption.report["ignored"] == ["README.md", "optimizer.pt"]
    assert not {"README.md", "optimizer.pt"} & {path.name for path in adoption.directory.iterdir()}
    assert adoption.sha256 == adoption.report["sha256"]
    assert "own chat template" in adoption_words.facts(adoption.report)
    machine.make_settings(project, base_model="ours")
    base_models.register(project)
    base = ModelVersion.objects.get()
    assert base.directory == adoption.directory
    assert base.manifest_sha256 == json.loads((adoption.directory / "manifest.json").read_text())["sha256"]
    assert list((data_dir / "adoptions").iterdir()) == []


def test_a_folder_that_cannot_be_trained_is_refused_in_words_and_nothing_of_it_is_kept(
    folder: Path, data_dir: Path
) -> None:
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    adoption = examine()
    assert adoption.status == Status.REFUSED
    assert "quantised" in adoption.error
    assert adoption_words.why_not(adoptions.find("ours")) == adoption.error
    assert not adoption.directory.exists()


def test_a_folder_without_a_model_is_refused_by_the_engine_too(data_dir: Path, settings: Settings) -> None:
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    (settings.BASE_MODELS_DIR / "empty").mkdir(parents=True)
    adoption = examine("empty")
    assert adoption.status == Status.REFUSED
    assert "no config.json" in adoption.error


def test_the_operator_states_the_context_that_a_config_does_not_name(built_gpt: Path, settings: Settings) -> None:
    refused = examine("nameless")
    assert refused.status == Status.REFUSED
    assert "Set it" in refused.error
    stated = examine("nameless", context=64)
    assert (stated.status, stated.error) == (Status.ADOPTED, "")
    assert (stated.report["context"], stated.report["context_source"]) == (64, "operator")
    assert "64 tokens, set" in adoption_words.facts(stated.report)


@pytest.fixture
def built_gpt(folder: Path) -> Path:
    """A folder whose config has no word on how long a text may be: bloom has none."""
    from transformers import BloomConfig, BloomForCausalLM

    from tests.rlhf import tiny_models

    directory = folder.with_name("nameless")
    tokenizer = tiny_models.TOKENIZERS["llama"]()
    config = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )
    BloomForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def test_a_folder_that_changes_meanwhile_is_adopted_by_nobody(folder: Path) -> None:
    with meanwhile(lambda: (folder / "vocab.json").write_text("{}")):
        adoption = examine()
    assert adoption.status == Status.FAILED
    assert "changed during" in adoption.error
    assert adoptions.find("ours").state == "changed"
    assert not adoption.directory.exists()


def test_an_engine_that_is_killed_leaves_a_sentence(folder: Path) -> None:
    with meanwhile(kill_engine):
        adoption = examine()
    assert adoption.status == Status.FAILED
    assert "memory" in adoption.error


def test_an_engine_that_hangs_is_ended(folder: Path, settings: Settings) -> None:
    settings.RUN_STALL_S = 0.3  # which its first import takes
    adoption = examine()
    assert adoption.status == Status.FAILED
    assert "no progress" in adoption.error


def test_a_worker_that_is_told_to_stop_gives_the_folder_back(folder: Path) -> None:
    try:
        with meanwhile(engine_process.draining.set):
            adoption = examine()
        assert adoption.status == Status.PENDING
        adopter.examine(adoption.pk, worker="stopping")
        adoption.refresh_from_db()
        assert adoption.status == Status.PENDING
    finally:
        engine_process.draining.clear()


def test_a_worker_that_lost_the_folder_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adoption = adoptions.create_pending("ours", context=None)
    taken = adoptions.claim(adoption.pk, worker="slow")
    assert taken
    Adoption.objects.update(fence=taken.fence + 1)
    with pytest.raises(adoptions.LostRace):
        adopter._examine(taken, adopter._empty_directory(taken))
    assert Adoption.objects.get().status == Status.RUNNING
    assert not taken.directory.exists()


def test_the_command_examines_at_once_and_says_what_it_found(folder: Path) -> None:
    output = StringIO()
    call_command("adopt", "ours", stdout=output)
    assert "“ours” can be used." in output.getvalue()
    assert "README.md" in output.getvalue()
    (folder / "model.safetensors").unlink()
    output = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("adopt", "ours", stdout=output)
    assert end.value.code == 1
    assert "safetensors" in output.getvalue()
    output = StringIO()
    call_command("adopt", stdout=output)
    assert output.getvalue().startswith("ours: cannot be used. ")
    with pytest.raises(CommandError, match="no folder “theirs”"):
        call_command("adopt", "theirs")


class meanwhile:  # noqa: N801 (reads as a word)
    """Does `action` once an engine is there."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.thread = threading.Thread(target=self._do, args=[action])

    def _do(self, action: Callable[[], object]) -> None:
        until = time.monotonic() + 30
        while not list(engines()) and time.monotonic() < until:
            time.sleep(0.02)
        action()

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join()


def engines() -> Iterator[int]:
    """The process ids of the children of this process that are engines."""
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"training.rlhf" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield int(pid)


def kill_engine() -> None:
    for pid in engines():
        os.kill(pid, signal.SIGKILL)
