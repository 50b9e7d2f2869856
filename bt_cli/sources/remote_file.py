"""Files elsewhere, read in parts: on the web, and in stores of objects (S3, Google's, the hub) through fsspec; and
written, whole, to such a store.

The web goes by our own bounded client (`web_image`); a store by its fsspec file system, with the credentials and
settings that this finds in the environment (AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
import threading
import zlib
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import IO, Any, BinaryIO, NamedTuple

from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.sources.remote_copy import COPY
from bt_cli.sources.web_address import is_in_store
from bt_cli.sources.web_image import Fetched, fetch_part

AHEAD = 4 << 20
"""Bytes that are asked for at a time where a file is read from its beginning on."""
_WHOLE_INFO: dict[str, dict[str, Any]] = {"hf": {"expand_info": True, "refresh": True}}
"""What a file's info is to be asked for with: the hub's has no id of the content else, or an old one."""
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


class RemoteStat(NamedTuple):
    """What is known of a file elsewhere without reading it."""

    size: int
    """Bytes."""
    stamp_ns: int
    """When it was last changed, to the second, and in the nine digits behind it its ETag's checksum: whatever changes,
    this does. Nanoseconds since 1970, as a file's own."""


class RemoteFile(NamedTuple):
    """A file that a store lists."""

    url: str
    stat: RemoteStat


def remote_stat(url: str) -> RemoteStat:
    """Size and stamp of a file elsewhere.

    Raises:
        OSError: It is not there, or can't be reached; `strerror` is the reason.
        Misuse: A package for such addresses is not installed.
    """
    with _reasons():
        if is_in_store(url):
            system, path = _system(url)
            return _stat(system.info(path, **_WHOLE_INFO.get(url[:2].lower(), {})))
        return _web_stat(fetch_part(url, 0, 1))


def read_part(url: str, first: int, size: int, stat: RemoteStat | None = None) -> bytes:
    """`size` bytes of a file elsewhere, from `first` on; fewer at its end. Raises as `remote_stat`; of a file of the
    web also where it is no longer the version that `stat` is of."""
    if size <= 0:
        return b""
    if url in _copies:
        copy, lock = _copies[url]
        with lock:
            copy.seek(first)
            return copy.read(size)
    with _reasons():
        if is_in_store(url):
            system, path = _system(url)
            if url[:2].lower() == "hf":  # its own way would ask for the size again, and read ahead
                with system.open(path, "rb", size=first + size, cache_type="none") as file:
                    file.seek(first)
                    return bytes(file.read(size))
            return bytes(system.cat_file(path, start=first, end=first + size))
        found = fetch_part(url, first, size)
        if stat is not None and _web_stat(found) != stat:
            raise OSError(errno.EIO, "it was changed while it was read; run the command again")
        return found.content


def copied_part(url: str, stat: RemoteStat, first: int, size: int, *, ahead: bool = False) -> bytes:
    """As `read_part`, of the version that `stat` is of: what was read `ahead` is kept and found here again. Reading
    ahead may give fewer bytes, and gives some where there are any."""
    key = str(url), *stat
    size = min(size, stat.size - first)
    found: list[bytes] = []
    while size > 0:
        content, missing = COPY.find(key, first, size)
        if not content:
            content = read_part(url, first, min(missing, size), stat)
            if ahead:
                COPY.keep(key, first, content)
        found.append(content)
        first, size = first + len(content), size - len(content)
        if ahead or not content:
            break
    return b"".join(found)


def open_remote(url: str, stat: RemoteStat | None = None) -> BinaryIO:
    """A file elsewhere, open for reading and seeking, as it was when `stat` was asked for; it is asked for `AHEAD`
    bytes at a time, which are kept (see `remote_copy`). Raises as `remote_stat`."""
    return io.BufferedReader(_Parts(url, stat or remote_stat(url)), AHEAD)


def listed(url: str) -> list[RemoteFile] | None:
    """The files below a folder of a store, or those that fit an address with wildcards, in the order of their paths;
    None where the address is a file's.

    Raises:
        OSError: There is no such file or folder, or the store can't be reached.
    """
    with _reasons():
        system, path = _system(url)
        system.invalidate_cache()  # the hub's keeps listings, whatever it was opened with
        if any(letter in path for letter in "*?["):
            found = system.glob(path, detail=True)
        elif not url.endswith("/") and system.isfile(path):
            return None
        else:
            found = system.find(path, detail=True)
        files = {name: info for name, info in found.items() if info.get("type") != "directory"}
        if not files:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder")
        scheme = url[: url.index("://") + 3]
        return [
            RemoteFile(scheme + name, _stat(info))
            for name, info in sorted(files.items(), key=lambda item: item[0].encode("utf-8", "surrogateescape"))
        ]


