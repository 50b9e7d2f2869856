"""Pictures as pages show them: decoded, upright, without metadata, in a bounded size, kept in a bounded folder."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

from bt_cli.errors import Unwritable
from bt_cli.files.atomic_write import write_whole
from bt_cli.preprocessing.image_file import open_image
from bt_cli.store.bridge_cache import file_key

SIDES = {"thumb": 320, "small": 400, "medium": 800, "image": 2048}
"""Longest side in pixels, by the kind of request."""


class Thumbnails:
    """JPEGs of images by file and size on disk; the least recently used go when they take more than `limit` bytes.

    An image is always decoded and encoded anew: what is no picture any more never leaves, and no GPS position does.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def jpeg(self, path: str, side: int) -> bytes:
        """The image at `path` as a JPEG of at most `side` pixels a side. Raises UnreadableImage."""
        key = file_key(path)
        kept = None if key is None else self.folder / hashlib.blake2b(key + b"%d" % side, digest_size=16).hexdigest()
        if kept is not None:
            try:
                data = kept.read_bytes()
                os.utime(kept)
                return data
            except OSError:
                pass
        picture = open_image(path, draft=side)
        picture.thumbnail((side, side))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=85)
        data = encoded.getvalue()
        if kept is not None:
            self._keep(kept, data)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        if len(data) > self.limit:
            return
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if self._bytes is None:
                    self._bytes = sum(found.stat().st_size for found in self.folder.iterdir())
                write_whole(path, data)
                self._bytes += len(data)
                if self._bytes > self.limit:
                    self._drop()
            except (OSError, Unwritable):
                self._bytes = None  # a full or forbidden disk costs time, not the answer

    def _drop(self) -> None:
        """Remove the least recently used until a tenth is free."""
        kept = sorted((stat.st_mtime_ns, stat.st_size, path) for path, stat in self._stats())
        total = sum(size for _, size, _ in kept)
        for _, size, path in kept:
            if total <= self.limit * 9 // 10:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._bytes = total

    def _stats(self) -> list[tuple[Path, os.stat_result]]:
        return [(path, path.stat()) for path in self.folder.iterdir()]
