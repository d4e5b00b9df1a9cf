"""A base model is examined as a whole, and what is adopted of it is all that any stage will read."""

import datetime
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import time_machine

from tests.rlhf import tiny_models
from tests.rlhf.data.test_templates import DATED, STRICT
from tests.rlhf.model_folder.test_model_files import change, in_shards, own_code, truncated
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main
from training.rlhf.data.chat import Chat
from training.rlhf.model_folder.model_files import survey
from training.rlhf.run.manifest import manifest_sha256, verifies

NOON = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)


@pytest.fixture
def folder(models: dict[str, Path], tmp_path: Path) -> Path:
    """A good model folder that may be changed."""
    return shutil.copytree(models["llama"], tmp_path / "base")


def adopt(folder: Path, out: Path, *options: str) -> int:
    return main(["adopt", str(folder), str(out), *options])


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def kinds(report: dict[str, Any], level: str = "block") -> list[str]:
    return [finding["kind"] for finding in report["findings"] if finding["level"] == level]


def test_what_is_adopted_is_what_is_read_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04 not for reading")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    before = manifest_sha256(folder)
    assert adopt(folder, tmp_path / "out") == 0
    model, report = tmp_path / "out/model", report_of(tmp_path / "out")
    assert manifest_sha256(folder) == before
    assert verifies(model)
    assert {path.name for path in model.iterdir()} == {file["name"] for file in report["files"]} | {"manifest.json"}
    assert report["ignored"] == ["modeling_own.py", "pytorch_model.bin"]
    assert report["sha256"] == survey(folder).sha256()
    assert (model / "model.safetensors").stat().st_ino == (folder / "model.safetensors").stat().st_ino
    assert (model / "config.json").stat().st_ino != (folder / "config.json").stat().st_ino
    assert (tmp_path / "out/alive").exists()


def test_the_report_tells_what_the_model_is(model_dir: Path, tmp_path: Path) -> None:
    assert adopt(model_dir, tmp_path / "out") == 0
    report, chat = report_of(tmp_path / "out"), Chat.load(tmp_path / "out/model")
    assert report["schema"] == 1 and report["fits"] is True
    assert (report["context"], report["context_source"], report["width"]) == (tiny_models.CONTEXT, "config", 32)
    assert (report["vocabulary"], report["template"]["hash"]) == (chat.vocab_size, chat.template_hash)
    assert report["template"]["own"] is (model_dir.name != "gpt2")
    assert kinds(report, "note") == ["template_missing"] * (model_dir.name == "gpt2")
    assert set(report["memory"]) == {"sft", "reward", "watcher", "ppo", "evaluation", "sampling"}
    assert set(report["selftest"]) == {"cached", "padded", "causal"} and max(report["selftest"].values()) < 1e-5
    assert Chat.load(model_dir).template_hash == chat.template_hash


def test_shards_are_adopted_with_their_index(folder: Path, tmp_path: Path) -> None:
    in_shards(folder)
    assert adopt(folder, tmp_path / "out") == 0
    report = report_of(tmp_path / "out")
    assert report["parameters"] == 39_072
    assert (tmp_path / "out/model/model-00002-of-00002.safetensors").exists()


