"""What drafts of large photographs do to the embeddings: next to nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_checkpoint import random_checkpoint

import bt_cli


def photograph(seed: int) -> bytes:
    """A JPEG of 3 megapixels: soft shapes at three scales, under grain."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((1500, 2000, 3), np.float32)
    for step, share in ((250, 0.5), (50, 0.3), (10, 0.2)):
        coarse = generator.integers(0, 256, (1500 // step, 2000 // step, 3), dtype=np.uint8)
        picture += share * np.asarray(
            Image.fromarray(coarse).resize((2000, 1500), Image.Resampling.BICUBIC), np.float32
        )
    picture += 5 * generator.standard_normal(picture.shape, np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    return [photograph(seed) for seed in range(2)]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The greatest 1 - cosine between rows."""
    return float((1 - (one.astype(float) * other).sum(axis=1)).max())


def test_drafts_hardly_move_embeddings(tmp_path: Path, photographs: list[bytes]) -> None:
    folder = random_checkpoint(tmp_path / "model")
    model = bt_cli.load(folder, device="cpu", dtype="float32")
    drafts = model.encode_images(photographs)
    model.exact_decoding = True
    exact = model.encode_images(photographs)
    resaved = []
    for data in photographs:
        buffer = io.BytesIO()
        model.image_processor.resized(data).save(buffer, "JPEG", quality=95)
        resaved.append(buffer.getvalue())
    moved = apart(exact, drafts)
    assert 0 < moved < 5e-4  # the pictures themselves are 0.3 apart
    assert apart(exact, model.encode_images(resaved)) > 20 * moved  # a change that an eye can't see would be noticed
