"""`bt export`: an index for other programs."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.options import Index, Json, Quiet, Strict, refuse_idle
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.errors import BtError, EmptyFolder, Misuse, Unwritable
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from bt_cli.export.index_contents import Exported, IndexContents


class Target(StrEnum):
    """What an index can be written as."""

    lancedb = "lancedb"
    qdrant = "qdrant"
    webdataset = "webdataset"
    npy = "npy"


CLIENTS = {Target.lancedb: "lancedb", Target.qdrant: "qdrant_client"}


def run(
    context: typer.Context,
    to: Annotated[Target, typer.Option("--to", help="What to write.", show_default=False)],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Folder of the database or the shards, a Qdrant server, or X.npy."
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Table or collection; captions go into NAME_captions.")
    ] = "images",
    shard_size: Annotated[
        int, typer.Option("--shard-size", metavar="N", min=1, help="Images in one webdataset shard.")
    ] = 10_000,
    absolute: Annotated[
        bool, typer.Option("--absolute-paths", help="Write whole paths, not those that start at the index's folder.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export wrote.")] = False,
    index: Index = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an index as a LanceDB or Qdrant database, webdataset shards or NumPy arrays.

    Everything goes along: ids, paths, the other columns, captions, vectors.
    """
    started = time.perf_counter()
    _require_client(to)
    if not output or not name:
        raise Misuse("--output and --name can't be empty")
    if to is not Target.webdataset:
        refuse_idle(context, "belongs to --to webdataset", "shard_size", "strict")
    if to not in CLIENTS:
        refuse_idle(context, "names a table or collection, of --to lancedb or qdrant", "name")
    from bt_cli.export.index_contents import IndexContents
    from bt_cli.store.index_folder import IndexFolder

    with IndexFolder.open(IndexFolder.locate(index)) as folder, progress("exporting", "row") as ticked:
        if not len(folder):
            raise EmptyFolder(f"{shown_path(folder.folder)}: the index holds no image")
        contents = IndexContents(folder, absolute=absolute, progress=ticked)
        with _client_errors(to, output):
            done = _export(to, contents, output, name, shard_size, overwrite, strict)
    seconds = time.perf_counter() - started
    if as_json:
        record = {"to": to.value, "output": output, "images": done.images, "captions": done.captions}
        write_object({**record, "skipped": len(done.skipped), "seconds": round(seconds, 3)})
    captions = f" and {count(done.captions, 'caption')}" if done.captions else ""
    closing_line(
        f"{count(done.images, 'image')}{captions} written to {shown_path(output)} for {to.value}",
        seconds=seconds,
        skipped=done.skipped,
    )


def _export(
    to: Target, contents: IndexContents, output: str, name: str, shard_size: int, overwrite: bool, strict: bool
) -> Exported:
    if to is Target.lancedb:
        from bt_cli.export.lancedb_tables import to_lancedb

        return to_lancedb(contents, output, name=name, overwrite=overwrite)
    if to is Target.qdrant:
        from bt_cli.export.qdrant_collections import to_qdrant

        return to_qdrant(contents, output, name=name, overwrite=overwrite)
    if to is Target.webdataset:
        from bt_cli.export.webdataset_shards import to_webdataset

        return to_webdataset(contents, output, shard_size=shard_size, strict=strict, overwrite=overwrite)
    from bt_cli.export.npy_arrays import to_npy

    return to_npy(contents, output, overwrite=overwrite)


def _require_client(to: Target) -> None:
    package = CLIENTS.get(to)
    if package is not None and importlib.util.find_spec(package) is None:
        raise Misuse(f"--to {to.value} needs an extra: pip install 'bridgetower[export]'")


@contextmanager
def _client_errors(to: Target, output: str) -> Iterator[None]:
    """What a database's client refuses, as one line: each has exceptions of its own."""
    try:
        yield
    except (BtError, OSError, MemoryError):
        raise
    except Exception as error:
        if to not in CLIENTS:
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Unwritable(f"{shown_path(output)}: {to.value} refuses: {reason}") from error
