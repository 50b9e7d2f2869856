"""What an evaluation runs on: images, captions, and which caption belongs to which image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bt_cli.captions.captions import CaptionSet
from bt_cli.datasets.image_names import ImageNames, none_below, not_found, shown_places
from bt_cli.errors import Misuse, NotFound
from bt_cli.metrics.recall import own_captions
from bt_cli.sources.member import split_path
from bt_cli.sources.tar_shard import current_stamp


@dataclass(frozen=True)
class Gallery:
    """Images and their captions, each numbered by its position, which is also its place among equal scores.

    Attributes:
        image_ids: One name an image, unique.
        paths: Where each image can be opened.
        caption_ids: One name a caption, unique.
        captions: The texts.
        owner: For each caption the number of its image.
    """

    image_ids: Sequence[str]
    paths: Sequence[str]
    caption_ids: Sequence[str]
    captions: Sequence[str]
    owner: Sequence[int]

    @classmethod
    def of(
        cls,
        captions: CaptionSet,
        *places: str | os.PathLike[str],
        elsewhere: bool = False,
        on_unclear: Callable[[NotFound], None] | None = None,
    ) -> Gallery:
        """The captions of a file with their images below `places`, folders or containers, both in the file's order.

        Names that lead to one file are one image, called by the first of them. A caption without an id of its own is
        called by its image and its number there, `name.jpg#0`. With `elsewhere` an image that is named by an address,
        and is not below the places, is the one at that address. An image that is not there stays in the gallery, to be
        left out or refused by whoever opens it; one that may be any of several files is told to `on_unclear` and left
        out with its captions.

        Raises:
            Misuse: A caption names no image, or a place is a file without images in it.
            NotFound: There is no such folder, or none of the images is in it; without `on_unclear`, an image may be any
                of several files.
        """
        for item in captions.items:
            if item.image is None:
                raise Misuse(f"{captions.place(item)}: names no image, and recall needs one a caption")
        files = ImageNames.below(*places, elsewhere=elsewhere)
        found = {name: files.fitting(name) for name in captions.images}
        captions = _without_unclear(captions, found, on_unclear)
        if not any(found.values()):
            raise none_below(captions.path, len(found), shown_places(places))
        path_of = {name: fitting[0] if fitting else os.path.join(places[0], name) for name, fitting in found.items()}
        id_of: dict[str, str] = {}
        for name, path in path_of.items():
            id_of.setdefault(path, name)
        numbers = {path: number for number, path in enumerate(id_of)}
        owner = [numbers[path_of[item.image]] for item in captions.items if item.image is not None]
        ids, paths = list(id_of.values()), list(id_of)
        texts = [item.text for item in captions.items]
        return cls(ids, paths, _caption_ids(captions, ids, owner), texts, owner)

    @cached_property
    def own_captions(self) -> dict[int, list[int]]:
        """Image number -> numbers of its captions; images without any are absent."""
        return own_captions(self.owner)

    @cached_property
    def texts(self) -> list[str]:
        """The different captions, short ones first: each is encoded once, in batches that need little padding."""
        return sorted(set(self.captions), key=lambda text: (len(text), text))

    @cached_property
    def text_of(self) -> NDArray[np.int64]:
        """For each caption its row in `texts`: (captions,) int64."""
        rows = {text: row for row, text in enumerate(self.texts)}
        return np.fromiter((rows[text] for text in self.captions), np.int64, len(self.captions))

    def without(self, images: Collection[int]) -> Gallery:
        """The gallery that is left when these images go, and their captions with them."""
        gone = set(images)
        kept = [number for number in range(len(self.paths)) if number not in gone]
        return self._only(kept)

    def first(self, images: int) -> Gallery:
        """The first so many images with their captions."""
        return self._only(range(min(images, len(self.paths))))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the captions and of each image's path, size and time of change; missing files count as such."""
        record = [self.owner, self.captions, [_file_state(path) for path in self.paths]]
        return hashlib.sha256(json.dumps(record, default=int).encode()).hexdigest()

    def _only(self, images: Sequence[int]) -> Gallery:
        numbers = {image: number for number, image in enumerate(images)}
        captions = [caption for caption, image in enumerate(self.owner) if image in numbers]
        return Gallery(
            [self.image_ids[image] for image in images],
            [self.paths[image] for image in images],
            [self.caption_ids[caption] for caption in captions],
            [self.captions[caption] for caption in captions],
            [numbers[self.owner[caption]] for caption in captions],
        )


def _without_unclear(
    captions: CaptionSet, found: dict[str, list[str]], on_unclear: Callable[[NotFound], None] | None
) -> CaptionSet:
    """The captions whose image is one file or none; the others are told and go from `found`."""
    errors = []
    for item in captions.items:
        if item.image in found and len(found[item.image]) > 1:
            reason = not_found(item.image, found.pop(item.image), "")
            errors.append(NotFound(f"{captions.place(item)}: {reason}"))
    for error in errors:
        if on_unclear is None or not any(found.values()):
            raise error
        on_unclear(error)
    return replace(captions, items=[item for item in captions.items if item.image in found])


def _caption_ids(captions: CaptionSet, images: Sequence[str], owner: Sequence[int]) -> list[str]:
    """The file's own ids where they tell the captions apart, else the image's name with a number."""
    own = [item.caption_id for item in captions.items if item.caption_id is not None]
    if len(set(own)) == len(captions.items):
        return own
    seen: dict[int, int] = {}
    made = []
    for image in owner:
        made.append(f"{images[image]}#{seen.get(image, 0)}")
        seen[image] = seen.get(image, 0) + 1
    return made


def _file_state(path: str) -> tuple[str, int, int]:
    try:
        within = split_path(path)
        if within is not None:
            return path, *current_stamp(within[0])
        status = os.stat(path)
        return path, status.st_size, status.st_mtime_ns
    except OSError:
        return path, -1, -1
