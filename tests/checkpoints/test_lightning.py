"""The authors' original files, converted: every output that the original code recorded, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_checkpoint import write_tokenizer_files

from bt_cli.bridgetower.losses import itc_pair_loss, mlm_loss
from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.checkpoints.lightning import convert
from bt_cli.errors import BadConfig, BadTokenizer, BrokenCheckpoint, CheckpointMismatch, NotFound, UnsafePickle
from bt_cli.preprocessing.tokenizer import Tokenizer

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def original(reference: Path) -> Path:
    return reference / "original" / "A_full.ckpt"


@pytest.fixture(scope="module")
def converted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The file converted at its own size and at 96 pixels."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.warns(UserWarning, match=r"A_full\.ckpt: left out, as nothing here uses it: rank_output$"):
        convert(original, folder / "64")
    with pytest.warns(UserWarning, match="rank_output"):
        convert(original, folder / "96", image_size=96)
    return {64: folder / "64", 96: folder / "96"}


def recorded(reference: Path, size: int) -> dict[str, torch.Tensor]:
    name = "A_full.npz" if size == 64 else "A_full_at96.npz"
    with np.load(reference / "original" / name) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}


def outputs(folder: Path, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Everything that the original recorded and a converted checkpoint can make, under the recorded names."""
    network = Checkpoint.open(folder).network()
    mask = data["attention_mask"]
    with torch.no_grad():
        plain = network(data["pixel_values"], data["input_ids"], mask)
        masked = network(data["pixel_values"], data["input_ids_mlm"], mask)
        images, texts = network.encode_images(data["pixel_values"]), network.encode_texts(data["input_ids"], mask)
        count = len(images)
        image_index, text_index = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
        fused = network.fuse(images, texts, (image_index.flatten(), text_index.flatten()), wanted="pooled")
        tower = torch.stack(network.vision_tower(data["pixel_values"], 4))
        all_pairs = network.itm_logits(fused.pooler_output)
    text_bridges = texts.need_bridges() - network.text_bridge.token_type[0]
    image_bridges = images.need_bridges() - network.image_bridge.token_type[0]
    return {
        "text_feats": plain.text_features,
        "image_feats": plain.image_features,
        "cls_feats": plain.pooler_output,
        "itm_logits": plain.itm_logits,
        "mlm_text_feats": masked.text_features,
        "mlm_logits": masked.mlm_logits,
        "mlm_loss": mlm_loss(masked.mlm_logits, data["labels_mlm"]),
        "itc_text_feats": plain.text_embeds,
        "itc_image_feats": plain.image_embeds,
        "all_pairs_itm_logits": all_pairs.view(count, count, 2),
        "text_embedss_transformed": text_bridges,
        "image_embedss_transformed": image_bridges,
        "vit_all_layers_ln_post": tower,
        "resized_pos_embed": network.vision_tower.position_embedding,
    }


@pytest.mark.parametrize("size", [64, 96])
def test_every_recorded_output_is_reproduced(converted: dict[int, Path], reference: Path, size: int) -> None:
    data = recorded(reference, size)
    made = outputs(converted[size], data)
    compared = 0
    for name, expected in data.items():
        if name.startswith("out_") and name not in ("out_rank_scores", "out_itc_loss"):
            difference = (made[name.removeprefix("out_")].detach() - expected).abs().max().item()
            assert difference < TOLERANCE, f"{name}: {difference}"
            compared += 1
    assert compared == (13 if size == 64 else 14)


@pytest.mark.parametrize("size", [64, 96])
def test_the_recorded_contrastive_loss_is_reproduced(converted: dict[int, Path], reference: Path, size: int) -> None:
    data = recorded(reference, size)
    network = Checkpoint.open(converted[size]).network()
    made = outputs(converted[size], data)
    with torch.no_grad():
        loss = itc_pair_loss(made["itc_text_feats"], made["itc_image_feats"], network.logit_scale)
    assert abs(loss.item() - data["out_itc_loss"].item()) < TOLERANCE
    assert math.isclose(network.logit_scale.item(), math.log(1 / 0.07), rel_tol=1e-6)


