"""A hub on loopback that speaks what `huggingface_hub` asks of the real one: info of models and data sets, listings,
HEAD and GET of files, ranges.

It counts requests, and can be told to cut bodies short, to send other bytes than it announced, or to refuse.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LAST_COMMIT = {"id": "1" * 40, "title": "all", "date": "2024-05-06T07:08:09.000Z"}
LARGE = 4096
"""Files from this size on are "large files": their tag is a SHA-256, as the hub's are."""


@dataclass
class Request:
    """One request as it came: method, path, and the `Range` and `Authorization` headers."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class FakeHub:
    """Serves folders as repositories `owner/name`, or `datasets/owner/name`, with one commit each; a context manager.

    `cut` is how many bytes of a body to send before the connection breaks, by file name, once each; `garble` names
    files whose content arrives altered, `lost` files that are listed and answer 404; `refuse` gives a status and an
    error code by repository; a repository in `private` needs the bearer token "secret". With `taciturn` the listing
    holds names alone, as some mirrors' do; as a `portal` it answers everything with a page.
    """

    repositories: dict[str, Path]
    cut: dict[str, int] = field(default_factory=dict)
    garble: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    portal: bool = False
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    taciturn: bool = False
    requests: list[Request] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> FakeHub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the hub off the network; calling it again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def commit(self, repository: str) -> str:
        """40 hex digits that change with the repository's content."""
        digest = hashlib.sha1(repository.encode())
        folder = self.repositories[repository]
        for path in files_of(folder):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
        return digest.hexdigest()

    def asked(self, method: str, ending: str) -> list[Request]:
        """The requests of a method whose path ends so."""
        return [request for request in self.requests if request.method == method and request.path.endswith(ending)]


def files_of(folder: Path) -> list[Path]:
    """All files of a repository, by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def tag(content: bytes) -> str:
    """The hub's name for a content: git's for small files, SHA-256 for large ones."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def go_online(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Lead the hub's client, which this process may have imported, to another hub."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", url)
    # The client reads its environment once, on import.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), authorization))
        path = re.sub(r"^/api/(models/|(?=datasets/))", "/api/", path)
        name = r"((?:datasets/)?[^/]+/[^/]+)"
        info = re.fullmatch(rf"/api/{name}(?:/revision/(.+))?", path)
        file = re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", path)
        tree = re.fullmatch(rf"/api/{name}/tree/([^/]+)(?:/(.+))?", path)
        facts = re.fullmatch(rf"/api/{name}/paths-info/([^/]+)", path)
        found = file or tree or facts or info
        repository = found[1] if found else ""
        if self.hub.portal:
            self._send_page()
        elif repository in self.hub.refuse:
            self._refuse(*self.hub.refuse[repository])
        elif repository in self.hub.private and authorization != "Bearer secret":
            self._refuse(401, "")
        elif repository not in self.hub.repositories:
            self._refuse(404, "RepoNotFound")
        elif found and found[2] not in (None, "main", self.hub.commit(repository)):
            self._refuse(404, "RevisionNotFound")
        elif tree:
            self._send_tree(repository, tree[3] or "", "recursive=true" in self.path.lower())
        elif facts:
            wanted = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
            entries = [entry for entry in self._entries(repository) if entry["path"] in wanted["paths"]]
            self._send_json([{**entry, "lastCommit": LAST_COMMIT} for entry in entries])
        elif info and not file:
            self._send_info(repository)
        else:
            assert file is not None
            self._send_file(repository, file[3])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_page(self) -> None:
        body = b"<html>Accept the terms of this network</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _entries(self, repository: str) -> list[dict[str, object]]:
        """All files and folders of a repository, as its listings have them."""
        folder = self.hub.repositories[repository]
        entries: list[dict[str, object]] = []
        for path in sorted(folder.rglob("*")):
            entry: dict[str, object] = {"path": path.relative_to(folder).as_posix()}
            if path.is_dir():
                entries.append({**entry, "type": "directory", "size": 0, "oid": "0" * 40})
                continue
            content = path.read_bytes()
            entry |= {"type": "file", "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            if len(content) >= LARGE:
                entry["lfs"] = {"oid": tag(content), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries

    def _send_tree(self, repository: str, folder: str, recursive: bool) -> None:
        if folder and not (self.hub.repositories[repository] / folder).is_dir():
            self._refuse(404, "EntryNotFound")
            return
        above = f"{folder}/" if folder else ""
        entries = [entry for entry in self._entries(repository) if str(entry["path"]).startswith(above)]
        self._send_json([each for each in entries if recursive or "/" not in str(each["path"])[len(above) :]])

    def _send_json(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_info(self, repository: str) -> None:
        siblings = []
        folder = self.hub.repositories[repository]
        for path in files_of(folder):
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            sibling = {"rfilename": name, "size": len(content), "blobId": tag(content)}
            if len(content) >= LARGE:
                sibling["lfs"] = {"sha256": tag(content), "size": len(content), "pointerSize": 134}
            siblings.append({"rfilename": name} if self.hub.taciturn else sibling)
        name = repository.removeprefix("datasets/")
        self._send_json({"id": name, "sha": self.hub.commit(repository), "siblings": siblings})

    def _send_file(self, repository: str, name: str) -> None:
        path = self.hub.repositories[repository] / name
        if not path.is_file() or name in self.hub.lost:
            self._refuse(404, "" if path.is_file() else "EntryNotFound")
            return
        content = path.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        stop = min(int(part[2]) + 1, len(content)) if part and part[2] else len(content)
        body = content[start:stop]
        self.send_response(206 if len(body) < len(content) else 200)
        self.send_header("ETag", f'"{tag(content)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(repository))
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(len(body)))
        if len(body) < len(content):
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.hub.garble:
            body = bytes(byte ^ 0x55 for byte in body)
        if name in self.hub.cut:
            body = body[: self.hub.cut.pop(name)]
            self.close_connection = True
        self.hub.sent += len(body)
        self.wfile.write(body)
