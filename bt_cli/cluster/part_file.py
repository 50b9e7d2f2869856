"""A part's file and the list beside it: in a folder of a file system, or of a store of objects (`s3://bucket/parts/`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bt_cli.errors import BtError, Unwritable
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path
from bt_cli.files.temporary_folder import temporary_folder
from bt_cli.sources.web_address import is_in_store, is_url
from bt_cli.store.table_part import TablePart


def part_path(folder: str, source: str) -> str:
    """Where the part of a shard stands in a folder of parts: called after the shard."""
    name = source.rstrip("/").rpartition("/")[2] if is_url(source) else os.path.basename(os.path.abspath(source))
    return f"{folder.rstrip('/')}/{name}.parquet" if is_in_store(folder) else os.fspath(Path(folder, f"{name}.parquet"))


def read_part(path: str) -> TablePart | None:
    """What a part says of itself; None where there is none that is whole.

    Raises:
        OSError: The store that it may be in can't be reached.
        Misuse: The package for such a store is not installed.
    """
    if not is_in_store(path):
        if not os.path.exists(path):
            return None
        with contextlib.suppress(BtError):
            return TablePart.open(path)
        return None
    from bt_cli.sources.remote_file import open_remote

    try:
        with open_remote(path) as file:
            return TablePart.read(file, path)
    except (FileNotFoundError, BtError):
        return None


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Where to write the file that is to be at `path`: it gets there when the block ends, unless by an exception.

    Raises:
        Unwritable: The store doesn't take it.
    """
    if not is_in_store(path):
        yield path
        return
    with temporary_folder() as folder:
        here = os.path.join(folder, path.rpartition("/")[2])
        yield here
        _store(here, path)


@contextlib.contextmanager
def written_again(path: str) -> Iterator[str]:
    """Where the file at `path` is to be read and written again: in a store this is a copy, which takes its place when
    the block ends, unless by an exception.

    Raises:
        OSError: The store can't be reached.
        Unwritable: It doesn't take the file.
    """
    with written_whole(path) as here:
        if is_in_store(path):
            from bt_cli.sources.remote_file import fetch_remote

            fetch_remote(path, here)
        yield here


def write_list(path: str, text: str) -> None:
    """Write a small file whole; one without text is removed.

    Raises:
        Unwritable: It can't be written.
    """
    if is_in_store(path):
        from bt_cli.sources.remote_file import remove_remote

        if not text:
            remove_remote(path)
            return
        with written_whole(path) as here:
            Path(here).write_text(text, "utf-8")
    elif text:
        write_whole(path, text)
    else:
        Path(path).unlink(missing_ok=True)


def _store(here: str, path: str) -> None:
    from bt_cli.sources.remote_file import write_remote

    try:
        write_remote(path, here)
    except OSError as error:
        raise Unwritable(f"{shown_path(path)}: can't be written: {error.strerror or error}") from error