# Each of these undoes one thing in which the original differs from the port; the comparison above has to notice.
UNDONE = [
    ("cross_layer_norm_eps", 1e-2),
    ("mlm_layer_norm_eps", 1e-2),
    ("itc_image_path", "bridged"),
    ("num_attention_heads", 2),
]


@pytest.mark.parametrize(("field", "value"), UNDONE)
def test_what_the_config_records_matters(
    converted: dict[int, Path], reference: Path, tmp_path: Path, field: str, value: Any
) -> None:
    folder = tmp_path / "undone"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(converted[64] / "model.safetensors")
    config = json.loads((converted[64] / "config.json").read_text())
    config[field] = value
    if field == "num_attention_heads":
        config["text_config"][field] = value
    (folder / "config.json").write_text(json.dumps(config))
    data = recorded(reference, 64)
    made = outputs(folder, data)
    names = ("text_feats", "mlm_logits", "itc_image_feats")
    assert max((made[name] - data[f"out_{name}"]).abs().max().item() for name in names) > 10 * TOLERANCE


def test_the_config_says_in_what_the_original_differs(converted: dict[int, Path]) -> None:
    config = Checkpoint.open(converted[96]).config
    assert config.cross_eps == config.mlm_eps == 1e-12
    assert config.layer_norm_eps == config.text_config.layer_norm_eps == config.vision_config.layer_norm_eps == 1e-5
    assert config.itc_image_path == "tower"
    assert config.vision_config.image == (96, 96)
    checkpoint = Checkpoint.open(converted[96])
    assert checkpoint.heads == {"itc", "itm", "mlm"}
    processor = checkpoint.image_processor()
    assert processor.output_size == (96, 96)
    assert processor.settings.pipeline == "squash"


def test_a_pipeline_and_a_tokenizer_can_be_given(original: Path, tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path / "words")
    words = Tokenizer.from_files(vocab=tmp_path / "words" / "vocab.json", merges=tmp_path / "words" / "merges.txt")
    with (
        pytest.warns(UserWarning, match="rank_output"),
        pytest.raises(BadTokenizer, match="has 200 words, the tokenizer 261; they are not of one model"),
    ):
        convert(original, tmp_path / "out", tokenizer=words)
    assert not (tmp_path / "out").exists()
    with pytest.warns(UserWarning, match="rank_output"):
        convert(original, tmp_path / "out", pipeline="crop")
    assert Checkpoint.open(tmp_path / "out").image_processor().settings.pipeline == "crop"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (100, "image size 100 is no multiple of the patch size 16"),
        (160_000, "image size 160000 is more than 16,384 pixels"),
    ],
)
def test_an_image_size_that_no_grid_fills_or_no_memory_holds_is_refused(
    original: Path, tmp_path: Path, size: int, message: str
) -> None:
    with (
        pytest.warns(UserWarning, match="rank_output"),
        pytest.raises(BadConfig, match=message),
    ):
        convert(original, tmp_path / "out", image_size=size)
    assert not (tmp_path / "out").exists()


def test_classifiers_of_other_tasks_are_left_out_by_name(original: Path, tmp_path: Path) -> None:
    content = torch.load(original, weights_only=True)
    state = content["state_dict"]
    state["vqa_classifier.0.weight"] = torch.zeros(4, 256)
    state["nlvr2_classifier.0.bias"] = torch.zeros(4)
    state["token_type_embeddings.weight"] = torch.randn(3, 128)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.warns(UserWarning, match="uses it: rank_output, vqa_classifier, nlvr2_classifier$"):
        convert(tmp_path / "x.ckpt", tmp_path / "out")
    network = Checkpoint.open(tmp_path / "out").network()
    rows = [network.text_bridge.token_type, network.image_bridge.token_type]
    assert torch.equal(torch.cat(rows), state["token_type_embeddings.weight"])


