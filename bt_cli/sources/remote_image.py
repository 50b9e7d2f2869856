"""An image elsewhere, whole: from the web or from a store of objects, within one limit of time and one of size."""

from __future__ import annotations

import queue
import threading

from bt_cli.errors import BtError, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources import web_image
from bt_cli.sources.member import at_hand, open_container, split_path
from bt_cli.sources.remote_file import read_part, remote_stat
from bt_cli.sources.web_address import WebImage, is_in_store
from bt_cli.sources.web_image import Fetched, fetch


def read_remote(url: str) -> Fetched:
    """The bytes at an address, or of a member of a shard there, and when they were changed; for an address of a store,
    or a shard, the stamp of `remote_stat`.

    Raises:
        UnreadableImage: It can't be had, or not within the bounds of `web_image`. The reason, without the address.
    """
    here = at_hand(url)
    if here is not None:
        shard, member = here
        try:
            return Fetched(shard.read(member), shard.stamp[1])
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
    return _within_time(url) if is_in_store(url) or split_path(url) is not None else fetch(url)


def remote_bytes(url: str, *, allow_private: bool = False) -> bytes:
    """The bytes at an address; the message of what is raised begins with it.

    Args:
        url: The address.
        allow_private: It may be one of this machine and its networks, as a `WebImage` may.

    Raises:
        UnreadableImage: As `read_remote`.
    """
    try:
        return read_remote(WebImage(url) if allow_private else url).content
    except UnreadableImage as error:
        raise UnreadableImage(f"{shown_path(url)}: {error}") from error.__cause__


def _within_time(url: str) -> Fetched:
    """What a store has; its client has time limits of its own, so that a thread waits for it and ours is kept."""
    answers: queue.SimpleQueue[Fetched | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_read(url))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="bt-store", daemon=True).start()
    try:
        answer = answers.get(timeout=web_image.SECONDS)
    except queue.Empty:
        raise UnreadableImage(f"no whole answer within {web_image.SECONDS:g} s") from None
    if isinstance(answer, OSError):
        raise UnreadableImage(answer.strerror or str(answer)) from answer
    if isinstance(answer, BtError):
        raise UnreadableImage(str(answer)) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(url: str) -> Fetched:
    place = split_path(url)
    if place is not None:
        container, member = place
        shard = open_container(container)
        return Fetched(shard.read(member), shard.stamp[1])
    found = remote_stat(url)
    if found.size > web_image.BYTES:
        raise UnreadableImage(f"larger than {web_image.BYTES >> 20} MiB")
    return Fetched(read_part(url, 0, found.size), found.stamp_ns)
