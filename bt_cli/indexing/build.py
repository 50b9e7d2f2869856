"""Making and updating an index: plan, encode what is new into the journal, then one step to the next generation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bt_cli.captions.captions import Caption
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.errors import (
    BtError,
    NoIndex,
)
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.encoder import FileEncoder
from bt_cli.indexing.factory import kept_factory, require_factory
from bt_cli.indexing.refusals import require_folders, require_something, without_gone_files
from bt_cli.indexing.summary import IndexSummary
from bt_cli.indexing.update_run import Progress, StoredPaths, UpdateRun
from bt_cli.kept.names import require_names
from bt_cli.paths.index_paths import home_of
from bt_cli.planning.absence import Forgotten
from bt_cli.planning.file_facts import file_facts
from bt_cli.planning.kept_source import KeptSource, kept_now
from bt_cli.planning.pairs import Pairing, wanted_kind
from bt_cli.planning.plan import Plan, plan_update
from bt_cli.planning.roots import existing, fresh, roots_of_run
from bt_cli.planning.web_rows import WebRows
from bt_cli.sources.shard_list import shard_list
from bt_cli.store.index_folder import require_name
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.manifest import IMAGES, MIXED, Manifest

LOG = logging.getLogger("bt_cli")


def build_index(
    index: str | os.PathLike[str],
    roots: Sequence[str | os.PathLike[str]],
    encoder: FileEncoder,
    *,
    captions: Sequence[tuple[str, Sequence[Caption]]] | None = None,
    pairs: Sequence[tuple[str, Sequence[Caption]]] | None = None,
    mixed: bool = False,
    forget: Sequence[str | os.PathLike[str]] = (),
    rebuild: bool = False,
    strict: bool = False,
    store_dtype: str | None = None,
    factory: str | None = None,
    exclude: Sequence[str] | None = None,
    default_excludes: bool | None = None,
    keep: Sequence[str] | None = None,
    verify: bool = False,
    compact: bool = False,
    allow_private: bool = False,
    progress: Progress | None = None,
) -> IndexSummary:
    """Bring an index up to date with the folders it is made of, or make it.

    The roots are looked through and added to those that the index knows; without any, the known ones are looked through
    again. Rows whose file is gone leave the index where their root was looked through, all others stay. A run that
    is stopped leaves the index as it was and its finished batches in the journal: the next run goes on from there
    and ends in the same table as one that was never stopped.

    Args:
        index: The index folder; made where it is missing.
        roots: Folders, files, lists of addresses (see `url_list`) and addresses.
        encoder: The checkpoint.
        captions: (name of the caption file, its captions) for each: they take the place of those that the index
            has. None leaves them as they are.
        pairs: Captions likewise, with which the images are embedded: each row is then the embedding of an image and
            its captions, and images without one are left out. An index stays what it was made as.
        mixed: Take images without a caption into an index of pairs, embedded alone.
        forget: Folders that the index is to know no more, with their rows: roots, there or not, and folders below
            them that have no image now.
        rebuild: Encode everything again, with whatever checkpoint, its captions included; the index then has exactly
            `roots` (or, without any, the roots that it had).
        strict: Raise on the first file that can't be read.
        store_dtype: `float16` (default) or `float32`: of the stored embeddings, fixed when an index is made.
        verify: Hash every file, so that a change that kept size and time is found, and read every byte of the index.
        compact: Write the index as one piece, as a new one is.
        factory: A FAISS factory string in place of the automatic choice, kept for later updates; `auto` returns to it.
        exclude: Globs of what to leave out (see `Exclusion`), in place of those that the index remembers; what is left
            out leaves the index. None keeps the remembered ones.
        default_excludes: Whether to leave out hidden files, thumbnails of other programs and the like; None as before.
        keep: Columns of the images' sources that are carried along into the table (see `bt_cli.kept`), in place of
            those that the index remembers. None keeps the remembered ones.
        allow_private: Fetch images of lists from hosts of this machine's own networks, too.
        progress: Called with (images encoded, images to encode).

    Raises:
        UnreadableCaptions: Pairs are wanted, and none of the images has a caption.
        MissingHead: Pairs are wanted, and the checkpoint has no cross-modal ITC head.
        Misuse: A column to keep is in none of the sources, holds bytes, or is called as one of the table's own.
        NotFound, EmptyFolder, Misuse: A root does not exist (where all known ones are rebuilt, any of them); there is
            no image below the roots; there are no roots; a root to forget is none.
        IndexBusy, IndexMismatch, BrokenIndex, Unwritable: see `IndexWriter`.
        UnreadableImage: A file can't be read, when `strict`, or none of those named can.
    """
    start = time.monotonic()
    require_name(index)
    there = _manifest_there(Path(index), rebuild)
    kind = wanted_kind(
        there,
        os.fspath(index),
        pairs=pairs is not None,
        mixed=mixed,
        captions=captions is not None,
        rebuild=rebuild,
    )
    names = list(keep) if keep is not None else list(there.keep) if there else []
    require_names(names)
    run = UpdateRun(Path(index), home_of(index, there.home if there else None), encoder, strict, progress)
    run.allow_private = allow_private
    forgotten = Forgotten([run.paths.stored(os.fspath(folder)) for folder in forget], there.roots if there else [])
    named = [name for root in roots for name in shard_list(os.fspath(root))]
    wanted = _Wanted(
        there,
        kind,
        _wanted_exclusion(exclude, default_excludes, there, Path(index)),
        names,
        given=run.paths.given([existing(root) for root in named], [] if rebuild else forgotten.remaining),
        forgotten=forgotten,
        asks_for_columns=keep is not None,
        rebuild=rebuild,
        verify=verify,
    )
    if wanted.needs_roots:
        require_something(run, wanted.given, forgotten.remaining, rebuild, wanted.exclusion)
    require_factory(factory, encoder.identity.dimension)
    with (
        no_folder_for_nothing(run.folder),
        IndexWriter(
            run.folder,
            encoder.identity,
            dtype=store_dtype,
            rebuild=rebuild,
            verify=verify,
            facts=file_facts,
            kept=lambda names, paths: kept_now(run.roots_of(there), names, paths),
        ) as writer,
    ):
        run.report_damages(writer)
        writer.kind = kind
        if kind != IMAGES:
            run.pairing = Pairing(pairs, run.captions_before(writer), kind == MIXED)
        plan, all_roots = _planned(run, writer, wanted)
        run.report(plan, names)
        run.encode_images(plan, writer)
        all_roots = _without_barren(run, writer, wanted, plan, all_roots)
        all_captions = run.encode_captions(captions, plan, all_roots, writer)
        wanted_factory = kept_factory(factory, writer.manifest.factory if writer.manifest else None)
        asked = captions is not None or pairs is not None or compact
        if not asked and run.is_same(plan, all_roots, wanted_factory, wanted.exclusion, names, writer):
            writer.journal.clear()
        else:
            kept = plan.kept()
            writer.commit(
                plan.rows.take(kept),
                np.maximum(plan.source[kept], -1),
                plan.gone(),
                roots=all_roots,
                captions=all_captions,
                factory=wanted_factory,
                exclude=wanted.exclusion.globs,
                default_excludes=wanted.exclusion.defaults,
                keep=names,
                shards=run.whole_shards(plan, there if not rebuild else None),
                compact=compact,
            )
        run.count(plan, all_captions)
    run.summary.seconds = time.monotonic() - start
    return run.summary


@dataclass
class _Wanted:
    """What a run is asked for, with what the index remembers where it is not."""

    there: Manifest | None
    """Of the index as it stands."""
    kind: str
    exclusion: Exclusion
    names: list[str]
    """Columns that are carried along."""
    given: list[str]
    """Roots that were named, as stored."""
    forgotten: Forgotten
    asks_for_columns: bool
    rebuild: bool
    verify: bool

    @property
    def needs_roots(self) -> bool:
        """Whether there has to be something to look through: an index of tables has rows, and needs no roots."""
        of_tables = self.there is not None and self.there.rows and not self.there.roots
        return bool(self.given or self.rebuild or not of_tables)


def _planned(run: UpdateRun, writer: IndexWriter, wanted: _Wanted) -> tuple[Plan, list[str]]:
    """What changes, and the roots that the index has from now on, those without an image among them."""
    before = writer.paths_before() if wanted.rebuild else StoredPaths(writer.stored)
    # The writer has the lock now: what the index knows can't change any more.
    wanted.forgotten = forgotten = Forgotten(wanted.forgotten.folders, writer.known_roots())
    forgotten.check(run.paths, before)
    looked_through, all_roots = roots_of_run(
        run.paths, wanted.given, forgotten.remaining, wanted.rebuild, wanted.exclusion
    )
    everything = wanted.verify or wanted.rebuild
    plan = plan_update(
        looked_through,
        run.paths,
        writer.stored,
        writer.journal,
        forgotten=forgotten.holds,
        exclusion=wanted.exclusion,
        verify=wanted.verify,
        pairing=run.pairing,
        web=WebRows(
            run.paths,
            looked_through,
            [root for root in all_roots if root not in looked_through],
            forgets=bool(forgotten.folders),
            opened=run.opened,
        ),
        opened=run.opened,
        known_shards=None if wanted.rebuild else _known_shards(wanted),
        kept=KeptSource(wanted.names, [*map(run.opened, all_roots)], asked=wanted.asks_for_columns, verify=everything),
    )
    if wanted.rebuild:
        held = [path for path in before if not forgotten.holds(path)]
        require_folders(run.paths, looked_through, held, plan, wanted.exclusion)
    return plan, without_gone_files(all_roots, run.paths, plan)


def _without_barren(
    run: UpdateRun, writer: IndexWriter, wanted: _Wanted, plan: Plan, all_roots: list[str]
) -> list[str]:
    """The roots without those new ones that gave nothing. Raises what `UpdateRun.nothing` makes where none gave."""
    barren = run.barren(plan, fresh(wanted.given, wanted.forgotten.remaining))
    if (wanted.given and set(barren) == set(wanted.given)) or (writer.manifest is None and not len(plan.kept())):
        raise run.nothing(wanted.given, plan)
    for root in barren:
        LOG.warning("%s: no image there that can be read; not added", shown_path(run.paths.absolute(root)))
    return [root for root in all_roots if root not in barren]


def _known_shards(wanted: _Wanted) -> Mapping[str, Sequence[int]] | None:
    """Tar files that need not be opened while they stay as they are: not where another choice of images is made."""
    there, exclusion = wanted.there, wanted.exclusion
    if there is None or wanted.kind != IMAGES:
        return None
    same = (tuple(there.exclude), there.default_excludes) == (exclusion.globs, exclusion.defaults)
    return there.shards if same else None


def _manifest_there(folder: Path, rebuild: bool) -> Manifest | None:
    try:
        return Manifest.recovered(folder)
    except NoIndex:
        return None
    except BtError:
        if not rebuild:
            raise
        return None


def _wanted_exclusion(
    exclude: Sequence[str] | None, defaults: bool | None, there: Manifest | None, folder: Path
) -> Exclusion:
    """What this run leaves out: what is asked for, else what the index remembers."""
    if exclude is None:
        exclude = there.exclude if there else ()
    if defaults is None:
        defaults = there.default_excludes if there else True
    exclusion = Exclusion(tuple(glob for glob in exclude if glob), defaults, os.path.abspath(folder))
    exclusion.check()
    return exclusion


@contextmanager
def no_folder_for_nothing(folder: Path) -> Iterator[None]:
    """Take away the index folder that a failing run has made, unless something that was encoded is in it."""
    was_there = os.path.lexists(folder)
    try:
        yield
    except BaseException:
        if not was_there:
            with suppress(OSError):
                journal = folder / "journal"
                for name in ("images", "captions"):
                    with suppress(FileNotFoundError):
                        (journal / name).rmdir()
                with suppress(FileNotFoundError):
                    journal.rmdir()
                if os.listdir(folder) == ["lock"]:
                    (folder / "lock").unlink()
                folder.rmdir()
        raise
