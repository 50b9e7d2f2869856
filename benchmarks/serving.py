"""What `bt serve` answers under load on loopback: `python -m benchmarks.serving --rows 20000 --seconds 10`.

An index of random vectors over the pictures of sample_data, the bundled checkpoint, a real server in a process of its
own. Prints the median and the 99th percentile of searches and of searches with reranking of 50, the memory before and
after, and every error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import bt_cli
from bt_cli.embeddings.embedding_table import vector_array
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.inference.model_identity import identity_of
from bt_cli.store.index_writer import IndexWriter

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data" / "images"
WORDS = ["a red car", "a dog", "a cat above a house", "a green dragon", "two birds", "a blue boat", "snow", "a whale"]


def make_index(folder: Path, rows: int) -> None:
    """An index `.bt` of so many links to the sample pictures, with random vectors, as if tiny had made it."""
    samples = sorted(SAMPLES.glob("*.jpg"))
    (folder / "images").mkdir()
    paths = [f"images/{row:06}.jpg" for row in range(rows)]
    for row, path in enumerate(paths):
        (folder / path).symlink_to(samples[row % len(samples)])
    with bt_cli.load("tiny", dtype="float32") as model:
        identity = identity_of(model)
        vectors = np.random.default_rng(7).standard_normal((rows, model.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = ImageRows.blank(paths)
    with IndexWriter(folder / ".bt", identity) as writer:
        writer.journal.append({**images.columns(0, rows), "embedding": vector_array(vectors, "float16")})
        writer.commit(images, np.full(rows, -1), np.arange(len(writer.stored)), roots=["images"])


def ask(port: int, rerank: bool, number: int) -> float:
    """Seconds of one search; an answer that is not 200 raises."""
    body = {"q": f"{WORDS[number % len(WORDS)]} {number}", "k": 10}
    body |= {"rerank": True, "candidates": 50} if rerank else {}
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/api/search", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"answered {answer.status}")
    return time.perf_counter() - started


class Clients:
    """Threads that ask without a pause."""

    def __init__(self, port: int, count: int, *, rerank: bool, most: int = 10**9) -> None:
        self.times: list[float] = []
        self.errors: list[str] = []
        self._port, self._rerank, self._most = port, rerank, most
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def start(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Clients:
        self._stop.set()
        self.join()
        return self

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        while not self._stop.is_set() and len(self.times) < self._most:
            number += 97
            try:
                self.times.append(ask(self._port, self._rerank, number))
            except Exception as error:
                self.errors.append(str(error))

    def line(self, name: str) -> str:
        times = sorted(self.times)
        if not times:
            return f"{name:<44} no answer, {len(self.errors)} errors"
        middle, late = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
        ratio = f"{late / middle:.1f}"
        return (
            f"{name:<44} {len(times):>6} answers  p50 {1000 * middle:>6.0f} ms  p99 {1000 * late:>6.0f} ms  "
            f"p99/p50 {ratio:>5}  {len(self.errors)} errors"
        )


def resident(process: int) -> float:
    """MiB of memory that a process holds."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=2000, help="asked for the growth of memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_index(Path(folder), options.rows)
        command = [sys.executable, "-m", "bt_cli", "serve", "--port", "0", "--dtype", "float32"]
        command += ["--index", f"{folder}/.bt"]
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            port = int(line.split("http://127.0.0.1:")[1].split(",")[0])
            measure(port, server.pid, options.seconds, options.requests)
        finally:
            server.send_signal(signal.SIGTERM)
            print(f"stopped with exit code {server.wait(30)}")


def measure(port: int, process: int, seconds: float, requests: int) -> None:
    """Print each figure as it comes."""
    for count, rerank in ((1, False), (16, False), (1, True), (16, True)):
        clients = Clients(port, count, rerank=rerank).start()
        time.sleep(seconds)
        print(clients.stop().line(f"{_clients(count)}, {'reranking of 50' if rerank else 'search'}"), flush=True)
    for count in (1, 16):
        reranks = Clients(port, 1, rerank=True).start()
        searches = Clients(port, count, rerank=False).start()
        time.sleep(seconds)
        print(searches.stop().line(f"{_clients(count)}, search, while another reranks"), flush=True)
        print(reranks.stop().line(f"1 client, reranking of 50, while {count} search"), flush=True)
    before = resident(process)
    many = Clients(port, 8, rerank=False, most=requests).start()
    many.join()
    after = resident(process)
    print(
        f"memory {before:.0f} MiB, after {len(many.times):,} more requests {after:.0f} MiB ({after / before - 1:+.1%})"
    )


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


if __name__ == "__main__":
    main()
