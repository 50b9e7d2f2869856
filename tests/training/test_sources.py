"""Captions and drawn scenes as training batches: the same rows whoever asks, in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captioned_folder import captioned_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bt_cli.captions.captions import Caption, read_captions
from bt_cli.errors import BadConfig
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.training.data import hold_out
from bt_cli.training.distributed import Ranks
from bt_cli.training.recipe import Augmentation, Stage
from bt_cli.training.sources import CaptionSource, SceneSource, random_crop

PROCESSOR = ImageProcessor.from_dict({"size": 64})


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> list[Caption]:
    path = captioned_folder(tmp_path_factory.mktemp("images"))
    return read_captions(path, images=path.parent).items


def test_each_caption_comes_once_an_epoch_in_an_order_of_its_own(captions: list[Caption]) -> None:
    source = CaptionSource(captions, PROCESSOR, workers=1)
    source.start(Stage(steps=1), 7)
    seen = [text for number in range(6) for text in source.batch(number, 4, slice(0, 4)).captions]
    assert sorted(seen[:12]) == sorted(seen[12:]) == sorted(item.text for item in captions)
    assert seen[:12] != seen[12:]
    assert source.batch(4, 4, slice(0, 4)).captions == seen[16:20]


def test_processes_share_a_batch_between_them(captions: list[Caption]) -> None:
    source = CaptionSource(captions, PROCESSOR, workers=1)
    source.start(Stage(steps=1, augmentation=Augmentation(crop=(0.5, 1.0), flip=True)), 7)
    whole = source.batch(3, 6, slice(0, 6))
    parts = [source.batch(3, 6, Ranks(rank, 2).rows(6)) for rank in (1, 0)][::-1]
    assert whole.captions == [text for part in parts for text in part.captions]
    assert torch.equal(whole.pixel_values, torch.cat([part.pixel_values for part in parts]))
    assert whole.groups.tolist() == [group for part in parts for group in part.groups]
    assert whole.negatives[0] == [(" then ".join(whole.captions[0].split(" then ")[::-1]), "negative")]


def test_captions_of_one_image_are_all_true_of_it() -> None:
    items = [Caption(text, image_id=name) for text, name in (("a", "1"), ("b", "1"), ("a", "2"), ("c", "3"))]
    source = CaptionSource(items, PROCESSOR)
    source._pixels = lambda item, chances: np.zeros((3, 4, 4), np.float32)
    batch = source.batch(0, 4, slice(0, 4))
    order = source.order(0)
    for row, left in enumerate(order):
        for column, right in enumerate(order):
            same = items[left].image_id == items[right].image_id or items[left].text == items[right].text
            assert batch.truth[row, column] == same


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), low=st.floats(0.05, 1.0), seed=st.integers(0, 999))
def test_a_crop_lies_within_the_image_whatever_its_shape(width: int, height: int, low: float, seed: int) -> None:
    ramp = np.linspace(10, 250, width * height, dtype=np.uint8).reshape(height, width)
    image = Image.fromarray(np.stack([ramp] * 3, axis=-1))
    piece = np.asarray(random_crop(image, (low, 1.0), np.random.default_rng(seed).random(5), None))
    assert 1 <= piece.shape[0] <= height
    assert 1 <= piece.shape[1] <= width
    assert piece.min() >= 10  # no black border
    assert random_crop(image, (low, 1.0), np.random.default_rng(seed).random(5), (32, 48)).size == (48, 32)


def test_held_out_images_take_all_their_captions_along() -> None:
    items = [Caption(f"{name} {number}", image_id=str(name)) for name in range(10) for number in range(3)]
    train, kept_back = hold_out(items, 0.2, seed=1)
    assert len(kept_back) == 6
    assert len(train) == 24
    assert not {item.image_id for item in train} & {item.image_id for item in kept_back}
    assert hold_out(items, 0.0, seed=1) == (items, [])
    assert hold_out(items, 0.2, seed=1) == (train, kept_back)


def test_scenes_are_drawn_alike_for_one_process_and_for_two() -> None:
    from bt_cli.scenes import SpriteSheet

    try:
        sheet = SpriteSheet.load()
    except Exception as error:
        pytest.skip(f"no sprites to draw with: {error}")
    source = SceneSource({"size": 32}, PROCESSOR, sheet)
    source.start(Stage(steps=1, source={"mix": {"relation": 1.0}}), 3)
    whole = source.batch(5, 72, slice(0, 72))
    parts = [source.batch(5, 72, Ranks(rank, 2).rows(72)) for rank in range(2)]
    assert whole.captions == [text for part in parts for text in part.captions]
    assert torch.equal(whole.pixel_values, torch.cat([part.pixel_values for part in parts]))
    assert whole.pixel_values.shape == (72, 3, 32, 32)
    assert np.array_equal(whole.truth[36:, 36:], parts[1].truth)
    held_out = source.held_out(8, 3)
    assert held_out.pixel_values.shape == (8, 3, 32, 32)
    assert all(held_out.negatives)
    with pytest.raises(BadConfig, match="source"):
        source.start(Stage(steps=1, source={"colours": 1.0}), 3)
