"""What a container says of its images beside them: columns of a Parquet or Arrow file, members of a tar shard."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources import arrow_shard
from bt_cli.sources.image_column import row_name, row_of
from bt_cli.sources.parquet_shard import opened_table
from bt_cli.sources.tar_shard import Member, TarShard, is_shard_name, open_shard

if TYPE_CHECKING:
    import pyarrow as pa

Fields = dict[str, Any]
"""Of one image: values by the names of columns that its source has."""
Told = Callable[[Iterable[str]], None]
"""Hears of the columns that a source has."""
Unread = Callable[[str, str], None]
"""Hears of (path, reason) of what can't be read."""

ROWS_AT_A_TIME = 1024
LARGEST = 1 << 20
"""Bytes of a text or an object beside an image that is read."""
KEY, TEXT, CAPTION = "key", "txt", "caption"
_NUMBERED = re.compile(r"#\d+$")


def container_fields(
    path: str, members: Collection[str], names: Sequence[str], told: Told, unread: Unread
) -> Iterator[tuple[str, Fields]]:
    """(member, its fields) of those `members` of a container of which it says anything, in the container's order.

    Raises:
        Misuse: One of the columns holds bytes.
        OSError, pyarrow.ArrowException: It can't be read, or not on.
    """
    if is_shard_name(path):
        return _of_tar(path, members, names, told, unread)
    return _of_rows(path, members, names, told)


def readable_columns(path: str, schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """Those of the names that a table has.

    Raises:
        Misuse: One holds bytes, which are no text.
    """
    found = [name for name in names if name in schema.names]
    for name in found:
        if _has_bytes(schema.field(name).type):
            raise Misuse(
                f"--keep {shown_path(name)}: a column of bytes in {shown_path(path)}, which is no text; leave it out"
            )
    return found


def _has_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(check(kind) for check in binary) or any(map(_has_bytes, inner))


def _of_rows(path: str, members: Collection[str], names: Sequence[str], told: Told) -> Iterator[tuple[str, Fields]]:
    wanted = np.array(sorted(row_of(member) for member in members), np.int64)
    if path.lower().endswith(arrow_shard.SUFFIX):
        schema = arrow_shard.schema_of(path)
        found = readable_columns(path, schema, names)
        told(_kept_able(schema))
        yield from _chosen(_selected(arrow_shard.batches(path), found), wanted, found)
        return
    with opened_table(path) as file:
        schema = file.schema_arrow
        found = readable_columns(path, schema, names)
        told(_kept_able(schema))
        if found:
            batches = file.iter_batches(ROWS_AT_A_TIME, columns=found, use_threads=False)
            yield from _chosen(batches, wanted, found)


def _kept_able(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not _has_bytes(field.type)]


def _selected(batches: Iterable[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches if names else ():
        selected = batch.select(names)
        selected.validate(full=True)  # places beyond the file's end would be read otherwise
        for first in range(0, len(selected), ROWS_AT_A_TIME):
            yield selected.slice(first, ROWS_AT_A_TIME)


def _chosen(batches: Iterable[Any], wanted: np.ndarray, names: list[str]) -> Iterator[tuple[str, Fields]]:
    """The wanted rows of record batches; only their values become Python's."""
    import pyarrow as pa

    first = 0
    for batch in batches:
        begin, end = np.searchsorted(wanted, [first, first + batch.num_rows])
        rows = wanted[begin:end]
        if len(rows):
            some = batch.take(pa.array(rows - first))
            values = [some.column(name).to_pylist() for name in names]
            for row, fields in zip(rows.tolist(), zip(*values, strict=True), strict=True):
                yield row_name(row), dict(zip(names, fields, strict=True))
        first += batch.num_rows
        if first > (wanted[-1] if len(wanted) else -1):
            return


def _of_tar(
    path: str, members: Collection[str], names: Sequence[str], told: Told, unread: Unread
) -> Iterator[tuple[str, Fields]]:
    shard = open_shard(path)
    of_object = [name for name in names if name not in (KEY, TEXT)]
    beside = {member.name: member for member in shard.members}
    told([KEY])

    def place(member: str) -> int:
        found = beside.get(_sibling(member, ".json")) or beside.get(_sibling(member, ".txt"))
        return found.offset if found is not None else -1

    for member in sorted(members, key=place):  # as they lie: a compressed shard is read but once
        fields: Fields = {}
        if of_object:
            record = _object(shard, beside.get(_sibling(member, ".json")), unread)
            told(record)
            fields.update((name, record[name]) for name in of_object if name in record)
        text = beside.get(_sibling(member, ".txt"))
        if text is not None:
            told([TEXT])
            if TEXT in names or (CAPTION in names and CAPTION not in fields):
                content = _content(shard, text, unread)
                value = None if content is None else content.decode("utf-8-sig", "surrogateescape").strip()
                fields.update({name: value for name in (TEXT, CAPTION) if name in names and name not in fields})
        if KEY in names:
            fields[KEY] = key_of(member)
        yield member, fields


def key_of(member: str) -> str:
    """What a sample is called in a tar shard: its image's name without the suffix."""
    return os.path.splitext(_NUMBERED.sub("", member))[0]


def _sibling(member: str, suffix: str) -> str:
    """The file of the same sample; the second of a name goes with the second of the other."""
    number = _NUMBERED.search(member)
    return f"{key_of(member)}{suffix}{number[0] if number else ''}"


def _content(shard: TarShard, member: Member, unread: Unread) -> bytes | None:
    called = f"{shard.path}/{member.name}"
    if member.size > LARGEST:
        unread(called, f"larger than {LARGEST >> 20} MiB")
        return None
    try:
        return shard.read(member.name)
    except (UnreadableImage, OSError) as error:
        unread(called, str(getattr(error, "strerror", None) or error))
        return None


def _object(shard: TarShard, member: Member | None, unread: Unread) -> Fields:
    content = None if member is None else _content(shard, member, unread)
    if member is None or content is None:
        return {}
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        unread(f"{shard.path}/{member.name}", "no JSON object")
        return {}
    return record
