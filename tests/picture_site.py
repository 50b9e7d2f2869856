"""A web server on this machine with a folder of images, and with answers that no one should wait for."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Site(ThreadingHTTPServer):
    """Counts what it is asked for; silent when a client leaves early."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), functools.partial(Answers, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Answers(SimpleHTTPRequestHandler):
    """Files of the folder; `/endless` never ends, `/drip` hardly begins, `/away` leads to another of this machine's
    addresses, `/loop` to itself, `/page` is no image."""

    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        with contextlib.suppress(OSError):
            if self.path == "/away":
                self._head(302, "Location", "http://127.0.0.2:9/secret.png")
            elif self.path == "/loop":
                self._head(302, "Location", "/loop")
            elif self.path == "/page":
                self._head(200, "Content-Type", "text/html")
                self.wfile.write(b"<html>not found</html>")
            elif self.path == "/endless":
                self._head(200, "Content-Type", "image/png")
                while True:
                    self.wfile.write(bytes(1 << 20))
            elif self.path == "/drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    self.wfile.write(b"X")
                    time.sleep(0.05)
            else:
                super().do_GET()

    def _head(self, status: int, name: str, value: str) -> None:
        self.send_response(status)
        self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def picture_site(folder: Path) -> Iterator[Site]:
    """A server of the files in `folder`, for as long as the block lasts."""
    with Site(folder) as site:
        threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield site
        finally:
            site.shutdown()