_copies: dict[str, tuple[IO[bytes], threading.Lock]] = {}
"""What a file elsewhere is copied to, by its address."""


@contextlib.contextmanager
def copied_here(url: str) -> Iterator[None]:
    """Have a file elsewhere read from a copy, a temporary file, as long as the block lasts: it comes at one go from its
    beginning to its end, not in thousands of parts.

    Raises:
        OSError: As `remote_stat`; there is no room for the copy.
    """
    with tempfile.TemporaryFile() as copy:
        with open_remote(url) as source:
            while block := source.read(AHEAD):
                try:
                    copy.write(block)
                    copy.flush()
                except OSError as error:
                    place = tempfile.gettempdir()
                    raise OSError(error.errno, f"can't be copied to {place}: {error.strerror}") from error
        _copies[url] = copy, threading.Lock()
        try:
            yield
        finally:
            del _copies[url]


def write_remote(url: str, path: str | os.PathLike[str]) -> None:
    """Write a file of this machine to a store: there it is whole, or it is not there. Raises OSError."""
    with _reasons():
        system, target = _system(url)
        system.put_file(os.fspath(path), target)


def fetch_remote(url: str, path: str | os.PathLike[str]) -> None:
    """Copy a file of a store to this machine. Raises OSError, also where there is no room for it."""
    with _reasons():
        system, source = _system(url)
        system.get_file(source, os.fspath(path))


def remove_remote(url: str) -> None:
    """Remove a file from a store; one that is not there is none to remove. Raises OSError."""
    with _reasons(), contextlib.suppress(FileNotFoundError):
        system, target = _system(url)
        system.rm_file(target)


def require_store(url: str) -> None:
    """Raises Misuse where a package for such addresses is not installed."""
    _system(url)


class _Parts(io.RawIOBase):
    """A file elsewhere as a stream without a buffer: each read asks for a part that was not read before."""

    def __init__(self, url: str, stat: RemoteStat) -> None:
        self._url, self._stat, self._at = url, stat, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stat.size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = copied_part(self._url, self._stat, self._at, min(len(buffer), AHEAD), ahead=True)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a client raises as an OSError with its reason as `strerror`."""
    try:
        yield
    except BtError as error:
        if not isinstance(error, UnreadableImage):
            raise
        raise OSError(errno.EIO, str(error)) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such file or folder") from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, "not permitted to read it") from error
    except Exception as error:  # each store's client has exceptions of its own
        reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
        raise OSError(errno.EIO, reason[:200]) from error


def _system(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    scheme, _, path = url.partition("://")
    return _opened(scheme.lower()), path


@cache
def _opened(scheme: str) -> Any:
    try:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False}  # what changed meanwhile has to be seen
        if scheme == "s3":
            options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 2}}
        if scheme in ("gs", "gcs"):
            # What fsspec would take asks for every bucket's layout, by a service that needs an account, and says so.
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem(**options)
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        package = PACKAGES[scheme]
        raise Misuse(f"{scheme}:// needs {package}: pip install 'bridgetower[cloud]' ({error})") from error


def _web_stat(found: Fetched) -> RemoteStat:
    return RemoteStat(found.total, _stamp(found.modified_ns // 10**9, found.etag))


def _stat(info: dict[str, Any]) -> RemoteStat:
    names = ("LastModified", "last_modified", "updated", "mtime", "created")
    changed = next((info[name] for name in names if info.get(name) is not None), None)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    named = ("ETag", "etag", "blob_id", "oid", "generation", "md5Hash")
    etag = next((str(info[name]) for name in named if info.get(name) is not None), "")
    return RemoteStat(int(info["size"] or 0), _stamp(int(changed or 0), etag))


def _stamp(second: int, etag: str) -> int:
    return second * 10**9 + zlib.crc32(etag.encode("utf-8", "replace")) % 10**9 if etag else second * 10**9
