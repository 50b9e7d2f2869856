"""Weights from any kind of file: the same tensors, lazily, and one clear line for each way a file can be bad."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.checkpoints.named_tensors import NamedTensors
from bt_cli.errors import BrokenCheckpoint, BtError, NotFound, UnsafePickle
from bt_cli.weight_files.safetensors_file import SafetensorsFile, TensorEntry, write_safetensors
from bt_cli.weight_files.tensor_files import TensorFiles, choose_weights

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def some_tensors(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (7, 5), "b": (3,), "scale": (), "empty": (0, 4), "conv": (4, 3, 2, 2), "wide": (300, 41)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write_single_safetensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_sharded_safetensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    write_sharded(folder, tensors, "model", "safetensors", lambda part, path: save_file(part, path))


def write_single_pickle(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def write_old_pickle(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def write_sharded_pickle(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    write_sharded(folder, tensors, "pytorch_model", "bin", torch.save)


def write_sharded(
    folder: Path, tensors: dict[str, torch.Tensor], stem: str, ending: str, write: Callable[[Any, Path], Any]
) -> None:
    files = {name: f"{stem}-0000{number % 2 + 1}-of-00002.{ending}" for number, name in enumerate(tensors)}
    for file in set(files.values()):
        write({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


WRITERS = [
    write_single_safetensors,
    write_sharded_safetensors,
    write_single_pickle,
    write_old_pickle,
    write_sharded_pickle,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_kind_of_file_gives_the_same_tensors(
    tmp_path: Path, write: Callable[[Path, dict[str, torch.Tensor]], None], dtype: torch.dtype
) -> None:
    tensors = some_tensors(dtype)
    write(tmp_path, tensors)
    files = TensorFiles.in_folder(tmp_path)
    assert {name: entry.shape for name, entry in files.entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    for target in (torch.float32, torch.bfloat16, dtype):
        for name, tensor in tensors.items():
            read = torch.full(tensor.shape, 7.0).to(target)
            files.read_into(name, read)
            assert torch.equal(read, tensor.to(target)), name


def test_the_same_bytes_are_seen_in_a_pickle_and_in_safetensors(tmp_path: Path) -> None:
    tensors = some_tensors(torch.bfloat16)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_single_safetensors(tmp_path / "one", tensors)
    write_single_pickle(tmp_path / "two", tensors)
    one, two = TensorFiles.in_folder(tmp_path / "one"), TensorFiles.in_folder(tmp_path / "two")
    spans = [(0, 3), (100, 200), (300 * 41 * 2 - 1, 300 * 41 * 2)]
    assert one.spans("wide", spans) == two.spans("wide", spans)
    assert one.spans("wide", spans) == b"".join(
        tensors["wide"].view(torch.uint8).numpy().tobytes()[first:last] for first, last in spans
    )


def test_rows_of_a_packed_parameter_are_filled_in_place(tmp_path: Path) -> None:
    tensors = some_tensors()
    write_single_safetensors(tmp_path, tensors)
    packed = torch.zeros(21, 5)
    TensorFiles.in_folder(tmp_path).read_into("a.weight", packed[7:14])
    assert torch.equal(packed[7:14], tensors["a.weight"])
    assert packed[:7].abs().sum() == packed[14:].abs().sum() == 0


def test_views_and_shared_storage_of_a_pickle_are_read_rightly(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {"rows": base[1:3], "turned": base.t(), "same": base, "parameter": torch.nn.Parameter(base * 2)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    files = TensorFiles.in_folder(tmp_path)
    for name, tensor in tensors.items():
        read = torch.empty(tensor.shape)
        files.read_into(name, read)
        assert torch.equal(read, tensor.detach()), name
        raw = tensor.detach().contiguous().numpy().tobytes()
        assert files.spans(name, [(4, 12)]) == raw[4:12]


def test_a_mapping_dropped_on_the_way_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_cli.weight_files.pickle_file._REMAP_AFTER_BYTES", 1)
    tensors = some_tensors()
    write_single_pickle(tmp_path, tensors)
    files = TensorFiles.in_folder(tmp_path)
    for name, tensor in tensors.items():
        read = torch.empty(tensor.shape)
        files.read_into(name, read)
        assert torch.equal(read, tensor)


def test_casting_goes_through_chunks_without_losing_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_cli.weight_files.safetensors_file._CHUNK_BYTES", 40)
    tensors = some_tensors()
    write_single_safetensors(tmp_path, tensors)
    read = torch.empty(300, 41, dtype=torch.bfloat16)
    TensorFiles.in_folder(tmp_path).read_into("wide", read)
    assert torch.equal(read, tensors["wide"].bfloat16())


def test_safetensors_come_before_pickles() -> None:
    names = ["pytorch_model.bin", "model.safetensors.index.json", "flax_model.msgpack", "config.json"]
    assert choose_weights(names) == "model.safetensors.index.json"
    assert choose_weights([*names, "model.safetensors"]) == "model.safetensors"
    assert choose_weights(["pytorch_model.bin", "x"]) == "pytorch_model.bin"
    assert choose_weights(["tf_model.h5"]) is None


class Malicious:
    """Runs a command when unpickled, if one lets it."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_old(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_plain(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


