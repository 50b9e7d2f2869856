"""Writing an index folder: the lock, the journal of a run, and the step from one generation to the next.

What is new goes into a piece of its own, and what is gone is noted in the manifest: an update costs what changed.
Small pieces are joined with the new one, so that a small index is one piece in the order of its paths, and larger ones
when what follows has grown to half of them: each row is written some log2(n) times in the life of an index. Files
are written and synced first; then the manifest that names them takes the place of the old one in one step; only then
do the old files go. Whatever instant a process dies at, the manifest names a whole set. Files that no manifest names
are swept up by the next writer.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.embeddings.embedding_table import caption_schema, image_schema
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.index_choice import choose_for_piece
from bt_cli.embeddings.journal import Journal
from bt_cli.errors import BrokenIndex, BtError, IndexMismatch, NoIndex, Unwritable
from bt_cli.files.lock import WriterLock
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import home_of
from bt_cli.store.index_folder import BRIDGES, FOLDER, PARTS, ROW_BITS
from bt_cli.store.manifest import FORMAT, GENERATED, IMAGES, NAME, UNFINISHED_MANIFEST, Manifest, Piece
from bt_cli.store.piece import open_owners, sums_of
from bt_cli.store.piece_writer import CaptionRows, PieceWriter
from bt_cli.store.repair import Repair, put_away
from bt_cli.store.stored_rows import StoredPiece, StoredRows, path_array
from bt_cli.store.table_mending import Facts, KeptOf
from bt_cli.version import __version__

if TYPE_CHECKING:
    from bt_cli.store.list_file import ListSource

SMALL_PIECE = 2048
"""Rows of a piece that is always joined with what is new: writing it anew takes no time."""
MOST_PIECES = 8
STABLE_NAMES = ("images.parquet", "vectors.faiss")


class _Places:
    """Where images are in the next generation: the number of a piece above a row, as captions name them."""

    def __init__(
        self, stored: StoredRows, remaining: np.ndarray, taken: set[int], joined: ImageRows, new: Piece | None
    ) -> None:
        self.stored = stored
        self.remaining = remaining
        self.taken = taken
        self.joined = joined
        self.new = new

    def of(self, images: list[str | None]) -> np.ndarray:
        """(n,) int64 of paths, -1 where the index will not have one."""
        names = list(dict.fromkeys(image for image in images if image is not None))
        wanted = set(names)
        places: dict[str | None, int] = {}
        ids = self.stored.find(path_array(names))
        known = np.flatnonzero((ids >= 0) & self.remaining[ids]) if len(self.stored) else np.empty(0, np.int64)
        pieces, rows = self.stored.placed(ids[known])
        for name, piece, row in zip(known.tolist(), pieces.tolist(), rows.tolist(), strict=True):
            if piece not in self.taken:
                places[names[name]] = self.stored.pieces[piece].entry.number << ROW_BITS | row
        for row, path in enumerate(self.joined.paths):
            if path in wanted and self.new is not None:
                places[path] = self.new.number << ROW_BITS | row
        return np.array([places.get(image, -1) for image in images], np.int64)


class IndexWriter:
    """Holds the writers' lock of an index folder between `with` and its end.

    Attributes:
        manifest: Of the index as it stands, or None where there is none yet (or it is to be made anew).
        stored: Its images.
        identity, dtype: What encodes, and in which precision embeddings are kept.
        kind: What the images' embeddings are of, see `Manifest`; may be set before anything is encoded.
        journal, caption_journal: What interrupted runs encoded, and what this one does.
        blank_rows: Images of which, after damage, nothing is known but path and embedding.

    Args:
        facts: What a mended table may say of an image file, see `table_mending`.
        kept: What it may have in its columns that are carried along, likewise.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        identity: Identity,
        *,
        dtype: str | None = None,
        rebuild: bool = False,
        verify: bool = False,
        facts: Facts | None = None,
        kept: KeptOf | None = None,
    ):
        self.folder = Path(folder)
        self.identity = identity
        self._wanted_dtype = dtype
        self._rebuild = rebuild
        self._verify = verify
        self._lock = WriterLock(self.folder)
        self._current: Manifest | None = None
        self._damaged: set[str] = set()
        self._facts = facts or (lambda path: None)
        self._kept = kept or (lambda names, paths: {})
        self.blank_rows = 0
        self._captions: CaptionRows | None = None
        self._number = 0
        self.manifest: Manifest | None = None
        self.stored = StoredRows()
        self.dtype = dtype or "float16"
        self.kind = IMAGES
        self._journals()

    def __enter__(self) -> IndexWriter:
        """Raises IndexBusy, Unwritable, or IndexMismatch where the index was made by something else."""
        if self.folder.exists() and not self.folder.is_dir():
            raise Unwritable(f"{shown_path(self.folder)}: is a file, and an index is a folder")
        with writing(self.folder):
            _refuse_foreign(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.__enter__()
        try:
            self._read_state()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for journal in (self.journal, self.caption_journal):
                with contextlib.suppress(OSError):
                    journal.close()
            # Empty ones of a process that was killed while it removed them, too.
            for folder in (self.journal.folder, self.caption_journal.folder, self.folder / "journal"):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if kind is not None:
                self._sweep()
        finally:
            self._lock.__exit__(kind, error, trace)

    def caption_rows(self) -> CaptionRows | None:
        """The captions of the index as it stands."""
        if self.manifest is None or self.manifest.captions is None:
            return None
        if self._captions is None:
            table = self.folder / self.manifest.captions.table
            self._captions = CaptionRows.read(table, self.manifest.caption_files)
        return self._captions

    def captions_before(self) -> CaptionRows | None:
        """The captions of the current index, of one that is to be made anew, too; None where it has none.

        Raises:
            BrokenIndex: They can't be read.
        """
        if self.manifest is not None or self._current is None or self._current.captions is None:
            return self.caption_rows()
        return CaptionRows.read(self.folder / self._current.captions.table, self._current.caption_files)

    def require_kind(self, kind: str) -> None:
        """Refuse rows whose embeddings are of something else than this index's.

        Raises:
            IndexMismatch: Names both kinds.
        """
        if kind != self.kind:
            raise IndexMismatch(f"index {shown_path(self.folder)}: holds embeddings of {self.kind}, not of {kind}")

    @property
    def must_commit(self) -> bool:
        """Whether the index is to be written even where nothing changed: it is damaged, or of the first format."""
        return self.manifest is not None and (bool(self._damaged) or self.manifest.format < FORMAT)

    @property
    def mends(self) -> list[str]:
        """Names of the files that are damaged and will be made anew from a table."""
        return sorted(self._damaged)

    def commit(
        self,
        rows: ImageRows,
        source: np.ndarray,
        gone: np.ndarray,
        *,
        roots: list[str],
        captions: CaptionRows | None = None,
        factory: str | None = None,
        exclude: Sequence[str] = (),
        default_excludes: bool = True,
        keep: Sequence[str] = (),
        shards: Mapping[str, tuple[int, int]] | None = None,
        compact: bool = False,
        tables: Sequence[StoredPiece] = (),
    ) -> Manifest:
        """Put a new generation in place.

        Args:
            rows: That are new, or other than before. Those that come from the journal need only path, size and mtime.
            source: (n,) int64: id in `stored` that has the embedding, or -1: it is in the journal.
            gone: (m,) int64: ids of `stored` that leave, those among them that `rows` has anew.
            roots: For the manifest.
            captions: All captions; the embeddings of those not in the current table are in the caption journal.
            factory: FAISS factory string, or None for the automatic choice.
            exclude, default_excludes: For the manifest: what was left out.
            keep: Columns that are carried along, see `ImageRows.kept`: pieces that have others, which are not wanted
                any more, are written anew; those that lack some stay as they are.
            shards: For the manifest: tar files whose images all have rows, with their size and time of change.
            compact: Join all pieces.
            tables: Further sources of embeddings: `source` counts their rows on, behind those of `stored`. The journals
                then stay for the run that they belong to.

        Raises:
            Unwritable: A full disk; the current generation and the journal stay.
        """
        with writing(self.folder):
            self._number = before = self._highest_generation()
            identity = self._merged_identity()
            writer = PieceWriter(self.folder, identity, self.dtype, self.home(), self.kind, self._next_number, keep)
            pieces, places, ids = self._next_pieces(writer, rows, source, gone, compact, tables)
            pieces = self._with_lists(writer, pieces, factory, ids)
            next_captions = self._next_captions(writer, captions, places, factory)
            manifest = Manifest(
                generation=max(self._number, before + 1),
                identity=identity,
                store_dtype=self.dtype,
                home=self.home(),
                roots=roots,
                pieces=pieces,
                captions=next_captions,
                caption_files=captions.files if captions else [],
                written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                version=__version__,
                factory=factory,
                exclude=list(exclude),
                default_excludes=default_excludes,
                keep=list(keep),
                shards={path: list(stamp) for path, stamp in sorted((shards or {}).items())},
                kind=self.kind,
            )
            self._unlink_stable_names()
            if (self.folder / NAME).is_dir():
                put_away(self.folder / NAME)
            manifest.write(self.folder)
        self.manifest = self._current = manifest
        # From here on the new generation stands; what can't be removed now, the next writer removes.
        if not tables:
            self.journal.clear()
            self.caption_journal.clear()
        self._sweep()
        return manifest

    def _next_pieces(
        self,
        writer: PieceWriter,
        rows: ImageRows,
        source: np.ndarray,
        gone: np.ndarray,
        compact: bool,
        tables: Sequence[StoredPiece],
    ) -> tuple[list[Piece], _Places, np.ndarray]:
        """The pieces of the next generation, where its images are, and the id before of each row of the new piece,
        which is the last (-1: it had none)."""
        here, dead = self.stored.placed(gone)
        left = [len(piece) - int((here == number).sum()) for number, piece in enumerate(self.stored.pieces)]
        taken = self._pieces_to_join(left, len(rows), here, compact, writer.keep)
        remaining = np.ones(len(self.stored), bool)
        remaining[gone] = False
        parts, sources = [rows], [source]
        kept = []
        for number, piece in enumerate(self.stored.pieces):
            ids = np.arange(self.stored.first[number], self.stored.first[number + 1])
            ids = ids[remaining[ids]]
            if number in taken:
                if len(ids):
                    parts.append(self.stored.rows(ids))
                    sources.append(ids)
            else:
                kept.append(piece.entry.without(np.union1d(piece.deleted, dead[here == number])))
        joined, from_where = rows if len(parts) == 1 else ImageRows.joined(parts), np.concatenate(sources)
        new = None
        if len(joined):
            order = joined.in_order()
            joined, from_where = joined.take(order), from_where[order]
            sources_of_vectors = StoredRows([*self.stored.pieces, *tables]) if tables else self.stored
            new = writer.write_images(joined, from_where, sources_of_vectors, self.journal)
        places = _Places(self.stored, remaining, taken, joined, new)
        return [*kept, *([new] if new else [])], places, np.where(from_where < len(self.stored), from_where, -1)

    def _pieces_to_join(
        self, left: list[int], new: int, here: np.ndarray, compact: bool, keep: Sequence[str]
    ) -> set[int]:
        """Which pieces are written anew together with `new` rows; `left` is how many rows of each remain."""
        pieces = self.stored.pieces
        taken = {
            number
            for number, piece in enumerate(pieces)
            if (compact and (len(pieces) > 1 or len(piece.deleted) or (here == number).any() or new))
            or left[number] == 0
            or piece.from_table
            or not set(piece.entry.keep) <= set(keep)
            or 4 * left[number] < 3 * piece.entry.rows
            or (left[number] <= SMALL_PIECE and (new or left[number] < piece.entry.rows))
        }
        size = new + sum(left[number] for number in taken)
        for number in sorted(set(range(len(pieces))) - taken, key=left.__getitem__):
            few_enough = len(pieces) - len(taken) < MOST_PIECES
            if not size or (left[number] >= 2 * size and few_enough):
                break
            taken.add(number)
            size += left[number]
        return taken

    def _with_lists(
        self, writer: PieceWriter, pieces: list[Piece], factory: str | None, ids: np.ndarray
    ) -> list[Piece]:
        """The pieces, each with the index over its vectors that the rule, or the user, wants; `ids` as `_next_pieces`
        gives them."""
        total = sum(piece.rows for piece in pieces)
        same = self.manifest is not None and self.manifest.factory == factory
        known = {piece.entry.table for piece in self.stored.pieces} if same else set()
        none = np.empty(0, np.int64)
        made = []
        for piece in pieces:
            choice = choose_for_piece(piece.rows, total, self.identity.dimension, self.dtype, factory)
            stays = piece.table in known and (piece.lists is not None) == (choice.factory is not None)
            if not stays and same and choice.factory is not None:
                is_new = piece.table not in known
                made.append(writer.with_lists(piece, choice, self._lists_that_stand(ids if is_new else none)))
            else:
                made.append(piece if stays else writer.with_lists(piece, choice))
        return made

    def _lists_that_stand(self, ids: np.ndarray) -> list[ListSource]:
        """The lists of the index as it stands, for a piece whose rows had these ids."""
        from bt_cli.store.list_file import ListSource

        new_rows = np.flatnonzero(ids >= 0)
        pieces, rows = self.stored.placed(ids[new_rows])
        found = []
        for number, piece in enumerate(self.stored.pieces):
            entry = piece.entry
            if entry.lists is not None and not piece.from_table:
                row_of = np.full(entry.rows, -1, np.int64)
                mine = pieces == number
                row_of[rows[mine]] = new_rows[mine]
                sums = sums_of(self.folder, entry)[entry.lists]
                found.append(ListSource(self.folder / entry.lists, entry, sums, row_of))
        return found

    def _next_captions(
        self, writer: PieceWriter, captions: CaptionRows | None, places: _Places, factory: str | None
    ) -> Piece | None:
        if captions is None:
            return None
        owners = places.of(captions.images)
        current = self.manifest.captions if self.manifest else None
        damaged = current is not None and bool(self._damaged & {*current.files()})
        if current is not None and captions is self._captions and not damaged and current.sums is not None:
            before = open_owners(self.folder, current, sums_of(self.folder, current)[current.owners or ""])
            return current if np.array_equal(before, owners) else writer.with_owners(current, owners)
        table = self.folder / current.table if current else None
        piece = writer.write_captions(captions, owners, table, self.caption_journal)
        choice = choose_for_piece(piece.rows, piece.rows, self.identity.dimension, self.dtype, factory)
        return writer.with_lists(piece, choice)

    def home(self) -> str:
        """The folder that relative paths start from."""
        return home_of(self.folder, self._current.home if self._current else None)

    def known_roots(self) -> list[str]:
        """The roots of the current index, one that is to be made anew included."""
        return list(self._current.roots) if self._current else []

    def paths_before(self) -> list[str]:
        """The paths of the images of an index that is to be made anew; none where they can't be read."""
        if self._current is None:
            return []
        try:
            return list(self._open_pieces(self._current).each_path())
        except (BtError, OSError):
            return []

    def _read_state(self) -> None:
        try:
            self._current = Manifest.read(self.folder)
        except (NoIndex, BrokenIndex):
            with contextlib.suppress(NoIndex, *([BrokenIndex] if self._rebuild else [])):
                self._current = Manifest.recovered(self.folder)
                self._damaged.add(NAME)
        except BtError:
            if not self._rebuild:
                raise
        self.manifest = None if self._rebuild else self._current
        if self.manifest is not None:
            self.manifest.identity.require(self.identity, f"index {shown_path(self.folder)}")
            self._require_dtype(self.manifest.store_dtype)
            self.dtype = self.manifest.store_dtype
            self._journals()
            self._sweep()
            repair = Repair(self.folder, self.home(), self._facts, self._next_number, self._kept)
            self._number = self._highest_generation()
            self.manifest = repair.whole(self.manifest, everything=self._verify)
            self._damaged |= repair.damaged
            self.blank_rows = repair.blank_rows
            self.stored = self._open_pieces(self.manifest)
        else:
            self._sweep()

    def _open_pieces(self, manifest: Manifest) -> StoredRows:
        return StoredRows(
            [
                StoredPiece(self.folder, piece, piece.sums is None or bool(self._damaged & {*piece.files()}))
                for piece in manifest.pieces
            ]
        )

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _unlink_stable_names(self) -> None:
        """Take away `images.parquet` and `vectors.faiss`, which name the piece of the generation before."""
        for name in STABLE_NAMES:
            if (self.folder / name).is_symlink():
                (self.folder / name).unlink()

    def _link_stable_names(self, manifest: Manifest) -> None:
        """Let `images.parquet` and `vectors.faiss` name the one piece, where there is one and nothing of it is
        deleted: what other programs open is the whole index, or is not there."""
        if len(manifest.pieces) != 1 or manifest.pieces[0].deleted:
            return
        for name, target in zip(STABLE_NAMES, (manifest.pieces[0].table, manifest.pieces[0].vectors), strict=True):
            with contextlib.suppress(OSError):  # some file systems have no links
                if not os.path.lexists(self.folder / name):
                    os.symlink(target, self.folder / name)

    def _journals(self) -> None:
        journals = self.folder / "journal"
        self.journal = Journal(journals / "images", image_schema(self.identity, self.dtype, self.home()))
        self.caption_journal = Journal(journals / "captions", caption_schema(self.identity, self.dtype, self.home()))

    def _require_dtype(self, stored: str) -> None:
        if self._wanted_dtype not in (None, stored):
            raise IndexMismatch(
                f"index {shown_path(self.folder)}: keeps {stored} embeddings, not {self._wanted_dtype}; "
                "leave --store-dtype out, or bt index --rebuild to encode everything again"
            )

    def _merged_identity(self) -> Identity:
        """What made the next generation: all precisions of the rows that stand already, of the journal's batches, an
        interrupted run's among them, and this run's."""
        current = self.manifest.identity if self.manifest else None
        precisions = dict.fromkeys(
            [
                *(current.precision.split("+") if current else []),
                *self.journal.precisions(),
                *self.caption_journal.precisions(),
                self.identity.precision,
            ]
        )
        return replace(current or self.identity, precision="+".join(precisions))

    def _generated(self) -> list[tuple[Path, int]]:
        """Files of any generation, each with its number."""
        if not self.folder.is_dir():
            return []
        found = ((path, GENERATED.fullmatch(path.name)) for path in self.folder.iterdir())
        return [(path, int(match[match.lastindex or 0])) for path, match in found if match is not None]

    def _highest_generation(self) -> int:
        current = self._current.generation if self._current else 0
        return max([current, *(number for _, number in self._generated())])

    def _sweep(self) -> None:
        """Remove the files that the manifest, as it stands on disk at this moment, does not name."""
        for path in self.folder.iterdir():
            if UNFINISHED_MANIFEST.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()
        try:
            manifest = Manifest.recovered(self.folder)
            keep = manifest.files()
            self._link_stable_names(manifest)
        except NoIndex:
            keep = set()
        except BtError:
            return  # a manifest that can't be understood: nothing is known to be superfluous
        for path, _ in self._generated():
            if path.name not in keep:
                with contextlib.suppress(OSError):
                    path.unlink()


def _refuse_foreign(folder: Path) -> None:
    """Refuse to begin an index among files that are not bt's; what an interrupted first run left behind is.

    Hidden files count for nothing: file managers leave theirs in any folder.

    Raises:
        Unwritable: Names the folder and one of its own for the index.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    if any(name in (NAME, "lock", "journal") for name in names):
        return
    own = (
        name in (BRIDGES, PARTS, *STABLE_NAMES) or name.startswith(".") or GENERATED.fullmatch(name) for name in names
    )
    if not all(own):
        raise Unwritable(
            f"{shown_path(folder)}: holds other files and no index; an index takes a folder of its own, as in "
            f"--index {shown_path(folder / FOLDER)}"
        )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of writing below `folder` into Unwritable."""
    try:
        yield
    except OSError as error:
        # Where there is no folder there is no index either, and nowhere to keep anything.
        kept = "; the index is as it was, and what was encoded is kept for the next run" if folder.is_dir() else ""
        raise Unwritable(f"{shown_path(folder)}: can't be written: {error.strerror or error}{kept}") from error
