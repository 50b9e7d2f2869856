"""The bundled checkpoint: what is shipped, and that `transformers` sees the same in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bt_cli
from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.inference.model import Model
from bt_cli.training.recipe import Recipe

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"
TEXTS = ["a cat to the left of a dog", "A <mask> to the left of a dog", "three red hats"]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return bt_cli.load("tiny", dtype="float32", device="cpu")


def sample_rows(count: int) -> list[dict[str, str]]:
    """The first rows of the sample captions: `image`, `caption`, `negative`."""
    with open(SAMPLES / "captions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))[:count]


def test_what_is_shipped(tiny: Model) -> None:
    checkpoint = tiny.checkpoint
    assert checkpoint.heads == {"itc", "itc_cross", "itm", "mlm"}
    files = {path.name: path.stat().st_size for path in checkpoint.folder.iterdir()}
    assert set(files) == {
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    }
    assert sum(files.values()) < 20e6
    assert json.loads((checkpoint.folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_recipe_beside_it_makes_this_network(tiny: Model) -> None:
    wanted = Recipe.read("tiny").network
    config = tiny.checkpoint.config.to_dict()
    assert wanted is not None
    for section in ("text_config", "vision_config"):
        assert {key: config[section][key] for key in wanted[section]} == wanted[section]
    assert {key: config[key] for key in wanted if not key.endswith("_config")} == {
        key: value for key, value in wanted.items() if not key.endswith("_config")
    }


def test_transformers_gives_the_same_outputs(tiny: Model) -> None:
    import transformers

    folder = str(tiny.checkpoint.folder)
    image = Image.open(SAMPLES / "images" / "scene-0001.jpg")
    processor = transformers.BridgeTowerImageProcessorPil.from_pretrained(folder)
    pixels = processor(image, return_tensors="pt").pixel_values
    assert np.array_equal(pixels[0].numpy(), tiny.image_processor(image))
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    ours = tiny.tokenizer.encode(TEXTS)
    assert np.array_equal(tokens.input_ids.numpy(), ours.input_ids)
    assert np.array_equal(tokens.attention_mask.numpy(), ours.attention_mask)
    inputs = {
        "pixel_values": pixels.repeat(3, 1, 1, 1),
        **{key: tokens[key] for key in ("input_ids", "attention_mask")},
    }
    network = Checkpoint.open("tiny").network()
    with torch.no_grad():
        out = network(**inputs)
        for name, head, attribute in (
            ("BridgeTowerForImageAndTextRetrieval", out.itm_logits, "logits"),
            ("BridgeTowerForMaskedLM", out.mlm_logits, "logits"),
            ("BridgeTowerForContrastiveLearning", out.text_embeds, "text_embeds"),
            ("BridgeTowerForContrastiveLearning", out.image_embeds, "image_embeds"),
            ("BridgeTowerForContrastiveLearning", out.cross_embeds, "cross_embeds"),
        ):
            theirs = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()(**inputs)
            assert torch.allclose(head, theirs[attribute], atol=1e-4), (name, attribute)


def test_it_has_learnt_what_its_card_claims(tiny: Model) -> None:
    """On pairs of things that training never showed; the card has the figures for 1,000 scenes."""
    rows = sample_rows(60)
    images = tiny.image_states([str(SAMPLES / "images" / row["image"]) for row in rows], embeds=True)
    captions = [row["caption"] for row in rows]
    texts = tiny.text_states([*captions, *(row["negative"] for row in rows)], embeds=True)
    own = np.arange(len(rows))
    pairs = np.concatenate([np.stack([own, own], axis=1), np.stack([own, own + len(rows)], axis=1)])
    right, wrong = np.split(tiny.itm_logits(images, texts, pairs)[:, 1], 2)
    assert np.mean(right > wrong) >= 0.97
    assert images.embeds is not None
    assert texts.embeds is not None
    similarity = (texts.embeds[: len(rows)] @ images.embeds.T).numpy()
    ranks = (similarity > similarity[own, own][:, None]).sum(axis=1)
    assert np.mean(ranks < 10) >= 0.97


def test_it_names_a_hidden_thing(tiny: Model) -> None:
    """The last word of a caption, which the rest does not tell: most with the image, few without."""
    blank = Image.new("RGB", (96, 96), (128, 128, 128))
    named = {"seen": 0, "blank": 0}
    rows = sample_rows(60)
    for row in rows:
        start, word = row["caption"].rsplit(" ", 1)
        for name, image in (("seen", str(SAMPLES / "images" / row["image"])), ("blank", blank)):
            best = tiny.fill_mask(image, f"{start} <mask>", k=1)[0][0][0]
            named[name] += best.strip() == word
    assert named["seen"] >= 0.8 * len(rows)
    assert named["blank"] <= 0.4 * len(rows)


def test_it_fills_in_what_it_sees(tiny: Model) -> None:
    seen, blank = Image.open(SAMPLES / "images" / "scene-0001.jpg"), Image.new("RGB", (96, 96), (128, 128, 128))
    text = "a dog <mask> a cat"
    words = {
        name: [word.strip() for word, _, _ in tiny.fill_mask(image, text, k=3)[0]]
        for name, image in (("seen", seen), ("blank", blank))
    }
    assert words["seen"][0] in {"above", "over"}
    assert words["seen"] != words["blank"]
