"""The same pictures as files of a folder, in tar shards, Parquet files and a saved data set, and over http on this
machine: equal tables, equal answers, and images a second of `bt index` beside the folder's.

    python -m benchmarks.containers [--images 2000] [--rounds 3] [--model tiny]

The pictures are those of `sample_data`, cut and compressed anew, each differently. Sources take turns; a rate is the
best of the rounds, over the whole of a run but for starting it.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.command import BT, run

SCENES = Path(__file__).parents[1] / "sample_data" / "images"
SHARDS = 4
QUERIES = ("a red car", "two dogs", "a cat left of a tree", "something blue", "a house at night")
ANSWERS = "20"
GOAL = 0.9


def draw(count: int) -> dict[str, bytes]:
    """Name -> JPEG: scenes without some rows and columns, in qualities from 70 to 95."""
    scenes = sorted(SCENES.glob("*.jpg"))
    pictures = {}
    for number in range(count):
        chance = np.random.default_rng(number)
        with Image.open(scenes[number % len(scenes)]) as scene:
            left, top, right, bottom = chance.integers(0, 20, 4).tolist()
            piece = scene.crop((left, top, scene.width - right, scene.height - bottom))
        written = io.BytesIO()
        piece.save(written, "JPEG", quality=int(chance.integers(70, 96)))
        pictures[f"{number:06d}.jpg"] = written.getvalue()
    return pictures


def write(home: Path, pictures: dict[str, bytes]) -> None:
    """All of them in each kind of container, in so many shards."""
    for kind in ("folder", "tar", "parquet", "set"):
        (home / kind).mkdir()
    for name, picture in pictures.items():
        (home / "folder" / name).write_bytes(picture)
    names = np.array_split(sorted(pictures), SHARDS)
    files = []
    for number, part in enumerate(names):
        members = {str(name): pictures[str(name)] for name in part}
        with tarfile.open(home / "tar" / f"{number:03d}.tar", "w") as archive:
            for name, picture in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(picture)
                archive.addfile(entry, io.BytesIO(picture))
        rows = [{"bytes": picture, "path": name} for name, picture in members.items()]
        table = pa.table({"image": pa.array(rows)})
        pq.write_table(table, home / "parquet" / f"part-{number:05d}-of-{SHARDS:05d}.parquet", row_group_size=100)
        files.append(f"data-{number:05d}-of-{SHARDS:05d}.arrow")
        with pa.OSFile(str(home / "set" / files[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=1000)
    state = {"_data_files": [{"filename": file} for file in files]}
    (home / "set" / "state.json").write_text(json.dumps(state))


class Parts(BaseHTTPRequestHandler):
    """Files of the working directory, whole or in parts."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = Path(self.path[1:]).read_bytes()
        total = len(content)
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.send_response(206 if part else 200)
        if part:
            content = content[int(part[1]) : int(part[2]) + 1]
            self.send_header("Content-Range", f"bytes {part[1]}-{int(part[1]) + len(content) - 1}/{total}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _serve(home: Path, ports: Any) -> None:
    import os

    os.chdir(home)
    with ThreadingHTTPServer(("127.0.0.1", 0), Parts) as server:
        ports.put(server.server_port)
        server.serve_forever()


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a server of a folder, a process of its own."""
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=_serve, args=(home, ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get(timeout=60)}"
    finally:
        process.terminate()
        process.join()


def index(home: Path, kind: str, roots: list[str], options: list[str]) -> float:
    """Images a second of a first `bt index`."""
    record = run(*BT, "index", *roots, "--index", home / f"{kind}.bt", "--rebuild", "--json", *options).written
    summary = json.loads(record.splitlines()[-1])
    return float(summary["added"] + summary["updated"] + summary["unchanged"]) / summary["seconds"]


def table(home: Path, kind: str) -> tuple[dict[str, tuple[Any, ...]], dict[str, str]]:
    """(content hash -> row, path -> content hash) of an index."""
    from bt_cli.store.index_folder import IndexFolder

    with IndexFolder.open(home / f"{kind}.bt") as opened:
        rows = opened.table(["path", "size", "content_hash", "width", "height", "embedding"]).to_pylist()
    found = {row["content_hash"]: (row["size"], row["width"], row["height"], row["embedding"]) for row in rows}
    return found, {str(home / row["path"]): row["content_hash"] for row in rows}


def answers(home: Path, kind: str, options: list[str], hashes: dict[str, str]) -> list[Any]:
    """The content and match logit of each answer to each query, after reranking."""
    found = []
    for query in QUERIES:
        asked = ("search", query, "-k", ANSWERS, "--rerank", "--json", "--index", home / f"{kind}.bt")
        for line in run(*BT, *asked, *options).written.splitlines():
            hit = json.loads(line)
            path = hit["path"] if "://" in hit["path"] else str(Path(hit["path"]).resolve())
            found.append((hashes.get(path) or hashes[str(home / hit["path"])], hit["itm_logit"]))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        home = Path(made).resolve()
        pictures = draw(options.images)
        write(home, pictures)
        with served(home) as url:
            (home / "urls.txt").write_text("".join(f"{url}/folder/{name}\n" for name in pictures))
            shards = [f"{url}/tar/{number:03d}.tar" for number in range(SHARDS)]
            sources = {
                "folder": [str(home / "folder")],
                "tar": [str(home / "tar")],
                "parquet": [str(home / "parquet")],
                "set": [str(home / "set")],
                "http tar": shards,
                "http list": [str(home / "urls.txt")],
            }
            compare(home, sources, options.rounds, ["--model", options.model, "--dtype", "float32"])


def compare(home: Path, sources: dict[str, list[str]], rounds: int, options: list[str]) -> None:
    """Index every source, and say how fast, and whether all hold and answer the same."""
    rates: dict[str, list[float]] = {kind: [] for kind in sources}
    for _ in range(rounds):
        for kind, roots in sources.items():
            rates[kind].append(index(home, kind, roots, [*options, "--allow-private-urls"]))
    first = "folder"
    rows, hashes = table(home, first)
    wanted = answers(home, first, options, hashes)
    for kind in sources:
        own, own_hashes = table(home, kind)
        same = answers(home, kind, [*options, "--allow-private-urls"], own_hashes) == wanted
        share = max(rates[kind]) / max(rates[first])
        print(
            f"{kind:10} {max(rates[kind]):7.1f} images/s, {share:.2f} of the folder (goal {GOAL}); "
            f"{len(own):,} rows {_equal(own == rows)}, {len(wanted)} reranked answers {_equal(same)}"
        )


def _equal(is_so: bool) -> str:
    return "equal" if is_so else "NOT EQUAL"


if __name__ == "__main__":
    main()
