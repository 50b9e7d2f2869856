"""The journal of an index run: batches that were encoded, kept until they are in the table, so that nothing is
encoded twice.

Each run appends to a segment of its own, an Arrow IPC stream with one record batch a batch of images or texts. A
batch carries a checksum, is handed to the operating system as soon as it is encoded and synced to disk every few
seconds. A segment that ends in the middle of a batch (the process was killed) holds the batches before it.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.embedding_table import vectors_of
from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS
from bt_cli.files.plain_file import open_plain

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".arrows"
FOR_CAPTIONS = b"bt.captions"
"""Metadata of an index of pairs: a digest of the captions that images are embedded with."""
SYNC_SECONDS = 5.0
"""After a power failure at most this much work is lost; after a kill, none."""


class Journal:
    """The segments in one folder.

    Args:
        folder: Made when something is written.
        schema: Of the table that the rows are for; its metadata name what encodes, and segments that another
            checkpoint or preprocessing made are not read.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._synced = time.monotonic()

    def bind(self, kind: str, digest: str) -> None:
        """Keep to batches of this kind (`Manifest.kind`) that were made with captions of this digest."""
        metadata = {**self.schema.metadata, b"bt.kind": kind.encode(), FOR_CAPTIONS: digest.encode()}
        self.schema = self.schema.with_metadata(metadata)

    def append(self, columns: dict[str, Any]) -> None:
        """Keep one encoded batch: the schema's columns by name.

        Raises:
            OSError: The disk is full.
        """
        import pyarrow as pa

        if self._writer is None:
            self._open()
            assert self._writer is not None
        batch = pa.record_batch(columns, schema=self.schema)
        self._writer.write_batch(batch, custom_metadata={"crc32": str(_checksum(batch))})
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        """End this run's segment."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            self._writer = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All whole batches, in the order in which they were written."""
        for segment in self._segments():
            yield from self._batches_of(segment)

    def precisions(self) -> list[str]:
        """The precisions that made the batches, each once, in the order of the segments."""
        import pyarrow as pa

        found = []
        for segment in self._segments():
            with contextlib.suppress(pa.ArrowInvalid, OSError), open_plain(segment) as file:
                schema = pa.ipc.open_stream(file).schema
                if self._fits(schema):
                    found.append(schema.metadata[b"bt.precision"].decode())
        return list(dict.fromkeys(found))

    def clear(self) -> None:
        """Remove all segments: what they hold is in the table now, or is of no use."""
        self.close()
        for segment in self._segments():
            segment.unlink(missing_ok=True)
        try:
            self.folder.rmdir()
        except OSError:
            pass

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("*" + SUFFIX)) if self.folder.is_dir() else []

    def _open(self) -> None:
        import pyarrow as pa

        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem) for path in self._segments() if path.stem.isdigit()), default=0) + 1
        self._file = open(self.folder / f"{number:06d}{SUFFIX}", "xb")  # noqa: SIM115  (closed in close)
        self._writer = pa.ipc.new_stream(self._file, self.schema)

    def _batches_of(self, segment: Path) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        with contextlib.suppress(OSError), open_plain(segment) as file:
            try:
                reader = pa.ipc.open_stream(file)
                if not self._fits(reader.schema):
                    return
                while True:
                    batch, custom = reader.read_next_batch_with_custom_metadata()
                    if custom is None or custom.get("crc32") != str(_checksum(batch)).encode():
                        return
                    yield batch
            except (pa.ArrowInvalid, OSError, StopIteration):
                return  # the end, or where the writer was killed

    def _fits(self, schema: pa.Schema) -> bool:
        made, ours = schema.metadata or {}, self.schema.metadata
        keys = (b"bt.fingerprint", b"bt.preprocessing", b"bt.format", b"bt.kind", FOR_CAPTIONS)
        return _without_photo_columns(schema).equals(_without_photo_columns(self.schema)) and all(
            made.get(key) == ours.get(key) for key in keys
        )


def _without_photo_columns(schema: pa.Schema) -> pa.Schema:
    """What segments of earlier versions have, too: what they encoded is not encoded again."""
    import pyarrow as pa

    return pa.schema([field for field in schema if field.name not in PHOTO_COLUMNS])


def _checksum(batch: pa.RecordBatch) -> int:
    """CRC-32 of the embeddings and of the texts that say what they belong to."""
    import pyarrow as pa

    value = 0
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.name == "embedding":
            value = zlib.crc32(np.ascontiguousarray(vectors_of(column)).tobytes(), value)
        else:
            if pa.types.is_timestamp(column.type):  # of nanoseconds Python makes values with pandas alone
                column = column.cast(pa.int64())
            value = zlib.crc32(repr(column.to_pylist()).encode("utf-8", "replace"), value)
    return value
