"""The manifest of an index folder: which files are the index at this instant, and what made them.

Format 2: the images lie in pieces, each a set of files that is written once; what was deleted from a piece since is
a list of row numbers in the manifest. Format 1 had one piece and no checksums. A manifest proves itself by its own
checksum, and a twin of it lies beside it under the generation's number.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.embeddings.identity import Identity
from bt_cli.errors import BrokenIndex, BtError, IndexMismatch, NoIndex
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.block_sums import WAY_OUT, checksum
from bt_cli.files.json_object import read_json_object
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import numpy as np

GENERATED = re.compile(
    r"(?:(?:images|captions)-(\d{6,})\.parquet|(?:vectors|caption-vectors|unsorted|lists|caption-lists)-(\d{6,})\.faiss"
    r"|(?:paths|texts)-(\d{6,})\.bin|caption-images-(\d{6,})\.npy|(?:sums|caption-sums)-(\d{6,})\.bin"
    r"|manifest-(\d{6,})\.json)",
    re.ASCII,
)
"""The whole names of a generation's files, a group with its number; nothing else in an index folder is removed,
but for what a stopped writer left of a manifest."""

UNFINISHED_MANIFEST = re.compile(r"\.manifest(?:-\d{6,})?\.json\.[a-z0-9_]{8}\.part", re.ASCII)
"""The whole name of a manifest in the making (`atomic_write.open_whole`); under the writers' lock, of one given up."""


FORMAT = 2
IMAGES, PAIRS, MIXED = "images", "pairs", "mixed"
"""What an image's embedding is of: the image; the image with its captions; these where it has some, else the image."""
NAME = "manifest.json"
MOST_EFFORT = 1 << 31
"""Lists or links that a search may be told to look at: more than any index has."""


@dataclass(frozen=True)
class Piece:
    """One set of files: some of the images, or the captions."""

    rows: int
    """Those that were deleted since included."""
    table: str
    """Parquet file with the embeddings."""
    vectors: str
    """FAISS file: flat, but that format 1 had approximate ones here."""
    strings: str
    """String table: the images' paths or the captions' texts."""
    kind: str = "exact"
    """`exact`, or the factory string of an approximate index."""
    reason: str = ""
    """Why that kind, in words."""
    search: dict[str, Any] = field(default_factory=dict)
    """What the search of an approximate index was tuned to (`nprobe` or `efSearch`, the recall that was measured)."""
    owners: str | None = None
    """Captions: file with the piece and row of each one's image (int64, -1 for none; format 1: the row)."""
    lists: str | None = None
    """FAISS file of an approximate index over the vectors."""
    sums: str | None = None
    """File with the block sums of the others (`block_sums`); None: format 1."""
    sums_checksum: str = ""
    deleted: str = ""
    """Rows that were deleted: base64 of zlib of the differences from one to the next, uint32, little endian."""
    keep: list[str] = field(default_factory=list)
    """Columns that the table carries along (see `kept_columns`), in its order."""

    def files(self) -> list[str]:
        """Names of all its files."""
        return [*self.summed(), *([self.sums] if self.sums else [])]

    def summed(self) -> list[str]:
        """Names of the files that have block sums, in the order of these."""
        return [name for name in (self.table, self.vectors, self.strings, self.owners, self.lists) if name]

    @property
    def number(self) -> int:
        """What `owners` and file names call it."""
        match = GENERATED.fullmatch(self.table)
        assert match is not None
        return int(match[match.lastindex or 0])

    def deleted_rows(self) -> np.ndarray:
        """Rows that were deleted, (n,) int64, ascending. Raises ValueError where they can't be."""
        import numpy as np

        if not self.deleted:
            return np.empty(0, np.int64)
        steps = zlib.decompress(base64.b64decode(self.deleted.encode("ascii"), validate=True))
        rows = np.cumsum(np.frombuffer(steps, "<u4").astype(np.int64)) - 1
        if len(rows) and not (rows[0] >= 0 and rows[-1] < self.rows and (np.diff(rows) > 0).all()):
            raise ValueError("deleted rows that are none")
        return rows

    def without(self, rows: np.ndarray) -> Piece:
        """The piece with exactly these rows (ascending) deleted."""
        import numpy as np

        steps = np.diff(rows, prepend=-1).astype("<u4").tobytes()
        return replace(self, deleted=base64.b64encode(zlib.compress(steps, 1)).decode("ascii") if len(rows) else "")

    def check(self) -> None:
        """Raises ValueError, with the field's name, where a value can't be one that bt writes."""
        _check("rows", _is_count(self.rows))
        for name in ("table", "vectors", "strings", "owners", "lists", "sums"):
            value = getattr(self, name)
            named = isinstance(value, str) and GENERATED.fullmatch(value) is not None
            _check(name, named or (name in ("owners", "lists", "sums") and value is None))
        for name in ("kind", "reason", "sums_checksum", "deleted"):
            _check(name, isinstance(getattr(self, name), str))
        _check("keep", _are_texts(self.keep))
        _check("search", isinstance(self.search, dict) and all(_fits(*item) for item in self.search.items()))
        self.deleted_rows()


