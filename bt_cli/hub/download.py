"""Fetching a checkpoint from the hub into its cache: only the files needed, resumed where it broke off, checked.

The cache is that of `huggingface_hub`, so what `transformers` has downloaded is found here and the other way round.
The client itself starts each interrupted file anew; at 3.5 GB a file that is not good enough, so files arrive here
under a name of ours in the cache, survive an interruption, are compared with the hub's checksum, and only then take
their place.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_cli.errors import BtError, DownloadFailed, Offline, UnknownModel, Unwritable
from bt_cli.hub.hub_cache import (
    CONFIG,
    IMAGE_SETTINGS,
    TOKENIZER_FILES,
    cache_folder,
    cached_snapshot,
    has_processors,
    repo_folder,
)
from bt_cli.hub.hub_errors import is_connection_error, named_hub_error
from bt_cli.weight_files.tensor_files import choose_weights, shard_names

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

logger = logging.getLogger("bt_cli")

_BLOCK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it: `etag` is its SHA-256 if it lies in large-file storage, else its git object name.

    An empty `etag` means that the listing tells nothing but the name; the client fetches such a file in its own way.
    """

    name: str
    size: int
    etag: str


def find_on_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None, progress: Progress | None = None
) -> Path:
    """The folder of a hub checkpoint: the cached one, without asking the hub whether it changed, else downloaded.

    A checkpoint that is cached but lacks its processors' files is completed when the hub can be reached.
    """
    snapshot = cached_snapshot(repo_id, revision)
    if snapshot is not None and (is_offline() or has_processors(snapshot)):
        return snapshot
    if snapshot is None:
        return download(repo_id, revision=revision, token=token, progress=progress)
    try:
        return _downloaded(repo_id, revision, token, progress)
    except BtError:
        return snapshot


def is_offline() -> bool:
    """Whether the user told the hub's client to stay off the network (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`)."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub's address (`HF_ENDPOINT`)."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def download(
    repo_id: str, *, revision: str | None = None, token: str | None = None, progress: Progress | None = None
) -> Path:
    """Bring the newest state of a revision (default `main`) into the cache and return its folder.

    Files that are cached already are compared with the hub's sizes and checksums, and fetched again where they differ,
    else not. Where the hub can't be reached the cached folder has to do,
    with a remark. Raises `UnknownModel`, `Offline` (nothing is cached), `DownloadFailed` or `Unwritable`, each with the
    way out.
    """
    try:
        return _downloaded(repo_id, revision, token, progress)
    except Offline:
        cached = cached_snapshot(repo_id, revision)
        if cached is None:
            raise
        because = "HF_HUB_OFFLINE is set" if is_offline() else f"{endpoint()} can't be reached"
        logger.info("%s: %s, so this is what the cache has of it", repo_id, because)
        return cached


def _downloaded(repo_id: str, revision: str | None, token: str | None, progress: Progress | None) -> Path:
    if is_offline():
        raise Offline(
            f"{repo_id} is not in the cache ({cache_folder()}) and HF_HUB_OFFLINE forbids fetching it; "
            "use --model tiny, which is bundled, or go online once"
        )
    with in_our_words(repo_id, revision):
        return _Download(repo_id, revision, token, progress).run()


def fetch_tokenizer(repo_id: str) -> Path:
    """The folder of the cache with a repository's tokenizer files alone, fetched where they are not there yet.

    Raises what `download` raises.
    """
    if is_offline():
        raise Offline(f"HF_HUB_OFFLINE forbids fetching the tokenizer of {repo_id}")
    with in_our_words(repo_id, None):
        return _Download(repo_id, None, None, None).tokenizer()


@contextmanager
def in_our_words(repo_id: str, revision: str | None) -> Iterator[None]:
    """What the hub's client raises within becomes one of our errors; what it logs about retries is left out."""
    import huggingface_hub.hf_api  # first, since importing it sets the level back

    client = logging.getLogger(huggingface_hub.__name__)
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        yield
    except BtError:
        raise
    except Exception as error:
        raise named_hub_error(error, repo_id, revision, endpoint()) from error
    finally:
        client.setLevel(level)


