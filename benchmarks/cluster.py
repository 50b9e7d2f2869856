"""Encoding shard by shard beside `bt encode images FOLDER`: the same pictures, the same rows, and what it costs.

    python -m benchmarks.cluster [--pictures 20000] [--shards 20] [--workers 2] [--no-chaos]

Small JPEGs, cut out of the sample pictures at random, lie in tar shards. They are encoded with `tiny`: by `bt encode
images FOLDER -o TABLE`, shard by shard in processes of this machine, and shard by shard on a Ray cluster of two nodes
on this machine (two raylets, a part of the cores each). Start-up is what the same command takes for one picture; the
rates, by the clock and by the processor, are those of the rest. Processor seconds and memory are those of all processes
that take part. What the cluster's own take (raylets, monitors) is told apart, as it goes by the hour and not by the
picture: the processor's rate leaves it out. Where other programs keep the machine busy, that rate is the one to read.

Then the same again with trouble, by both engines: three further shards are bad (cut off in a member, cut off in a
header, garbage), a worker is killed by its process id, then the driver, and the command is run again. What was encoded
twice is what had a part when the driver died and got another one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.base_checkpoint import cache_folder
from benchmarks.command import BT
from benchmarks.process_tree import ProcessTree, command_line, descendants, wait_for_end

SEED = 11
SMALLEST, LARGEST = 96, 224
"""Sides of a cut-out, pixels."""
SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "images"
BAD = ("cut-in-member.tar", "cut-in-header.tar", "garbage.tar")


class Run(NamedTuple):
    """A command that has come to its end."""

    code: int
    seconds: float
    cpu: float
    """Seconds of the processor, without those of `daemons`."""
    daemons: float
    """Those of the cluster's own processes."""
    peak: int
    lines: list[dict[str, object]]
    """A record a shard."""
    errors: str


class Way(NamedTuple):
    """A way to encode: its name, and the options behind `bt encode images SHARDS`."""

    name: str
    options: tuple[str, ...]


class Rate(NamedTuple):
    """Pictures a second after start-up."""

    clock: float
    processor: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="Measure encoding by shards.")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-chaos", action="store_true", help="leave the runs with trouble out")
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        os.chdir(name)
        write_shards(asked.pictures, asked.shards)
        pool = Way("processes", ("--engine", "processes", "--processes", str(asked.workers)))
        plain = measure(Way("plain", ()), asked.pictures, None)
        measure(pool, asked.pictures, plain)
        begun = time.perf_counter()
        with ray_cluster(asked.workers) as address:
            print(f"a Ray cluster of two nodes began in {time.perf_counter() - begun:.1f} s")
            ray = Way("ray", ("--engine", "ray", "--address", address, "--processes", str(asked.workers)))
            measure(ray, asked.pictures, plain)
            compare("processes", "ray", asked.shards)
            if not asked.no_chaos:
                write_bad_shards()
                for way in (pool, ray):
                    trouble(way, asked.shards)


def write_shards(pictures: int, shards: int) -> None:
    """`shards/000000.tar` and on, with pictures of about equal number, and `one/000000.tar` with a single one."""
    generator = np.random.default_rng(SEED)
    samples = []
    for path in sorted(SAMPLE.glob("*.jpg")):
        with Image.open(path) as image:
            samples.append(image.convert("RGB"))
    for folder in ("shards", "one"):
        os.mkdir(folder)
    for shard in range(shards):
        count = pictures // shards + (shard < pictures % shards)
        write_tar(f"shards/{shard:06d}.tar", (cut_out(samples, generator) for _ in range(count)))
    write_tar("one/000000.tar", [cut_out(samples, generator)])


