"""Labels for images: probabilities by embeddings and by the match head, and what can't be a list of labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.errors import Misuse
from bt_cli.search.labelling import by_embedding, by_match, in_template, read_labels, softmax, temperature


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder = random_checkpoint(tmp_path_factory.mktemp("label") / "c")
    with bt_cli.load(folder, device="cpu", dtype="float32") as loaded:
        yield loaded


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    draw = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    return paths


def test_shares_are_a_softmax_of_what_the_model_says(model, images: list[str]) -> None:
    sentences = in_template("a photo of a {}", ["cat", "dog", "red car"])
    cosines = model.encode_images(images) @ model.encode_texts(sentences).T
    network = model.checkpoint.network()
    scale = float(network.logit_scale.detach().exp())
    assert temperature(model) == pytest.approx(scale)
    wanted = torch.from_numpy(scale * cosines).softmax(1).numpy()
    np.testing.assert_allclose(by_embedding(model, images, sentences), wanted, atol=1e-5)
    logits = model.itm(images, sentences)
    wanted = torch.from_numpy(logits[..., 1] - logits[..., 0]).softmax(1).numpy()
    np.testing.assert_allclose(by_match(model, images, sentences), wanted, atol=1e-5)


def test_an_image_that_cant_be_read_is_told_and_nan(model, images: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    told = []
    for work in (by_embedding, by_match):
        shares = work(
            model, [images[0], str(tmp_path / "broken.png")], ["a", "b"], on_error=lambda *at: told.append(at[0])
        )
        assert np.isnan(shares[1]).all()
        assert shares[0].sum() == pytest.approx(1)
    assert told == [1, 1]


def test_labels_come_from_words_or_a_file(tmp_path: Path) -> None:
    assert read_labels("cat, dog,,red car ,cat") == ["cat", "dog", "red car"]
    (tmp_path / "labels.txt").write_text("\ufeffcat, black\n\ndog\n", "utf-8")
    assert read_labels(str(tmp_path / "labels.txt")) == ["cat, black", "dog"]
    with pytest.raises(Misuse, match="--labels: fewer than two labels, divided by commas or one a line of a file"):
        read_labels("cat")
    with pytest.raises(Misuse, match="has no {} for the label"):
        in_template("a photo", ["cat"])


def test_large_numbers_overflow_nowhere() -> None:
    with np.errstate(all="raise", under="ignore"):
        shares = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
    np.testing.assert_allclose(shares, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"dog\ncaf\xe9\n", ":2: not UTF-8 (byte 0xe9); convert the file to UTF-8"),
        (b"dog\nc\0at\n", ":2: a NUL character in the label; remove it"),
        ("cat\ndog\n".encode("utf-16-le"), ":1: UTF-16 without a byte order mark, it seems; convert the file to UTF-8"),
    ],
)
def test_a_file_that_is_no_text_gives_no_label_that_no_one_wrote(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(Misuse, match=re.escape(f"labels{said}")):
        read_labels(str(tmp_path / "labels"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_labels_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels").write_bytes("café\r\ndog\r\n".encode(encoding))
    assert read_labels(str(tmp_path / "labels")) == ["café", "dog"]


@pytest.mark.parametrize("name", ["labels.txt", "./labels"])
def test_a_file_of_labels_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(Misuse, match=f"--labels {name}: no such file, and as a label it would be the only one"):
        read_labels(name)
