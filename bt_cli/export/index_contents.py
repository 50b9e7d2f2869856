"""What an index has, as other programs take it: tables with an `id`, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bt_cli.embeddings.embedding_table import path_columns, paths_of, vectors_of
from bt_cli.embeddings.npy_file import records
from bt_cli.paths.index_paths import RootPaths

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from bt_cli.store.index_folder import IndexFolder

Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass
class Exported:
    """What was written: rows of each kind, and the images that had to be left out, each with its reason."""

    images: int = 0
    captions: int = 0
    skipped: list[str] = field(default_factory=list)


class IndexContents:
    """The images and the captions of an index, in the order of their ids.

    Args:
        folder: The index, open.
        absolute: Write paths as absolute ones; else as the index has them, relative to the folder above it where they
            lie below that.
        progress: Called with rows done and rows in all, images and captions together.
    """

    def __init__(self, folder: IndexFolder, *, absolute: bool = False, progress: Progress | None = None) -> None:
        self.folder = folder
        self.absolute = absolute
        self.paths = RootPaths(folder.home)
        self.captions = len(folder.captions) if folder.captions is not None else 0
        self.dimension = folder.dimension
        self._progress = progress or _silent
        self._done = 0

    def __len__(self) -> int:
        """Images and captions."""
        return len(self.folder) + self.captions

    def images(self) -> Iterator[pa.Table]:
        """The image table's columns behind an `id`."""
        return self._with_ids(self.folder.batches(), "path", "path_bytes")

    def texts(self) -> Iterator[pa.Table]:
        """The caption table's columns behind an `id`, and the id of each one's image (null where it has none)."""
        import numpy as np
        import pyarrow as pa

        if self.folder.captions is None:
            return
        first = 0
        for table in self._with_ids(self.folder.captions.batches(), "image", "image_path_bytes"):
            owners = self.folder.captions.image_ids(np.arange(first, first + len(table)))
            first += len(table)
            yield table.add_column(1, "image_id", pa.array(owners, pa.int64(), mask=owners < 0))

    def about(self) -> dict[str, str]:
        """What made the vectors: checkpoint, fingerprint, preprocessing, precision, and the folder of the paths."""
        identity = self.folder.identity
        return {
            "bt.checkpoint": identity.checkpoint,
            "bt.fingerprint": identity.fingerprint,
            "bt.preprocessing": identity.preprocessing,
            "bt.precision": identity.precision,
            "bt.home": self.folder.home,
        }

    def _with_ids(self, tables: Iterator[pa.Table], path: str, raw: str) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        first = 0
        for table in tables:
            if self.absolute:
                table = self._absolute(table, path, raw)
            ids = np.arange(first, first + len(table))
            first += len(table)
            yield table.add_column(0, pa.field("id", pa.int64(), nullable=False), pa.array(ids))
            self._done += len(table)
            self._progress(self._done, len(self))

    def _absolute(self, table: pa.Table, path: str, raw: str) -> pa.Table:
        import pyarrow as pa

        texts = table.column(path).to_pylist()
        names = paths_of([text or "" for text in texts], table.column(raw).to_pylist())
        shown, other = path_columns([self.paths.absolute(name) if name else "" for name in names])
        for name, values in ((path, [value or None for value in shown]), (raw, other)):
            place = table.schema.get_field_index(name)
            kept = table.schema.field(name)
            table = table.set_column(place, kept, pa.array(values, kept.type))
        return table


def vectors_and_records(table: pa.Table) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The vectors of a table, (n, d) float32, and its other columns as JSON objects (see `npy_file.records`)."""
    import numpy as np

    return vectors_of(table.column("embedding")).astype(np.float32), list(records(table))
