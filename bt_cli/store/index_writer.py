"""Writing an index folder: the lock, the journal of a run, and the step from one generation to the next.

A generation is a set of files with its number in their names. They are written and synced first; then the manifest
that names them takes the place of the old one in one step; only then do the old files go. Whatever instant a
process dies at, the manifest names a whole set. Files that no manifest names are swept up by the next writer.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from bt_cli.errors import BtError, IndexMismatch, NoIndex, Unwritable
from bt_cli.files.lock import WriterLock
from bt_cli.files.shown_path import shown_path
from bt_cli.store.embedding_table import caption_schema, image_schema
from bt_cli.store.generation import CaptionRows, GenerationFiles
from bt_cli.store.identity import Identity
from bt_cli.store.image_rows import ImageRows
from bt_cli.store.index_folder import FOLDER
from bt_cli.store.index_paths import home_of
from bt_cli.store.journal import Journal
from bt_cli.store.manifest import GENERATED, NAME, UNFINISHED_MANIFEST, Manifest
from bt_cli.version import __version__


class IndexWriter:
    """Holds the writers' lock of an index folder between `with` and its end.

    Attributes:
        manifest: Of the index as it stands, or None where there is none yet (or it is to be made anew).
        identity, dtype: What encodes, and in which precision embeddings are kept.
        journal, caption_journal: What interrupted runs encoded, and what this one does.
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: Identity, *, dtype: str | None = None, rebuild: bool = False
    ):
        self.folder = Path(folder)
        self.identity = identity
        self._wanted_dtype = dtype
        self._rebuild = rebuild
        self._lock = WriterLock(self.folder)
        self._current: Manifest | None = None
        self.manifest: Manifest | None = None
        self.dtype = dtype or "float16"
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
            if kind is not None:
                self._sweep()
        finally:
            self._lock.__exit__(kind, error, trace)

    def image_rows(self) -> ImageRows:
        """The rows of the index as it stands; none where there is none yet."""
        if self.manifest is None:
            return ImageRows.blank([])
        return ImageRows.read(self.folder / self.manifest.images.table)

    def caption_rows(self) -> CaptionRows | None:
        """The captions of the index as it stands."""
        if self.manifest is None or self.manifest.captions is None:
            return None
        return CaptionRows.read(self.folder / self.manifest.captions.table, self.manifest.caption_files)

    def commit(
        self,
        rows: ImageRows,
        from_table: np.ndarray,
        *,
        roots: list[str],
        captions: CaptionRows | None = None,
        factory: str | None = None,
        exclude: Sequence[str] = (),
        default_excludes: bool = True,
    ) -> Manifest:
        """Put a new generation in place.

        Args:
            rows: Of the new table, in the order of their paths. Those that come from the journal need only path,
                size and mtime.
            from_table: (n,) int64: row of the current table that has the embedding, or -1: it is in the journal.
            roots: For the manifest.
            captions: All captions; the embeddings of those not in the current table are in the caption journal.
            factory: FAISS factory string, or None for the automatic choice.
            exclude, default_excludes: For the manifest: what was left out.

        Raises:
            Unwritable: A full disk; the current generation and the journal stay.
        """
        with writing(self.folder):
            identity = self._merged_identity()
            files = GenerationFiles(self.folder, self._highest_generation() + 1, identity, self.dtype, factory)
            current = self.manifest
            image_table = self.folder / current.images.table if current else None
            images = files.write_images(rows, image_table, from_table, self.journal)
            caption_entry = None
            if captions is not None:
                caption_table = self.folder / current.captions.table if current and current.captions else None
                caption_entry = files.write_captions(captions, rows.paths, caption_table, self.caption_journal)
            manifest = Manifest(
                generation=files.number,
                identity=identity,
                store_dtype=self.dtype,
                home=self.home(),
                roots=roots,
                images=images,
                captions=caption_entry,
                caption_files=captions.files if captions else [],
                written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                version=__version__,
                factory=factory,
                exclude=list(exclude),
                default_excludes=default_excludes,
            )
            manifest.write(self.folder)
        self.manifest = self._current = manifest
        # From here on the new generation stands; what can't be removed now, the next writer removes.
        self.journal.clear()
        self.caption_journal.clear()
        with contextlib.suppress(OSError):
            (self.folder / "journal").rmdir()
        self._sweep()
        return manifest

    def home(self) -> str:
        """The folder that relative paths start from."""
        return home_of(self.folder, self._current.home if self._current else None)

    def known_roots(self) -> list[str]:
        """The roots of the current index, one that is to be made anew included."""
        return list(self._current.roots) if self._current else []

    def _read_state(self) -> None:
        try:
            self._current = Manifest.read(self.folder)
        except NoIndex:
            pass
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

    def _journals(self) -> None:
        journals = self.folder / "journal"
        self.journal = Journal(journals / "images", image_schema(self.identity, self.dtype))
        self.caption_journal = Journal(journals / "captions", caption_schema(self.identity, self.dtype))

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
            keep = Manifest.read(self.folder).files()
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
    own = (name == "bridges" or name.startswith(".") or GENERATED.fullmatch(name) for name in names)
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
        raise Unwritable(
            f"{shown_path(folder)}: can't be written: {error.strerror or error}; the index is as it was, and what was "
            "encoded is kept for the next run"
        ) from error