class _Download:
    """One run of fetching one checkpoint: what is listed, what is needed, how far it is."""

    def __init__(self, repo_id: str, revision: str | None, token: str | None, progress: Progress | None) -> None:
        self.repo_id, self.revision, self.token, self.progress = repo_id, revision or "main", token, progress
        self.folder = repo_folder(repo_id)
        self.done = 0
        self.total = 0

    def run(self) -> Path:
        listed = self._list()
        small = [listed[name] for name in (CONFIG, *IMAGE_SETTINGS, *TOKENIZER_FILES) if name in listed]
        weights = choose_weights(listed)
        if CONFIG not in listed or weights is None:
            missing = CONFIG if CONFIG not in listed else "weights (safetensors or pytorch_model.bin)"
            raise UnknownModel(f"{self.repo_id} on the hub is no checkpoint for bt: it has no {missing}")
        self._fetch_all([*small, listed[weights]], announce=not weights.endswith(".json"))
        if weights.endswith(".json"):
            self._fetch_all([listed[name] for name in self._shards(weights, listed)], announce=True)
        folder = cached_snapshot(self.repo_id, self.revision)
        if folder is None:
            raise DownloadFailed(f"{self.repo_id}: the cache {self.folder} is not whole after the download; try again")
        return folder

    def tokenizer(self) -> Path:
        listed = self._list()
        self._fetch_all([listed[name] for name in TOKENIZER_FILES if name in listed], announce=False)
        return self.folder / "snapshots" / self.commit

    def _list(self) -> dict[str, RemoteFile]:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=endpoint(), token=self.token)
        info = api.model_info(self.repo_id, revision=self.revision, files_metadata=True, timeout=10)
        self.commit = info.sha or self.revision
        return {file.rfilename: _remote_file(file) for file in info.siblings or []}

    def _shards(self, index: str, listed: dict[str, RemoteFile]) -> list[str]:
        names = shard_names(self.folder / "snapshots" / self.commit / index)
        for name in names:
            if name not in listed:
                raise DownloadFailed(f"{self.repo_id}: {index} names {name}, which is not on the hub")
        return names

    def _fetch_all(self, files: Iterable[RemoteFile], *, announce: bool) -> None:
        files = list(files)
        for file in files:
            self._discard_damaged(file)
        wanted = [file for file in files if not (self.folder / "snapshots" / self.commit / file.name).exists()]
        self.total += sum(file.size for file in wanted)
        missing = sum(file.size - self._fetched(file) for file in wanted)
        self._check_space(missing)
        if announce and missing:
            logger.info("downloading %s: %s to %s", self.repo_id, _size(missing), self.folder)
        for file in wanted:
            if file.etag:
                self._fetch(file)
            self._put_in_place(file)
            self._tick(file.size)
            self.done += file.size

    def _discard_damaged(self, file: RemoteFile) -> None:
        """Take what is not the hub's content out of the cache, so that it is fetched again."""
        in_snapshot = self.folder / "snapshots" / self.commit / file.name
        blob = self.folder / "blobs" / file.etag if file.etag else None
        for path in (in_snapshot, blob):
            if path is None or not os.path.lexists(path):
                continue
            damage = _damage(path, file)
            if damage:
                logger.info("%s: %s in the cache %s; mending it", self.repo_id, file.name, damage)
                _remove(path)

    def _part(self, file: RemoteFile) -> Path:
        """Where what has arrived of a file waits for the rest."""
        return self.folder / "blobs" / f"{file.etag}.bt.incomplete"

    def _fetched(self, file: RemoteFile) -> int:
        """Bytes of a file that are on the disk already."""
        if (self.folder / "blobs" / file.etag).exists():
            return file.size
        part = self._part(file)
        return min(part.stat().st_size, file.size) if part.exists() else 0

    def _check_space(self, size: int) -> None:
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < size:
            raise Unwritable(
                f"{self.repo_id} needs {_size(size)}, {existing} has {_size(free)} free; "
                "make room, or set HF_HOME to a place that has it"
            )

    def _fetch(self, file: RemoteFile) -> None:
        """Make `blobs/ETAG` be there, whole and checked."""
        from huggingface_hub.utils import WeakFileLock

        blob = self.folder / "blobs" / file.etag
        part = self._part(file)
        lock = cache_folder() / ".locks" / self.folder.name / f"{file.etag}.bt.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            while not self._fetch_on(part, file):
                pass
            if _checksum(part, file) != file.etag:
                part.unlink()
                raise DownloadFailed(
                    f"{self.repo_id}: {file.name} arrived broken (its checksum is not the hub's); download it again"
                )
            os.replace(part, blob)

    def _fetch_on(self, part: Path, file: RemoteFile) -> bool:
        """Go on fetching where `part` ends. False when the connection broke, but not before it brought something."""
        from huggingface_hub.file_download import hf_hub_url, http_get
        from huggingface_hub.utils import build_hf_headers

        with open(part, "ab") as target:
            if target.tell() > file.size:  # not of this file: nothing to go on from
                target.truncate(0)
                target.seek(0)
            have = target.tell()
            try:
                http_get(
                    hf_hub_url(self.repo_id, file.name, revision=self.commit, endpoint=endpoint()),
                    target,
                    resume_size=have,
                    headers=build_hf_headers(token=self.token),
                    expected_size=file.size,
                    displayed_filename=file.name,
                    _tqdm_bar=_Bar(self, have),
                )
            except Exception as error:
                target.flush()
                if not is_connection_error(error) or target.tell() <= have:
                    raise
                return False
            target.flush()
            os.fsync(target.fileno())
        return True

    def _put_in_place(self, file: RemoteFile) -> None:
        """Let the hub's client link the file into its snapshot; it finds the content in the cache."""
        from huggingface_hub import hf_hub_download

        for revision in dict.fromkeys((self.commit, self.revision)):
            hf_hub_download(
                self.repo_id,
                file.name,
                revision=revision,
                token=self.token,
                endpoint=endpoint(),
                cache_dir=cache_folder(),
            )

    def _tick(self, part: int) -> None:
        if self.progress is not None:
            self.progress(self.done + part, self.total)


