"""An index as webdataset shards: each picture's own bytes, its captions, its row and its vector, in tar files."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.datasets.image_folder import IMAGE_SUFFIXES
from bt_cli.embeddings.embedding_table import vectors_of
from bt_cli.embeddings.npy_file import json_line, records
from bt_cli.errors import Misuse, UnreadableImage, Unwritable
from bt_cli.export.index_contents import Exported, IndexContents
from bt_cli.files.atomic_write import open_whole
from bt_cli.files.image_format import HEAD, image_format
from bt_cli.files.shown_path import shown_path
from bt_cli.preprocessing.image_file import read_image_file

SHARD = re.compile(r"\d{5,}\.tar", re.ASCII)
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
"""Of pictures whose own name has no suffix of an image."""


@dataclass(frozen=True)
class Sample:
    """One image: what its files in a shard hold."""

    key: str
    suffix: str
    picture: bytes
    captions: list[str]
    record: dict[str, Any]
    vector: np.ndarray

    def files(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of the picture, its captions one a line (as `bt` and others read them), row and vector."""
        yield f"{self.key}{self.suffix}", self.picture
        if self.captions:
            lines = (" ".join(caption.splitlines()) for caption in self.captions)
            yield f"{self.key}.txt", "\n".join(lines).encode("utf-8", "backslashreplace")
        yield f"{self.key}.json", json_line(self.record)
        array = io.BytesIO()
        np.save(array, self.vector)
        yield f"{self.key}.npy", array.getvalue()


def to_webdataset(
    contents: IndexContents, out: str, *, shard_size: int = 10_000, strict: bool = False, overwrite: bool = False
) -> Exported:
    """Write `00000.tar`, `00001.tar`, ... into the folder `out`, `shard_size` images in each; each appears when it is
    whole. A picture that can't be read now is left out, and named.

    Raises:
        Misuse: The folder has files already, without `overwrite`, which replaces shards and leaves other files.
        UnreadableImage: A picture can't be read, when `strict`.
    """
    folder = Path(out)
    if not overwrite and folder.is_dir() and next(os.scandir(folder), None) is not None:
        raise Misuse(f"{shown_path(out)}: has files already; name another folder, or give --overwrite")
    done = Exported()
    samples = _samples(contents, done, strict)
    written: set[str] = set()
    sample = next(samples, None)
    while sample is not None:
        name = f"{len(written):05d}.tar"
        with open_whole(folder / name) as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for _ in range(shard_size):
                for member, content in sample.files():
                    _add(tar, member, content)
                done.images += 1
                done.captions += len(sample.captions)
                if (sample := next(samples, None)) is None:
                    break
        written.add(name)
    _drop_others(folder, written)
    return done


def _drop_others(folder: Path, written: set[str]) -> None:
    """Remove the shards of an earlier export, which had more of them."""
    try:
        for entry in folder.iterdir() if folder.is_dir() else ():
            if SHARD.fullmatch(entry.name) and entry.name not in written:
                entry.unlink()
    except OSError as error:
        raise Unwritable(f"{shown_path(folder)}: can't be written: {error.strerror}") from error


def _samples(contents: IndexContents, done: Exported, strict: bool) -> Iterator[Sample]:
    captions = _captions_by_image(contents)
    for table in contents.images():
        vectors = vectors_of(table.column("embedding"))
        for row, record in enumerate(records(table)):
            path = contents.paths.absolute(record["path"])
            try:
                picture = read_image_file(path)
            except UnreadableImage as error:
                if strict:
                    raise
                done.skipped.append(str(error))
                continue
            key = f"{record['id']:09d}"
            yield Sample(
                key,
                _suffix(path, picture),
                picture,
                captions.get(record["id"], []),
                {"key": key, **record},
                vectors[row],
            )


def _captions_by_image(contents: IndexContents) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for table in contents.texts():
        for image, text in zip(table.column("image_id").to_pylist(), table.column("caption").to_pylist(), strict=True):
            if image is not None:
                found.setdefault(image, []).append(text)
    return found


def _suffix(path: str, picture: bytes) -> str:
    """By which readers of a shard know the format: the name's own, else that of the content."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in IMAGE_SUFFIXES else SUFFIXES.get(image_format(picture[:HEAD]) or "", ".img")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))
