"""What a checkpoint says about itself, and networks that are filled from it in whole or in part."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from random_checkpoint import HEADS, random_checkpoint, random_network, small_config, sparse_checkpoint
from safetensors.torch import load_file, save_file

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.errors import BadConfig, BadTokenizer, CheckpointMismatch, MissingHead


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def rewrite(folder: Path, change: Any) -> None:
    """Apply `change` to the dictionary of a checkpoint's tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_network_is_filled_to_the_last_parameter(checkpoint_folder: Path) -> None:
    made = random_network(small_config())
    read = Checkpoint.open(checkpoint_folder).network()
    expected = dict(made.named_parameters())
    assert {name for name, _ in read.named_parameters()} == set(expected)
    for name, parameter in read.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, expected[name]), name
    assert not read.training


PARTS: list[tuple[set[str] | None, set[str] | None]] = [
    ({"itc"}, {"text"}),
    ({"itc"}, {"vision"}),
    ({"itm"}, {"text", "vision", "cross"}),
    (set(), {"text", "vision", "cross"}),
    ({"mlm", "itm"}, None),
]


@pytest.mark.parametrize(("heads", "towers"), PARTS)
def test_a_part_of_the_network_equals_the_same_part_of_the_whole(
    checkpoint_folder: Path, heads: set[str] | None, towers: set[str] | None
) -> None:
    checkpoint = Checkpoint.open(checkpoint_folder)
    whole = dict(checkpoint.network().named_parameters())
    part = dict(checkpoint.network(heads, towers).named_parameters())
    assert part
    assert set(part) < set(whole)
    assert all(torch.equal(parameter, whole[name]) for name, parameter in part.items())


def test_a_text_search_reads_the_text_tower_and_its_head_alone(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(checkpoint_folder)
    read: list[str] = []
    read_into = checkpoint.files.read_into
    monkeypatch.setattr(
        checkpoint.files, "read_into", lambda name, target: (read.append(name), read_into(name, target))[1]
    )
    checkpoint.network(heads={"itc"}, towers={"text"})
    assert read
    assert all(name.startswith(("bridgetower.text_model.", "itc_text_head.", "logit_scale")) for name in read)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_are_cast_while_they_are_read(checkpoint_folder: Path, dtype: torch.dtype) -> None:
    checkpoint = Checkpoint.open(checkpoint_folder)
    exact = dict(checkpoint.network().named_parameters())
    for name, parameter in checkpoint.network(dtype=dtype).named_parameters():
        wanted = torch.float32 if name == "logit_scale" else dtype
        assert parameter.dtype == wanted
        assert torch.equal(parameter, exact[name].to(wanted)), name


def test_names_without_the_prefix_buffers_and_foreign_heads_do_no_harm(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "bare")

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("bridgetower.")] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(66)
        tensors["vision_model.visual.embeddings.position_ids"] = torch.arange(17)
        tensors["vqa_classifier.0.weight"] = torch.zeros(3, 3)

    rewrite(folder, change)
    bare, whole = Checkpoint.open(folder), Checkpoint.open(checkpoint_folder)
    assert bare.heads == whole.heads == set(HEADS)
    assert bare.parameters == whole.parameters
    assert bare.fingerprint == whole.fingerprint
    expected = dict(whole.network().named_parameters())
    assert all(torch.equal(each, expected[name]) for name, each in bare.network().named_parameters())


