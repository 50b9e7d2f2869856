"""An Arrow file with images in it, as `datasets` saves a data set (`save_to_disk`): which rows have one, and its bytes.

A folder of a data set is `state.json`, which names its Arrow files, and these. Each is mapped into memory, so that an
image is read from where it lies; an image goes by its row, `data-00000-of-00002.arrow/000000123` (see `image_column`).
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bt_cli.errors import UnreadableImage
from bt_cli.sources.image_column import image_bytes, image_column, row_name, row_of
from bt_cli.sources.tar_shard import Member, shard_stamp

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".arrow"
STATE = "state.json"
END = b"\xff\xff\xff\xff\0\0\0\0"
"""What ends a stream of Arrow's messages; its reader takes a file that is cut off between two of them for whole."""
FILE = b"ARROW1"
"""How a file with an index of its batches begins; any other is a stream."""


class ArrowShard:
    """The images of one Arrow file, listed when it is opened from what it says of their places: none is read.

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
        self.stamp = shard_stamp(path)
        self.damage: str | None = None
        self._starts: list[int] = []
        """The first row of each batch."""
        self._images: list[pa.Array] = []
        self.members = list(self._listed())

    def read(self, name: str, most: int | None = None) -> bytes:
        """The image of a row, or the first `most` bytes of it.

        Raises:
            FileNotFoundError: There is no such row, or no such file any more.
            UnreadableImage: The file is another one by now.
            OSError: The file can't be read.
        """
        row = row_of(name)
        if not 0 <= row < len(self.members):
            raise FileNotFoundError(2, "no such row", f"{self.path}/{name}")
        if os.stat(self.path).st_size < self.stamp[0]:  # to read what is cut off would end the process
            raise UnreadableImage("the file was changed while it was read")
        batch = bisect_right(self._starts, row) - 1
        image = self._images[batch][row - self._starts[batch]].as_buffer()
        return b"" if image is None else image[:most].to_pybytes()

    def _listed(self) -> Iterator[Member]:
        import pyarrow as pa
        import pyarrow.compute as pc

        row = 0
        try:
            content = _mapped(self.path)
            for batch in _batches_in(content):
                column = image_column(batch.schema)
                if column is None:
                    return
                batch.column(column).validate(full=True)  # places beyond the file's end would be read otherwise
                images = image_bytes(batch.column(column))
                if not _lies_in(content, images):
                    self.damage = f"compressed from row {row:,} on, which is not read: save it again, or as Parquet"
                    return
                self._starts.append(row)
                self._images.append(images)
                for size in pc.fill_null(pc.binary_length(images), 0).to_pylist():
                    yield Member(row_name(row), row, size)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's, such as a lack of permission; Arrow's own have no number
            self.damage = f"cut off or damaged after row {row - 1:,}" if row else "is no whole Arrow file"


def batches(path: str) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file. Raises pyarrow.ArrowException or OSError where it can't be read, or ends early."""
    return _batches_in(_mapped(path))


def _mapped(path: str) -> pa.Buffer:
    import pyarrow as pa

    with pa.memory_map(path) as mapped:
        return mapped.read_buffer()


def _is_file(content: pa.Buffer) -> bool:
    return content[: len(FILE)].to_pybytes() == FILE


def _lies_in(content: pa.Buffer, images: pa.Array) -> bool:
    """Whether the images are where the file is mapped, and no decompressed copies."""
    data = images.buffers()[-1]
    return data is None or not data.size or content.address <= data.address < content.address + content.size


def _batches_in(content: pa.Buffer) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if _is_file(content):
        table = pa.ipc.open_file(content)
        yield from map(table.get_batch, range(table.num_record_batches))
        return
    source = pa.BufferReader(content)
    with pa.ipc.open_stream(source) as stream:
        yield from stream
    end = source.tell()
    if content[max(end - len(END), 0) : end].to_pybytes() != END:
        raise pa.ArrowInvalid("no end of the stream")


def schema_of(path: str) -> pa.Schema:
    """The columns of an Arrow file. Raises as `batches`."""
    import pyarrow as pa

    content = _mapped(path)
    opened: Any = pa.ipc.open_file if _is_file(content) else pa.ipc.open_stream
    return opened(content).schema


def holds_images(path: str) -> bool:
    """Whether a file is an Arrow file with images in it, or one by its name that can't be read: who opens it will say
    so. One that a data set has left behind, since its `state.json` names others, is none."""
    if not path.lower().endswith(SUFFIX) or not os.path.isfile(path) or _is_left_behind(path):
        return False
    import pyarrow as pa

    try:
        return image_column(schema_of(path)) is not None
    except (pa.ArrowException, OSError):
        return True


def has_images(path: str) -> bool:
    """Whether any row has the bytes of an image; its rows may name files instead. One that can't be read is taken to
    have some: who opens it will say so."""
    import pyarrow as pa

    try:
        column = image_column(schema_of(path))
        images = (image_bytes(batch.column(column)) for batch in batches(path))
        return any(each.null_count < len(each) for each in images)
    except (pa.ArrowException, OSError):
        return True


def _is_left_behind(path: str) -> bool:
    try:
        with open(os.path.join(os.path.dirname(path), STATE), encoding="utf-8") as file:
            named = {each["filename"] for each in json.load(file)["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # no data set, or one that tells nothing
    return os.path.basename(path) not in named
