"""What an update of an index has to do: which images are unchanged, moved, new or gone, before anything is encoded.

A file with the size and time of its row is unchanged and not opened. One whose size is that of some row is hashed;
where the hash is a row's too, the file was touched, moved or copied and takes that row's vector. All others are
encoded. Where a row is of a table without date, camera and place, the file's head is read for these. Rows vanish only
below the roots that were looked at, never below a folder that could not be read, and never with a whole folder
(`absence`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import content_hash
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.embeddings.image_rows import OF_CONTENT, ImageRows
from bt_cli.embeddings.journal import Journal
from bt_cli.errors import UnreadableImage
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.paths.index_paths import RootPaths
from bt_cli.planning.absence import unmoved
from bt_cli.planning.kept_source import KeptSource
from bt_cli.planning.listing import KnownShards, Listing
from bt_cli.planning.pairs import Pairing
from bt_cli.planning.photo_heads import facts_at, lacking_facts
from bt_cli.planning.roots import is_excluded
from bt_cli.planning.web_rows import WebRows, changed_on_web
from bt_cli.sources.member import read_member, split_path
from bt_cli.sources.web_address import is_url
from bt_cli.store.manifest import MIXED, PAIRS
from bt_cli.store.stored_rows import StoredRows

ENCODE, JOURNAL = -1, -2


@dataclass
class Plan:
    """What changes: rows that are new or other than before, where each one's embedding comes from, and rows that go."""

    stored: StoredRows
    """The index as it stands."""
    rows: ImageRows
    """In the order in which they were found."""
    source: np.ndarray
    """(n,) int64: the id with the embedding, or JOURNAL, or ENCODE."""
    own: np.ndarray
    """(n,) int64: the id with this path, or -1."""
    removed: np.ndarray
    """Ids whose path is gone, ascending."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """(absolute path, reason) of files that could not even be looked at."""
    kept_folders: list[str] = field(default_factory=list)
    """Folders (absolute) that could not be read: the rows below them stay."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What the walk left out and why."""
    absent: dict[str, int] = field(default_factory=dict)
    """Folders (absolute) without an image now, and how many of the rows below each stay."""
    kept_own: set[int] = field(default_factory=set)
    """Rows of the plan that stay as the index has them: their files vanished before they could be read."""
    failed: set[int] = field(default_factory=set)
    """Rows of the plan whose file can't be read, or is not wanted."""
    shards: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tar files that were found, as stored, with their size and time of change; those that can't be read left out."""
    uncaptioned: int = 0
    """Images that an index of pairs leaves out, since no caption is theirs."""
    facts_read: int = 0
    """Images whose heads were read for date, camera and place alone."""
    kept_read: int = 0
    """Unchanged images whose rows are written anew for the columns that are carried along."""

    def to_encode(self) -> np.ndarray:
        """Rows that have to be encoded, ascending."""
        rows = np.flatnonzero(self.source == ENCODE)
        return rows[[row not in self.failed for row in rows.tolist()]] if self.failed else rows

    def kept(self) -> np.ndarray:
        """Rows that the next generation has anew, ascending."""
        left_out = self.kept_own | self.failed
        return np.array([row for row in range(len(self.rows)) if row not in left_out], np.int64)

    def gone(self) -> np.ndarray:
        """Ids that leave: removed, failed or to be written anew."""
        again = np.array([row for row in range(len(self.rows)) if row not in self.kept_own], np.int64)
        own = self.own[again]
        return np.union1d(self.removed, own[own >= 0])

    @cached_property
    def same_content(self) -> np.ndarray:
        """(n,) bool: rows whose content is that of the row with their path: touched files."""
        same = np.zeros(len(self.rows), bool)
        both = np.flatnonzero((self.own >= 0) & (self.source >= 0))
        if len(both):
            own, source = (self.stored.values("content_hash", ids[both]) for ids in (self.own, self.source))
            same[both] = own == source
        return same


