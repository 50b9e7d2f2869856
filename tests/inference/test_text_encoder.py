"""Texts without torch: the numpy tower against the network's own, on every variant of it."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.bridgetower.configuration import ACTIVATIONS
from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.errors import CheckpointMismatch
from bt_cli.inference.light_texts import LightTexts
from bt_cli.inference.text_encoder import TextEncoder, activation, erf

TEXTS = ["a cat", "", "two dogs in a car, seen from <mask> above", "x", "é" * 80, "<pad> in the middle <pad>", "a cat"]

VARIANTS: dict[str, dict[str, Any]] = {
    **{f"text {name}": {"text_config": {"hidden_act": name}} for name in ACTIVATIONS},
    "cross gelu_new": {"hidden_act": "gelu_new"},
    "epsilons": {"layer_norm_eps": 1e-3, "text_config": {"layer_norm_eps": 1e-2}},
    "vision wider": {"vision_config": {"hidden_size": 128}},
    "text wider": {"text_config": {"hidden_size": 128, "num_attention_heads": 8, "intermediate_size": 96}},
    "last vision layer removed": {"vision_config": {"remove_last_layer": True, "num_hidden_layers": 4}},
    "one layer": {"num_hidden_layers": 1, "text_config": {"num_hidden_layers": 1}},
    "from the tower": {"itc_image_path": "tower"},
    "two types, padding elsewhere": {
        "text_config": {"type_vocab_size": 2, "pad_token_id": 3, "max_position_embeddings": 70}
    },
    "other dimension": {"contrastive_hidden_size": 24},
}


def by_torch(checkpoint: Checkpoint, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    network = checkpoint.network({"itc"}, {"text"})
    with torch.inference_mode():
        embeds = network.encode_texts(torch.from_numpy(ids), torch.from_numpy(mask), bridges=False).embeds
    assert embeds is not None
    return embeds.numpy()


def by_numpy(checkpoint: Checkpoint, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    encoder = TextEncoder.of(checkpoint)
    assert encoder is not None
    return encoder.encode(ids, mask)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_networks_own_tower(tmp_path: Path, variant: str) -> None:
    checkpoint = Checkpoint.open(random_checkpoint(tmp_path / "c", **VARIANTS[variant]))
    tokens = checkpoint.tokenizer().encode(TEXTS)
    expected = by_torch(checkpoint, tokens.input_ids, tokens.attention_mask)
    found = by_numpy(checkpoint, tokens.input_ids, tokens.attention_mask)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    for row, text in enumerate(TEXTS):
        one = checkpoint.tokenizer().encode([text])
        assert np.abs(by_numpy(checkpoint, one.input_ids, one.attention_mask)[0] - found[row]).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = Checkpoint.open(random_checkpoint(tmp_path / "c", dtype=dtype))
    tokens = checkpoint.tokenizer().encode(TEXTS)
    expected = by_torch(checkpoint, tokens.input_ids, tokens.attention_mask)
    assert np.abs(by_numpy(checkpoint, tokens.input_ids, tokens.attention_mask) - expected).max() < 1e-5


def test_tensors_at_odd_places_of_the_file(tmp_path: Path, checkpoint_folder: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(checkpoint_folder, folder)
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip() + b" "
    header += b" " * (1 - len(header) % 2)
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    even, odd = Checkpoint.open(checkpoint_folder), Checkpoint.open(folder)
    tokens = even.tokenizer().encode(TEXTS)
    assert not odd.tensors.mapped("itc_text_head.fc.weight").flags.aligned
    assert np.array_equal(by_numpy(odd, *tokens[:2]), by_numpy(even, *tokens[:2]))


def test_pickles_and_what_does_not_fit_are_left_to_torch(tmp_path: Path, checkpoint_folder: Path) -> None:
    checkpoint = Checkpoint.open(checkpoint_folder)
    shutil.copytree(checkpoint_folder, tmp_path / "pickle")
    tensors = {}
    for name, entry in checkpoint.files.entries.items():
        tensors[name] = torch.empty(entry.shape)
        checkpoint.files.read_into(name, tensors[name])
    torch.save(tensors, tmp_path / "pickle/pytorch_model.bin")
    (tmp_path / "pickle/model.safetensors").unlink()
    assert TextEncoder.of(Checkpoint.open(tmp_path / "pickle")) is None
    shutil.copytree(checkpoint_folder, tmp_path / "wrong")
    config = json.loads((tmp_path / "wrong/config.json").read_text())
    config["text_config"]["intermediate_size"] += 1
    (tmp_path / "wrong/config.json").write_text(json.dumps(config))
    assert TextEncoder.of(Checkpoint.open(tmp_path / "wrong")) is None
    with pytest.raises(CheckpointMismatch, match="mis-shaped"):
        bt_cli.load(tmp_path / "wrong").encode_texts(["a"])


def test_the_error_function() -> None:
    values = np.linspace(-6, 6, 4001, dtype=np.float32)
    assert max(abs(float(erf(value[None])[0]) - math.erf(value)) for value in values) < 6e-7


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_overflow_for_no_number(name: str) -> None:
    values = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = activation(name)(values)
    assert np.abs(found - np.maximum(values, 0)).max() < 1e-4


def test_many_texts_are_for_torch(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    checkpoint = Checkpoint.open(checkpoint_folder)
    light = LightTexts(checkpoint)
    few = checkpoint.tokenizer().encode(["a cat"])
    assert light.can_take(few)
    light._left = 0.0
    assert not light.can_take(few)


SPELLINGS = [
    ["a red car"],
    ["a red car", "-k", "3", "--json"],
    ["a red car", "--paths"],
    ["a red car", "-0"],
    ["--add", "2:a red car", "--subtract", "a dog"],
    ["a red car", "--glob", "*.png", "-g", "!x/**", "--min-score", "-1"],
    ["a red car", "--to", "captions"],
    ["a red car", "--device", "cpu", "--dtype", "float32"],
    ["--queries", "queries.tsv"],
    ["--queries", "queries.tsv", "--json", "--glob", "*.png"],
    ["--queries", "queries.tsv", "--to", "captions", "--json"],
]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index by tiny, of pictures with captions, and a file of queries."""
    from PIL import Image

    from bt_cli.commands.app import main

    place = tmp_path_factory.mktemp("indexed")
    for name, color in (("a", "red"), ("b", "blue"), ("c", "green")):
        Image.new("RGB", (64, 64), color).save(place / f"{name}.png")
    (place / "captions.tsv").write_text("a.png\ta red square\nb.png\ta blue square\n")
    (place / "queries.tsv").write_text("1\ta red car\n2\ta dog\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["index", ".", "--model", "tiny", "--captions", "captions.tsv", "--quiet"]) == 0
    return place


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_a_text_search_imports_nothing_heavy(indexed: Path, spelling: list[str]) -> None:
    code = (
        "import sys\nfrom bt_cli.commands.app import main\n"
        f"code = main({['search', *spelling]!r})\n"
        "heavy = {'torch', 'faiss', 'pyarrow', 'PIL', 'huggingface_hub', 'transformers', 'multiprocessing'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=indexed, capture_output=True, check=True)
    assert ran.stdout
    # Date, camera and place, which an object names, stand in the Parquet table alone.
    needed = ["pyarrow"] if "--json" in spelling else []
    assert ran.stderr.decode().splitlines()[-1] == f"0 {needed}"


QUIET_COMMANDS = [
    ["info"],
    ["info", "--json"],
    ["models", "list"],
    ["models", "info", "tiny"],
    ["encode", "captions", "captions.tsv", "-o", "out.parquet", "--model", "tiny"],
]


@pytest.mark.parametrize("command", QUIET_COMMANDS, ids=" ".join)
def test_other_commands_that_need_no_torch(indexed: Path, command: list[str]) -> None:
    code = (
        "import sys\nfrom bt_cli.commands.app import main\n"
        f"code = main({command!r})\nprint(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    settings = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}  # bfloat16 is then slow on any processor
    ran = subprocess.run([sys.executable, "-c", code], cwd=indexed, capture_output=True, check=True, env=settings)
    assert ran.stderr.decode().splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    "work",
    [
        "model = bt_cli.load('tiny'); assert len(model.encode_texts(['a cat', 'two dogs'])) == 2",
        "index = bt_cli.Index.open(); assert len(index.search('a red car', k=2)) == 2",
    ],
)
def test_texts_from_python_import_no_torch(indexed: Path, work: str) -> None:
    code = f"import sys, bt_cli\n{work}\nprint('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=indexed, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_a_file_of_captions_is_embedded_by_one_engine(
    tmp_path: Path, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    checkpoint = Checkpoint.open(checkpoint_folder)
    light = LightTexts(checkpoint)
    assert light.expect(["a cat"] * 50)
    assert light.used
    light._left = 0.0
    few = LightTexts(checkpoint)
    few._left = 50 * 3 * TextEncoder.of(checkpoint).parameters  # type: ignore[union-attr]
    assert not few.expect(["a cat on a mat in a house"] * 50)
    assert not few.used
    assert few.expect(["a"] * 50)
    assert few.can_take(checkpoint.tokenizer().encode(["w x y z " * 8] * 60))
