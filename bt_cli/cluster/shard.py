"""A shard: a tar file or a folder of images that one worker encodes into one table, its part."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import find_images, path_key
from bt_cli.errors import BtError, Misuse, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.shard_list import shard_list
from bt_cli.store.identity import Identity
from bt_cli.store.table_part import TablePart

FAILURES = ".failures.jsonl"


@dataclass(frozen=True)
class ShardTask:
    """What a worker is asked for.

    Attributes:
        source: The shard, as the user named it.
        part: The table to write.
        stamp: By which a change of the shard is known.
        size: Its bytes, by which the time left is guessed.
    """

    source: str
    part: str
    stamp: str
    size: int

    @property
    def failures(self) -> Path:
        """Where the shard's images that could not be read are named."""
        return Path(self.part.removesuffix(".parquet") + FAILURES)


def shard_tasks(sources: Sequence[str], folder: Path, exclusion: Exclusion) -> list[ShardTask]:
    """The tasks of shards, each named once; a name may hold braces and wildcards (`shards/{000..019}.tar`).

    Raises:
        NotFound: One is not there.
        Misuse: Two would be written to one part; a pattern is none.
    """
    names = list(dict.fromkeys(name for source in sources for name in shard_list(source)))
    by_part: dict[str, str] = {}
    tasks = []
    for name in names:
        part = os.fspath(folder / f"{os.path.basename(os.path.abspath(name))}.parquet")
        if part in by_part:
            raise Misuse(
                f"{shown_path(by_part[part])} and {shown_path(name)}: both would be {shown_path(part)}; "
                "encode them into folders of their own"
            )
        by_part[part] = name
        try:
            stamp, size = shard_stamp(name, exclusion)
        except FileNotFoundError:
            raise NotFound(f"{shown_path(name)}: no such shard: a tar file or a folder of images") from None
        tasks.append(ShardTask(name, part, stamp, size))
    return tasks


def shard_stamp(source: str, exclusion: Exclusion) -> tuple[str, int]:
    """(stamp, bytes): of a file its size and time of change, of a folder a digest of those of its images.

    Raises:
        FileNotFoundError: It is not there.
    """
    status = os.stat(source)
    if not os.path.isdir(source):
        return f"{status.st_size}-{status.st_mtime_ns}", status.st_size
    digest, total = hashlib.sha256(), 0
    files = find_images([source], exclusion=exclusion, on_error=lambda path, error: digest.update(os.fsencode(path)))
    for file in sorted(files, key=lambda file: path_key(file.path)):
        digest.update(os.fsencode(file.path) + f"\0{file.size}\0{file.mtime_ns}\n".encode())
        total += file.size
    return f"folder-{digest.hexdigest()[:32]}", total


def part_metadata(task: ShardTask, exclusion: Exclusion) -> dict[str, str]:
    """What a part says of its shard, beside what made it."""
    return {"bt.source": task.source, "bt.stamp": task.stamp, "bt.exclude": exclusion_text(exclusion)}


def exclusion_text(exclusion: Exclusion) -> str:
    """What is left out of a shard, as a part keeps it."""
    return json.dumps([list(exclusion.globs), exclusion.defaults])


def is_current(task: ShardTask, identity: Identity, dtype: str, exclusion: Exclusion) -> bool:
    """Whether the part is there and is what the task would make of the shard as it is now."""
    if not os.path.exists(task.part):
        return False
    try:
        part = TablePart.open(task.part)
    except BtError:
        return False
    mine = (part.identity.fingerprint, part.identity.preprocessing, part.dtype, part.stamp, part.exclude)
    return mine == (identity.fingerprint, identity.preprocessing, dtype, task.stamp, exclusion_text(exclusion))


def every_nth(tasks: Sequence[ShardTask], share: str) -> list[ShardTask]:
    """The tasks of share `I/N`: the I-th, from 1, and every N-th behind it.

    Raises:
        Misuse: It is no such share.
    """
    first, _, count = share.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise Misuse(f"--shards {share}: give I/N, such as 1/8 for the first of eight shares")
    return list(tasks[int(first) - 1 :: int(count)])