def test_a_file_that_lacks_a_tensor_is_refused_before_anything_is_written(original: Path, tmp_path: Path) -> None:
    content = torch.load(original, weights_only=True)
    del content["state_dict"]["text_transformer.encoder.layer.2.output.dense.weight"]
    torch.save(content, tmp_path / "x.ckpt")
    with (
        pytest.warns(UserWarning, match="rank_output"),
        pytest.raises(CheckpointMismatch, match=r"text_model\.encoder\.layer\.2\.output"),
    ):
        convert(tmp_path / "x.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


CONV, WORDS = "vit_model.visual.conv1.weight", "text_transformer.embeddings.word_embeddings.weight"
ODD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({CONV: torch.ones(3, 4)}, {}, r"x\.ckpt: .*patch_embedding\.weight \(3, 4\) has to have 4 dimensions$"),
    ({WORDS: torch.ones(5)}, {}, r"x\.ckpt: .*word_embeddings\.weight \(5,\) has to have 2 dimensions$"),
    ({"temperature": torch.ones(2)}, {}, r"x\.ckpt: temperature holds 2 numbers instead of one$"),
    ({"temperature": torch.tensor(-1.0)}, {}, r"x\.ckpt: logit_scale_init_value is nan, but has to be a number from"),
    ({}, {"num_heads": "x"}, r"x\.ckpt: text_config\.num_attention_heads is 'x', but has to be a whole number"),
    ({}, {"num_heads": [1]}, r"x\.ckpt: text_config\.num_attention_heads is \[1\], but has to be a whole number"),
    ({"itm_score.fc.bias": torch.ones(3)}, {}, "does not fit the sizes of its other tensors: mis-shaped: itm_score"),
]


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize(("tensors", "settings", "message"), ODD)
def test_odd_tensors_and_hyper_parameters_are_named(
    original: Path, tmp_path: Path, tensors: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    content = torch.load(original, weights_only=True)
    content["state_dict"].update(tensors)
    hyper = content["hyper_parameters"]
    hyper.get("config", hyper).update(settings)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises((BadConfig, CheckpointMismatch), match=message) as caught:
        convert(tmp_path / "x.ckpt", tmp_path / "out")
    assert "config.json" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_quantised_weights_are_refused(original: Path, tmp_path: Path) -> None:
    content = torch.load(original, weights_only=True)
    content["state_dict"]["vit_model.visual.conv1.weight"] = torch.ones(128, 3, 16, 16, dtype=torch.int8)
    torch.save(content, tmp_path / "x.ckpt")
    with (
        pytest.warns(UserWarning, match="rank_output"),
        pytest.raises(CheckpointMismatch, match=r"is quantised.*patch_embedding\.weight \(I8\)"),
    ):
        convert(tmp_path / "x.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_original_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        convert(tmp_path / "none.ckpt", tmp_path / "out")
    with pytest.raises(NotFound, match="is a folder; name the Lightning file in it"):
        convert(tmp_path, tmp_path / "out")
    path = tmp_path / "x.ckpt"
    for content, message in [
        ({"a": torch.zeros(2)}, "it has no state_dict of tensors"),
        ([1, 2], "it has no state_dict of tensors"),
        ({"state_dict": {1: torch.zeros(2)}}, "it has no state_dict of tensors"),
        ({"state_dict": {"a": torch.eye(2).to_sparse()}}, "a is stored sparse"),
        ({"state_dict": {"a": torch.zeros(2)}}, "it has no vit_model.visual"),
    ]:
        torch.save(content, path)
        with pytest.raises(BrokenCheckpoint, match=message):
            convert(path, tmp_path / "out")
    torch.save({"state_dict": {}, "callbacks": {Path: 3}}, path)
    with pytest.raises(UnsafePickle, match=r"asks to run pathlib"):
        convert(path, tmp_path / "out")
