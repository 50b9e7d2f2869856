"""Where training images and captions come from: a caption file, or scenes that are drawn on the way.

A source is a function of the step: `batch(number, rows, part)` gives the same rows whatever was asked before, which
is what makes a resumed run exact, and the rows of a batch do not depend on how many processes share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from bt_cli.errors import BadConfig, EmptyFolder, UnreadableImage
from bt_cli.training.examples import Batch
from bt_cli.training.recipe import Augmentation, Stage
from bt_cli.training.validation import HeldOut

if TYPE_CHECKING:
    from PIL import Image

    from bt_cli.captions.captions import Caption
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.scenes import SceneBatch, SceneSampler, SpriteSheet


OnSkip = Callable[[UnreadableImage], None]

BLOCK = 32
"""Scenes that are drawn from one generator."""


class Source(Protocol):
    """What the trainer asks of a source."""

    def start(self, stage: Stage, seed: int) -> None:
        """Get ready for a stage."""

    def batch(self, number: int, rows: int, part: slice) -> Batch:
        """The rows `part` of the `rows` rows of accumulation step `number`."""

    def __len__(self) -> int:
        """Captions in one epoch; 0 = endless."""

    @property
    def fingerprint(self) -> str:
        """A short hash of what there is to learn from; empty where the recipe says it all."""


class CaptionSource:
    """Captions of a file, each once an epoch in an order of its own.

    `on_skip` hears once of each image that can't be read. Its captions' places are taken by the next ones of the
    epoch's order whose images can, which is again a function of the step alone. Without it that is an error.
    """

    def __init__(
        self,
        captions: Sequence[Caption],
        processor: ImageProcessor,
        *,
        workers: int = 4,
        on_skip: OnSkip | None = None,
    ) -> None:
        if not captions:
            raise EmptyFolder("no captioned image to train on")
        self.captions = list(captions)
        names = {name: number for number, name in enumerate(dict.fromkeys(item.image_id for item in self.captions))}
        self.groups = np.array([names[item.image_id] for item in self.captions], dtype=np.int64)
        self.processor = processor
        self.on_skip = on_skip
        self.broken: dict[str | None, UnreadableImage] = {}
        self.workers = ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode")
        self.augmentation = Augmentation()
        self.seed = 0

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def fingerprint(self) -> str:
        """Of the captions in their order, with their images' names, wherever those lie today."""
        record = [(item.text, item.image_id, item.negatives) for item in self.captions]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]

    def start(self, stage: Stage, seed: int) -> None:
        """Take the stage's augmentation and the run's seed."""
        self.augmentation, self.seed = stage.augmentation, seed

    def order(self, epoch: int) -> np.ndarray:
        """The captions of an epoch as they come, (n,) int64."""
        return np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.captions))

    def held_out(self) -> HeldOut | None:
        """All captions to measure on, each image once and as it is; None where no image can be read."""
        self.augmentation = Augmentation()
        first: dict[int, Caption] = {}
        for item, group in zip(self.captions, self.groups, strict=True):
            first.setdefault(int(group), item)
        read = dict(zip(first, self.workers.map(self._pixels_or_none, first.values()), strict=True))
        pixels = [image for image in read.values() if image is not None]
        if not pixels:
            return None
        numbers = {group: number for number, group in enumerate(each for each in read if read[each] is not None)}
        items = [item for item, group in zip(self.captions, self.groups, strict=True) if int(group) in numbers]
        owner = np.array([numbers[int(group)] for group in self.groups if int(group) in numbers], dtype=np.int64)
        return HeldOut(
            pixel_values=torch.from_numpy(np.stack(pixels)),
            captions=[item.text for item in items],
            owner=owner,
            image_groups=np.arange(len(pixels)),
            caption_groups=owner,
            negatives=[[(text, "negative") for text in item.negatives] for item in items],
        )

    def batch(self, number: int, rows: int, part: slice) -> Batch:
        """See :class:`Source`."""
        places = range(number * rows, (number + 1) * rows)[part]
        orders = {epoch: self.order(epoch) for epoch in {place // len(self.captions) for place in places}}
        chances = np.random.default_rng([self.seed, 2, number]).random((rows, 5))[part]

        def read(place: int, chances: np.ndarray) -> tuple[int, np.ndarray]:
            epoch, start = divmod(place, len(self.captions))
            return self._first_readable(orders[epoch], start, chances)

        chosen, pixels = zip(*self.workers.map(read, places, chances), strict=True)
        items = [self.captions[index] for index in chosen]
        groups = self.groups[list(chosen)]
        texts = [item.text for item in items]
        return Batch(
            pixel_values=torch.from_numpy(np.stack(pixels)),
            captions=texts,
            groups=groups,
            truth=(groups[:, None] == groups[None, :]) | _same(texts),
            negatives=[[(text, "negative") for text in item.negatives] for item in items],
        )

    def _first_readable(self, order: np.ndarray, start: int, chances: np.ndarray) -> tuple[int, np.ndarray]:
        """The caption at `start` of an order, or the next one after it whose image can be read, and its pixels."""
        for place in range(start, start + len(order)):
            index = int(order[place % len(order)])
            pixels = self._pixels_or_none(self.captions[index], chances)
            if pixels is not None:
                return index, pixels
        raise EmptyFolder(f"none of the images of {len(order)} captions can be read, so there is nothing to train on")

    def _pixels_or_none(self, item: Caption, chances: np.ndarray | None = None) -> np.ndarray | None:
        if item.image in self.broken:
            return None
        try:
            return self._pixels(item, np.zeros(5) if chances is None else chances)
        except UnreadableImage as error:
            if self.on_skip is None:
                raise
            if self.broken.setdefault(item.image, error) is error:  # in one go: another worker may meet it just now
                self.on_skip(error)
            return None

    def _pixels(self, item: Caption, chances: np.ndarray) -> np.ndarray:
        from PIL import ImageOps

        from bt_cli.preprocessing.image_file import open_image

        if item.image is None:
            raise EmptyFolder(f"caption {item.caption_id!r}: its image {item.image_id!r} is not among the images")
        image = open_image(item.image, draft=self.processor.draft_side())
        if self.augmentation.crop != (1.0, 1.0):
            image = random_crop(image, self.augmentation.crop, chances, self.processor.output_size)
        if self.augmentation.flip and chances[4] < 0.5:
            image = ImageOps.mirror(image)
        return self.processor(image)


def random_crop(
    image: Image.Image, areas: tuple[float, float], chances: np.ndarray, size: tuple[int, int] | None
) -> Image.Image:
    """A piece of the image, of a share of its area and of proportions between 3:4 and 4:3, drawn out to `size`."""
    share = areas[0] + (areas[1] - areas[0]) * chances[0]
    stretch = (3 / 4) ** (1 - 2 * chances[1])
    area = share * image.width * image.height
    width = min(image.width, max(1, round((area * stretch) ** 0.5)))
    height = min(image.height, max(1, round((area / stretch) ** 0.5)))
    left = int(chances[2] * (image.width - width + 1))
    top = int(chances[3] * (image.height - height + 1))
    piece = image.crop((left, top, left + width, top + height))
    return piece if size is None else piece.resize((size[1], size[0]), 3)


def _same(texts: Sequence[str]) -> np.ndarray:
    names = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    numbers = np.array([names[text] for text in texts])
    return numbers[:, None] == numbers[None, :]


class SceneSource:
    """Scenes drawn as they are needed, never the same twice."""

    def __init__(
        self, settings: Mapping[str, Any], processor: ImageProcessor, sheet: SpriteSheet | None = None
    ) -> None:
        from bt_cli.scenes import SpriteSheet

        self.settings = dict(settings)
        self.sheet = sheet or SpriteSheet.load()
        self.mean = torch.tensor(processor.settings.image_mean, dtype=torch.float32) * 255.0
        self.std = torch.tensor(processor.settings.image_std, dtype=torch.float32) * 255.0
        self.sampler: SceneSampler | None = None

    def __len__(self) -> int:
        return 0

    @property
    def fingerprint(self) -> str:
        """Empty: the recipe and its seed decide every scene."""
        return ""

    def start(self, stage: Stage, seed: int) -> None:
        """Make the stage's sampler: its mix, and what else the recipe sets."""
        self.sampler = self._sampler({**self.settings, **stage.source}, seed, "train")

    def _sampler(self, settings: Mapping[str, Any], seed: int, split: str) -> SceneSampler:
        from bt_cli.scenes import SceneSampler

        try:
            return SceneSampler(seed=seed, split=split, sheet=self.sheet, **settings)
        except (AttributeError, TypeError, ValueError) as error:
            raise BadConfig(f"recipe: source {dict(settings)!r}: {error}") from None

    def batch(self, number: int, rows: int, part: slice) -> Batch:
        """See :class:`Source`. A batch is drawn in blocks, each from a generator of its own, so that ranks can share
        it."""
        if self.sampler is None:
            raise RuntimeError("start() was not called")
        blocks = -(-rows // BLOCK)
        wanted = range(part.start // BLOCK, -(-part.stop // BLOCK))
        drawn = [self.sampler.batch(min(BLOCK, rows - each * BLOCK), step=number * blocks + each) for each in wanted]
        first = part.start - wanted.start * BLOCK
        return self._convert(drawn, slice(first, first + part.stop - part.start))

    def _convert(self, drawn: Sequence[SceneBatch], part: slice) -> Batch:
        """Rows of what the sampler gave, with pixels as the image processor would make them."""
        from bt_cli.scenes import truth_of

        pixels = torch.from_numpy(np.concatenate([each.pixels for each in drawn])[part]).float()
        scenes = [scene for each in drawn for scene in each.scenes][part]
        meanings = [meaning for each in drawn for meaning in each.meanings][part]
        negatives = [row for each in drawn for row in each.negatives][part]
        return Batch(
            pixel_values=pixels.sub_(self.mean).div_(self.std).permute(0, 3, 1, 2).contiguous(),
            captions=[caption for each in drawn for caption in each.captions][part],
            groups=np.concatenate([each.groups for each in drawn])[part],
            truth=truth_of(scenes, meanings),
            negatives=[[(negative.text, negative.kind) for negative in row] for row in negatives],
        )

    def held_out(self, items: int, seed: int) -> HeldOut:
        """`items` scenes of all families with object pairs that training never shows."""
        batch = self._convert([self._sampler(self.settings, seed, "val").batch(items, step=0)], slice(0, items))
        own = np.arange(items)
        return HeldOut(batch.pixel_values, batch.captions, own, batch.groups, batch.groups, batch.negatives)
