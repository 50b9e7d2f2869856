"""Images on the web in an index: which of them its lists still name.

Such a row has an address for a path, and no folder tells whether it is gone. It stays while any list of the index (or
the address itself, given alone) names it, and while a list that may have named it can't be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from bt_cli.errors import UnreadableImage
from bt_cli.paths.index_paths import RootPaths
from bt_cli.sources.fetching import Fetching, fetched_ahead
from bt_cli.sources.member import SUFFIXES as SHARD_SUFFIXES
from bt_cli.sources.tar_shard import shard_stamp
from bt_cli.sources.url_list import is_url_list, may_be_list, read_url_list
from bt_cli.sources.web_address import is_in_store, is_url


class WebRows:
    """What the lists of an index say of rows that no list that is looked through now names.

    Args:
        paths: Between stored and absolute paths.
        looked_through: Roots of this run, as stored.
        others: The other roots that the index will have, as stored; they are read only where rows may go.
        forgets: Whether a root is forgotten in this run.
        opened: Gives the path to read a root at; None: its own.
    """

    def __init__(
        self,
        paths: RootPaths,
        looked_through: Sequence[str],
        others: Sequence[str] = (),
        forgets: bool = False,
        opened: Callable[[str], str] | None = None,
    ) -> None:
        self.opened = opened or paths.absolute
        self.looked_through = looked_through
        self._holders = [root for root in [*looked_through, *others] if is_in_store(root) or _is_shard(root)]
        self.judged = forgets or any(self._is_list(root) or self._is_closed(root) for root in looked_through)
        """Whether rows may go at all: a list was looked through, or a root forgotten."""
        self.closed = [root for root in [*looked_through, *others] if self._is_closed(root)] if self.judged else []
        """Lists that can't be read now: their rows can't be told from those that are gone."""
        self._others = [root for root in others if root not in self.closed and self._is_list(root)]
        self._named: set[str] | None = None

    def keeps(self, url: str) -> str | None:
        """Whether the row of an address that no list of this run names stays: None: it goes; "": it stays; else the
        list that can't be read and may have named it."""
        if not self.judged or self.is_named(url):
            return ""
        closed = next((place for place in self.closed if is_url(place) and url.startswith(_beginning(place))), None)
        if closed is not None:
            return closed
        above = [root for root in self._holders if url.startswith(_beginning(root))]
        if above:
            # A folder of a store, or a shard, lists what it holds: what it lacks is gone, if it was looked through.
            return None if all(root in self.looked_through for root in above) else ""
        return self.closed[0] if self.closed else None

    def is_named(self, url: str) -> bool:
        """Whether one of the other lists has an address."""
        if self._named is None:
            self._named = {root for root in self._others if is_url(root)}
            for root in self._others:
                if not is_url(root) or (may_be_list(root) and is_url_list(self.opened(root))):
                    self._named |= self._read(root)
        return url in self._named

    def _read(self, root: str) -> set[str]:
        try:
            return {listed.url for listed in read_url_list(self.opened(root)) if listed.url is not None}
        except OSError:
            self.closed.append(root)
            return set()

    def _is_list(self, root: str) -> bool:
        return is_url(root) or is_url_list(self.opened(root))

    def _is_closed(self, root: str) -> bool:
        path = self.opened(root)
        if is_url(root):
            return may_be_list(root) and not _can_be_asked(path)
        return may_be_list(path) and not (os.path.isdir(path) or os.access(path, os.R_OK))


def _is_shard(root: str) -> bool:
    return is_url(root) and root.lower().endswith(SHARD_SUFFIXES)


def _can_be_asked(url: str) -> bool:
    try:
        shard_stamp(url)
    except OSError:
        return False
    return True


def _beginning(root: str) -> str:
    """What every address below a folder of a store, or fitting its wildcards, begins with."""
    plain = re.split(r"[*?\[]", root)[0]
    return plain if plain != root else root.rstrip("/")


def changed_on_web(urls: Sequence[str], digest: Callable[[bytes], str], known: Callable[[int], str]) -> list[int]:
    """Which of the addresses give other content now than a row's; those that can't be had stay as they are.

    Args:
        urls: The addresses.
        digest: The hash of what they give.
        known: The hash that the row of an address has, by its place in `urls`.
    """
    changed = []
    for place, fetching in enumerate(fetched_ahead(urls)):
        assert isinstance(fetching, Fetching)
        try:
            if digest(fetching.result().content) != known(place):
                changed.append(place)
        except UnreadableImage:
            continue
    return changed
