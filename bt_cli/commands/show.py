"""`bt show`: what the index knows of an image, and the image itself, out of whatever holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bt_cli.arguments.opening import open_indexes
from bt_cli.arguments.options import AllowPrivateUrls, Indexes, Json, Quiet
from bt_cli.display.data_lines import write_line, write_object
from bt_cli.display.remarks import remark
from bt_cli.errors import Misuse
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from bt_cli.search.indexed_image import IndexedImage


def run(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids, or paths as bt search prints them.", show_default=False)
    ],
    extract: Annotated[
        str | None, typer.Option("--extract", "-o", metavar="DIR", help="Write each image's file into this folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same names that are in that folder.")
    ] = False,
    allow_private_urls: AllowPrivateUrls = False,
    index: Indexes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what the index knows of images: path, size, date, camera, place, captions, content, and kept columns.

    With --extract their files are written out of folders, tar shards, Parquet files or from the web, as they are.
    """
    from bt_cli.search.indexed_image import find_image

    if overwrite and extract is None:
        raise Misuse("--overwrite belongs to --extract")
    taken: set[str] = set()
    with open_indexes(index) as opened:
        images = [find_image(opened, wanted) for wanted in ids]
    for place, image in enumerate(images):
        record = image.record()
        if extract is not None:
            record["extracted"] = _extracted(image, extract, taken, overwrite, allow_private_urls)
        if as_json:
            write_object(record)
        else:
            _show(record, first=place == 0)


def _extracted(image: IndexedImage, folder: str, taken: set[str], overwrite: bool, allow_private_urls: bool) -> str:
    """Write an image out, and say where its file is another one than was indexed."""
    from bt_cli.datasets.image_folder import content_hash
    from bt_cli.preprocessing.image_file import read_image_file
    from bt_cli.search.indexed_image import write_out
    from bt_cli.sources.web_address import allowed

    data = read_image_file(allowed(image.opened) if allow_private_urls else image.opened)
    if content_hash(data).encode("ascii") != image.row.content_hash[0]:
        remark(f"{shown_path(image.path)}: has changed since it was indexed; bt index brings the index up to date")
    return write_out(image, data, folder, taken, overwrite=overwrite)


def _show(record: dict[str, Any], *, first: bool) -> None:
    from bt_cli.display.table import Column, Rows, show

    place = None if record["latitude"] is None else f"{record['latitude']:.6f}, {record['longitude']:.6f}"
    lines = [
        ("id", record["id"]),
        ("image", record["path"]),
        ("in", record["container"]),
        ("member", record["member"]),
        ("pixels", f"{record['width']} x {record['height']}"),
        ("bytes", f"{record['size']:,}"),
        ("modified", record["modified"]),
        ("taken", record["taken"]),
        ("camera", record["camera"]),
        ("place", place),
        *(("caption", caption) for caption in record["captions"]),
        *record["kept"].items(),
        ("SHA-256", record["content_hash"]),
        ("written to", record.get("extracted")),
    ]
    if not first:
        write_line("")
    rows = Rows([Column(""), Column("")])
    for name, value in lines:
        if value is not None:
            rows.add(name, value)
    show(rows)