@dataclass(frozen=True)
class Manifest:
    """What an index folder holds. A new generation is a new set of files and then a new manifest, in one step."""

    generation: int
    identity: Identity
    store_dtype: str
    """`float16` or `float32`."""
    home: str
    """The folder that relative paths start from, when the index was written: the one above the index folder (see
    `home.home_of`)."""
    roots: list[str]
    """What was indexed: relative to `home` where below it, else absolute. Surrogates stand for bytes that are no
    UTF-8."""
    pieces: list[Piece]
    """Of the images."""
    captions: Piece | None = None
    caption_files: list[str] = field(default_factory=list)
    written: str = ""
    """When, ISO 8601, UTC."""
    version: str = ""
    """Of bt."""
    factory: str | None = None
    """The factory string that the user asked for, kept for later updates."""
    exclude: list[str] = field(default_factory=list)
    """The globs of what the user wants left out (see `datasets.exclusion`), kept for later updates."""
    default_excludes: bool = True
    """Whether hidden files, other programs' thumbnails and the like are left out, too."""
    shards: dict[str, list[int]] = field(default_factory=dict)
    """Tar files that images lie in, as stored, to [size, time of change in ns]: one that has both still, and of which
    every image has its row, need not be opened."""
    keep: list[str] = field(default_factory=list)
    """Columns of the images' sources that the user wants carried along, kept for later updates."""
    kind: str = IMAGES
    """What the images' embeddings are of: `images`, `pairs` or `mixed`."""
    format: int = FORMAT
    """Of the folder as it was read."""

    @property
    def rows(self) -> int:
        """Number of images."""
        return sum(piece.rows - len(piece.deleted_rows()) for piece in self.pieces)

    @property
    def largest(self) -> Piece | None:
        """The piece with the most images."""
        return max(self.pieces, key=lambda piece: piece.rows, default=None)

    def all_pieces(self) -> list[Piece]:
        """Of the images and of the captions."""
        return [*self.pieces, *([self.captions] if self.captions else [])]

    def files(self) -> set[str]:
        """Names of all files of this generation, the manifest's twin included."""
        return {self.twin, *(name for piece in self.all_pieces() for name in piece.files())}

    @property
    def twin(self) -> str:
        """Name of the second copy."""
        return f"manifest-{self.generation:06d}.json"

    def check(self) -> None:
        """Raises ValueError, with the field's name, where a value can't be one that bt writes."""
        _check("generation", _is_count(self.generation))
        _check("store_dtype", self.store_dtype in ("float16", "float32"))
        for name in ("home", "written", "version"):
            _check(name, isinstance(getattr(self, name), str))
        for name in ("roots", "caption_files", "exclude", "keep"):
            _check(name, _are_texts(getattr(self, name)))
        stamps = self.shards.items() if isinstance(self.shards, dict) else [("", None)]
        _check("shards", all(isinstance(stamp, list) and [*map(type, stamp)] == [int, int] for _, stamp in stamps))
        _check("kind", self.kind in (IMAGES, PAIRS, MIXED))
        _check("default_excludes", isinstance(self.default_excludes, bool))
        _check("factory", self.factory is None or isinstance(self.factory, str))
        for piece in self.all_pieces():
            piece.check()

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Make this the folder's manifest in one step, its twin first.

        Raises:
            Unwritable: The folder can't be written.
        """
        fields = {**asdict(self), "format": FORMAT}
        # ASCII: a lone surrogate in a path is kept as its escape.
        text = json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"
        write_whole(Path(folder) / self.twin, text)
        write_whole(Path(folder) / NAME, text)

    @classmethod
    def read(cls, folder: str | os.PathLike[str], name: str = NAME) -> Manifest:
        """The manifest of an index folder.

        Raises:
            NoIndex: There is none.
            IndexMismatch: It was written by a later version of bt, in a format that this one does not know.
            BrokenIndex: It can't be understood.
        """
        path = Path(folder) / name
        try:
            fields = read_json_object(path, BrokenIndex, missing_error=NoIndex)
        except NoIndex:
            raise NoIndex(f"{shown_path(folder)}: no index here; bt index FOLDER makes one") from None
        except BrokenIndex as error:
            raise BrokenIndex(f"{error}; {WAY_OUT}") from None
        return cls._from_dict(fields, path)

    @classmethod
    def recovered(cls, folder: str | os.PathLike[str]) -> Manifest:
        """The manifest, or where it is damaged or missing the latest second copy whose files are all there.

        Raises:
            As `read`, of the manifest itself.
        """
        try:
            return cls.read(folder)
        except (BrokenIndex, NoIndex):
            twins = []
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.startswith("manifest-") and GENERATED.fullmatch(name):
                    with contextlib.suppress(BtError):
                        manifest = cls.read(folder, name)
                        if name == manifest.twin and all((Path(folder) / file).exists() for file in manifest.files()):
                            twins.append(manifest)
            if not twins:
                raise
            return max(twins, key=lambda manifest: manifest.generation)

    @classmethod
    def _from_dict(cls, fields: Any, path: Path) -> Manifest:
        written = fields.get("format") if isinstance(fields, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise IndexMismatch(
                f"{shown_path(path)}: index format {written}, and this bt knows {FORMAT}: a later bt wrote it"
            )
        try:
            fields = dict(fields)
            if fields["format"] == FORMAT and fields.pop("checksum") != _checksum(fields):
                raise ValueError("damaged")
            captions = fields.pop("captions")
            pieces = fields.pop("pieces") if fields["format"] == FORMAT else [fields.pop("images")]
            manifest = cls(
                identity=Identity.from_dict(fields.pop("identity")),
                pieces=[Piece(**piece) for piece in pieces],
                captions=Piece(**captions) if captions else None,
                **fields,
            )
            manifest.check()
            return replace(
                manifest,
                home=_here(manifest.home),
                roots=[_here(path) for path in manifest.roots],
                caption_files=[_here(path) for path in manifest.caption_files],
                shards={_here(path): stamp for path, stamp in manifest.shards.items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error, BrokenIndex) as error:
            raise BrokenIndex(f"{shown_path(path)}: {shown_path(str(error)[:100])}; {WAY_OUT}") from error


def _checksum(fields: dict[str, Any]) -> str:
    """Of what a manifest says, however it is laid out."""
    return checksum(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii"))


def _here(path: str) -> str:
    """A path as the file system functions of this process take it: the writer's locale may have been another."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _fits(name: str, value: Any) -> bool:
    """Whether a number is one that a search can be tuned to: FAISS takes what it gets."""
    if name in ("nprobe", "efSearch"):
        return _is_count(value) and 0 < value <= MOST_EFFORT
    if name == "recall":
        return isinstance(value, (int, float)) and 0 <= value <= 1  # which no NaN is
    return _is_count(value)


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"no {name} that bt writes")
