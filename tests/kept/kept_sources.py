"""The same small pictures, with the same said of them, in every kind of source."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from bt_cli.datasets.image_folder import content_hash
from bt_cli.store.index_folder import IndexFolder

N = 6
URL = "https://example.org/{:03d}.jpg"
NAMES = ["url", "caption", "pixels", "tags"]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8 + number), (40 * number, 9, 9)).save(file, "PNG")
    return file.getvalue()


def row(number: int) -> dict[str, Any]:
    """What a source says of a picture: texts, nothing, a number, a list."""
    caption = None if number == 3 else f"Bild {number}, “ü”"
    return {"url": URL.format(number), "caption": caption, "pixels": 10 * number, "tags": ["a", f"ü{number}"]}


def texts(number: int) -> tuple[str | None, ...]:
    """The same as the table keeps it."""
    said = row(number)
    return said["url"], said["caption"], f"{10 * number}", f'["a", "ü{number}"]'


WANTED = [texts(n) for n in range(N)]


def parquet(path: str = "p.parquet", rows: list[dict[str, Any]] | None = None) -> str:
    rows = rows or [row(n) for n in range(N)]
    columns = {name: [each[name] for each in rows] for name in rows[0]}
    table = pa.table({"image": [picture(n) for n in range(N)], **columns})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def tar(path: str = "s.tar", **more: Any) -> str:
    with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as archive:
        for n in range(N):
            _add(archive, f"{n:09d}.json", json.dumps(row(n) | more).encode())
            _add(archive, f"{n:09d}.png", picture(n))
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def data_set(path: str = "set") -> str:
    datasets = pytest.importorskip("datasets")
    rows = [{"image": {"bytes": picture(n), "path": None}, **row(n)} for n in range(N)]
    datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def folder(path: str = "folder", format: str = "jsonl") -> str:
    Path(path, "sub").mkdir(parents=True)
    names = [f"sub/{n}.png" if n % 2 else f"{n}.png" for n in range(N)]
    for n, name in enumerate(names):
        Path(path, name).write_bytes(picture(n))
    rows = [{"file_name": name, **row(n)} for n, name in enumerate(names)]
    if format == "jsonl":
        Path(path, "metadata.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    elif format == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), f"{path}/metadata.parquet")
    else:
        with open(Path(path, "metadata.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {**each, "tags": texts(n)[3], "caption": each["caption"] or ""} for n, each in enumerate(rows)
            )
    return path


SOURCES = {
    "parquet": parquet,
    "tar": tar,
    "tar.gz": partial(tar, "s.tar.gz"),
    "datasets": data_set,
    "metadata.jsonl": folder,
    "metadata.csv": partial(folder, format="csv"),
    "metadata.parquet": partial(folder, format="parquet"),
}


@contextmanager
def picture_server(place: Path) -> Iterator[str]:
    """The address of a server of `0.png` and so on."""
    place.mkdir()
    for n in range(N):
        (place / f"{n}.png").write_bytes(picture(n))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def kept(index: str = ".bt") -> list[tuple[str | None, ...]]:
    """What an index keeps, in the order of the pictures; read whole, in batches and by ids, all alike."""
    with IndexFolder.open(index) as opened:
        names = opened.manifest.keep
        rows = opened.table().to_pylist()
        few = opened.kept.of(list(range(len(opened))))
        batches = [each for batch in opened.batches(4) for each in batch.select(["path", *names]).to_pylist()]
    assert [{name: each[name] for name in names} for each in rows] == few
    assert [{name: each[name] for name in ["path", *names]} for each in rows] == batches
    number = {content_hash(picture(n)): n for n in range(100)}
    return [tuple(each[name] for name in names) for each in sorted(rows, key=lambda each: number[each["content_hash"]])]
