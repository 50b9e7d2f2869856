"""A server of the S3 protocol on this machine, and a web server that gives parts of files."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@contextlib.contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client of an empty server, and the environment that leads every client there."""
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    from bt_cli.sources import remote_file

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    forget_stores()
    # What moto holds is the process's, not the server's.
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    try:
        yield boto3.client("s3")
    finally:
        forget_stores()
        server.stop()
        assert remote_file._opened.cache_info().currsize == 0


def forget_stores() -> None:
    """Open file systems anew: they keep the address that they were opened with."""
    from bt_cli.sources import remote_file

    remote_file._opened.cache_clear()
    with contextlib.suppress(ImportError):
        from s3fs import S3FileSystem

        S3FileSystem.clear_instance_cache()
    with contextlib.suppress(ImportError):
        from gcsfs.core import GCSFileSystem

        GCSFileSystem.clear_instance_cache()
    with contextlib.suppress(ImportError):
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()


class Parts(BaseHTTPRequestHandler):
    """`files` by path, whole or in parts, with ETag; under `/whole/` only whole."""

    server: PartsServer

    def do_GET(self) -> None:
        whole = self.path.startswith("/whole/")
        content = self.server.files.get(self.path.removeprefix("/whole"))
        if content is None:
            self.send_error(404)
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.server.asked.append((self.path, part[0] if part else ""))
        if part is not None and not whole:
            first, last = int(part[1]), min(int(part[2]), len(content) - 1)
            if first > last:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(self.server.files[self.path.removeprefix("/whole")])}"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class PartsServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Parts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def parts_server() -> Iterator[PartsServer]:
    """A web server of `files`, for as long as the block lasts."""
    with PartsServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
