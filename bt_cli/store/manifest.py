"""The manifest of an index folder: which files are the index at this instant, and what made them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bt_cli.errors import BrokenIndex, IndexMismatch, NoIndex
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path
from bt_cli.store.identity import Identity

GENERATED = re.compile(
    r"(?:(?:images|captions)-(\d{6,})\.parquet|(?:vectors|caption-vectors|unsorted)-(\d{6,})\.faiss"
    r"|(?:paths|texts)-(\d{6,})\.bin|caption-images-(\d{6,})\.npy)",
    re.ASCII,
)
"""The whole names of a generation's files, a group with its number; nothing else in an index folder is removed,
but for what a stopped writer left of a manifest."""

UNFINISHED_MANIFEST = re.compile(r"\.manifest\.json\.[a-z0-9_]{8}\.part", re.ASCII)
"""The whole name of a manifest in the making (`atomic_write.open_whole`); under the writers' lock, of one given up."""


FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class VectorIndexEntry:
    """One searchable set of vectors (the images' or the captions')."""

    rows: int
    table: str
    """Parquet file with the embeddings."""
    vectors: str
    """FAISS file."""
    strings: str
    """String table: the images' paths or the captions' texts."""
    kind: str = "exact"
    """`exact`, or the factory string of an approximate index."""
    reason: str = ""
    """Why that kind, in words."""
    search: dict[str, Any] = field(default_factory=dict)
    """What the search of an approximate index was tuned to (`nprobe` or `efSearch`, the recall that was measured)."""
    owners: str | None = None
    """Captions: file with the row of each one's image (int64, -1 for none)."""

    def files(self) -> list[str]:
        """Names of all its files."""
        return [name for name in (self.table, self.vectors, self.strings, self.owners) if name]

    def check(self) -> None:
        """Raises ValueError, with the field's name, where a value can't be one that bt writes."""
        _check("rows", _is_count(self.rows))
        for name in ("table", "vectors", "strings", "owners"):
            value = getattr(self, name)
            named = isinstance(value, str) and GENERATED.fullmatch(value) is not None
            _check(name, named or (name == "owners" and value is None))
        _check("kind", isinstance(self.kind, str))
        _check("reason", isinstance(self.reason, str))
        numbers = isinstance(self.search, dict) and all(
            isinstance(value, (int, float)) for value in self.search.values()
        )
        _check("search", numbers)


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
    images: VectorIndexEntry
    captions: VectorIndexEntry | None = None
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

    def files(self) -> set[str]:
        """Names of all files of this generation."""
        return set(self.images.files()) | set(self.captions.files() if self.captions else [])

    def check(self) -> None:
        """Raises ValueError, with the field's name, where a value can't be one that bt writes."""
        _check("generation", _is_count(self.generation))
        _check("store_dtype", self.store_dtype in ("float16", "float32"))
        for name in ("home", "written", "version"):
            _check(name, isinstance(getattr(self, name), str))
        for name in ("roots", "caption_files", "exclude"):
            value = getattr(self, name)
            _check(name, isinstance(value, list) and all(isinstance(path, str) for path in value))
        _check("default_excludes", isinstance(self.default_excludes, bool))
        _check("factory", self.factory is None or isinstance(self.factory, str))
        for entry in (self.images, self.captions):
            if entry is not None:
                entry.check()

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Make this the folder's manifest in one step.

        Raises:
            Unwritable: The folder can't be written.
        """
        fields = {"format": FORMAT, **asdict(self)}
        # ASCII: a lone surrogate in a path is kept as its escape.
        write_whole(Path(folder) / NAME, json.dumps(fields, indent=1) + "\n")

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """The manifest of an index folder.

        Raises:
            NoIndex: There is none.
            IndexMismatch: It was written by a later version of bt, in a format that this one does not know.
            BrokenIndex: It can't be understood.
        """
        path = Path(folder) / NAME
        try:
            fields = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise NoIndex(f"{shown_path(folder)}: no index here; bt index FOLDER makes one") from None
        except OSError as error:
            raise NoIndex(f"{shown_path(path)}: can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise BrokenIndex(f"{shown_path(path)}: {error}; bt index --rebuild makes the index anew") from error
        return cls._from_dict(fields, path)

    @classmethod
    def _from_dict(cls, fields: Any, path: Path) -> Manifest:
        written_format = fields.get("format") if isinstance(fields, dict) else None
        if isinstance(written_format, int) and written_format > FORMAT:
            raise IndexMismatch(
                f"{shown_path(path)}: index format {written_format}, and this bt knows {FORMAT}: a later bt wrote it"
            )
        try:
            fields = dict(fields)
            fields.pop("format")
            captions = fields.pop("captions")
            manifest = cls(
                identity=Identity.from_dict(fields.pop("identity")),
                images=VectorIndexEntry(**fields.pop("images")),
                captions=VectorIndexEntry(**captions) if captions else None,
                **fields,
            )
            manifest.check()
            return replace(
                manifest,
                home=_here(manifest.home),
                roots=[_here(path) for path in manifest.roots],
                caption_files=[_here(path) for path in manifest.caption_files],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenIndex(f"{shown_path(path)}: {error}; bt index --rebuild makes the index anew") from error


def _here(path: str) -> str:
    """A path as the file system functions of this process take it: the writer's locale may have been another."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"no {name} that bt writes")
