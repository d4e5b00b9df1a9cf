"""A folder of somebody else's: what of it is read, and the sentence by which it is refused."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main
from training.rlhf.exits import InvalidInput
from training.rlhf.model_folder.model_files import read_object, require, survey


@pytest.fixture
def folder(models: dict[str, Path], tmp_path: Path) -> Path:
    """A good model folder that may be spoilt."""
    return shutil.copytree(models["llama"], tmp_path / "outer" / "base")


def change(path: Path, **fields: object) -> None:
    """Add fields to a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def kinds(folder: Path) -> set[str]:
    return {finding.kind for finding in survey(folder).findings}


def in_shards(folder: Path) -> Path:
    """The same weights in two files and an index."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for shard, held in halves.items():
        safetensors.torch.save_file({name: tensors[name] for name in held}, folder / shard, {"format": "pt"})
    weight_map = {name: shard for shard, held in halves.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_only_listed_names_are_read_and_the_others_are_named(folder: Path) -> None:
    for name in ("README.md", "pytorch_model.bin", "modeling_own.py", "head.safetensors", "optimizer.pt", ".hidden"):
        (folder / name).write_bytes(b"\x80\x04 not for reading")
    (folder / "onnx").mkdir()
    files = survey(folder)
    assert not files.findings
    assert files.ignored == [
        ".hidden", "README.md", "head.safetensors", "modeling_own.py", "onnx", "optimizer.pt", "pytorch_model.bin"
    ]  # fmt: skip
    assert sorted(files.read) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_hash_is_about_what_is_read_and_nothing_else(folder: Path) -> None:
    before = survey(folder).sha256()
    (folder / "README.md").write_text("Words.")
    assert survey(folder).sha256() == before
    change(folder / "config.json", rope_theta=5.0)
    assert survey(folder).sha256() != before


def test_names_count_whatever_their_capital_letters(folder: Path) -> None:
    (folder / "config.json").rename(folder / "Config.JSON")
    (folder / "model.safetensors").rename(folder / "Model.SafeTensors")
    files = require(folder)
    assert files.read["config.json"].name == "Config.JSON"
    assert files.read["model.safetensors"].name == "Model.SafeTensors"


def test_shards_are_those_that_the_index_names(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00001-of-00002.safetensors").rename(folder / "MODEL-00001-OF-00002.SAFETENSORS")
    shutil.copy(folder / "model-00002-of-00002.safetensors", folder / "older.safetensors")
    files = require(folder)
    assert files.weights == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert files.ignored == ["older.safetensors"]


def link_out(folder: Path) -> None:
    shutil.move(folder / "tokenizer.json", folder.parent / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to(folder.parent / "tokenizer.json")


def link_folder_out(folder: Path) -> None:
    (folder / "additional_chat_templates").symlink_to("/etc")


def link_to_itself(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("vocab.txt")


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 158424\n"
    (folder / "model.safetensors").write_text(text)


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100_000)


def no_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a header")


def endless_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def lacks_shard(folder: Path) -> None:
    (in_shards(folder) / "model-00002-of-00002.safetensors").unlink()


def names_other_folder(folder: Path) -> None:
    index = in_shards(folder) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../base/model-00001-of-00002.safetensors"}}))


def adapter(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")


def pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "PYTORCH_MODEL.BIN")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def quantised_config(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"bits": 4, "quant_method": "gptq", "group_size": 128})


def quantised_part(folder: Path) -> None:
    change(folder / "config.json", text_config={"quantization_config": {"quant_method": "awq"}})


def quantised_weights(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    safetensors.torch.save_file({**tensors, name: tensors[name].to(torch.int8)}, folder / "model.safetensors")


def float8_weights(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    safetensors.torch.save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors")


def header_says(folder: Path, **facts: object) -> None:
    """Let the header say this of the first tensor; None: nothing of it."""
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")
    header[first] = {name: fact for name, fact in {**header[first], **facts}.items() if fact is not None}
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + whole[8 + length :])


def tensor_without_type(folder: Path) -> None:
    header_says(folder, dtype=None)


def tensor_of_no_type(folder: Path) -> None:
    header_says(folder, dtype=7)


def tensor_without_shape(folder: Path) -> None:
    header_says(folder, shape=None)


def tensor_of_no_shape(folder: Path) -> None:
    header_says(folder, shape=["many"])


def whole_numbers(folder: Path) -> None:
    store_as(folder, torch.int64)


def store_as(folder: Path, dtype: torch.dtype) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})


def own_code(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoModel": "own.Model"})


def own_code_within(folder: Path) -> None:
    change(folder / "tokenizer_config.json", extra=[{"inner": {"auto_map": {"AutoTokenizer": "own.Tokenizer"}}}])


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def not_utf8(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_bytes(b'{"a": "\xff"}')


def no_object(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def deep(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def huge(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"a": "b" * 9_000_000}))


def twice(folder: Path) -> None:
    shutil.copy(folder / "config.json", folder / "CONFIG.json")


def pipe(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    os.mkfifo(folder / "generation_config.json")


def directory_as_file(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


SPOILS: dict[Callable[[Path], None], str] = {
    link_out: "link_leaves",
    link_folder_out: "link_leaves",
    link_to_itself: "link_leaves",
    pointer: "lfs_pointer",
    truncated: "weights_truncated",
    no_header: "weights_unreadable",
    endless_header: "weights_unreadable",
    tensor_without_type: "weights_unreadable",
    tensor_of_no_type: "weights_unreadable",
    tensor_without_shape: "weights_unreadable",
    tensor_of_no_shape: "weights_unreadable",
    lacks_shard: "shard_missing",
    names_other_folder: "index_unusable",
    adapter: "adapter_alone",
    pickles: "pickles_only",
    no_weights: "weights_missing",
    quantised_config: "quantised",
    quantised_part: "quantised",
    quantised_weights: "quantised",
    float8_weights: "quantised",
    whole_numbers: "quantised",
    own_code: "own_code",
    own_code_within: "own_code",
    no_tokenizer: "tokenizer_missing",
    no_config: "config_missing",
    broken_json: "json_unreadable",
    not_utf8: "json_unreadable",
    no_object: "json_no_object",
    deep: "json_too_deep",
    huge: "json_too_large",
    twice: "name_twice",
    pipe: "no_file",
    directory_as_file: "no_file",
}


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_folder_is_refused_for_what_is_wrong_with_it_and_for_nothing_else(
    folder: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    assert kinds(folder) == {SPOILS[spoil]}
    with pytest.raises(InvalidInput) as refusal:
        require(folder)
    assert refusal.value.kind == SPOILS[spoil]
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spoil", [own_code_within, quantised_weights, adapter], ids=lambda one: one.__name__)
def test_a_stage_refuses_what_an_examination_refuses(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    ask = [{"role": "user", "content": "Why?"}]
    data = {"demonstrations": [{"id": "1", "messages": ask, "response": "Because."}]}
    run = write_run(tmp_path / "run", "sft", parents={"base": folder}, data=data, max_response=16)
    assert main(["sft", str(run)]) == 77


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_full_weights_are_not_taken_for_quantised_ones(folder: Path, dtype: torch.dtype) -> None:
    store_as(folder, dtype)
    assert not kinds(folder)


def test_several_faults_are_found_at_once(folder: Path) -> None:
    for spoil in (truncated, own_code, no_tokenizer):
        spoil(folder)
    assert kinds(folder) == {"weights_truncated", "own_code", "tokenizer_missing"}


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "blobs").mkdir()
    shutil.move(folder / "tokenizer.json", folder / "blobs" / "4d7a")
    (folder / "tokenizer.json").symlink_to("blobs/4d7a")
    assert require(folder).read["tokenizer.json"] == (folder / "blobs" / "4d7a").resolve()


def test_a_tokenizer_may_know_words_that_a_config_may_not(folder: Path) -> None:
    change(folder / "tokenizer.json", auto_map=None)
    assert not kinds(folder)


def test_a_byte_order_mark_does_no_harm(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_object(path)["model_type"] == "llama"