def test_quantised_weights_are_refused_by_name(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "int8")
    name = "bridgetower.text_model.encoder.layer.0.intermediate.dense.weight"

    def quantise(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = (tensors[name] * 100).to(torch.int8)
        tensors[name.replace("weight", "SCB")] = torch.ones(len(tensors[name]))

    rewrite(folder, quantise)
    with pytest.raises(CheckpointMismatch) as caught:
        Checkpoint.open(folder).network()
    assert str(caught.value) == (
        f"{folder} is quantised, which bt can't read: {name} (I8); "
        "take its weights in F64, F32, F16, BF16 (bt quantises by itself: --dtype int8)"
    )


def test_weights_of_something_else_are_no_checkpoint(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "else")
    save_file(
        {f"module.{part}.{number}": torch.zeros(2) for part in "abcd" for number in (1, 2)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointMismatch) as caught:
        Checkpoint.open(folder)
    assert str(caught.value) == (
        f"{folder / 'model.safetensors'} holds no tensor of a BridgeTower: "
        "its names begin with 'module.a', 'module.b', 'module.c' ...; "
        "names have to be as transformers' BridgeTower has them (text_model.*, cross_modal_*)"
    )
    save_file({}, folder / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="it has none at all"):
        Checkpoint.open(folder)


def test_heads_are_read_off_the_tensors(tmp_path: Path) -> None:
    for heads in ((), ("itm",), ("mlm",), ("itm", "mlm"), ("itc",), ("itc", "itc_cross")):
        folder = random_checkpoint(tmp_path / "-".join(("with", *heads)), heads=heads)
        checkpoint = Checkpoint.open(folder)
        assert checkpoint.heads == set(heads)
        assert checkpoint.embedding_dim == (32 if "itc" in heads else None)
        network = checkpoint.network()
        assert (network.itm_head is not None) == ("itm" in heads)
        assert (network.itc_cross_head is not None) == ("itc_cross" in heads)


def test_the_embeddings_dimension_is_read_off_where_the_config_lacks_it(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "x")
    config = json.loads((folder / "config.json").read_text())
    del config["contrastive_hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    assert Checkpoint.open(folder).embedding_dim == 32
    Checkpoint.open(folder).network()


def test_a_missing_head_says_which_there_are_and_where_to_find_it(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "itc", heads=("itc",))
    with pytest.raises(MissingHead) as caught:
        Checkpoint.open(folder).network(heads={"itm"})
    assert str(caught.value) == (
        f"{folder} has no ITM head (its heads: ITC); for reranking and scoring use one that has it, "
        "such as BridgeTower/bridgetower-large-itm-mlm or tiny"
    )


def test_missing_and_misshaped_tensors_are_listed_with_their_shapes(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "wrong")

    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["bridgetower.text_model.encoder.layer.1.attention.self.key.weight"]
        del tensors["bridgetower.vision_model.visual.ln_post.bias"]
        tensors["itm_score.fc.weight"] = torch.zeros(2, 64)

    rewrite(folder, change)
    with pytest.raises(CheckpointMismatch) as caught:
        Checkpoint.open(folder).network()
    assert str(caught.value) == (
        f"{folder} does not fit its config.json: "
        "missing: bridgetower.text_model.encoder.layer.1.attention.self.key.weight 64x64, "
        "bridgetower.vision_model.visual.ln_post.bias 64; "
        "mis-shaped: itm_score.fc.weight is 2x64 instead of 2x128"
    )
    # What the wrong tensors have no part in still works.
    Checkpoint.open(folder).network(heads={"mlm"}, towers=set()).eval()


def test_a_long_list_of_missing_tensors_is_cut(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "x")
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "text_model.encoder" in name])
    with pytest.raises(CheckpointMismatch, match=r"and 42 more$"):
        Checkpoint.open(folder).network()


def test_the_unused_pooler_of_the_text_tower_may_be_missing(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "x")
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "text_model.pooler" in name])
    assert torch.equal(Checkpoint.open(folder).network().text_tower.pooler.weight, torch.zeros(64, 64))


def test_a_tied_decoder_may_be_missing(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "tied")
    rewrite(folder, lambda tensors: tensors.pop("mlm_score.decoder.weight"))
    with pytest.raises(CheckpointMismatch, match=r"missing: mlm_score\.decoder\.weight"):
        Checkpoint.open(folder).network()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    network = Checkpoint.open(folder).network()
    assert torch.equal(network.mlm_head.decoder.weight, network.text_tower.word_embeddings.weight)


