"""The column of a table that has images in it, as the hub and downloaders of images call and write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "img_bytes", "bytes", "content")
"""What a column of images is called, in any case, the first that there is: a struct with a binary field `bytes`, as
`datasets` writes its feature `Image`, or binary itself, a dictionary of such values or a view of them too."""


def image_column(schema: pa.Schema) -> str | None:
    """The column of images of a table (see `COLUMNS`), or None."""
    import pyarrow as pa

    names = {name.lower(): name for name in reversed(schema.names)}
    for wanted in COLUMNS:
        kind = schema.field(names[wanted]).type if wanted in names else None
        if kind is not None and pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            kind = kind.field(place).type if place >= 0 else None
        if kind is not None and _is_bytes(kind):
            return str(names[wanted])
    return None


def image_bytes(images: Any) -> pa.Array:
    """The images of such a column as binary; null where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # struct_field, unlike flatten by place, keeps the nulls of rows that have no struct
    found = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    return found if _is_plain(found.type) else found.cast(pa.large_binary())


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return _is_plain(kind.value_type if pa.types.is_dictionary(kind) else kind) or pa.types.is_binary_view(kind)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def row_name(row: int) -> str:
    """What an image is called by its row: the paths within such tables are often all alike, or missing."""
    return f"{row:09d}"


def row_of(name: str) -> int:
    """The row that a name is of, or -1."""
    row = int(name) if name.isascii() and name.isdigit() else -1
    return row if row >= 0 and row_name(row) == name else -1