def cut_out(samples: Sequence[Image.Image], generator: np.random.Generator) -> bytes:
    """A part of one of the pictures, in another size, as a JPEG file."""
    image = samples[generator.integers(len(samples))]
    width, height = (int(generator.integers(side // 2, side + 1)) for side in image.size)
    left, top = (
        int(generator.integers(whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True)
    )
    size = tuple(generator.integers(SMALLEST, LARGEST + 1, 2).tolist())
    written = io.BytesIO()
    part = image.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    part.save(written, "JPEG", quality=int(generator.integers(70, 95)))
    return written.getvalue()


def write_tar(path: str, contents: Sequence[bytes] | Iterator[bytes]) -> None:
    """A tar file with these pictures, by number."""
    with tarfile.open(path, "w") as archive:
        for number, content in enumerate(contents):
            entry = tarfile.TarInfo(f"{number:06d}.jpg")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_bad_shards() -> None:
    """The shards of `BAD`, in a folder `bad`."""
    os.mkdir("bad")
    whole = Path("shards/000000.tar").read_bytes()
    with tarfile.open("shards/000000.tar") as archive:
        middle = archive.getmembers()[len(archive.getmembers()) // 2]
    garbage = np.random.default_rng(SEED).bytes(len(whole) // 4)
    ends = (middle.offset_data + middle.size // 2, middle.offset + 200)
    for name, content in zip(BAD, (whole[: ends[0]], whole[: ends[1]], garbage), strict=True):
        Path("bad", name).write_bytes(content)


def shard_names(folder: str) -> list[str]:
    """Paths of the tar files in a folder."""
    return sorted(map(str, Path(folder).glob("*.tar")))


def command(way: Way, names: Sequence[str], out: str) -> list[str]:
    """Encode tar files: into one table where the way is the plain one, which takes a folder, else into a part each."""
    target = f"{out}/" if way.options else f"{out}.parquet"
    return [*BT, "encode", "images", *names, "-o", target, *way.options, "--model", "tiny", "--device", "cpu", "--json"]


def run(arguments: Sequence[str]) -> Run:
    """A command to its end, with all that it needs."""
    with tempfile.TemporaryFile("w+") as errors, ProcessTree() as tree:
        begun = time.perf_counter()
        ran = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
        seconds = time.perf_counter() - begun
        errors.seek(0)
        said = errors.read().strip()
    daemons = tree.cpu(is_daemon)
    lines = list(map(json.loads, ran.stdout.splitlines()))
    return Run(ran.returncode, seconds, tree.cpu() - daemons, daemons, tree.peak, lines, said)


def measure(way: Way, pictures: int, plain: Rate | None) -> Rate:
    """Encode all pictures in one way and say what it took; pictures a second after start-up."""
    runs = []
    for folder, out in (("one", f"{way.name}-one"), ("shards", way.name)):
        runs.append(run(command(way, shard_names(folder) if way.options else [folder], out)))
        if runs[-1].code:
            raise SystemExit(f"benchmark: {way.name} failed: {runs[-1].errors}")
    start, whole = runs
    rate = Rate((pictures - 1) / (whole.seconds - start.seconds), (pictures - 1) / (whole.cpu - start.cpu))
    beside = [
        "" if plain is None else f" ({mine / theirs:.2f} of plain)"
        for mine, theirs in zip(rate, plain or rate, strict=True)
    ]
    daemons = f" and {whole.daemons:.1f} of the cluster's own" if whole.daemons else ""
    print(
        f"{way.name}: {whole.seconds:.1f} s, start-up {start.seconds:.1f} ({start.cpu:.1f} of the processor); then "
        f"{rate.clock:.0f} images/s{beside[0]}, {rate.processor:.0f} a second of the processor{beside[1]}; "
        f"{whole.cpu:.1f} processor seconds{daemons}; {whole.peak / 2**20:,.0f} MiB at the peak",
        flush=True,
    )
    return rate


def compare(one: str, other: str, shards: int) -> None:
    """Say whether the parts of two engines are equal, and what differs from the plain table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bt_cli.embeddings.embedding_table import vectors_of

    names = [f"{shard:06d}.tar.parquet" for shard in range(shards)]
    equal = sum(pq.read_table(Path(one, name)).equals(pq.read_table(Path(other, name))) for name in names)
    plain = pq.read_table("plain.parquet")
    joined = pa.concat_tables([pq.read_table(Path(other, name)) for name in names])
    if not plain.drop_columns("embedding").equals(joined.drop_columns("embedding")):
        raise SystemExit("benchmark: the rows of the parts are not those of the plain table")
    mine, theirs = (vectors_of(table.column("embedding")).astype(np.float32) for table in (joined, plain))
    print(
        f"parts of {one} and {other}: {equal} of {shards} equal in every bit; beside the plain table: all "
        f"{len(plain):,} rows equal but for embeddings, those in {int((mine == theirs).all(1).sum()):,} rows equal in "
        f"every bit, the largest difference of a number {np.abs(mine - theirs).max():.1e}"
    )


@contextmanager
def ray_cluster(cores: int) -> Iterator[str]:
    """The address of a cluster of two nodes that share so many cores."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    first = -(-cores // 2)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": first, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=max(1, cores - first))
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def trouble(way: Way, shards: int) -> None:
    """Bad shards, a worker killed, the driver killed, the same command again; raises where anything is not right."""
    out = f"trouble-{way.name}"
    arguments = command(way, [*shard_names("shards"), *shard_names("bad")], out)
    driver = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    killed = kill_driver_and_worker(driver, shards)
    before = {path.name: path.stat().st_ino for path in Path(out).glob("*.parquet")}
    again = run(arguments)
    after = {path.name: path.stat().st_ino for path in Path(out).glob("*.parquet")}
    failed = sorted(Path(str(line["shard"])).name for line in again.lines if line["state"] == "failed")
    twice = [name for name, inode in before.items() if after.get(name) != inode]
    equal = sum(Path(out, name).read_bytes() == Path(way.name, name).read_bytes() for name in after)
    states = [line["state"] for line in again.lines]
    print(
        f"trouble, {way.name}: worker {killed} killed, then the driver, with {len(before)} of {shards} parts there; "
        f"again: exit code {again.code}, {states.count('encoded')} encoded, {states.count('unchanged')} unchanged, "
        f"{len(failed)} refused ({', '.join(failed)}); parts encoded twice: {len(twice)}; parts equal to the "
        f"undisturbed run's in every byte: {equal} of {shards}",
        flush=True,
    )
    if twice or equal != shards or again.code != 1 or failed != sorted(BAD):
        raise SystemExit(f"benchmark: that is not right: {again.errors}")


def kill_driver_and_worker(driver: subprocess.Popen[str], shards: int) -> int:
    """After a quarter of the shards a worker, after half of them the driver; the worker's process id."""
    assert driver.stdout is not None
    killed, encoded = 0, 0
    for line in driver.stdout:
        encoded += json.loads(line)["state"] == "encoded"
        if not killed and encoded >= shards // 4:
            killed = next(pid for pid in descendants() if is_worker(pid))
            os.kill(killed, signal.SIGKILL)
        if encoded >= shards // 2:
            break
    workers = [pid for pid in descendants() if is_worker(pid)]
    driver.kill()
    driver.wait()
    driver.stdout.close()
    wait_for_end(workers, 60)
    return killed


def is_daemon(command: str) -> bool:
    """Whether a process is one of a Ray cluster's own, by what it calls itself."""
    return (
        "/ray/core/src/" in command or "/ray/_private/" in command or "/ray/dashboard/" in command or "Agent" in command
    )


def is_worker(pid: int) -> bool:
    """Whether a process encodes shards, of the pool or as an actor."""
    started = command_line(pid)
    return "spawn_main" in started or started.startswith("ray::Worker")


if __name__ == "__main__":
    sys.exit(main())
