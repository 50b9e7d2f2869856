"""An Arrow file with images in it, as `datasets` saves a data set (`save_to_disk`): which rows have one, and its bytes.

A folder of a data set is `state.json`, which names its Arrow files, and these. Each is mapped into memory, so that an
image is read from where it lies; an image goes by its row, `data-00000-of-00002.arrow/000000123` (see `image_column`).
A file elsewhere is read from its beginning to its end when it is opened, and what was read is kept (see
`remote_file`): an image is a part of it.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bt_cli.errors import UnreadableImage
from bt_cli.files.json_object import SETTINGS
from bt_cli.files.plain_file import read_head
from bt_cli.sources.image_column import image_bytes, image_column, row_name, row_of
from bt_cli.sources.tar_shard import Member, current_stamp, opened_file, shard_stamp
from bt_cli.sources.web_address import is_in_store, is_url

if TYPE_CHECKING:
    import numpy as np
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
        path: The file, here or at an address.

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
        self._images: list[pa.Array | np.ndarray] = []
        """Of each batch: the images themselves, or of a file elsewhere where each begins in it, (rows,) int64."""
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
        batch = bisect_right(self._starts, row) - 1
        images, place = self._images[batch], row - self._starts[batch]
        if is_url(self.path):
            return self._part(int(images[place]), self.members[row].size, most)
        if os.stat(self.path).st_size < self.stamp[0]:  # to read what is cut off would end the process
            raise UnreadableImage("the file was changed while it was read")
        image = images[place].as_buffer()
        return b"" if image is None else image[:most].to_pybytes()

    def is_at_hand(self, name: str) -> bool:
        """Whether the image of a row of a file elsewhere is here already, so that reading it asks nobody."""
        from bt_cli.sources.remote_copy import COPY

        row = row_of(name)
        if not 0 <= row < len(self.members):
            return False
        batch = bisect_right(self._starts, row) - 1
        first = int(self._images[batch][row - self._starts[batch]])
        return COPY.holds((self.path, *self.stamp), first, self.members[row].size)

    def _part(self, first: int, size: int, most: int | None) -> bytes:
        from bt_cli.sources.remote_file import RemoteStat, copied_part

        size = size if most is None else min(most, size)
        data = copied_part(self.path, RemoteStat(*self.stamp), first, size)
        if len(data) < size:
            raise UnreadableImage("the file was changed while it was read")
        return data

    def _listed(self) -> Iterator[Member]:
        import pyarrow as pa
        import pyarrow.compute as pc

        row = 0
        try:
            content = _content(self.path)
            for batch in content.batches():
                column = image_column(batch.schema)
                if column is None:
                    return
                batch.column(column).validate(full=True)  # places beyond the file's end would be read otherwise
                images = image_bytes(batch.column(column))
                begin = content.begin_of(images)
                if begin is None:
                    self.damage = f"compressed from row {row:,} on, which is not read: save it again, or as Parquet"
                    return
                self._starts.append(row)
                self._images.append(_begins(images, begin) if is_url(self.path) else images)
                for size in pc.fill_null(pc.binary_length(images), 0).to_pylist():
                    yield Member(row_name(row), row, size)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's, such as a lack of permission; Arrow's own have no number
            self.damage = f"cut off or damaged after row {row - 1:,}" if row else "is no whole Arrow file"


def batches(path: str) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file. Raises pyarrow.ArrowException or OSError where it can't be read, or ends early."""
    return _content(path).batches()


def schema_of(path: str) -> pa.Schema:
    """The columns of an Arrow file. Raises as `batches`."""
    return _content(path).schema()