def _remote_file(sibling: Any) -> RemoteFile:
    """An entry of the hub's listing; a mirror may leave out sizes and tags."""
    etag = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    known = bool(etag) and sibling.size is not None
    return RemoteFile(sibling.rfilename, sibling.size if known else 0, etag if known else "")


class _Bar:
    """Stands in for the client's own progress bar: bytes go to our callback, nothing to the screen."""

    def __init__(self, run: _Download, have: int) -> None:
        self._run, self._have = run, have

    def update(self, count: int) -> None:
        self._have += count
        self._run._tick(self._have)


def _checksum(path: Path, file: RemoteFile) -> str:
    """The file's name in the hub's terms; a 40-digit one is git's, with the size ahead of the content."""
    digest: Any = hashlib.sha256()
    if len(file.etag) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    elif len(file.etag) != 64:
        return file.etag  # a mirror's own kind of tag says nothing about the content
    with open(path, "rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def _damage(path: Path, file: RemoteFile) -> str:
    """What a cached file has in place of the hub's content; empty where it is the hub's."""
    if path.is_symlink() and not path.exists():
        return "is a link to nothing"
    if not path.is_file():
        return "is no file"
    size = path.stat().st_size
    if file.etag and size != file.size:
        return f"has {size:,} bytes, not {file.size:,}"
    if not file.etag:  # the listing tells nothing of the content
        return "" if size else "is empty"
    return "" if _checksum(path, file) == file.etag else "is not what the hub has (its checksum differs)"


def _remove(path: Path) -> None:
    """Take away a file or folder, and what it is a link to, which lies in the cache as well."""
    target = path.resolve()
    for each in {path, target}:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
