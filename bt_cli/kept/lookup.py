"""The values of kept columns for images, wherever these lie: a source is read once, and of it only what is asked for.

`url` of an image that is itself at an address is that address; `key` of one in a tar shard its name without the suffix.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bt_cli.errors import Misuse
from bt_cli.files.shown_path import shown_path
from bt_cli.kept.container_fields import Fields, container_fields, readable_columns
from bt_cli.kept.folder_fields import folder_fields
from bt_cli.kept.value import LONGEST, text_of
from bt_cli.sources.member import split_path
from bt_cli.sources.parquet_shard import opened_table
from bt_cli.sources.url_list import is_url_list, may_be_list, read_url_list
from bt_cli.sources.web_address import is_url

URL = "url"
NAMED = 3
"""Of what can't be read, what a remark names."""
COLUMNS_NAMED = 40


@dataclass
class Kept:
    """What was found for some images.

    Attributes:
        values: By name, (n,) objects: a text or None.
        known: By name, (n,) bool: whether the image's source has such a column at all.
    """

    values: dict[str, np.ndarray]
    known: dict[str, np.ndarray]


@dataclass
class Lookup:
    """Looks values up, and keeps what is to be said of it.

    Attributes:
        names: The columns.
        roots: Folders, files and lists that the images were found by, as they are opened: a list says of the addresses
            in it, and a metadata file is looked for up to the root.
    """

    names: Sequence[str]
    roots: Sequence[str]
    columns: set[str] = field(default_factory=set)
    """That sources have, these and others."""
    looked_at: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    """By name, images whose source has no such column."""
    example: dict[str, str] = field(default_factory=dict)
    """Such an image."""
    too_long: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)
    """Of what can't be read, the first few, with the reasons."""
    unread_count: int = 0

    def of(self, paths: Sequence[str]) -> Kept:
        """The values of images at these paths: files, members of containers, addresses."""
        n = len(paths)
        kept = Kept(
            {name: np.full(n, None, object) for name in self.names}, {name: np.zeros(n, bool) for name in self.names}
        )
        place_of = {path: place for place, path in enumerate(paths)}
        for path, fields in self._found(place_of) if self.names else ():
            place = place_of[path]
            for name, value in fields.items():
                kept.known[name][place] = True
                kept.values[name][place] = self._text(name, value)
        self.looked_at += n
        for name in self.names:
            lacks = np.flatnonzero(~kept.known[name])
            self.lacking[name] += len(lacks)
            if len(lacks):
                self.example.setdefault(name, paths[int(lacks[0])])
        return kept

    def require(self, asked: Iterable[str]) -> None:
        """Refuse a name that no source has.

        Raises:
            Misuse: Names it, and the columns that there are.
        """
        for name in asked:
            lacking = self.lacking[name] == self.looked_at and name not in self.columns
            if lacking and self.looked_at and not self.unread_count:
                there = sorted(self.columns)
                more = f" and {len(there) - COLUMNS_NAMED} more" if len(there) > COLUMNS_NAMED else ""
                named = ", ".join(map(shown_path, there[:COLUMNS_NAMED])) + more if there else "none"
                raise Misuse(
                    f"--keep {shown_path(name)}: no source of these images has a column of that name; the columns "
                    f"there are: {named}"
                )

    def remarks(self, asked: Iterable[str] = ()) -> list[str]:
        """What is missing, a line each: of names that were `asked` for, how many images have a source that lacks
        them; values that are too long; what could not be read."""
        said = [
            f"--keep {shown_path(name)}: the sources of {self.lacking[name]:,} of {self.looked_at:,} images have no "
            f"such column, as that of {shown_path(self.example[name])}"
            for name in asked
            if self.lacking[name]
        ]
        said += [
            f"--keep {shown_path(name)}: {count:,} values of more than {LONGEST:,} characters left out"
            for name, count in self.too_long.items()
        ]
        if self.unread_count:
            more = f"; and {self.unread_count - NAMED:,} more" if self.unread_count > NAMED else ""
            said.append(f"columns to keep that can't be read: {'; '.join(self.unread)}{more}")
        return said

    def _text(self, name: str, value: Any) -> str | None:
        try:
            text = text_of(value)
        except TypeError:
            raise Misuse(f"--keep {shown_path(name)}: a column of bytes, which is no text; leave it out") from None
        if text is not None and len(text) > LONGEST:
            self.too_long[name] += 1
            return None
        return text

    def _found(self, place_of: Mapping[str, int]) -> Iterator[tuple[str, Fields]]:
        members: dict[str, list[str]] = {}
        shards: dict[str, str] = {}
        addresses: list[str] = []
        files: list[str] = []
        for path in place_of:
            inside = split_path(path)
            if inside is not None:
                members.setdefault(str(inside[0]), []).append(inside[1])
                shards.setdefault(str(inside[0]), inside[0])
            else:
                (addresses if is_url(path) else files).append(path)
        for shard, names in members.items():
            for member, fields in self._of_container(shards[shard], names):
                yield f"{shard}/{member}", fields
        if addresses:
            yield from self._of_lists(addresses)
        if files:
            folders = [root for root in self.roots if not is_url(root)]
            yield from folder_fields(files, folders, self.names, self.columns.update, self._unread)

    def _of_container(self, shard: str, members: list[str]) -> Iterator[tuple[str, Fields]]:
        import pyarrow as pa

        try:
            yield from container_fields(shard, members, self.names, self.columns.update, self._unread)
        except (OSError, pa.ArrowException) as error:
            self._unread(shard, str(getattr(error, "strerror", None) or error).partition("\n")[0])

    def _of_lists(self, addresses: list[str]) -> Iterator[tuple[str, Fields]]:
        self.columns.add(URL)
        others = [name for name in self.names if name != URL]
        left = dict.fromkeys(addresses)
        for root in self.roots if others else ():
            if not (may_be_list(root) and is_url_list(root)):
                continue
            for url, fields in self._of_list(root, others):
                if url in left:  # the first that names it
                    del left[url]
                    yield url, fields
        if URL in self.names:
            yield from ((url, {URL: str(url)}) for url in addresses)

    def _of_list(self, path: str, names: list[str]) -> Iterator[tuple[str, Fields]]:
        import pyarrow as pa

        try:
            wanted = names
            if os.path.splitext(path)[1].lower() == ".parquet":
                with opened_table(path) as file:
                    self.columns.update(file.schema_arrow.names)
                    wanted = readable_columns(path, file.schema_arrow, names)
            for listed in read_url_list(path, wanted):
                if listed.url is not None:
                    self.columns.update(listed.fields)
                    yield listed.url, {name: listed.fields[name] for name in names if name in listed.fields}
        except (OSError, pa.ArrowException) as error:
            self._unread(path, str(getattr(error, "strerror", None) or error).partition("\n")[0])

    def _unread(self, path: str, reason: str) -> None:
        self.unread_count += 1
        if len(self.unread) < NAMED:
            self.unread.append(f"{shown_path(path)}: {reason}")
