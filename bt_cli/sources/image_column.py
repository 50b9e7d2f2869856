"""The column of a table that has images in it, as the hub and downloaders of images call and write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "img_bytes", "bytes", "content")
"""What a column of images is called, in any case, the first that there is: a struct with a binary field `bytes`, as
`datasets` writes its feature `Image`, or binary itself."""


def image_column(schema: pa.Schema) -> str | None:
    """The column of images of a table (see `COLUMNS`), or None."""
    import pyarrow as pa

    names = {name.lower(): name for name in reversed(schema.names)}
    for wanted in COLUMNS:
        kind = schema.field(names[wanted]).type if wanted in names else None
        if kind is not None and pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            kind = kind.field(place).type if place >= 0 else None
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return str(names[wanted])
    return None


def image_bytes(images: Any) -> pa.Array:
    """The images of such a column as binary; null where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # struct_field, unlike flatten by place, keeps the nulls of rows that have no struct
    return pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images


def row_name(row: int) -> str:
    """What an image is called by its row: the paths within such tables are often all alike, or missing."""
    return f"{row:09d}"


def row_of(name: str) -> int:
    """The row that a name is of, or -1."""
    row = int(name) if name.isascii() and name.isdigit() else -1
    return row if row >= 0 and row_name(row) == name else -1