class _Mapped:
    """What is in a file of this machine, mapped into memory."""

    def __init__(self, path: str) -> None:
        import pyarrow as pa

        with pa.memory_map(path) as mapped:
            self._all = mapped.read_buffer()

    def source(self) -> Any:
        """What Arrow reads, from its beginning on."""
        import pyarrow as pa

        return pa.BufferReader(self._all)

    def begin_of(self, images: pa.Array) -> int | None:
        """Where in the file the images of a batch begin; None for decompressed copies of them."""
        data = images.buffers()[-1]
        first = data.address - self._all.address if data is not None and data.size else 0
        return first if 0 <= first < max(self._all.size, 1) else None

    def schema(self) -> pa.Schema:
        """The file's columns."""
        import pyarrow as pa

        source = self.source()
        opened: Any = pa.ipc.open_file if _is_file(source) else pa.ipc.open_stream
        return opened(source).schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As the function `batches`."""
        import pyarrow as pa

        source = self.source()
        if _is_file(source):
            table = pa.ipc.open_file(source)
            yield from map(table.get_batch, range(table.num_record_batches))
            return
        with pa.ipc.open_stream(source) as stream:
            yield from stream
        source.seek(max(source.tell() - len(END), 0))
        if source.read(len(END)) != END:
            raise pa.ArrowInvalid("no end of the stream")


class _Elsewhere(_Mapped):
    """What is in a file elsewhere: of what was read of it last, Arrow's buffers are parts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reads: deque[tuple[int, bytes]] = deque(maxlen=2)
        """Where each began in the file, and what it gave. It is held, so that nothing else can lie where it does."""

    def source(self) -> Any:
        import pyarrow as pa

        return pa.PythonFile(_Remembered(opened_file(self._path, current_stamp(self._path)), self._reads), "r")

    def begin_of(self, images: pa.Array) -> int | None:
        import pyarrow as pa

        data = images.buffers()[-1]
        if data is None or not data.size:
            return 0
        for first, content in self._reads:
            within = data.address - pa.py_buffer(content).address
            if 0 <= within < len(content):
                return first + within
        return None


class _Remembered:
    """A file for Arrow to read that notes what it gives."""

    def __init__(self, file: Any, reads: deque[tuple[int, bytes]]) -> None:
        self._file, self._reads = file, reads
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file."""
        first = self._file.tell()
        content: bytes = self._file.read(size)
        self._reads.append((first, content))
        return content


def _content(path: str) -> _Mapped:
    return _Elsewhere(path) if is_url(path) else _Mapped(path)


def _is_file(source: Any) -> bool:
    """Whether a file has an index of its batches; the source is at its beginning before and after."""
    head: bytes = source.read(len(FILE))
    source.seek(0)
    return head == FILE


def _begins(images: pa.Array, first: int) -> np.ndarray:
    """Where in a file each of the images of a batch begins, (rows,) int64, where their bytes begin at `first`."""
    import numpy as np
    import pyarrow as pa

    places = images.buffers()[1]
    if places is None:  # no rows
        return np.empty(0, np.int64)
    kind = np.int64 if pa.types.is_large_binary(images.type) else np.int32
    return first + np.frombuffer(places, kind)[images.offset : images.offset + len(images)].astype(np.int64)


def holds_images(path: str) -> bool:
    """Whether a file, here or at an address, is an Arrow file with images in it, or one by its name that can't be read:
    who opens it will say so. One that a data set has left behind, since its `state.json` names others, is none."""
    if not path.lower().endswith(SUFFIX) or not (is_url(path) or os.path.isfile(path)) or _is_left_behind(path):
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
    state = os.path.join(os.path.dirname(path), STATE)
    if is_url(path) and not is_in_store(path):
        return False  # named by itself: the web lists no folder
    try:
        if is_url(path):
            with opened_file(state, shard_stamp(state)) as file:
                content = file.read(SETTINGS + 1)
        else:
            content = read_head(state, SETTINGS + 1)  # of a plain file; no pipe is waited for
        if len(content) > SETTINGS:
            return False
        named = {each["filename"] for each in json.loads(content)["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # no data set, or one that tells nothing
    return os.path.basename(path) not in named
