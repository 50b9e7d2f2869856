"""One run of an update: what is encoded into the journal, what is said and counted on the way."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.captions.captions import Caption
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.embeddings.embedding_table import path_columns, times, vector_array
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.photo_columns import arrow_columns, facts_arrays
from bt_cli.errors import (
    BrokenIndex,
    BtError,
    UnreadableCaptions,
    UnreadableImage,
)
from bt_cli.files.image_format import HEAD, lacks_reader
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.encoder import EncodedBatch, FileEncoder
from bt_cli.indexing.summary import IndexSummary, no_images, nothing_readable
from bt_cli.inference.truncation import one_warning
from bt_cli.paths.index_paths import RootPaths, is_below
from bt_cli.planning.captions import caption_rows
from bt_cli.planning.listing import shard_of
from bt_cli.planning.moved_captions import follow_images
from bt_cli.planning.pairs import Pairing
from bt_cli.planning.plan import Plan
from bt_cli.planning.web_rows import WebRows
from bt_cli.sources.member import first_bytes, split_path
from bt_cli.sources.url_list import is_url_list, may_be_list
from bt_cli.sources.web_address import WebImage, is_url
from bt_cli.store.index_writer import IndexWriter, writing
from bt_cli.store.manifest import Manifest
from bt_cli.store.piece_writer import CaptionRows
from bt_cli.store.stored_rows import StoredRows

LOG = logging.getLogger("bt_cli")
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Suffixes of files that need no look before they are encoded; one of these that is something else says so then."""
NAMED = 5
"""Absent folders that a remark names; the others are counted."""
TEXTS_AT_A_TIME = 256
"""Captions that are encoded and then written to the journal together."""

Progress = Callable[[int, int], None]


