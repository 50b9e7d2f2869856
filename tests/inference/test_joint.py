"""Pairs of image and text as one embedding, and images ranked by a query."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.errors import MissingHead, Misuse, UnreadableImage

TEXTS = ["a cat", "two dogs in a car", "a cat", "x", "a rather longer text than the others are"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("joint") / "checkpoint")


@pytest.fixture(scope="module")
def model(folder):
    return bt_cli.load(folder, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(5)
    place = tmp_path_factory.mktemp("images")
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(place / f"{number}.png")
    paths = [str(place / f"{number}.png") for number in range(4)]
    return [paths[0], paths[1], paths[0], paths[2], paths[3]]


def test_rows_are_what_the_plain_network_gives(model, images):
    network = model.checkpoint.network()
    rows = model.encode_pairs(images, TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (5, model.dimension)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6
    for row in range(5):
        tokens = model.tokenizer.encode([TEXTS[row]])
        pixels, _ = model.image_processor.batch([images[row]])
        with torch.inference_mode():
            inputs = (torch.from_numpy(part) for part in (pixels, tokens.input_ids, tokens.attention_mask))
            expected = network(*inputs).cross_embeds[0].numpy()
        assert np.abs(rows[row] - expected).max() < 1e-5
    assert np.abs(rows[0] - rows[2]).max() < 1e-6
    assert np.abs(model.encode_pairs(images[::-1], TEXTS[::-1])[::-1] - rows).max() < 1e-5


def test_images_in_memory_and_no_pairs_at_all(model, images):
    opened = [Image.open(path).convert("RGB") for path in images]
    assert np.abs(model.encode_pairs(opened, TEXTS) - model.encode_pairs(images, TEXTS)).max() < 1e-5
    assert model.encode_pairs([], []).shape == (0, model.dimension)


def test_an_image_that_cannot_be_read(model, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    told = []
    both = [str(broken), images[0], str(broken)]
    rows = model.encode_pairs(both, TEXTS[:3], on_error=lambda pair, error: told.append((pair, str(error))))
    assert [pair for pair, _ in told] == [0, 2]
    assert all("broken.png" in message for _, message in told)
    assert np.isnan(rows[[0, 2]]).all()
    assert not np.isnan(rows[1]).any()
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        model.encode_pairs(both, TEXTS[:3])


def test_what_is_refused(model, images, tmp_path):
    with pytest.raises(Misuse, match="5 images and 2 texts"):
        model.encode_pairs(images, TEXTS[:2])
    other = bt_cli.load(random_checkpoint(tmp_path / "other", heads=("itm", "itc")), device="cpu")
    with pytest.raises(MissingHead, match="no cross-modal ITC head"):
        other.encode_pairs(images, TEXTS)


def test_rank_is_score_in_order(model, images):
    scores = model.score(images, ["a cat"])[:, 0]
    found = model.rank("a cat", images)
    assert [entry["corpus_id"] for entry in found] == sorted(range(5), key=lambda place: (-scores[place], place))
    assert [entry["score"] for entry in found] == [float(scores[entry["corpus_id"]]) for entry in found]
    assert model.rank("a cat", images, top_k=2) == found[:2]
    first = model.rank("a cat", images, top_k=1, return_documents=True)
    assert first == [{**found[0], "document": images[found[0]["corpus_id"]]}]
    assert model.rank("a cat", []) == []
    with pytest.raises(Misuse, match="at least 1"):
        model.rank("a cat", images, top_k=0)
