"""Image folders: which files below a root are images, in one order, whatever the files are called."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from bt_cli.datasets.exclusion import IGNORE_FILE, Exclusion, RootRules
from bt_cli.datasets.folder_files import FolderFiles, SecondReader, folder_files
from bt_cli.datasets.passed_over import SPECIAL, PassedOver
from bt_cli.errors import NotFound
from bt_cli.files.image_format import HEAD, RAW_SUFFIXES, image_format
from bt_cli.files.plain_file import is_kernels, is_plain
from bt_cli.files.processors import processor_count
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.member import SUFFIXES, first_bytes, is_container, is_of_rows, open_container, read_member
from bt_cli.sources.tar_shard import shard_stamp
from bt_cli.sources.url_list import is_url_list, may_be_list, read_url_list
from bt_cli.sources.web_address import allowed_as, is_in_store, is_url

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".bmpf", ".cur", ".dds", ".dib", ".gif", ".heic", ".heics", ".heif",
    ".heifs", ".hif", ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".jxl", ".mpo", ".pam", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi",
    ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
}) | (RAW_SUFFIXES - {".raw"})
"""Suffixes (lower case) of the still-image formats that Pillow and this project's extra read: a file so called is taken
for an image."""

OTHER_SUFFIXES = frozenset({
    ".7z", ".aac", ".aae", ".avi", ".bin", ".bz2", ".c", ".cfg", ".conf", ".css", ".csv", ".db", ".dll", ".doc",
    ".docx", ".exe", ".flac", ".gz", ".h", ".htm", ".html", ".ini", ".java", ".js", ".json", ".jsonl", ".lock", ".log",
    ".lrcat", ".m4a", ".m4v", ".md", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".npy", ".npz", ".odt",
    ".ogg", ".ogv", ".opus", ".parquet", ".pdf", ".php", ".plist", ".pp3", ".ppt", ".pptx", ".ps", ".py", ".pyc",
    ".rar", ".rst", ".rtf", ".safetensors", ".sh", ".so", ".sql", ".sqlite", ".srt", ".svg", ".svgz", ".tar", ".tgz",
    ".toml", ".ts", ".tsv", ".ttf", ".txt", ".vtt", ".wav", ".webm", ".wma", ".wmv", ".xls", ".xlsx", ".xml", ".xmp",
    ".xz", ".yaml", ".yml", ".zip", ".zst",
})
# fmt: on
"""Suffixes (lower case) of files that are no images and need not be opened to know it."""

HASH_BLOCK = 1 << 20
LARGE_TREE = 20_000
"""Files found, beyond which a second process helps: one pays for its start in some 5,000."""
AHEAD = 4
"""Folders beside the one that is looked at, among which one is found for the second process."""

NUMBERED = re.compile(r"#\d+$")
"""What the second member of a name has behind it (`tar_shard.member_names`)."""


class ImageFile(NamedTuple):
    """A file that is taken for an image, as the file system tells of it; nothing of its content has been read."""

    path: str
    """Root and name joined, or an address on the web; bytes that are no UTF-8 stand as lone surrogates (`os.fsencode`
    gives the name back)."""
    size: int
    """Bytes; 0 for an image on the web, of which nothing is known before it is fetched."""
    mtime_ns: int
    """Time of the last change, nanoseconds since 1970; 0 for an image on the web."""

    @property
    def is_unknown(self) -> bool:
        """Whether it is known by its address alone, and will be first when it is fetched."""
        return not self.size and not self.mtime_ns and is_url(self.path)


KnownMembers = Callable[[ImageFile], "Iterable[ImageFile] | None"]


def find_images(
    roots: Iterable[str | os.PathLike[str]],
    *,
    exclusion: Exclusion | None = None,
    passed_over: PassedOver | None = None,
    on_error: Callable[[str, OSError], None] | None = None,
    known_members: KnownMembers | None = None,
) -> Iterator[ImageFile]:
    """Yield the images below `roots`, each real file path once, root after root.

    Within a root the order is that of the path's components compared as bytes: the same on every system. A root that
    is a file is taken whatever it is called; below a folder the suffix decides, or the first bytes where the suffix
    says nothing. A root that is a list of addresses (see `url_list`) gives the images on the web that it names, and an
    address itself; none is asked yet. What `exclusion` names is left out, hidden files and folders (a leading dot)
    among it; a root itself may be hidden. Links to folders are followed, each real folder is entered once and never
    through a link where it is found without one: loops end. Only plain files are opened: no pipes, devices, sockets,
    nothing below /proc or /sys.

    A tar file (`bt_cli.sources`), a root or in a folder, is gone into as a folder is: its members come as `x.tar/name`;
    so is a Parquet or Arrow file with a column of images: its rows come as `x.parquet/000000123`. What an address leads
    to may be fetched from where the address itself may be (`WebImage`).

    Args:
        roots: Folders and single files.
        exclusion: What to leave out; None: `DEFAULT_EXCLUDES` and hidden ones.
        passed_over: Counts what is not yielded.
        on_error: Told of each folder or link that can't be read (path, error), and of each line of a list that is no
            address; such a one is passed over. A tar file that is damaged is told, too, and its sound members come.
        known_members: Gives the images of a tar file that is known and unchanged, which then is not opened, or None.

    Raises:
        NotFound: A root does not exist. Checked for all roots before anything is yielded.
        Misuse: A `.btignore` that can't be understood.
    """
    found = find_runs(
        roots, exclusion=exclusion, passed_over=passed_over, on_error=on_error, known_members=known_members
    )
    return _each(found)


def find_runs(
    roots: Iterable[str | os.PathLike[str]],
    *,
    exclusion: Exclusion | None = None,
    passed_over: PassedOver | None = None,
    on_error: Callable[[str, OSError], None] | None = None,
    known_members: KnownMembers | None = None,
) -> Iterator[ImageFile | FolderFiles]:
    """As `find_images`, but that the images of a folder that holds nothing else come in one piece."""
    named = [os.fspath(root) for root in roots]
    for root in named:
        if not (os.path.exists(root) or is_url(root)):
            raise NotFound(f"{shown_path(root)}: no such file or folder")
    walk = _Walk(named, exclusion or Exclusion(), passed_over or PassedOver(), on_error or (lambda path, error: None))
    if known_members is not None:
        walk.known_members = known_members
    return walk.runs()


def _each(runs: Iterator[ImageFile | FolderFiles]) -> Iterator[ImageFile]:
    for found in runs:
        if isinstance(found, FolderFiles):
            yield from map(ImageFile._make, found.each())
        else:
            yield found


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
    try:
        with open(content, "rb", buffering=0) as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
    except NotADirectoryError:  # a path that leads into a container
        digest.update(read_member(content))
    return digest.hexdigest()


class _Walk:
    """One run over the roots; remembers which files were yielded and which real folders were entered."""

    def __init__(
        self,
        roots: list[str],
        exclusion: Exclusion,
        passed_over: PassedOver,
        on_error: Callable[[str, OSError], None],
    ) -> None:
        self.roots = roots
        self.exclusion = exclusion
        self.passed_over = passed_over
        self.on_error = on_error
        self.real_roots = [
            RootRules(os.path.realpath(root), exclusion) for root in dict.fromkeys(roots) if os.path.isdir(root)
        ]
        self.entered: set[tuple[int, int]] = set()
        self.known_members: KnownMembers = lambda shard: None
        self.named_files: set[str] = set()
        """Files that are roots themselves, absolute: they come at their own place, not again in their folder."""
        self.addresses: set[str] = set()
        """That were yielded."""
        self.files = 0
        """That came in runs."""
        self.second: SecondReader | None = None

    def runs(self) -> Iterator[ImageFile | FolderFiles]:
        """What is found, root after root."""
        try:
            yield from self._found()
        finally:
            if self.second is not None:
                self.second.close()

    def _found(self) -> Iterator[ImageFile | FolderFiles]:
        singles = [root for root in reversed(self.roots) if not (os.path.isdir(root) or is_url(root))]
        files = {os.path.abspath(root): root for root in singles}
        self.named_files = set(files)
        first_naming = set(files.values())
        for root in self.roots:
            if os.path.isdir(root):
                yield from self._below(root, RootRules(root, self.exclusion))
            elif is_in_store(root):
                yield from self._in_store(root)
            elif is_url(root) and (root.lower().endswith(SUFFIXES) or may_be_list(root)):
                yield from self._file_elsewhere(root)
            elif is_url(root):
                yield from self._address(root)
            elif root in first_naming and is_url_list(root):
                first_naming.discard(root)
                yield from self._listed(root)
            elif root in first_naming and (found := self._file(root)) is not None:
                first_naming.discard(root)
                if is_container(root):
                    yield from self._members(found, RootRules(root, self.exclusion))
                else:
                    yield found

    def _listed(self, path: str) -> Iterator[ImageFile]:
        """The images that a list of addresses names."""
        try:
            for listed in read_url_list(path):
                if listed.url is None:
                    self.on_error(listed.place, OSError(0, listed.reason))
                else:
                    yield from self._address(allowed_as(path, listed.url))
        except OSError as error:
            self.on_error(path, error)

    def _in_store(self, url: str) -> Iterator[ImageFile]:
        """The images below a folder of a store of objects, those that fit its wildcards, or the one that it is."""
        from bt_cli.sources.remote_file import RemoteFile, listed, remote_stat

        try:
            files = listed(url)
            if files is None:
                files = [RemoteFile(url, remote_stat(url))]
        except OSError as error:
            self.on_error(url, error)
            return
        for file in files:
            found = ImageFile(file.url, *file.stat)
            if is_container(file.url):
                yield from self._members(found, None)
            elif file.url == url and is_url_list(url):
                yield from self._listed(url)
            elif file.url != url and os.path.splitext(file.url)[1].lower() not in IMAGE_SUFFIXES:
                self.passed_over.add(file.url)
            elif file.url not in self.addresses:
                self.addresses.add(file.url)
                yield found

    def _file_elsewhere(self, url: str) -> Iterator[ImageFile]:
        """The images of a container on the web, those that a list there names, or the one that it is."""
        try:
            found = ImageFile(url, *shard_stamp(url))
        except OSError as error:
            self.on_error(url, error)
            return
        if is_container(url):
            yield from self._members(found, None)
        elif is_url_list(url):
            yield from self._listed(url)
        else:
            yield from self._address(url)

    def _address(self, url: str) -> Iterator[ImageFile]:
        if url not in self.addresses:
            self.addresses.add(url)
            yield ImageFile(url, 0, 0)

    def _below(self, folder: str, rules: RootRules) -> Iterator[ImageFile | FolderFiles]:
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in self.entered:
                return
            self.entered.add(identity)
            names_decide = not self.named_files and not rules.has_globs
            if names_decide and not is_kernels(status) and (run := self._run(folder)) is not None:
                self.files += len(run.sizes)
                rules.enter(folder, False)
                yield run
                return
            with os.scandir(folder) as entries:
                children = _in_order(entries)
        except OSError as error:
            self.on_error(folder, error)
            return
        rules.enter(folder, any(entry.name == IGNORE_FILE for entry in children))
        names_decide = not self.named_files and not rules.has_globs
        for place, entry in enumerate(children):
            found = self._by_name(entry) if names_decide else None
            if found is not None:
                yield found
            else:
                if names_decide and self.files > LARGE_TREE:
                    self._ask_ahead(children, place, rules)
                yield from self._child(entry, rules)

    def _run(self, folder: str) -> FolderFiles | None:
        """The images of a folder that holds nothing else."""
        if self.second is not None and self.second.was_asked(folder):
            return self.second.answer(folder)
        return folder_files(folder, IMAGE_SUFFIXES)

    def _ask_ahead(self, children: list[os.DirEntry[str]], place: int, rules: RootRules) -> None:
        """Have the second process look at every other one of the folders that come next."""
        if self.second is None:
            if processor_count() < 2:
                return
            self.second = SecondReader(IMAGE_SUFFIXES)
        for ahead in range(place + 1 + place % 2, min(place + 1 + AHEAD, len(children)), 2):
            entry = children[ahead]
            if not self.second.has_room:
                return
            try:
                if entry.is_dir(follow_symlinks=False) and not rules.excludes(entry.path, True):
                    self.second.ask(entry.path)
            except OSError:  # said when it is this one's turn
                continue

    def _by_name(self, entry: os.DirEntry[str]) -> ImageFile | None:
        """A plain file that its name makes an image, which most are; None for what needs a closer look."""
        stem, _, suffix = entry.name.rpartition(".")
        if not stem or stem[0] == "." or f".{suffix.lower()}" not in IMAGE_SUFFIXES:
            return None
        try:
            if not entry.is_file(follow_symlinks=False):
                return None
            status = entry.stat()
        except OSError:
            return None
        return None if is_kernels(status) else ImageFile(entry.path, status.st_size, status.st_mtime_ns)

    def _child(self, entry: os.DirEntry[str], rules: RootRules) -> Iterator[ImageFile | FolderFiles]:
        try:
            is_folder = entry.is_dir()
            through_link = is_folder and entry.is_symlink()
        except OSError as error:
            self.on_error(entry.path, error)
            return
        if rules.excludes(entry.path, is_folder):
            self.passed_over.excluded += not rules.is_own(entry.path)
        elif is_folder:
            if through_link and is_kernels(os.stat(entry.path)):
                self.passed_over.suffixes[SPECIAL] += 1
            elif not (through_link and self._found_anyway(entry.path)):
                yield from self._below(entry.path, rules)
        elif not self._is_named(entry.path):
            found = self._file(entry.path)
            if found is not None and is_container(entry.path):
                yield from self._members(found, rules)
            elif found is not None and _may_be_image(found):
                yield found
            elif found is not None and not rules.is_own(entry.path):
                self.passed_over.add(entry.path)

    def _is_named(self, path: str) -> bool:
        return bool(self.named_files) and os.path.abspath(path) in self.named_files

    def _found_anyway(self, link: str) -> bool:
        """Whether the folder behind a link lies below a root by its own name, with nothing left out on the way."""
        target = Path(os.path.realpath(link))
        for rules in self.real_roots:
            if str(target) == rules.root:
                return True
            if target.is_relative_to(rules.root):
                return not rules.excludes_below(str(target))
        return False

    def _members(self, shard: ImageFile, rules: RootRules | None) -> Iterator[ImageFile]:
        """The images in a container, by their paths in it; each is as old as the file."""
        known = self.known_members(shard)
        if known is not None:
            yield from known
            return
        try:
            opened = open_container(shard.path, asked_now=True)
        except OSError as error:
            self.on_error(shard.path, error)
            return
        images, others = 0, []
        for member in sorted(opened.members, key=lambda member: path_key(member.name)):
            found = ImageFile(allowed_as(shard.path, f"{shard.path}/{member.name}"), member.size, shard.mtime_ns)
            if rules is not None and rules.excludes_below(found.path):
                self.passed_over.excluded += 1
            elif member.size if is_of_rows(shard.path) else _may_be_image(found):
                images += 1
                yield found
            else:
                others.append(found.path)
        for path in others if images else [shard.path]:
            self.passed_over.add(path)
        if opened.damage is not None:
            self.on_error(shard.path, OSError(errno.EIO, f"shard {opened.damage}"))

    def _file(self, path: str) -> ImageFile | None:
        try:
            status = os.stat(path)
        except OSError as error:
            self.on_error(path, error)
            return None
        if not is_plain(status):
            self.passed_over.suffixes[SPECIAL] += 1
            return None
        return ImageFile(path, status.st_size, status.st_mtime_ns)


def _in_order(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """What a folder holds by name, compared as bytes; letters that all are ASCII compare alike as they are."""
    children = sorted(entries, key=attrgetter("name"))
    if "".join([entry.name for entry in children]).isascii():
        return children
    return sorted(children, key=lambda entry: os.fsencode(entry.name))


def _may_be_image(file: ImageFile) -> bool:
    suffix = os.path.splitext(NUMBERED.sub("", file.path))[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in OTHER_SUFFIXES or not file.size:
        return False
    return image_format(first_bytes(file.path, HEAD), suffix) is not None
