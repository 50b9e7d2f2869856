"""Image folders: which files below a root are images, in one order, whatever the files are called."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bt_cli.errors import NotFound
from bt_cli.files.shown_path import shown_path

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".bmpf", ".cur", ".dds", ".dib", ".gif", ".heic", ".heics", ".heif",
    ".heifs", ".hif", ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".mpo", ".pam", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga",
    ".tif", ".tiff", ".webp", ".xbm", ".xpm",
})
# fmt: on
"""Suffixes (lower case) of the still-image formats that Pillow reads, HEIC and AVIF included: a file so called is
taken for an image."""

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"8BPS", b"qoif")
"""First bytes that tell an image among files without a suffix (RIFF/WEBP and the ISO boxes are looked at apart)."""

HASH_BLOCK = 1 << 20


class ImageFile(NamedTuple):
    """A file that is taken for an image, as the file system tells of it; nothing of its content has been read."""

    path: str
    """Root and name joined; bytes that are no UTF-8 stand as lone surrogates (`os.fsencode` gives the name back)."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of the last change, nanoseconds since 1970."""


def find_images(
    roots: Iterable[str | os.PathLike[str]], *, on_error: Callable[[str, OSError], None] | None = None
) -> Iterator[ImageFile]:
    """Yield the images below `roots`, each real file path once, root after root.

    Within a root the order is that of the path's components compared as bytes: the same on every system. Hidden files
    and folders (a leading dot) are passed over, a root itself may be hidden. A root that is a file is taken whatever
    it is called; below a folder the suffix decides, or the first bytes where there is no suffix. Links to folders
    are followed, each real folder is entered once and never through a link where it is found without one: loops end.

    Args:
        roots: Folders and single files.
        on_error: Told of each folder or link that can't be read (path, error); such a one is passed over.

    Raises:
        NotFound: A root does not exist. Checked for all roots before anything is yielded.
    """
    named = [os.fspath(root) for root in roots]
    for root in named:
        if not os.path.exists(root):
            raise NotFound(f"{shown_path(root)}: no such file or folder")
    return _Walk(named, on_error or (lambda path, error: None)).images()


def path_key(path: str) -> tuple[bytes, ...]:
    """The key by which image paths are put in order: components as bytes, so that a folder's files stay together."""
    return tuple(os.fsencode(path).split(os.fsencode(os.sep)))


def content_hash(content: bytes | memoryview | str | os.PathLike[str]) -> str:
    """SHA-256 of an image file as 64 hex digits, as `sha256sum` prints it: of bytes, or of the file at a path.

    Raises:
        OSError: The file can't be read.
    """
    if isinstance(content, (bytes, memoryview)):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with open(content, "rb", buffering=0) as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Walk:
    """One run over the roots; remembers which files were yielded and which real folders were entered."""

    def __init__(self, roots: list[str], on_error: Callable[[str, OSError], None]) -> None:
        self.roots = roots
        self.on_error = on_error
        self.real_roots = [os.path.realpath(root) for root in roots if os.path.isdir(root)]
        self.entered: set[tuple[int, int]] = set()
        self.named_files: set[str] = set()
        """Files that are roots themselves, absolute: they come at their own place, not again in their folder."""

    def images(self) -> Iterator[ImageFile]:
        files = {os.path.abspath(root): root for root in reversed(self.roots) if not os.path.isdir(root)}
        self.named_files = set(files)
        first_naming = set(files.values())
        for root in self.roots:
            if os.path.isdir(root):
                yield from self._below(root)
            elif root in first_naming and (found := self._file(root)) is not None:
                first_naming.discard(root)
                yield found

    def _below(self, folder: str) -> Iterator[ImageFile]:
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in self.entered:
                return
            self.entered.add(identity)
            with os.scandir(folder) as entries:
                children = sorted(
                    ((os.fsencode(entry.name), entry) for entry in entries if not entry.name.startswith(".")),
                    key=lambda child: child[0],
                )
        except OSError as error:
            self.on_error(folder, error)
            return
        for _, entry in children:
            yield from self._child(entry)

    def _child(self, entry: os.DirEntry[str]) -> Iterator[ImageFile]:
        try:
            is_folder = entry.is_dir()
            through_link = is_folder and entry.is_symlink()
        except OSError as error:
            self.on_error(entry.path, error)
            return
        if is_folder:
            if not (through_link and self._found_anyway(entry.path)):
                yield from self._below(entry.path)
        elif _may_be_image(entry.path) and not self._is_named(entry.path):
            found = self._file(entry.path)
            if found is not None:
                yield found

    def _is_named(self, path: str) -> bool:
        return bool(self.named_files) and os.path.abspath(path) in self.named_files

    def _found_anyway(self, link: str) -> bool:
        """Whether the folder behind a link lies below a root by its own name, with nothing hidden on the way."""
        target = Path(os.path.realpath(link))
        for root in self.real_roots:
            if target.is_relative_to(root):
                return not any(part.startswith(".") for part in target.relative_to(root).parts)
        return False

    def _file(self, path: str) -> ImageFile | None:
        try:
            status = os.stat(path)
        except OSError as error:
            self.on_error(path, error)
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return ImageFile(path, status.st_size, status.st_mtime_ns)


def _may_be_image(path: str) -> bool:
    suffix = os.path.splitext(path)[1]
    if suffix:
        return suffix.lower() in IMAGE_SUFFIXES
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            return False
        with open(path, "rb", buffering=0) as file:
            head = file.read(16)
    except OSError:
        return False
    boxes = head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"avis", b"jp2 ")
    return head.startswith(SIGNATURES) or boxes or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
