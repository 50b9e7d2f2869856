"""A server of Google's storage on this machine, as much of its JSON API as a reader asks for."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from object_store import forget_stores

PAGE = 3
"""Objects that a listing gives at a time."""


class GoogleStore(ThreadingHTTPServer):
    """`objects`: "bucket/name" to content; a bucket is there while it has one. `asked` are paths with their ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Answers)

    def handle_error(self, request: object, client_address: object) -> None:
        """The client leaves what it needs no more."""

    def resource(self, path: str) -> dict[str, object]:
        """What is told of an object."""
        bucket, _, name = path.partition("/")
        content = self.objects[path]
        digest = hashlib.md5(content).digest()
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(content)),
            "updated": "2024-05-06T07:08:09.123Z",
            "timeCreated": "2024-05-06T07:08:09.123Z",
            "etag": base64.b64encode(digest).decode(),
            "md5Hash": base64.b64encode(digest).decode(),
            "generation": str(int.from_bytes(digest[:6], "big")),
            "metageneration": "1",
        }


class _Answers(BaseHTTPRequestHandler):
    server: GoogleStore
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        found = re.fullmatch(r"/(?:download/)?storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", address.path)
        bucket, name = (unquote(part or "") for part in found.groups()) if found else ("", "")
        if not any(path.startswith(f"{bucket}/") for path in self.server.objects) or (
            name and f"{bucket}/{name}" not in self.server.objects
        ):
            self._refuse(404)
        elif name and query.get("alt") == "media":
            self._send_part(self.server.objects[f"{bucket}/{name}"])
        elif name:
            self._send(self.server.resource(f"{bucket}/{name}"))
        elif address.path.endswith("/o"):
            self._send(self._listing(bucket, query))
        else:
            self._send({"kind": "storage#bucket", "name": bucket})

    def _listing(self, bucket: str, query: dict[str, str]) -> dict[str, object]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names = sorted(path.partition("/")[2] for path in self.server.objects if path.startswith(f"{bucket}/{prefix}"))
        folders, files = [], []
        for name in names:
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.append(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                files.append(name)
        first = int(query.get("pageToken", "0"))
        page = files[first : first + PAGE]
        answer: dict[str, object] = {"kind": "storage#objects"}
        answer["items"] = [self.server.resource(f"{bucket}/{name}") for name in page]
        answer["prefixes"] = list(dict.fromkeys(folders))
        return answer | ({"nextPageToken": str(first + PAGE)} if first + PAGE < len(files) else {})

    def _send_part(self, content: bytes) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part is None:
            self._send_bytes(200, content)
        elif int(part[1]) >= len(content):
            self._refuse(416)
        else:
            self._send_bytes(206, content[int(part[1]) : int(part[2]) + 1])

    def _send(self, answer: dict[str, object]) -> None:
        self._send_bytes(200, json.dumps(answer).encode(), "application/json")

    def _refuse(self, status: int) -> None:
        told = {"error": {"code": status, "message": "Not Found", "errors": [{"message": "Not Found"}]}}
        self._send_bytes(status, json.dumps(told).encode(), "application/json")

    def _send_bytes(self, status: int, content: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def google_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStore]:
    """An empty store, and the environment that leads Google's client there."""
    with GoogleStore() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        forget_stores()
        try:
            yield server
        finally:
            forget_stores()
            server.shutdown()