def plan_update(
    roots: list[str],
    paths: RootPaths,
    stored: StoredRows,
    journal: Journal,
    *,
    forgotten: Callable[[str], bool],
    exclusion: Exclusion | None = None,
    verify: bool = False,
    pairing: Pairing | None = None,
    known_shards: Mapping[str, Sequence[int]] | None = None,
    web: WebRows | None = None,
    opened: Callable[[str], str] | None = None,
    kept: KeptSource | None = None,
) -> Plan:
    """Compare the files below `roots` (as stored; one that is gone holds nothing) with the index and the journal. Rows
    whose path is `forgotten`, or left out by `exclusion`, go. With `verify` every file is hashed, one with the size and
    time of its row, too. With `pairing`, what an image is embedded with has to be the same as well. A tar file
    that has the size and time of `known_shards` (of which every image has its row) is not opened. An image on the web
    is asked for with `verify` alone: its row is unchanged while a list names it (`web`). `opened` makes of a stored
    path what is opened. `kept` gives the columns that are carried along."""
    opened, web = opened or paths.absolute, web or WebRows(paths, roots)
    shards = KnownShards({} if verify else known_shards or {}, stored, paths)
    listing = Listing(roots, paths, exclusion, shards, opened)
    own = stored.find(listing.names)
    same = _same_files(listing, own, stored)
    if verify:
        same &= ~_changed_in_silence(listing, own, same, stored, opened)
    if pairing is not None:
        _settle(pairing, listing, stored, journal, paths, roots)
        for place in np.flatnonzero(same).tolist():
            name = listing.name(place)
            same[place] = pairing.is_same(name) and pairing.takes(name)
    heads = lacking_facts(listing, own, same, stored, opened, verify=verify)
    same[list(heads)] = False
    if kept is not None:
        kept.look(listing, own, same, stored, opened)
        same[kept.other] = False
    plan, changed = _of_changed(listing, own, same, stored)
    plan.shards = {name: stamp for name, stamp in shards.seen.items() if name not in listing.closed}
    plan.facts_read, plan.kept_read = len(heads), 0 if kept is None else len(kept.other)
    rewritten = heads.keys() | (kept.other_set if kept is not None else frozenset())
    _find_embeddings(plan, changed, listing, journal, rewritten, opened)
    missing = np.ones(len(stored), bool)
    missing[own[own >= 0]] = False
    if pairing is not None:
        _join_captions(plan, pairing, missing)
    _take_over(plan, changed, heads, paths)

    def goes(path: str) -> bool:
        return forgotten(path) or is_excluded(path, roots, paths, exclusion)

    arrived = plan.rows.content_hash[(plan.source >= 0) & ~plan.same_content].tolist()
    web.closed += [place for place in listing.closed if (place in roots or is_url(place)) and place not in web.closed]
    plan.removed, absent = _removed(np.flatnonzero(missing), listing, roots, stored, goes, arrived, web)
    if kept is not None:
        kept.fill(plan.rows, changed, plan.own, plan.source, plan.removed, stored)
    plan.absent = {paths.absolute(folder): rows for folder, rows in absent.items()}
    return plan


def _same_files(listing: Listing, own: np.ndarray, stored: StoredRows) -> np.ndarray:
    """(n,) bool: files of the size and time of the row with their path, and known addresses."""
    if not len(stored):
        return np.zeros(len(own), bool)
    known = own >= 0
    same = known & (stored.column("size")[own] == listing.size) & (stored.column("mtime")[own] == listing.mtime)
    return same | (known & listing.unknown)


def _of_changed(listing: Listing, own: np.ndarray, same: np.ndarray, stored: StoredRows) -> tuple[Plan, np.ndarray]:
    """A plan of all but the unchanged, each to be encoded so far; and the place of each row in the listing."""
    place_of = {listing.name(place): place for place in np.flatnonzero(~same).tolist()}  # each path once
    changed = np.array(list(place_of.values()), np.int64)
    rows = ImageRows.blank(list(place_of))
    rows.size[:], rows.mtime[:] = listing.size[changed], listing.mtime[changed]
    plan = Plan(
        stored,
        rows,
        source=np.full(len(changed), ENCODE, np.int64),
        own=own[changed],
        removed=np.empty(0, np.int64),
        unreadable=listing.unreadable,
        kept_folders=listing.closed_folders,
        passed_over=listing.passed_over,
    )
    return plan, changed


def _find_embeddings(
    plan: Plan,
    changed: np.ndarray,
    listing: Listing,
    journal: Journal,
    rewritten: Collection[int],
    opened: Callable[[str], str],
) -> None:
    """Say where the embedding of each row is that need not be encoded: its own, where the row is only `rewritten`
    (places of the listing), in the journal, or that of a row with the same content."""
    rows = plan.rows
    encoded = _journal_entries(journal) if len(changed) else {}
    asked = []
    unknown = listing.unknown[changed]
    for row, name in enumerate(rows.paths):
        file = (int(rows.size[row]), int(rows.mtime[row]))
        if int(changed[row]) in rewritten:
            plan.source[row] = plan.own[row]
        elif encoded.get(name) == file or (unknown[row] and name in encoded):
            plan.source[row] = JOURNAL
            rows.size[row], rows.mtime[row] = encoded[name]
        elif not is_url(name) or split_path(name) is not None:
            asked.append(row)
    _find_twins(plan, asked, opened)


def _take_over(plan: Plan, changed: np.ndarray, heads: dict[int, PhotoFacts], paths: RootPaths) -> None:
    """Give rows what is known of their content: from the row with their embedding, or from their heads (by places of
    the listing; those of moved images are read here)."""
    stored, rows = plan.stored, plan.rows
    found = np.flatnonzero(plan.source >= 0)
    if len(found):
        for column in OF_CONTENT:
            getattr(rows, column)[found] = stored.values(column, plan.source[found])
        elsewhere = found[stored.lacks_photo_columns[plan.source[found]]]
        moved = [row for row in elsewhere.tolist() if int(changed[row]) not in heads]
        heads |= facts_at({int(changed[row]): paths.absolute(rows.paths[row]) for row in moved})
    if heads:
        read = np.array([row for row, place in enumerate(changed.tolist()) if place in heads], np.int64)
        rows.set_facts(read, [heads[place] for place in changed[read].tolist()])


