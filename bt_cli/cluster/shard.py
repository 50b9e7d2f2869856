"""A shard: a tar file or a folder of images that one worker encodes into one table, its part.

Shards and parts may lie in a store of objects, tar files on the web, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from bt_cli.cluster.part_file import part_path, read_part
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import find_images, path_key
from bt_cli.embeddings.identity import Identity
from bt_cli.errors import Misuse, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.kept.lookup import Lookup
from bt_cli.sources.shard_list import shard_list
from bt_cli.sources.tar_shard import is_shard_name
from bt_cli.sources.web_address import WebImage, is_in_store, is_url
from bt_cli.store.table_part import TablePart

FAILURES = ".failures.jsonl"
AT_A_TIME = 16
"""Shards that are asked for their size and time at a time, and parts for what they are of: elsewhere each takes a while
to answer."""


ASKED = 32
"""Images of a shard that are asked for the columns to keep: objects beside them may be of different kinds."""


@dataclass(frozen=True)
class ShardTask:
    """What a worker is asked for.

    Attributes:
        source: The shard, as the user named it: a path or an address.
        part: The table to write: a path, or an address of a store.
        stamp: By which a change of the shard is known.
        size: Its bytes, by which the time left is guessed.
    """

    source: str
    part: str
    stamp: str
    size: int

    @property
    def failures(self) -> str:
        """Where the shard's images that could not be read are named."""
        return self.part.removesuffix(".parquet") + FAILURES


def shard_tasks(
    sources: Sequence[str], folder: str | os.PathLike[str], exclusion: Exclusion, *, allow_private: bool = False
) -> list[ShardTask]:
    """The tasks of shards, each named once; a name may hold braces and wildcards (`shards/{000..019}.tar`).

    Raises:
        NotFound: One is not there, or can't be reached.
        Misuse: Two would be written to one part; a pattern is none; an address is neither a tar file's nor a store's.
    """
    listed = (name for source in sources for word in shard_list(source) for name in _spelled_out(word))
    names = [WebImage(name) if allow_private and is_url(name) else name for name in dict.fromkeys(listed)]
    by_part: dict[str, str] = {}
    for name in names:
        part = part_path(os.fspath(folder), name)
        if part in by_part:
            raise Misuse(
                f"{shown_path(by_part[part])} and {shown_path(name)}: both would be {shown_path(part)}; "
                "encode them into folders of their own"
            )
        by_part[part] = name
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        stamps = threads.map(lambda name: _stamp_of_named(name, exclusion), names)
        return [
            ShardTask(name, part, stamp, size)
            for (part, name), (stamp, size) in zip(by_part.items(), stamps, strict=True)
        ]


def _spelled_out(name: str) -> list[str]:
    """What the wildcards of a store's address stand for; any other name as it is."""
    if not (is_in_store(name) and any(letter in name for letter in "*?[")):
        return [name]
    from bt_cli.sources.remote_file import listed

    try:
        return [file.url for file in listed(name) or []]
    except OSError as error:
        raise NotFound(f"{shown_path(name)}: {error.strerror or error}") from error


def _stamp_of_named(name: str, exclusion: Exclusion) -> tuple[str, int]:
    if is_url(name) and not (is_in_store(name) or is_shard_name(name)):
        raise Misuse(f"{shown_path(name)}: no shard: a tar file, or a folder of images on disk or in a store")
    try:
        return shard_stamp(name, exclusion)
    except FileNotFoundError:
        raise NotFound(f"{shown_path(name)}: no such shard: a tar file or a folder of images") from None
    except OSError as error:
        if not is_url(name):
            raise
        raise NotFound(f"{shown_path(name)}: {error.strerror or error}") from error


def shard_stamp(source: str, exclusion: Exclusion) -> tuple[str, int]:
    """(stamp, bytes): of a file its size and time of change, elsewhere with its ETag; of a folder a digest of those of
    its images.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It can't be reached.
    """
    if is_url(source) and (is_shard_name(source) or not is_in_store(source)):
        from bt_cli.sources.remote_file import remote_stat

        found = remote_stat(source)
        return f"{found.size}-{found.stamp_ns}", found.size
    if not is_url(source):
        status = os.stat(source)
        if not os.path.isdir(source):
            return f"{status.st_size}-{status.st_mtime_ns}", status.st_size
    digest, total = hashlib.sha256(), 0
    errors: list[OSError] = []

    def tell(path: str, error: OSError) -> None:
        errors.append(error)
        digest.update(os.fsencode(path))

    for file in sorted(find_images([source], exclusion=exclusion, on_error=tell), key=lambda file: path_key(file.path)):
        digest.update(os.fsencode(file.path) + f"\0{file.size}\0{file.mtime_ns}\n".encode())
        total += file.size
    if errors and is_url(source):
        raise errors[0]
    return f"folder-{digest.hexdigest()[:32]}", total


def part_metadata(task: ShardTask, exclusion: Exclusion) -> dict[str, str]:
    """What a part says of its shard, beside what made it."""
    return {"bt.source": task.source, "bt.stamp": task.stamp, "bt.exclude": exclusion_text(exclusion)}


def exclusion_text(exclusion: Exclusion) -> str:
    """What is left out of a shard, as a part keeps it."""
    return json.dumps([list(exclusion.globs), exclusion.defaults])


def current_ones(
    tasks: Sequence[ShardTask], identity: Identity, dtype: str, exclusion: Exclusion, keep: Sequence[str] = ()
) -> list[bool]:
    """Of each task, whether its part is there and is what the task would make of the shard as it is now.

    Raises:
        NotFound: The store that parts are in can't be reached.
    """

    def is_current(task: ShardTask) -> bool:
        try:
            part = read_part(task.part)
        except OSError as error:
            raise NotFound(f"{shown_path(task.part)}: {error.strerror or error}") from error
        return part is not None and part.keep == tuple(keep) and is_of(part, task, identity, dtype, exclusion)

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(is_current, tasks))


def is_of(part: TablePart, task: ShardTask, identity: Identity, dtype: str, exclusion: Exclusion) -> bool:
    """Whether a part has what the task would encode, whatever columns it carries along."""
    mine = (part.identity.fingerprint, part.identity.preprocessing, part.dtype, part.stamp, part.exclude)
    return mine == (identity.fingerprint, identity.preprocessing, dtype, task.stamp, exclusion_text(exclusion))


def require_kept(tasks: Sequence[ShardTask], keep: Sequence[str], exclusion: Exclusion) -> None:
    """Refuse a column to keep that no shard has, before anything is encoded: the first images of one shard after
    another are asked until all were found.

    Raises:
        Misuse: Names the column, and those that there are.
    """
    lookup = Lookup(keep, [task.source for task in tasks])
    for task in tasks if keep else ():
        found = find_images([task.source], exclusion=exclusion)
        kept = lookup.of([image.path for image in islice(found, ASKED)])
        if all(known.any() for known in kept.known.values()) or lookup.columns >= set(keep):
            return
    lookup.require(keep)


def every_nth(tasks: Sequence[ShardTask], share: str) -> list[ShardTask]:
    """The tasks of share `I/N`: the I-th, from 1, and every N-th behind it.

    Raises:
        Misuse: It is no such share.
    """
    first, _, count = share.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise Misuse(f"--shards {share}: give I/N, such as 1/8 for the first of eight shares")
    return list(tasks[int(first) - 1 :: int(count)])
