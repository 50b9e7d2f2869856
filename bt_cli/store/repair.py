"""What a writer does about damaged files of an index: each piece is made whole from what proves itself, or refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bt_cli.embeddings.embedding_table import read_embeddings
from bt_cli.errors import BtError
from bt_cli.paths.index_paths import RootPaths
from bt_cli.paths.string_table import StringTable
from bt_cli.store.index_folder import ROW_BITS
from bt_cli.store.manifest import Manifest, Piece
from bt_cli.store.piece import damages, open_owners, sums_of
from bt_cli.store.table_mending import Facts, KeptOf, TableMending

CHECKED_BYTES = 1 << 30
"""An index of so many bytes is read from end to end by every writer, which takes a fifth of a second; a larger one when
it is asked to verify."""


class Repair:
    """Looks for files that are not what was written.

    Args:
        folder: The index folder, locked.
        home: The folder that relative paths start from.
        facts: Of the image at an absolute path, see `table_mending`.
        number: Gives the next number for names of files.
        kept: Of images at absolute paths, see `table_mending`.

    Attributes:
        damaged: Names of the files of every piece that is made anew.
        blank_rows: Images of which nothing is known any more but path and embedding.
    """

    def __init__(
        self, folder: Path, home: str, facts: Facts, number: Callable[[], int], kept: KeptOf | None = None
    ) -> None:
        self.folder = folder
        self.paths = RootPaths(home)
        self.facts = facts
        self.number = number
        self.kept = kept or (lambda names, paths: {})
        self.damaged: set[str] = set()
        self.blank_rows = 0

    def whole(self, manifest: Manifest, *, everything: bool = False) -> Manifest:
        """The manifest with mended tables in the place of damaged ones; large indexes are looked at with `everything`.

        Raises:
            BrokenIndex: A table is damaged, and what it would be mended from as well.
        """
        if not everything and self._bytes(manifest) > CHECKED_BYTES:
            return manifest
        pieces = [self._whole_piece(manifest, piece) for piece in manifest.pieces]
        captions = self._whole_piece(manifest, manifest.captions) if manifest.captions else None
        return replace(manifest, pieces=pieces, captions=captions)

    def _whole_piece(self, manifest: Manifest, piece: Piece) -> Piece:
        """A piece whose table is whole: what else is damaged is made anew from that."""
        wrong = list(damages(self.folder, piece))
        if not wrong:
            return piece
        if piece.sums is None:
            raise wrong[0]
        self.damaged |= {*piece.files()}
        of_table = [error for error in wrong if piece.table in str(error)]
        mended = piece
        if of_table:
            try:
                mended = self._with_mended_table(manifest, piece)
            except (BtError, FileNotFoundError):
                raise of_table[0] from None
        else:
            for _ in read_embeddings(self.folder / piece.table):
                pass  # page by page, each with a checksum: the table's block sums may be what is damaged
        for name in piece.files():
            if (self.folder / name).is_dir():
                put_away(self.folder / name)
        return mended

    def _with_mended_table(self, manifest: Manifest, piece: Piece) -> Piece:
        """The piece with a table under a new name, which the next generation is made from and then goes."""
        mending = TableMending(self.folder, manifest, piece)
        name = f"{'captions' if piece.owners else 'images'}-{self.number():06d}.parquet"
        if piece.owners is None:
            self.blank_rows += mending.images(
                self.folder / name,
                lambda path: self.facts(self.paths.absolute(path)),
                lambda names, paths: self.kept(names, [self.paths.absolute(path) for path in paths]),
            )
            return replace(piece, table=name)
        paths = {
            image.number: StringTable(self.folder / image.strings, sums_of(self.folder, image)[image.strings])
            for image in manifest.pieces
        }

        def image_of(owner: int) -> str | None:
            return None if owner < 0 else os.fsdecode(paths[owner >> ROW_BITS][owner & ((1 << ROW_BITS) - 1)])

        owners = open_owners(self.folder, piece, sums_of(self.folder, piece)[piece.owners])
        mending.captions(self.folder / name, image_of, owners)
        return replace(piece, table=name)

    def _bytes(self, manifest: Manifest) -> int:
        total = 0
        for name in manifest.files():
            with contextlib.suppress(OSError):
                total += (self.folder / name).stat().st_size
        return total


def put_away(path: Path) -> None:
    """Give a folder that stands where a file belongs another name: it may be somebody's."""
    for number in range(1, 1000):
        target = path.with_name(f"{path.name}.folder-{number}")
        if not target.exists():
            os.rename(path, target)
            return
