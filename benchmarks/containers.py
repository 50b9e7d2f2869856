"""The same pictures as files of a folder, in tar shards, Parquet files and a saved data set, and over http on this
machine: equal tables, equal answers, and images a second of `bt index` beside the folder's.

    python -m benchmarks.containers [--images 2000] [--rounds 3] [--model tiny]

The pictures are those of `sample_data`, cut and compressed anew, each differently. Sources take turns; a rate is the
best of the rounds, over the whole of a run but for loading the checkpoint; on a machine that has other work the
processor's time says more.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SCENES = Path(__file__).parents[1] / "sample_data" / "images"
SHARDS = 4
QUERIES = ("a red car", "two dogs", "a cat left of a tree", "something blue", "a house at night")
ANSWERS = 20
GOAL = 0.9
TOLERANCE = 1e-5
"""By which float32 logits differ where images are read in other batches."""


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


class Server(ThreadingHTTPServer):
    """Lets as many connections wait as servers do: of five, one was turned away now and then, and tried again a second
    later."""

    request_queue_size = 128


class Parts(BaseHTTPRequestHandler):
    """Files of the working directory, whole or in parts."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

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
    with Server(("127.0.0.1", 0), Parts) as server:
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


class Indexed(NamedTuple):
    """A first `bt index` of a source."""

    rate: float
    """Images a second, by the clock."""
    work: float
    """Seconds of the processor an image."""


def index(home: Path, kind: str, roots: list[str], model: str) -> Indexed:
    """Make the index of a source anew, in a process of its own so that nothing is at hand from an earlier run."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_index, (home / f"{kind}.bt", roots, model))


def _index(folder: Path, roots: list[str], model: str) -> Indexed:
    import bt_cli
    from bt_cli.indexing.build import build_index
    from bt_cli.indexing.encoder import ModelEncoder

    loaded = bt_cli.load(model, dtype="float32")
    loaded.encode_texts(["warm"])
    began, worked = time.perf_counter(), time.process_time()
    made = build_index(folder, roots, ModelEncoder(loaded), rebuild=True, allow_private=True)
    return Indexed(made.encoded / (time.perf_counter() - began), (time.process_time() - worked) / made.encoded)


class Held(NamedTuple):
    """What an index holds, by content, and what it answers."""

    rows: dict[str, tuple[Any, ...]]
    answers: list[tuple[str, float]]

    def agrees(self, other: Held) -> bool:
        """Whether the answers are the same images in the same order, their match logits equal up to `TOLERANCE`."""
        pairs = zip(self.answers, other.answers, strict=True)
        return all(mine == theirs and abs(one - two) < TOLERANCE for (mine, one), (theirs, two) in pairs)


def held(home: Path, kind: str, model: str) -> Held:
    """All rows, and the reranked answers to all queries, in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_held, (home / f"{kind}.bt", model))


def _held(folder: Path, model: str) -> Held:
    import bt_cli
    from bt_cli.search.query import Query
    from bt_cli.search.two_stage import Request, search
    from bt_cli.store.index_folder import IndexFolder

    with IndexFolder.open(folder) as opened, bt_cli.Index.open(folder, model=model, dtype="float32") as index:
        rows = opened.table(["size", "content_hash", "width", "height", "embedding"]).to_pylist()
        answers = []
        for text in QUERIES:
            request = Request(Query.build(text), ANSWERS, candidates=ANSWERS, allow_private_urls=True)
            for hit in search(opened, request, index.models).hits:
                answers.append((rows[hit.id or 0]["content_hash"], hit.itm_logit or 0.0))
    return Held({row["content_hash"]: tuple(row.values()) for row in rows}, answers)


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
            compare(home, sources, options.rounds, options.model)


def compare(home: Path, sources: dict[str, list[str]], rounds: int, model: str) -> None:
    """Index every source, and say how fast, and whether all hold and answer the same."""
    made: dict[str, list[Indexed]] = {kind: [] for kind in sources}
    for _ in range(rounds):
        for kind, roots in sources.items():
            made[kind].append(index(home, kind, roots, model))
    folder = held(home, "folder", model)
    least = min(each.work for each in made["folder"])
    best = max(each.rate for each in made["folder"])
    for kind in sources:
        own = held(home, kind, model)
        rate, work = max(each.rate for each in made[kind]), min(each.work for each in made[kind])
        print(
            f"{kind:10} {rate:7.1f} images/s, {rate / best:.2f} of the folder (goal {GOAL}), of the processor's time "
            f"{1000 * work:.1f} ms an image, {work / least:.2f}; {len(own.rows):,} rows "
            f"{_equal(own.rows == folder.rows)}, {len(own.answers)} reranked answers "
            f"{_equal(own.agrees(folder))}",
            flush=True,
        )


def _equal(is_so: bool) -> str:
    return "equal" if is_so else "NOT EQUAL"


if __name__ == "__main__":
    main()
