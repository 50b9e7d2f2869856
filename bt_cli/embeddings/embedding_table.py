"""Embeddings as Parquet tables that pandas, polars and DuckDB read as they stand; one row an image, or one a caption.

Columns of an image table: `path`, `path_bytes` (the name's own bytes where it is no UTF-8, else null), `size`
(bytes), `mtime` (a timestamp in UTC, with nanoseconds), `content_hash` (SHA-256, hex), `width`, `height` (of the
image as it is shown, in pixels), what `photo_columns` has of the shot, texts that were carried along from the images'
source (`kept_columns`; each may be null), `embedding`. Of a caption table: `caption`,
`image` (its path, as in the image table, or null), `image_path_bytes`, `caption_id`, `embedding`; a table of pairs has
the same columns, each row's embedding joining caption and image. The metadata (`bt.*`) name what made the embeddings,
what they are of (`bt.kind`: images, captions, pairs, or mixed: an index's images, some without a caption) and the
folder that relative paths start from (`bt.home`). Tables of the first format have `mtime` as nanoseconds since 1970 and
call `image_path_bytes` `image_bytes`, and those of earlier versions say nothing of the shot; they are read, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.kept_columns import kept_fields, kept_in, kept_metadata
from bt_cli.embeddings.photo_columns import photo_fields
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import WAY_OUT
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "2"
ROW_GROUP = 2048
"""Rows a group: few enough that a writer, which holds several copies of one, keeps its memory whatever the number of
rows (4 MiB a copy at 1,024 dimensions in float16), and many enough that a reader of columns skips well."""


def metadata(identity: Identity, dtype: str, kind: str, home: str) -> dict[str, str | bytes]:
    """The key-value metadata of a table; `kind` says what its embeddings are of: "images", "captions", "pairs", or
    "mixed" (pairs, and images alone where they have no caption); relative paths start from `home`."""
    from bt_cli.version import __version__

    return {
        "bt.format": FORMAT,
        "bt.version": __version__,
        "bt.checkpoint": identity.checkpoint,
        "bt.fingerprint": identity.fingerprint,
        "bt.preprocessing": identity.preprocessing,
        "bt.precision": identity.precision,
        "bt.dimension": str(identity.dimension),
        "bt.dtype": dtype,
        "bt.kind": kind,
        "bt.home": os.fsencode(home),
    }


def image_schema(
    identity: Identity, dtype: str, home: str = "", *, kind: str = "images", keep: Sequence[str] = ()
) -> pa.Schema:
    """Columns of an image table with its metadata; `kind` says what its embeddings are of (`Manifest.kind`), `keep`
    which columns of the images' sources it has."""
    import pyarrow as pa

    fields = [
        pa.field("path", pa.string(), nullable=False),
        pa.field("path_bytes", pa.binary()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime", pa.timestamp("ns", "UTC"), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        *photo_fields(),
        *kept_fields(keep),
        pa.field("embedding", _vector_type(identity.dimension, dtype), nullable=False),
    ]
    return pa.schema(fields, metadata(identity, dtype, kind, home) | kept_metadata(keep))


def caption_schema(identity: Identity, dtype: str, home: str = "", *, pairs: bool = False) -> pa.Schema:
    """Columns of a caption table, or with `pairs` of a table of pairs, with its metadata."""
    import pyarrow as pa

    fields = [
        pa.field("caption", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("image_path_bytes", pa.binary()),
        pa.field("caption_id", pa.string()),
        pa.field("embedding", _vector_type(identity.dimension, dtype), nullable=False),
    ]
    return pa.schema(fields, metadata(identity, dtype, "pairs" if pairs else "captions", home))


def path_columns(paths: list[str]) -> tuple[list[str], list[bytes | None]]:
    r"""Paths as text that UTF-8 can hold (each stray byte written as `\xNN`), and the bytes of those that it can't."""
    texts: list[str] = []
    raw: list[bytes | None] = []
    for path in paths:
        name = os.fsencode(path)
        try:
            texts.append(name.decode("utf-8"))
            raw.append(None)
        except UnicodeDecodeError:
            texts.append(name.decode("utf-8", "backslashreplace"))
            raw.append(name)
    return texts, raw


def paths_of(texts: list[str], raw: list[bytes | None]) -> list[str]:
    """The reverse of `path_columns`: paths as the file system functions take them, in whatever locale."""
    return [os.fsdecode(text.encode() if name is None else name) for text, name in zip(texts, raw, strict=True)]


def vector_array(vectors: np.ndarray, dtype: str) -> pa.Array:
    """(n, d) vectors as a column of fixed-size lists."""
    import pyarrow as pa

    kind = _vector_type(vectors.shape[1], dtype)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=dtype).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def vectors_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of fixed-size lists as (n, d) in its own dtype."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


class TableWriter:
    """A Parquet table in the making, row group by row group; leaving the `with` block writes its end.

    Args:
        file: Open for writing; stays open.
        schema: Of the rows, with the metadata.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.parquet

        self.schema = schema
        self.waiting: list[pa.Table] = []
        # Embeddings don't compress: trying would only take time.
        compression = {name: "zstd" for name in schema.names if name != "embedding"}
        compression["embedding.list.element"] = "none"
        self.writer = pyarrow.parquet.ParquetWriter(
            file,
            schema,
            compression=compression,
            use_dictionary=False,
            write_statistics=["path", "caption"],
            write_page_checksum=True,
        )

    def write(self, columns: dict[str, Any]) -> None:
        """Add rows; `columns` as `pyarrow.table` takes them. They are written when they fill a row group."""
        import pyarrow as pa

        self.waiting.append(pa.table(columns, schema=self.schema))
        if sum(len(part) for part in self.waiting) >= ROW_GROUP:
            self._flush()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
            self.writer.close()
        else:
            # Given up: or else the writer would try to end the table when it is collected, long after its file.
            self.writer.is_open = False

    def _flush(self) -> None:
        import pyarrow as pa

        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting).combine_chunks(), row_group_size=ROW_GROUP)
            self.waiting = []


def times(mtime: np.ndarray) -> pa.Array:
    """Nanoseconds since 1970 as a column of timestamps."""
    import pyarrow as pa

    return pa.array(np.ascontiguousarray(mtime, np.int64)).cast(pa.timestamp("ns", "UTC"))


def nanoseconds(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The reverse of `times`; a column of integers, as the first format has, comes back as it is. (n,) int64.

    Read from the column's bytes: pyarrow's own conversion imports pandas, where that is installed.
    """
    import pyarrow as pa

    numbers = column.cast(pa.int64())
    array = numbers.combine_chunks() if isinstance(numbers, pa.ChunkedArray) else numbers
    if array.null_count:
        raise ValueError("a number is missing")
    values = array.buffers()[1]
    return np.frombuffer(values, np.int64, len(array), 8 * array.offset) if len(array) else np.empty(0, np.int64)


def read_columns(path: str | os.PathLike[str], columns: list[str], *, kept: bool = False) -> pa.Table:
    """Some columns of a table, whole; those that the file lacks are left out. With `kept` those that it carries along
    are read, too.

    Raises:
        BrokenIndex: The file is missing, damaged or no table of ours.
    """
    import pyarrow.parquet

    with reading(path), pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        also = kept_in(file.schema_arrow) if kept else []
        return file.read(columns=[name for name in [*columns, *also] if name in file.schema_arrow.names])


def read_embeddings(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """The embeddings of a table in order, group by group: (n, d) in the dtype of the file.

    Raises:
        BrokenIndex: The file is missing, damaged or no table of ours.
    """
    import pyarrow.parquet

    with reading(path), pyarrow.parquet.ParquetFile(Path(path), page_checksum_verification=True) as file:
        for batch in file.iter_batches(ROW_GROUP, columns=["embedding"]):
            yield vectors_of(batch.column(0))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged table, and on making Python's values of it, into BrokenIndex.

    An error of the system (a file that may not be read) stays what it is; pyarrow's own have no number.
    """
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise BrokenIndex(f"{shown_path(path)}: missing from the index; {WAY_OUT}") from error
    except (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR, errno.EINVAL):
            raise
        named = isinstance(error, (pa.ArrowException, OSError))
        stated = str(getattr(error, "strerror", None) or error) if named else ""
        reason = stated.partition("\n")[0] or "damaged"
        raise BrokenIndex(f"{shown_path(path)}: {reason}; {WAY_OUT}") from error


def _vector_type(dimension: int, dtype: str) -> pa.DataType:
    import pyarrow as pa

    element = pa.float16() if dtype == "float16" else pa.float32()
    return pa.list_(pa.field("element", element, nullable=False), dimension)