def test_the_fingerprint_is_of_the_content_and_not_of_the_file(checkpoint_folder: Path, tmp_path: Path) -> None:
    original = Checkpoint.open(checkpoint_folder).fingerprint
    pickled = copy_of(checkpoint_folder, tmp_path / "pickled")
    tensors = load_file(pickled / "model.safetensors")
    (pickled / "model.safetensors").unlink()
    torch.save(dict(reversed(tensors.items())), pickled / "pytorch_model.bin")
    assert Checkpoint.open(pickled).fingerprint == original
    described = json.loads((pickled / "config.json").read_text())
    (pickled / "config.json").write_text(json.dumps({**described, "transformers_version": "9"}))
    assert Checkpoint.open(pickled).fingerprint == original
    (pickled / "README.md").write_text("words")
    assert Checkpoint.open(pickled).fingerprint == original


def nudge(name: str) -> Any:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name] * 1.001

    return change


def swap(one: str, other: str) -> Any:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[one], tensors[other] = tensors[other], tensors[one]

    return change


WEIGHT_CHANGES = {
    "a norm": nudge("bridgetower.vision_model.visual.ln_post.weight"),
    "a large tensor": nudge("bridgetower.text_model.embeddings.word_embeddings.weight"),
    "a scalar": nudge("logit_scale"),
    "a swap": swap(
        "bridgetower.cross_modal_text_pooler.dense.weight", "bridgetower.cross_modal_image_pooler.dense.weight"
    ),
    "another dtype": lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()}),
    "a head less": lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("itm_score")],
}


@pytest.mark.parametrize("change", WEIGHT_CHANGES.values(), ids=WEIGHT_CHANGES.keys())
def test_the_fingerprint_changes_with_the_weights(checkpoint_folder: Path, tmp_path: Path, change: Any) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "changed")
    rewrite(folder, change)
    assert Checkpoint.open(folder).fingerprint != Checkpoint.open(checkpoint_folder).fingerprint


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("config.json", "layer_norm_eps", 1e-6),
        ("config.json", "itc_image_path", "tower"),
        ("preprocessor_config.json", "size", {"height": 64, "width": 64}),
    ],
)
def test_the_fingerprint_changes_with_what_config_and_preprocessing_do(
    checkpoint_folder: Path, tmp_path: Path, file: str, name: str, value: Any
) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "changed")
    settings = json.loads((folder / file).read_text())
    settings.pop("pipeline", None)
    (folder / file).write_text(json.dumps({**settings, name: value}))
    assert Checkpoint.open(folder).fingerprint != Checkpoint.open(checkpoint_folder).fingerprint


def test_another_image_size_resizes_positions_and_pictures(checkpoint_folder: Path) -> None:
    native, larger = Checkpoint.open(checkpoint_folder), Checkpoint.open(checkpoint_folder, image_size=96)
    assert larger.image_processor().output_size == (96, 96)
    assert larger.fingerprint != native.fingerprint
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        # The network itself resizes its table for an input of another size: the outcome has to be the same.
        on_the_fly = native.network().encode_images(pixels).need_bridges()
        beforehand = larger.network().encode_images(pixels).need_bridges()
    assert torch.allclose(on_the_fly, beforehand, atol=1e-6)
    table = larger.network().vision_tower.position_embedding
    assert table.shape == (37, 64)
    assert torch.equal(table[0], native.network().vision_tower.position_embedding[0])


def test_an_impossible_image_size_is_refused(checkpoint_folder: Path) -> None:
    with pytest.raises(BadConfig, match="image size 8 is less than one patch of 16 pixels"):
        Checkpoint.open(checkpoint_folder, image_size=8)
    with pytest.raises(BadConfig, match="^image size 100000 is more than 16,384 pixels"):
        Checkpoint.open(checkpoint_folder, image_size=100_000)


def test_a_tokenizer_of_another_model_is_refused(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "few", text_config={"vocab_size": 100})
    with pytest.raises(
        BadTokenizer, match="the tokenizer has 261 words, the checkpoint 100; they are not of one model"
    ):
        Checkpoint.open(folder).tokenizer()


