"""Images from the web: real servers on this machine, bounds, and hosts that are not asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bt_cli.datasets.url_image import fetch_image, is_public, is_url
from bt_cli.errors import UnreadableImage


class Server(ThreadingHTTPServer):
    """Says nothing on stderr when a client goes away early, as one that has read enough does."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Answers(BaseHTTPRequestHandler):
    """`/image` is one, `/loop` leads to itself, `/slow` drips, `/short` ends early, `/file` leads away from the web."""

    def do_GET(self) -> None:
        moves = {"/moved": "/image", "/loop": "/loop", "/file": "file:///etc/passwd"}
        if self.path in moves:
            self.send_response(302)
            self.send_header("Location", moves[self.path])
            self.end_headers()
        elif self.path in ("/image", "/short", "/slow"):
            self.send_response(200)
            self.send_header("Content-Length", "5" if self.path == "/image" else "500")
            self.end_headers()
            self.wfile.write(b"bytes")
            for _ in range(40 if self.path == "/slow" else 0):
                time.sleep(0.05)
                self.wfile.write(b".")
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_bytes_come_directly_and_by_a_redirect(site: str) -> None:
    assert fetch_image(f"{site}/image", allow_private=True) == b"bytes"
    assert fetch_image(f"{site}/moved", allow_private=True) == b"bytes"


@pytest.mark.parametrize(
    ("path", "bounds", "reason"),
    [
        ("/gone", {}, "the server says 404 Not Found"),
        ("/loop", {}, "more than 5 redirects"),
        ("/file", {}, "it leads to file:///etc/passwd, which is no web address"),
        ("/short", {}, "the answer was cut short: 495 bytes are missing"),
        ("/image", {"limit": 4}, "larger than 0 MiB"),
        ("/slow", {"seconds": 0.3}, "no whole answer within 0.3 s"),
    ],
)
def test_what_is_out_of_bounds_is_one_line(site: str, path: str, bounds: dict, reason: str) -> None:
    with pytest.raises(UnreadableImage) as raised:
        fetch_image(site + path, allow_private=True, **bounds)
    assert str(raised.value) == f"{site}{path}: {reason}"


def test_hosts_that_are_not_public_are_not_asked(site: str) -> None:
    with pytest.raises(UnreadableImage, match=r"127\.0\.0\.1, which is not a public address; --allow-private-urls"):
        fetch_image(f"{site}/image")
    with pytest.raises(UnreadableImage, match="not a public address"):
        fetch_image(site.replace("127.0.0.1", "localhost") + "/image")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1",
     "::ffff:192.168.0.1", "2002:a00:1::", "64:ff9b::a00:1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_and_urls() -> None:
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111")))
    assert all(map(is_url, ("https://example.org/a.jpg", "HTTP://x")))
    assert not any(map(is_url, ("http://", "see http://x", "http://x and more", "ftp://x", "https:///a")))
