"""What a run on captions learns from and what it is measured on: which files, and how they are divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_cli.errors import BtError, UnreadableCaptions

if TYPE_CHECKING:
    from bt_cli.captions.captions import Caption, CaptionSet, PathLikes


@dataclass(frozen=True)
class TrainingData:
    """A caption file or folder, or shards with captions, and what goes with it. What is left out has its default here,
    for `bt train` too."""

    captions: PathLikes
    images: PathLikes | None = None
    """The folder that the captions' images lie in; None = the caption file's own, or the folder or shards of
    captions, or the addresses that these name."""
    format: str | None = None
    """Of the caption file; None = as it looks."""
    split: str | None = None
    """The split to train on, of a file that has several; None = all."""
    validation: PathLikes | None = None
    """Captions to measure on, with images in the same folder, or in the shards that they are in themselves; None = some
    of `captions` are held out."""
    allow_private: bool = False
    """Images that are named by addresses may be asked of this machine and its networks, too."""
    validation_share: float = 0.1
    """Share of the images that is held out where `validation` is None."""

    def read(
        self, seed: int, on_missing: Callable[[BtError], None] | None = None
    ) -> tuple[list[Caption], list[Caption]]:
        """(to train on, to measure on).

        `on_missing` hears of images that are not there and of captions that can't be read, which are left out; without
        it they are an error.

        Raises what reading captions raises, and UnreadableCaptions for a caption that names no image.
        """
        from bt_cli.captions.captions import hold_their_images, image_places, read_captions

        def read(path: PathLikes, split: str | None, format: str | None) -> CaptionSet:
            own = self.captions if not hold_their_images(path) else path
            places = image_places(own) if self.images is None else self.images
            return read_captions(
                path,
                format=format,
                split=split,
                images=places,
                elsewhere=self.images is None,
                allow_private=self.allow_private,
                on_missing=on_missing,
                on_skip=on_missing,
            )

        captions = read(self.captions, self.split, self.format)
        for item in captions.items:
            if item.image is None:
                raise UnreadableCaptions(f"{captions.place(item)}: no image to this caption; training needs pairs")
        if self.validation is not None:
            return captions.items, read(self.validation, None, None).items
        return hold_out(captions.items, self.validation_share, seed)


def hold_out(captions: Sequence[Caption], share: float, seed: int) -> tuple[list[Caption], list[Caption]]:
    """(to train on, to measure on): all captions of a `share` of the images are kept back, at least one image's."""
    import numpy as np

    images = list(dict.fromkeys(caption.image_id for caption in captions))
    count = max(1, round(share * len(images))) if share > 0 and len(images) > 1 else 0
    chosen = np.random.default_rng([seed, 4]).permutation(len(images))[:count]
    kept_back = {images[index] for index in chosen}
    split: tuple[list[Caption], list[Caption]] = ([], [])
    for caption in captions:
        split[caption.image_id in kept_back].append(caption)
    return split