def test_a_broken_preprocessor_config_is_named(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "x")
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(BadConfig, match=r"preprocessor_config\.json: not valid JSON"):
        Checkpoint.open(folder).image_processor()
    (folder / "preprocessor_config.json").write_text("[" * 100_000)
    with pytest.raises(BadConfig, match=r"preprocessor_config\.json: not valid JSON"):
        Checkpoint.open(folder).image_processor()
    (folder / "preprocessor_config.json").write_text('{"size": 1e999}')
    with pytest.raises(BadConfig, match=r"preprocessor_config\.json: size is inf, but has to be a number that fits"):
        Checkpoint.open(folder).image_processor()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_device_in_place_of_a_file_is_not_read(checkpoint_folder: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(checkpoint_folder, tmp_path / "x")
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(BadConfig, match=f"{name}: not a regular file"):
        Checkpoint.open(folder).image_processor()


# bare, with ITM, with MLM, with ITC: BRIDGETOWER.md's table, counted from the port.
BASE = {"": 326_347_008, "itm": 326_350_082, "mlm": 365_592_921}
LARGE = {"": 864_514_048, "itm": 864_518_146, "mlm": 917_087_321, "itc": 866_612_737}
PUBLISHED = [
    ("bridgetower-base", (), BASE[""], 288, None, 695),
    ("bridgetower-base", ("itm",), BASE["itm"], 288, None, 697),
    ("bridgetower-base", ("mlm",), BASE["mlm"], 288, None, 701),
    ("bridgetower-base-itm-mlm", ("itm", "mlm"), BASE["itm"] + BASE["mlm"] - BASE[""], 288, None, 703),
    ("bridgetower-large-itm-mlm", ("itm", "mlm"), LARGE["itm"] + LARGE["mlm"] - LARGE[""], 294, None, 1039),
    ("bridgetower-large-itm-mlm-gaudi", ("itm",), LARGE["itm"], 294, None, 1033),
    ("bridgetower-large-itm-mlm-gaudi", ("mlm",), LARGE["mlm"], 294, None, 1037),
    ("bridgetower-large-itm-mlm-itc", ("itc", "itc_cross"), LARGE["itc"], 294, 512, 1038),
]


@pytest.mark.parametrize(("name", "heads", "parameters", "image_size", "dimension", "tensors"), PUBLISHED)
def test_published_configurations_are_described_rightly(
    reference: Path,
    tmp_path: Path,
    name: str,
    heads: tuple[str, ...],
    parameters: int,
    image_size: int,
    dimension: int | None,
    tensors: int,
) -> None:
    folder = sparse_checkpoint(tmp_path / name, reference / "hub_configs" / name, heads)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.heads == set(heads)
    assert checkpoint.parameters == parameters
    assert checkpoint.image_size == image_size
    assert checkpoint.embedding_dim == dimension
    assert checkpoint.image_processor().output_size == (image_size, image_size)
    assert len(checkpoint.files.entries) == tensors
    assert len(checkpoint.fingerprint) == 16


PEAK = """
    import os, re, sys
    import torch
    from bt_cli.checkpoints.checkpoint import Checkpoint
    import bt_cli.bridgetower.network
    before = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    network = Checkpoint.open(sys.argv[1]).network(heads=set(), towers={"text"}, dtype=getattr(torch, sys.argv[2]))
    # Not ru_maxrss: a process that was forked from a large one begins with that one's.
    peak = int(re.search("VmHWM:\\s*([0-9]+) kB", open("/proc/self/status").read())[1]) * 1024
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    print(size, peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux shows it")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_for_a_text_search_takes_little_more_memory_than_the_text_tower(
    reference: Path, tmp_path: Path, dtype: str
) -> None:
    folder = sparse_checkpoint(tmp_path / "base", reference / "hub_configs" / "bridgetower-base", ())
    command = [sys.executable, "-c", textwrap.dedent(PEAK), str(folder), dtype]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    size, peak = map(int, ran.stdout.split())
    print(f"text tower {size / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB: {peak / size:.2f} x ({dtype})")
    assert size == 124_645_632 * (4 if dtype == "float32" else 2)
    assert 0.95 * size < peak < 1.3 * size