def test_every_fault_is_reported_that_can_be_found_and_the_first_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncated(folder)
    own_code(folder)
    change(folder / "config.json", max_position_embeddings=-1)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('not today') }}")
    assert adopt(folder, tmp_path / "out") == 77
    report = report_of(tmp_path / "out")
    assert report["fits"] is False
    assert kinds(report) == ["weights_truncated", "own_code", "context_missing", "template_refuses"]
    assert capsys.readouterr().err.splitlines()[-1] == report["findings"][0]["sentence"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["alive", "ending.json", "report.json"]


def test_an_earlier_result_does_not_outlive_a_later_one(folder: Path, tmp_path: Path) -> None:
    assert adopt(folder, tmp_path / "out") == 0
    truncated(folder)
    assert adopt(folder, tmp_path / "out2") == 77
    shutil.rmtree(tmp_path / "out/model")
    shutil.copytree(tmp_path / "out2", tmp_path / "out", dirs_exist_ok=True)
    assert adopt(folder, tmp_path / "out") == 77
    assert not (tmp_path / "out/model").exists()


@pytest.mark.parametrize(
    ("own", "stated", "kind", "context"),
    [
        (192, None, None, (192, "config")),
        (192, "64", None, (64, "operator")),
        (192, "192", None, (192, "operator")),
        (192, "193", "context_too_long", (None, None)),
        (None, None, "context_missing", (None, None)),
        (None, "96", None, (96, "operator")),
        (192, "0", "context_too_short", (None, None)),
        (192, "15", "context_too_short", (None, None)),
        (1, None, "context_too_short", (None, None)),
    ],
)
def test_an_operator_may_state_a_context_or_lower_it_but_not_raise_it(
    models: dict[str, Path], tmp_path: Path, own: int | None, stated: str | None, kind: str | None, context: Any
) -> None:
    folder = shutil.copytree(models["llama"], tmp_path / "base")
    change(folder / "config.json", max_position_embeddings=own or -1)
    code = adopt(folder, tmp_path / "out", *(["--context", stated] if stated else []))
    report = report_of(tmp_path / "out")
    assert (code, kinds(report)) == ((77, [kind]) if kind else (0, []))
    assert (report["context"], report["context_source"]) == context
    if not kind:
        assert Chat.load(tmp_path / "out/model").context == context[0]


def test_children_of_an_adopted_model_know_its_context(folder: Path, tmp_path: Path) -> None:
    assert adopt(folder, tmp_path / "out", "--context", "80") == 0
    data = {"demonstrations": [demonstration(n) for n in range(2)]}
    run = write_run(tmp_path / "sft", "sft", parents={"base": tmp_path / "out/model"}, data=data, max_response=16)
    assert main(["sft", str(run)]) == 0
    assert Chat.load(run / "attempts/1/output").context == 80


@pytest.mark.parametrize(
    ("change_of", "kind"),
    [
        ({"model_type": "no such"}, "unknown_architecture"),
        ({"model_type": None}, "unknown_architecture"),
        ({"num_attention_heads": "many"}, "config_unreadable"),
        ({"vocab_size": 100}, "model_files"),
        ({"num_hidden_layers": 3}, "weights"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_kind(
    folder: Path, tmp_path: Path, change_of: dict[str, Any], kind: str
) -> None:
    change(folder / "config.json", **change_of)
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == [kind]


def test_what_others_say_against_a_model_is_one_line_that_names_no_place(folder: Path, tmp_path: Path) -> None:
    change(folder / "config.json", rms_norm_eps="none")
    assert adopt(folder, tmp_path / "out") == 77
    (finding,) = report_of(tmp_path / "out")["findings"]
    assert "rms_norm_eps" in finding["sentence"] and "float" in finding["sentence"]
    change(folder / "config.json", rms_norm_eps=1e-5, hidden_act="no such")
    assert adopt(folder, tmp_path / "out") == 77
    change(folder / "config.json", hidden_act="silu", num_hidden_layers=3)
    assert adopt(folder, tmp_path / "out2") == 77
    for out in ("out", "out2"):
        (finding,) = report_of(tmp_path / out)["findings"]
        assert ".draft" not in finding["sentence"] and str(tmp_path) not in finding["sentence"]
        assert "\n" not in finding["sentence"]


def test_one_fault_is_reported_once(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{")
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == ["json_unreadable"]


def test_a_template_that_is_no_text_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    change(folder / "tokenizer_config.json", chat_template=5)
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == ["template_refuses"]


def test_a_weight_that_no_test_reads_must_be_a_number_too(folder: Path, tmp_path: Path) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][1] = float("nan")  # a control token
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == ["selftest_not_finite"]


def test_a_tokenizer_of_another_model_is_refused(models: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    special = {**tokenizer["added_tokens"][0], "id": 320, "content": "<|more|>"}
    path.write_text(json.dumps({**tokenizer, "added_tokens": [*tokenizer["added_tokens"], special]}))
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == ["tokenizer_larger"]


def test_a_tokenizer_that_cannot_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert adopt(folder, tmp_path / "out") == 77
    assert kinds(report_of(tmp_path / "out")) == ["tokenizer_unreadable"]


def test_what_a_template_does_not_take_is_a_note(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").write_text(STRICT)
    assert adopt(folder, tmp_path / "out") == 0
    report = report_of(tmp_path / "out")
    assert kinds(report, "note") == ["template_no_system", "template_alternates"]
    assert (report["template"]["system"], report["template"]["alternates"]) == (False, True)


def test_a_template_in_the_file_of_a_processor_is_adopted(folder: Path, tmp_path: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert adopt(folder, tmp_path / "out") == 0
    assert (tmp_path / "out/model/chat_template.jinja").read_text() == template
    assert report_of(tmp_path / "out")["template"]["own"] is True


def test_a_generation_config_that_could_not_be_saved_again_is_left_out(folder: Path, tmp_path: Path) -> None:
    change(folder / "generation_config.json", temperature=0.7, do_sample=False)
    assert adopt(folder, tmp_path / "out") == 0
    assert not (tmp_path / "out/model/generation_config.json").exists()
    report = report_of(tmp_path / "out")
    assert kinds(report, "note") == ["generation_ignored"]
    assert report["ignored"] == ["generation_config.json"]
    assert "generation_config.json" not in [file["name"] for file in report["files"]]
    data = {"demonstrations": [demonstration(n) for n in range(2)]}
    run = write_run(tmp_path / "sft", "sft", parents={"base": tmp_path / "out/model"}, data=data, max_response=16)
    assert main(["sft", str(run)]) == 0


def test_an_adapter_beside_the_weights_is_left_out_with_a_warning(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert adopt(folder, tmp_path / "out") == 0
    assert kinds(report_of(tmp_path / "out"), "warn") == ["adapter_ignored"]


def test_a_date_stays_that_of_the_adoption_in_every_model_that_descends_from_it(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").write_text(DATED)
    with time_machine.travel(NOON):
        assert adopt(folder, tmp_path / "out") == 0
        report = report_of(tmp_path / "out")
        assert (report["template"]["date"], kinds(report, "note")) == ("2026-03-04", ["template_date"])
        base = tmp_path / "out/model"
        data = {
            "demonstrations": [demonstration(n) for n in range(2)],
            "rankings": [ranked_slate(n) for n in range(3)],
            "prompts": [{"id": n, "messages": question(n)} for n in range(2)],
        }
        short = {"max_response": 12, "data": data}
        sft = write_run(tmp_path / "sft", "sft", parents={"base": base}, **short)
        assert main(["sft", str(sft)]) == 0
        policy = sft / "attempts/1/output"
        scored = write_run(tmp_path / "reward", "reward", parents={"policy": policy}, **short)
        assert main(["reward", str(scored)]) == 0
    with time_machine.travel(NOON + datetime.timedelta(days=1)):
        parents = {"policy": policy, "reference": policy, "reward": scored / "attempts/1/output"}
        sizes = {"iterations": 1, "rollout_size": 2, "minibatch_size": 2, "shown_samples": 0}
        ppo = write_run(tmp_path / "ppo", "ppo", parents=parents, **short, **sizes)
        assert main(["ppo", str(ppo)]) == 0
        assert "Today is 04 Mar 2026." in Chat.load(ppo / "attempts/1/output").decode(
            Chat.load(ppo / "attempts/1/output").prompt_ids(question(1))  # type: ignore[arg-type]
        )
        again = tmp_path / "again"
        assert adopt(folder, again) == 0
        assert report_of(again)["template"]["hash"] != report["template"]["hash"]


def test_a_full_disk_ends_in_78(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copyfile", no_space)
    assert adopt(folder, tmp_path / "out") == 78
    assert not (tmp_path / "out/model").exists()


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_weights_are_copied_where_they_cannot_be_linked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", no_links)
    assert adopt(folder, tmp_path / "out") == 0
    copied = tmp_path / "out/model/model.safetensors"
    assert copied.read_bytes() == (folder / "model.safetensors").read_bytes()
    assert copied.stat().st_nlink == 1