class UpdateRun:
    """The state of one run of `build_index`."""

    def __init__(self, folder: Path, home: str, encoder: FileEncoder, strict: bool, progress: Progress | None) -> None:
        self.folder = folder
        self.paths = RootPaths(home)
        self.encoder = encoder
        self.strict = strict
        self.progress = progress or (lambda done, total: None)
        self.allow_private = False
        self.summary = IndexSummary(index=os.fspath(folder))
        self.pairing: Pairing | None = None

    def report_damages(self, writer: IndexWriter) -> None:
        """Say what of the index is damaged and will be made anew."""
        if writer.mends:
            LOG.warning(
                "%s: damaged, and made anew from what is whole: %s", shown_path(self.folder), _listed(writer.mends)
            )
        if writer.blank_rows:
            LOG.warning(
                "%d images are encoded again where they are there: when they were encoded can't be told any more",
                writer.blank_rows,
            )

    def captions_before(self, writer: IndexWriter) -> CaptionRows | None:
        """The captions that the index has, one that is made anew included."""
        try:
            return writer.captions_before()
        except BrokenIndex as error:
            LOG.warning("%s: the captions are lost; give them again", str(error).partition(";")[0])
            return None

    def report(self, plan: Plan, names: Sequence[str]) -> None:
        """Say what could not be looked at, what is not there, and what was read beside images to encode.

        Args:
            plan: What changes.
            names: Columns that are carried along.
        """
        self.summary.passed_over = plan.passed_over
        if plan.absent:
            LOG.warning(
                "not there now, or without images: %s; what the index has of them stays (bt index --forget FOLDER "
                "drops it)",
                _listed([f"{shown_path(folder)} ({rows:,})" for folder, rows in plan.absent.items()]),
            )
        for folder in plan.kept_folders:
            LOG.warning("%s: can't be looked through; what the index has of it stays", shown_path(folder))
        for path, reason in plan.unreadable:
            self._skip(path, f"{shown_path(path)}: {reason}")
        if plan.facts_read:
            LOG.warning("date, camera and place read from the heads of %s images", f"{plan.facts_read:,}")
        if plan.kept_read:
            LOG.warning("%s read anew for %s images", ", ".join(map(shown_path, names)), f"{plan.kept_read:,}")

    def encode_images(self, plan: Plan, writer: IndexWriter) -> None:
        """Encode what the plan has to encode, batch by batch into the journal."""
        todo = self._with_reader(plan, plan.to_encode())
        if not len(todo):
            return
        start = time.monotonic()
        done = 0
        self.progress(0, len(todo))
        files = _Paths(self.opened, plan.rows.paths, todo)
        if self.pairing is None:
            encoding = self.encoder.encode_files(files)
        else:
            encoding = self.encoder.encode_files(
                files, [self.pairing.texts(plan.rows.paths[row]) for row in todo.tolist()]
            )
        with closing(encoding) as batches:
            for batch in batches:
                for number, message in batch.failures:
                    self._fail(plan, int(todo[number]), message)
                self.summary.incomplete += [message for _, message in batch.incomplete]
                if batch.numbers:
                    _note_stamps(plan.rows, todo[batch.numbers], batch)
                    with writing(self.folder):
                        writer.journal.append(_journal_columns(plan.rows, todo[batch.numbers], batch, writer.dtype))
                self.summary.encoded += len(batch.numbers)
                self.summary.largest_side = max([self.summary.largest_side, *batch.widths, *batch.heights])
                done += len(batch.numbers) + len(batch.failures)
                self.progress(done, len(todo))
        seconds = time.monotonic() - start
        self.summary.images_per_second = self.summary.encoded / seconds if seconds > 0 else 0.0

    def encode_captions(
        self,
        captions: Sequence[tuple[str, Sequence[Caption]]] | None,
        plan: Plan,
        roots: list[str],
        writer: IndexWriter,
    ) -> CaptionRows | None:
        """All captions of the next generation, the new ones encoded into the caption journal."""
        current = writer.caption_rows()
        if captions is None and self.pairing is None and current is not None:
            return follow_images(current, plan)
        rows: CaptionRows | None
        if self.pairing is not None:
            rows = self.pairing.rows(_next_paths(plan))
        elif captions is not None:
            rows = caption_rows(captions, _next_paths(plan), self.paths, roots)
        else:
            rows = self.captions_before(writer)
        if rows is None or rows is current:
            return rows
        known = set(current.texts if current else [])
        for batch in writer.caption_journal.batches():
            known.update(batch.column("caption").to_pylist())
        new = [text for text in dict.fromkeys(rows.texts) if text not in known]
        with one_warning():
            for first in range(0, len(new), TEXTS_AT_A_TIME):
                texts = new[first : first + TEXTS_AT_A_TIME]
                embeddings = vector_array(self.encoder.encode_texts(texts), writer.dtype)
                nothing = [None] * len(texts)
                columns = {"caption": texts, "image": nothing, "image_path_bytes": nothing, "caption_id": nothing}
                with writing(self.folder):
                    writer.caption_journal.append({**columns, "embedding": embeddings})
        return rows

    def whole_shards(self, plan: Plan, there: Manifest | None) -> dict[str, tuple[int, int]]:
        """Tar files whose images all have rows now: found in this run, or known before and not looked at."""
        lacking = {shard_of(plan.rows.paths[row], plan.shards) for row in plan.failed | plan.kept_own}
        whole = {name: stamp for name, stamp in plan.shards.items() if name not in lacking}
        for name, (size, mtime) in (there.shards if there else {}).items():
            if name not in plan.shards and not os.path.exists(self.paths.absolute(name)):
                whole[name] = size, mtime  # its rows stay while it is away
        return whole

    def _with_reader(self, plan: Plan, todo: np.ndarray) -> np.ndarray:
        """The rows whose format some installed package reads; the others are passed over and have no new row."""
        names = [plan.rows.paths[row] for row in todo.tolist()]
        readable = [is_plain_name(name) or is_readable(self.opened(name), self.summary.passed_over) for name in names]
        for row in todo[np.logical_not(readable)].tolist():
            # What the index has of it stays: its reader may only be missing here, or now.
            (plan.kept_own if plan.own[row] >= 0 else plan.failed).add(row)
        return todo[readable] if len(todo) else todo

    def barren(self, plan: Plan, roots: list[str]) -> list[str]:
        """Those roots that gave nothing and have no row: a file that is no image stays no root for ever."""
        if not roots:
            return []
        paths = [*(plan.rows.paths[row] for row in plan.kept()), *StoredPaths(plan.stored)]
        bare = [root for root in roots if not any(is_below(path, root) for path in paths)]
        may_be = [root for root in bare if not is_url(root) or may_be_list(root)]
        lists = {root for root in may_be if is_url_list(self.opened(root))}
        named = WebRows(self.paths, [], sorted(lists), opened=self.opened)
        return [root for root in bare if root not in lists or not any(map(named.is_named, filter(is_url, paths)))]

    def opened(self, stored: str) -> str:
        """What is opened for a stored path."""
        path = self.paths.absolute(stored)
        return WebImage(path) if self.allow_private and is_url(path) else path

    def roots_of(self, manifest: Manifest | None) -> list[str]:
        """The roots of an index as they are opened."""
        return [self.opened(root) for root in manifest.roots] if manifest else []

    def nothing(self, roots: list[str], plan: Plan) -> BtError:
        """Why the roots give no image at all."""
        if plan.uncaptioned and not self.summary.failures:
            return UnreadableCaptions(
                f"none of the {plan.uncaptioned:,} images has a caption, and an index of pairs holds those that have "
                "one; see that the captions name the images, or take these as they are with --mixed"
            )
        if self.summary.failures:
            return nothing_readable(self.summary)
        return no_images([self.paths.absolute(root) for root in roots], self.summary.passed_over)

    def is_same(
        self,
        plan: Plan,
        roots: list[str],
        factory: str | None,
        exclusion: Exclusion,
        keep: list[str],
        writer: IndexWriter,
    ) -> bool:
        """Whether the next generation would be the current one again."""
        current = writer.manifest
        if current is None or current.roots != roots or current.factory != factory or writer.must_commit:
            return False
        if current.keep != keep:
            return False
        if (tuple(current.exclude), current.default_excludes) != (exclusion.globs, exclusion.defaults):
            return False
        return not len(plan.kept()) and not len(plan.gone())

    def count(self, plan: Plan, captions: CaptionRows | None) -> None:
        """Fill in the summary."""
        kept = plan.kept()
        known, same = plan.own[kept] >= 0, plan.same_content[kept]
        self.summary.added = int((~known).sum())
        self.summary.updated = int((known & ~same).sum())
        failed = np.array(sorted(plan.failed), np.int64)
        self.summary.removed = len(plan.removed) + int((plan.own[failed] >= 0).sum())
        self.summary.unchanged = len(plan.stored) - self.summary.updated - self.summary.removed
        self.summary.uncaptioned = plan.uncaptioned
        self.summary.captions = len(captions) if captions is not None else 0

    def _fail(self, plan: Plan, row: int, message: str) -> None:
        """Leave a file out that can't be encoded; one that vanished since it was found keeps what the index has."""
        path = self.paths.absolute(plan.rows.paths[row])
        self._skip(path, message)
        if plan.own[row] >= 0 and not _can_be_opened(path):
            plan.kept_own.add(row)
        else:
            plan.failed.add(row)

    def _skip(self, path: str, message: str) -> None:
        if self.strict:
            raise UnreadableImage(message)
        self.summary.skipped += 1
        self.summary.failures.append((path, message))