@pytest.mark.parametrize("save", [save_zip, save_old, save_plain])
def test_a_pickle_that_carries_code_is_refused_by_name_and_runs_nothing(
    tmp_path: Path, save: Callable[[object, Path], None]
) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "pytorch_model.bin"
    save({"a": torch.zeros(2), "b": Malicious(witness)}, path)
    with pytest.raises(UnsafePickle) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value) == (
        f"{path} asks to run posix.system when opened; refused. Ask its author for safetensors"
    )
    assert not witness.exists()


def header(content: dict[str, Any]) -> bytes:
    encoded = json.dumps(content).encode()
    return struct.pack("<Q", len(encoded)) + encoded


BROKEN_SAFETENSORS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "{path} is no safetensors file"),
    ("a web page", b"<!DOCTYPE html><html>not here</html>", "{path} is no safetensors file"),
    (
        "short header",
        struct.pack("<Q", 100) + b"{}",
        "{path} is cut short: its header alone needs 108 bytes, the file has 10",
    ),
    ("no json", struct.pack("<Q", 4) + b"abcd", "{path} is no safetensors file: its header is not a JSON object"),
    (
        "cut short",
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}) + bytes(15),
        "{path} is cut short: a ends at byte 86, the file at 85; get it again",
    ),
    (
        "wrong size",
        header({"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}) + bytes(16),
        "{path}: a (5,) F32 does not fill its 16 bytes",
    ),
    (
        "unknown dtype",
        header({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}) + bytes(4),
        "{path}: a is stored as F8_E4M3, which bt does not read",
    ),
    ("no offsets", header({"a": {"dtype": "F32"}}), "{path}: the header's entry for 'a' makes no sense"),
    (
        "pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3",
        "{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
    ),
]


def assert_refused(path: Path, content: bytes, message: str) -> None:
    """A weights file of this content is refused with exactly this line, in which {path} stands for its name."""
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpoint) as caught:
        TensorFiles.in_folder(path.parent)
    assert str(caught.value) == message.format(path=path)


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BROKEN_SAFETENSORS], ids=lambda case: "")
def test_a_bad_safetensors_file_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    assert_refused(tmp_path / "model.safetensors", content, message)


@given(cut=st.integers(min_value=0, max_value=3000), flip=st.integers(min_value=0, max_value=400))
def test_no_damage_to_a_safetensors_file_escapes_as_anything_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write_single_safetensors(folder, {"a": torch.zeros(20, 30), "b": torch.zeros(7)})
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[flip] ^= 0x21
    path.write_bytes(content[:cut])
    try:
        files = TensorFiles.in_folder(folder)
        for name, entry in files.entries.items():
            files.read_into(name, torch.empty(entry.shape))
    except BtError:
        pass


@pytest.mark.parametrize("size", [0, 1, 7, 500, 2000, -1])
def test_a_bad_pickle_is_one_clear_line(tmp_path: Path, size: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(some_tensors(), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BrokenCheckpoint) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"image,caption\nx.jpg,a dog\n",
            "{path} holds no weights: it is neither one of torch's files nor safetensors",
        ),
        (b"<!DOCTYPE html>", "{path} holds no weights: it is neither one of torch's files nor safetensors"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3",
            "{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
        ),
    ],
    ids=["a table whose letters are opcodes", "a web page", "pointer"],
)
def test_what_torch_never_wrote_is_called_so(tmp_path: Path, content: bytes, message: str) -> None:
    assert_refused(tmp_path / "pytorch_model.bin", content, message)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": 3}, path)
    with pytest.raises(BrokenCheckpoint, match="holds no dictionary of tensors"):
        TensorFiles.in_folder(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(3)}, "epoch": 3}, path)
    with pytest.raises(BrokenCheckpoint, match="`bt models convert`"):
        TensorFiles.in_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(2)}, "holds no dictionary of tensors by name"),
        ({"a": torch.eye(2).to_sparse()}, "a is stored sparse, which bt does not read; ask its author for safetensors"),
        ({"a": torch.zeros(2, device="meta")}, "a is stored without its values; ask its author for safetensors"),
    ],
)
def test_a_pickle_of_odd_tensors_is_one_clear_line(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(BrokenCheckpoint, match=message):
        TensorFiles.in_folder(tmp_path)


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value) == (
        f"no weights in {tmp_path}: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
        "pytorch_model.bin.index.json"
    )


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded_safetensors(tmp_path, some_tensors())
    gone = tmp_path / "model-00002-of-00002.safetensors"
    gone.unlink()
    with pytest.raises(NotFound, match=f"{gone} is missing"):
        TensorFiles.in_folder(tmp_path)


