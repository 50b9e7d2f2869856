"""A Parquet file with images in it, as the hub keeps data sets: which rows have one, and its bytes.

An image goes by its row, `part.parquet/000000123` (see `image_column`).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bt_cli.errors import UnreadableImage
from bt_cli.sources.image_column import image_bytes, image_column, row_name, row_of
from bt_cli.sources.remote_copy import COPY
from bt_cli.sources.tar_shard import Member, current_stamp, opened_file
from bt_cli.sources.web_address import is_url

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"
BATCH = 32
"""Rows that are read at a time."""
WINDOW = 64 << 20
"""Bytes of images that stay at hand behind the row that was read last: threads ask a little out of order."""


class ParquetShard:
    """The images of one Parquet file, listed when it is opened; all of them are read once for their sizes, and stay at
    hand where they are no more than `WINDOW` bytes.

    Args:
        path: The file.

    Attributes:
        members: A member for each row, called by its number in nine digits; `offset` is that number. A row without an
            image has size 0.
        damage: What is wrong with the file, in words, or None: the rows before that place are sound.
        stamp: Size and time of change of the file, by which a changed one is known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = current_stamp(path)
        self.damage: str | None = None
        self._lock = threading.Lock()
        self._window: OrderedDict[int, bytes] = OrderedDict()
        """Row to image, ascending without gaps, as far as `_next`."""
        self._held = 0
        self._next = 0
        self._rows: Iterator[bytes] = iter(())
        self._begins: list[int] = []
        """Where each image would begin if they lay one behind another; only once rows were asked for in no order."""
        self.members = list(self._listed())
        if not self._window:
            self._held = self._next = 0

    def read(self, name: str, most: int | None = None) -> bytes:
        """The image of a row, or the first `most` bytes of it.

        Raises:
            FileNotFoundError: There is no such row.
            UnreadableImage: The file is damaged there.
            OSError: The file can't be read.
        """
        row = row_of(name)
        if not 0 <= row < len(self.members):
            raise FileNotFoundError(2, "no such row", f"{self.path}/{name}")
        import pyarrow as pa

        try:
            with self._lock:
                return self._at(row)[:most]
        except (pa.ArrowException, StopIteration, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UnreadableImage("the Parquet file is damaged there") from error

    def is_at_hand(self, name: str) -> bool:
        """Whether the image of a row is in memory, so that reading it asks nobody."""
        return row_of(name) in self._window

    @property
    def _key(self) -> tuple[str, int, int]:
        return os.path.abspath(self.path), *self.stamp

    def _listed(self) -> Iterator[Member]:
        import pyarrow as pa
        import pyarrow.compute as pc

        row = 0
        try:
            for images in self._batches(range(self._groups()[-1])):
                sizes = pc.fill_null(pc.binary_length(images), 0).to_pylist()
                self._keep(row, sum(sizes), images)
                for size in sizes:
                    yield Member(row_name(row), row, size)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's, such as a lack of permission; Arrow's own have no number
            self.damage = f"cut off or damaged after row {row - 1:,}" if row else "is no whole Parquet file"

    def _keep(self, row: int, size: int, images: pa.Array) -> None:
        """Keep the images from a row on, if all before them are kept and there is room; else none."""
        self._held += size
        if row == self._next and self._held <= WINDOW:
            self._window.update(enumerate((image or b"" for image in images.to_pylist()), row))
            self._next = row + len(images)
        else:
            self._window.clear()

    def _groups(self) -> list[int]:
        """The first row of each row group, and at the end how many groups there are."""
        with opened_table(self.path) as file:
            starts, at = [], 0
            for group in range(file.num_row_groups):
                starts.append(at)
                at += file.metadata.row_group(group).num_rows
            return [*starts, file.num_row_groups]

    def _batches(self, groups: range) -> Iterator[pa.Array]:
        with opened_table(self.path) as file:
            column = image_column(file.schema_arrow)
            if column is None:
                return
            for group in groups:  # one at a time, so that a batch with damage in it takes no sound group away
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=[column], use_threads=False):
                    yield image_bytes(batch.column(0))

    def _at(self, row: int) -> bytes:
        if row not in self._window:
            size = self.members[row].size
            if self._begins and (kept := COPY.find(self._key, self._begins[row], size)[0]):
                return kept
            self._approach(row)
        while self._next <= row:
            image = next(self._rows)
            if self._begins and image:
                COPY.keep(self._key, self._begins[self._next], image)
            self._window[self._next] = image
            self._next += 1
            self._held += len(image)
            while self._held > WINDOW and len(self._window) > 1:
                self._held -= len(self._window.popitem(last=False)[1])
        return self._window[row]

    def _approach(self, row: int) -> None:
        """Goes on from where it is if that is in the row's group and before it, else from the group's beginning. Who
        goes back asks in no order, as training does: from then on what is passed is kept on disk, else each image
        would cost a group."""
        *starts, count = self._groups()
        group = max(number for number, start in enumerate(starts) if start <= row)
        if starts[group] <= self._next <= row and self._window:
            return
        if self._next > row and not self._begins:
            self._begins = list(accumulate((member.size for member in self.members), initial=0))
        self._window.clear()
        self._held, self._next = 0, starts[group]
        batches = self._batches(range(group, count))
        self._rows = (image or b"" for images in batches for image in images.to_pylist())


def holds_images(path: str) -> bool:
    """Whether a file, here or at an address, is a Parquet file with images in it, or one by its name that can't be
    read: who opens it will say so."""
    if not path.lower().endswith(SUFFIX) or not (is_url(path) or os.path.isfile(path)):
        return False
    import pyarrow as pa

    try:
        with opened_table(path) as file:
            return image_column(file.schema_arrow) is not None
    except (pa.ArrowException, OSError):
        return True


def has_images(path: str) -> bool:
    """Whether a Parquet file with a column of images has the bytes of any, as far as it tells without their being read;
    its rows may name files instead. One that can't be read is taken to have some: who opens it will say so."""
    import pyarrow as pa

    try:
        with opened_table(path) as file:
            column = image_column(file.schema_arrow)
            leaf = next(
                number
                for number in range(len(file.schema))
                if file.schema.column(number).path in (column, f"{column}.bytes")
            )
            groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
            return any(_may_have_values(group.column(leaf).statistics, group.num_rows) for group in groups)
    except (pa.ArrowException, OSError):
        return True


def _may_have_values(statistics: Any, rows: int) -> bool:
    return statistics is None or not statistics.has_null_count or int(statistics.null_count) < rows


def opened_table(path: str) -> Any:
    """A Parquet file, here or at an address. Raises OSError, pyarrow.ArrowException."""
    import pyarrow.parquet as pq

    source = opened_file(path, current_stamp(path)) if is_url(path) else path
    return pq.ParquetFile(source, memory_map=False, pre_buffer=False)