def _settle(
    pairing: Pairing, listing: Listing, stored: StoredRows, journal: Journal, paths: RootPaths, roots: list[str]
) -> None:
    """Find each caption's image among what is there and what the index has elsewhere, and bind the journal to that."""
    names = [os.fsdecode(name) for name in listing.names.to_pylist()]
    held = [os.fsdecode(name) for name in stored.paths.to_pylist()] if len(stored) else []
    digest = pairing.settle(list(dict.fromkeys([*names, *held])), paths, roots)
    journal.bind(MIXED if pairing.mixed else PAIRS, digest)


def _join_captions(plan: Plan, pairing: Pairing, missing: np.ndarray) -> None:
    """Leave out what has no caption, and encode what the index has with other captions; a moved image keeps its own."""
    for row, name in enumerate(plan.rows.paths):
        source = int(plan.source[row])
        before = plan.stored.path(source) if source >= 0 else None
        if before is not None and missing[source]:
            pairing.follow(name, before)
        if not pairing.takes(name):
            plan.failed.add(row)
            plan.uncaptioned += 1
        elif before is not None and pairing.before.get(before, ()) != pairing.texts(name):
            plan.source[row] = ENCODE


def _removed(
    missing: np.ndarray,
    listing: Listing,
    roots: list[str],
    stored: StoredRows,
    goes_anyway: Callable[[str], bool],
    arrived: list[bytes],
    web: WebRows,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which of the ids without a file go, and the folders that are absent with how many rows of each stay."""
    goes: list[int] = []
    folder_of: dict[int, str] = {}
    absent: dict[str, int] = {}
    for number in missing.tolist():
        path = stored.path(number)
        if goes_anyway(path):
            goes.append(number)
        elif is_url(path):
            closed = web.keeps(path)
            if closed:
                absent[closed] = absent.get(closed, 0) + 1
            elif closed is None:
                goes.append(number)
        elif not listing.is_out_of_sight(path, roots):
            folder = listing.absent_folder(path, roots)
            if folder is None:
                goes.append(number)
            else:
                folder_of[number] = folder
    stay = set(unmoved(list(folder_of), lambda number: stored.column("content_hash")[number], arrived))
    for number, folder in folder_of.items():
        if number in stay:
            absent[folder] = absent.get(folder, 0) + 1
        else:
            goes.append(number)
    return np.array(sorted(goes), np.int64), absent


def _changed_in_silence(
    listing: Listing, own: np.ndarray, same: np.ndarray, stored: StoredRows, opened: Callable[[str], str]
) -> np.ndarray:
    """(n,) bool: files of their row's size and time, and known addresses, whose content is another one."""
    changed = np.zeros(len(own), bool)
    known = stored.column("content_hash")
    for place in np.flatnonzero(same & ~listing.on_web).tolist():
        try:
            digest = content_hash(opened(listing.name(place))).encode("ascii")
        except OSError:
            continue  # what can't be read now stays as it is
        changed[place] = digest != known[own[place]]
    places = np.flatnonzero(same & listing.on_web)
    urls = [opened(listing.name(place)) for place in places.tolist()]
    changed[places[changed_on_web(urls, content_hash, lambda place: known[own[places[place]]].decode())]] = True
    return changed


def _find_twins(plan: Plan, asked: list[int], opened: Callable[[str], str]) -> None:
    """Give those of the `asked` rows whose content is that of some id this id's embedding, their own before any other;
    only files whose size is that of some row are read. In a shard elsewhere they are parts of what was read to list
    it; single images elsewhere are not asked, since each would be fetched for it."""
    stored, rows = plan.stored, plan.rows
    places = np.array(asked, np.int64)
    known = places[np.isin(rows.size[places], stored.column("size"))] if len(stored) else places[:0]
    digests: dict[int, bytes] = {}
    for row in known.tolist():
        with suppress(OSError, UnreadableImage):  # encoding will say what is wrong with it
            path = opened(rows.paths[row])
            digests[row] = content_hash(read_member(path) if is_url(path) else path).encode("ascii")
    if not digests:
        return
    having = stored.ids_of_content(set(digests.values()))
    touched = np.array([row for row in digests if plan.own[row] >= 0], np.int64)
    before = dict(zip(touched.tolist(), stored.values("content_hash", plan.own[touched]).tolist(), strict=True))
    for row, digest in digests.items():
        is_own = before.get(row) == digest
        plan.source[row] = int(plan.own[row]) if is_own else having.get(digest, ENCODE)


def _journal_entries(journal: Journal) -> dict[str, tuple[int, int]]:
    """Path to (size, mtime) of what interrupted runs encoded."""
    entries: dict[str, tuple[int, int]] = {}
    for batch in journal.batches():
        rows = ImageRows.from_columns(batch)
        entries.update(zip(rows.paths, zip(rows.size.tolist(), rows.mtime.tolist(), strict=True), strict=True))
    return entries