class StoredPaths:
    """The paths of the rows of an index, as often as they are asked for, some thousands in memory at a time."""

    def __init__(self, stored: StoredRows) -> None:
        self.stored = stored

    def __iter__(self) -> Iterator[str]:
        return self.stored.each_path()


def _next_paths(plan: Plan) -> list[str]:
    """The paths of all images of the next generation."""
    stays = np.ones(len(plan.stored), bool)
    stays[plan.gone()] = False
    before = (path for path, there in zip(plan.stored.each_path(), stays.tolist(), strict=True) if there)
    return [*before, *(plan.rows.paths[row] for row in plan.kept())]


class _Paths(Sequence[str]):
    """The absolute paths of some rows, each made when it is asked for."""

    def __init__(self, opened: Callable[[str], str], stored: list[str], rows: np.ndarray) -> None:
        self.opened = opened
        self.stored = stored
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        return self.opened(self.stored[self.rows[number]])


def _listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = [f"{len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


def _can_be_opened(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except NotADirectoryError:
        found = split_path(path)
        return found is not None and _can_be_opened(found[0])
    except OSError:
        return False


def is_plain_name(path: str) -> bool:
    """Whether a suffix says that any installation reads the file, if it is what it is called."""
    return path.lower().endswith(PLAIN_SUFFIXES)


def is_readable(path: str, passed_over: PassedOver) -> bool:
    """Whether an installed package reads the file's format; one of a format that none reads is counted."""
    if is_plain_name(path) or not lacks_reader(path, first_bytes(path, HEAD)):
        return True
    passed_over.add_unread(path)
    return False


def _note_stamps(rows: ImageRows, places: np.ndarray, batch: EncodedBatch) -> None:
    """Fill in size and time of images on the web, which nobody knew before they were fetched."""
    for place, stamp in zip(places.tolist(), batch.stamps or (), strict=False):
        if stamp is not None and not rows.mtime[place]:
            rows.size[place], rows.mtime[place] = stamp


def _journal_columns(rows: ImageRows, places: np.ndarray, batch: EncodedBatch, dtype: str) -> dict[str, Any]:
    texts, raw = path_columns([rows.paths[place] for place in places])
    return {
        "path": texts,
        "path_bytes": raw,
        "size": rows.size[places],
        "mtime": times(rows.mtime[places]),
        "content_hash": batch.content_hashes,
        "width": np.asarray(batch.widths, np.int32),
        "height": np.asarray(batch.heights, np.int32),
        **arrow_columns(facts_arrays(batch.facts, len(texts))),
        "embedding": vector_array(batch.embeddings, dtype),
    }