def test_what_stands_in_the_place_of_weights_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.mkdir()
    with pytest.raises(NotFound) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value) == f"{path} is no file; weights are wanted there"
    path.rmdir()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(NotFound) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value) == f"{path} is a link to {tmp_path / 'gone'}, which is not there; get the weights again"


@pytest.mark.parametrize(
    "content", ["[]", "{}", "nonsense", '{"weight_map": {}}', '{"weight_map": {"a": "../../etc/passwd"}}']
)
def test_a_bad_index_of_shards_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(BrokenCheckpoint, match=r"model\.safetensors\.index\.json"):
        TensorFiles.in_folder(tmp_path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_written_is_what_the_safetensors_library_reads(tmp_path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file

    tensors = some_tensors()
    code = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}[dtype]
    entries = {name: TensorEntry(tuple(tensor.shape), code) for name, tensor in tensors.items()}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, entries, tensors.values(), {"format": "pt"})
    read = load_file(path)
    assert {name: tensor.dtype for name, tensor in read.items()} == dict.fromkeys(tensors, dtype)
    assert all(torch.equal(read[name], tensors[name].to(dtype)) for name in tensors)
    assert SafetensorsFile(path).entries == entries


@pytest.mark.parametrize(
    "written",
    [
        "bridgetower.text_model.pooler.dense.bias",
        "text_model.pooler.dense.bias",
        "module.bridgetower.text_model.pooler.dense.bias",
        "_orig_mod.module.text_model.pooler.dense.bias",
        "module._orig_mod.bridgetower._orig_mod.text_model.pooler.dense.bias",
    ],
)
def test_what_wrappers_put_before_names_is_taken_off(written: str) -> None:
    from bt_cli.checkpoints.hub_layout import canonical_name

    assert canonical_name(written) == "bridgetower.text_model.pooler.dense.bias"
    assert canonical_name("_orig_mod.itm_score.fc.weight") == "itm_score.fc.weight"
    assert canonical_name("my_module.text_model.pooler.dense.bias") is None


def test_a_tensor_expanded_from_one_number_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    torch.save({"logit_scale": torch.zeros(1).expand(10**12)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BrokenCheckpoint) as error:
        TensorFiles.in_folder(tmp_path)
    said = "logit_scale claims 1,000,000,000,000 numbers, but 4 bytes are stored; ask its author for safetensors"
    assert str(error.value) == f"{tmp_path}/pytorch_model.bin: {said}"


def test_weights_whose_dtype_says_whole_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"logit_scale": torch.zeros(1, dtype=torch.int32)}, tmp_path / "model.safetensors")
    with pytest.raises(BrokenCheckpoint) as error:
        NamedTensors(TensorFiles.in_folder(tmp_path))
    assert str(error.value) == (f"{tmp_path}: logit_scale is stored as I32, but weights are floating; get it again")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.skipif(not os.path.exists("/proc/kmsg"), reason="needs a kernel's file that blocks")
def test_a_kernels_file_in_the_place_of_weights_is_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/kmsg")
    with pytest.raises(BrokenCheckpoint) as caught:
        TensorFiles.in_folder(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: can't be read: a pipe or a device, not a file; get it again"


def test_a_header_larger_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write((20 << 20).to_bytes(8, "little"))
        file.truncate(30 << 20)
    with pytest.raises(BrokenCheckpoint, match=r"model\.safetensors is no safetensors file$"):
        SafetensorsFile(path)


def test_a_compressed_pickle_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A few kilobytes would unpack to whatever size they say."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(3)}, tmp_path / "stored.bin")
    with zipfile.ZipFile(tmp_path / "stored.bin") as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.namelist():
            packed.writestr(entry, stored.read(entry))
    with pytest.raises(BrokenCheckpoint, match="is compressed, as torch writes none; ask its author for safetensors$"):
        TensorFiles([path])


@pytest.mark.parametrize("field", ["shape", "data_offsets"])
def test_an_infinite_number_in_a_header_is_one_clear_line(tmp_path: Path, field: str) -> None:
    path = tmp_path / "model.safetensors"
    fields = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], field: [float("inf"), 4]}
    header = json.dumps({"a": fields}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(BrokenCheckpoint) as caught:
        SafetensorsFile(path)
    assert str(caught.value) == f"{path}: the header's entry for 'a' makes no sense"
