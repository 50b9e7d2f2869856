"""An index that is kept open: re-opened when a writer commits, its questions answered in batches."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bt_cli.display.remarks import complain, is_quiet
from bt_cli.errors import BtError
from bt_cli.files.shown_path import shown_path
from bt_cli.serving.micro_batches import MicroBatches
from bt_cli.serving.refusals import Refusal, not_found
from bt_cli.serving.settings import Settings
from bt_cli.sources.web_address import WebImage, is_url
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import NAME, Manifest

CAPTIONS_SHOWN = 5
"""Captions that come with an image, at most."""

Counted = Callable[[int], None]
Found = tuple[np.ndarray, np.ndarray]


class StoredImage(NamedTuple):
    """An image of an index as a term of a query: its vector is there, the file need not be."""

    folder: ServedFolder
    id: int

    def vector(self) -> np.ndarray:
        """The stored embedding, (d,) float32, of norm 1."""
        vector = self.folder.vectors_of(np.array([self.id]))[0]
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


class ServedFolder(IndexFolder):
    """An opened generation whose searches, from many threads, are answered in one pass over the vectors."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(folder, manifest)
        self._batches: MicroBatches[tuple[np.ndarray, int], Found] | None = None
        self._of_images: tuple[np.ndarray, np.ndarray] | None = None
        self._allow_private = False

    @functools.cached_property
    def state(self) -> str:
        """Which images the ids are of, as a short word: the same as long as each id means the same image."""
        pieces = self.manifest.pieces
        ids = [(piece.table, piece.strings, piece.rows, piece.sums_checksum, piece.deleted) for piece in pieces]
        made = "" if self.manifest.format > 1 else self.manifest.written  # the first format has no sums of its files
        return hashlib.blake2b(json.dumps([self.home, made, ids]).encode(), digest_size=6).hexdigest()

    def answer_in_batches(self, settings: Settings, counted: Counted) -> None:
        """Share passes over the vectors from now on, and fetch images from where the settings allow it."""
        self._allow_private = settings.allow_private_urls
        self._batches = MicroBatches(
            self._search_all, most=settings.batch, wait=settings.batch_wait, name="vectors", counted=counted
        )

    def search(self, vectors: np.ndarray, k: int, *, ids: np.ndarray | None = None) -> Found:
        """As `IndexFolder.search`; a question alone waits for others' where there are any."""
        vectors = np.atleast_2d(vectors)
        if self._batches is None or ids is not None or len(vectors) != 1:
            return super().search(vectors, k, ids=ids)
        return self._batches.ask([(vectors[0], k)])[0]

    def captions_of(self, ids: Sequence[int]) -> list[list[str]]:
        """The captions of each image, at most `CAPTIONS_SHOWN`, in their own order."""
        if self.captions is None:
            return [[] for _ in ids]
        if self._of_images is None:
            owners = self.captions.image_ids(np.arange(len(self.captions)))
            order = np.argsort(owners, kind="stable")
            self._of_images = order, owners[order]
        order, owners = self._of_images
        first = np.searchsorted(owners, ids, "left")
        last = np.minimum(np.searchsorted(owners, ids, "right"), first + CAPTIONS_SHOWN)
        return [self.captions.texts(order[start:end]) for start, end in zip(first, last, strict=True)]

    def image_path(self, id: int) -> str:
        """The absolute path of an image, or its address on the web.

        Raises:
            Refusal: 404 for an id that the index does not have.
        """
        if not 0 <= id < len(self):
            raise not_found(f"no image {id}: the index has {len(self):,}, counted from 0")
        path = self.stored_path(id)
        if is_url(path):
            return WebImage(path) if self._allow_private else path
        return os.path.join(self.home, path)

    def id_of(self, path: str) -> int:
        """The id of an image by the path, or the address, that answers give.

        Raises:
            Refusal: 404: The index has no such image.
        """
        for id in self.matching(glob.escape(path)).tolist() if path else ():
            if self.image_path(id) == path:
                return int(id)
        raise not_found(f"{shown_path(path)[:200]}: no image of this index")

    def close(self) -> None:
        """Close what is open; searches under way end as they began."""
        super().close()
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.close()

    def _search_all(self, questions: Sequence[tuple[np.ndarray, int]]) -> list[Found]:
        answers: dict[int, Found] = {}
        for k in {k for _, k in questions}:
            places = [place for place, (_, wanted) in enumerate(questions) if wanted == k]
            scores, found = super().search(np.stack([questions[place][0] for place in places]), k)
            answers |= {place: (scores[row : row + 1], found[row : row + 1]) for row, place in enumerate(places)}
        return [answers[place] for place in range(len(questions))]


class ServedIndex:
    """An index by its name: always the generation that its folder has now.

    Attributes:
        name: How requests call it.
        folder: The index folder.
    """

    def __init__(self, name: str, folder: Path, settings: Settings, counted: Counted) -> None:
        self.name, self.folder = name, folder
        self._settings, self._counted = settings, counted
        self._opening = threading.Lock()
        self._seen = self._stamp()
        self._opened = self._open()

    def current(self, state: str | None = None) -> ServedFolder:
        """The generation of this moment; what can't be opened any more leaves the one before in use, and says so.

        Raises:
            Refusal: 409: Ids of the `state` that was named may mean other images by now.
        """
        folder = self._newest()
        if state is not None and state != folder.state:
            raise Refusal(
                409, "conflict_error", f"the index {self.name} has changed: its ids are others now, search again"
            )
        return folder

    def _newest(self) -> ServedFolder:
        stamp = self._stamp()
        if stamp != self._seen:
            with self._opening:
                if stamp != self._seen:
                    self._seen = stamp
                    self._take_next()
        return self._opened

    def close(self) -> None:
        """Close the generation that is open."""
        self._opened.close()

    def _take_next(self) -> None:
        try:
            opened = self._open()
        except (BtError, OSError) as error:
            if not is_quiet():  # to whoever runs the server, not to the caller who noticed
                complain(f"{self.name}: the index changed and can't be opened; the one before is served on: {error}")
            return
        before, self._opened = self._opened, opened
        before.close()

    def _open(self) -> ServedFolder:
        opened = ServedFolder.open(self.folder)
        assert isinstance(opened, ServedFolder)
        opened.answer_in_batches(self._settings, self._counted)
        return opened

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.folder / NAME)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each index folder: that of the folder above it, with a number where two are called alike."""
    names: list[str] = []
    for folder in folders:
        name = os.path.basename(os.path.dirname(os.path.abspath(folder))) or "index"
        number, free = 1, name
        while free in names:
            number += 1
            free = f"{name}-{number}"
        names.append(free)
    return names
