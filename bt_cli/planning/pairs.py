"""An index of pairs: which captions each of its images is embedded with."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bt_cli.captions.captions import Caption
from bt_cli.errors import IndexMismatch, Misuse
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import RootPaths
from bt_cli.planning.captions import caption_rows
from bt_cli.store.manifest import IMAGES, MIXED, PAIRS, Manifest
from bt_cli.store.piece_writer import CaptionRows

Texts = tuple[str, ...]


class Pairing:
    """Captions by image, as they were when the index was written and as they are to be.

    Args:
        given: (caption file, its captions) for each file; None: an image keeps the captions that the index has of it.
        current: Captions of the index as it stands; what its images are embedded with.
        mixed: Images without a caption are embedded alone; else they are left out.
    """

    def __init__(
        self, given: Sequence[tuple[str, Sequence[Caption]]] | None, current: CaptionRows | None, mixed: bool
    ) -> None:
        self.given = given
        self.current = current or CaptionRows([], [], [], [])
        self.mixed = mixed
        self.before = _by_image(self.current)
        self.wanted: Mapping[str, Texts] = self.before
        self.moved: dict[str, str] = {}
        self._rows: CaptionRows | None = None

    def settle(self, images: list[str], paths: RootPaths, roots: list[str]) -> str:
        """Find out which image each caption is of, among the stored paths that there are now; returns a digest of it,
        by which work that was done for other captions is told apart."""
        if self.given is not None:
            self._rows = caption_rows(self.given, images, paths, roots)
            self.wanted = _by_image(self._rows)
        digest = hashlib.sha256(repr(self.mixed).encode())
        for image in sorted(self.wanted):
            digest.update(repr((image, self.wanted[image])).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def texts(self, image: str) -> Texts:
        """The captions that an image is to be embedded with; none where it has none."""
        return self.wanted.get(self.moved.get(image, image), ())

    def is_same(self, image: str) -> bool:
        """Whether the index has an image, at this path, embedded with just these captions."""
        return self.before.get(image, ()) == self.texts(image)

    def takes(self, image: str) -> bool:
        """Whether an image belongs into the index."""
        return self.mixed or bool(self.texts(image))

    def follow(self, image: str, before: str) -> None:
        """An image that was at `before`, where none is now, brings its captions along, unless it has new ones."""
        if self.given is None and not self.texts(image) and before not in self.moved.values():
            self.moved[image] = before

    def rows(self, images: Collection[str]) -> CaptionRows:
        """All captions, each with its image where that is one of `images`."""
        held = set(images)
        new_place = {before: image for image, before in self.moved.items()}
        rows = self.current if self._rows is None else self._rows
        places = [None if image is None else new_place.get(image, image) for image in rows.images]
        places = [place if place in held else None for place in places]
        return rows if places == rows.images else replace(rows, images=places)


def _by_image(rows: CaptionRows) -> dict[str, Texts]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for text, image in zip(rows.texts, rows.images, strict=True):
        if image is not None:
            found[image].append(text)
    return {image: tuple(texts) for image, texts in found.items()}


def wanted_kind(there: Manifest | None, folder: str, *, pairs: bool, mixed: bool, captions: bool, rebuild: bool) -> str:
    """What the images of an index are embedded as: `images` alone, as `pairs` with their captions, or `mixed`.

    Args:
        there: The index as it stands.
        folder: Its folder.
        pairs: Captions to join the images with are given.
        mixed: Images without one are wanted, too.
        captions: Captions are given that are only to be found themselves.
        rebuild: It is made anew.

    Raises:
        Misuse: The options contradict one another, or what the index is.
        IndexMismatch: It holds images alone.
    """
    if pairs and captions:
        raise Misuse("--pairs makes its captions searchable, too: leave --captions out")
    before = there.kind if there is not None else IMAGES
    if before == IMAGES and mixed and not pairs:
        raise Misuse("--mixed goes with --pairs CAPTIONS")
    if pairs:
        if there is not None and before == IMAGES and not rebuild:
            raise IndexMismatch(
                f"index {shown_path(folder)}: embeds images alone, which can't stand beside pairs; bt index --rebuild "
                "--pairs CAPTIONS makes it anew, --index names another one"
            )
        return MIXED if mixed or (before == MIXED and not rebuild) else PAIRS
    if before == IMAGES:
        return IMAGES
    if captions:
        raise Misuse(
            f"index {shown_path(folder)}: its images are embedded with their captions; give these with --pairs CAPTIONS"
        )
    return MIXED if mixed else before
