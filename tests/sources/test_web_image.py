"""Images from the web: real servers on this machine, bounds, and hosts that are not asked."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bt_cli.errors import UnreadableImage
from bt_cli.sources.web_address import is_url
from bt_cli.sources.web_image import fetch_image, fetch_part
from bt_cli.web import connection, host_address
from bt_cli.web.host_address import is_public


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


def raw_site(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that says whatever `serve` writes, byte for byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = listener.accept()
                    with stream, contextlib.suppress(OSError):
                        stream.recv(1 << 16)
                        serve(stream)

        threading.Thread(target=run, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def drip(stream: socket.socket, beginning: bytes, piece: bytes) -> None:
    """A piece every twentieth of a second, without end: no single wait is long."""
    stream.sendall(beginning)
    while True:
        time.sleep(0.05)
        stream.sendall(piece)


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 ", b"0"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", b"."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: 1\r\n"),
    ],
    ids=["greeting", "status", "header", "continues", "body", "chunk head", "chunks", "trailers"],
)
def test_a_trickle_does_not_put_the_end_off(beginning: bytes, piece: bytes) -> None:
    for site in raw_site(lambda stream: drip(stream, beginning, piece)):
        begun = time.monotonic()
        with pytest.raises(UnreadableImage) as raised:
            fetch_image(f"{site}/a.png", allow_private=True, seconds=0.4)
        assert str(raised.value) == f"{site}/a.png: no whole answer within 0.4 s"
        assert 0.35 < time.monotonic() - begun < 1.5


def test_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30))
    begun = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"http://example\.org/a\.png: no whole answer within 0\.2 s"):
        fetch_image("http://example.org/a.png", seconds=0.2)
    assert time.monotonic() - begun < 1.5
    released.set()


def test_redirects_share_the_time(site: str) -> None:
    def answer(stream: socket.socket) -> None:
        time.sleep(0.15)
        stream.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    for slow in raw_site(answer):
        with pytest.raises(UnreadableImage, match=r"no whole answer within 0\.5 s"):
            fetch_image(slow, allow_private=True, seconds=0.5)


def test_a_body_without_end_stops_at_the_limit() -> None:
    def pour(stream: socket.socket) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n")
        while True:
            stream.sendall(bytes(1 << 16))

    for site in raw_site(pour):
        with pytest.raises(UnreadableImage, match="larger than 2 MiB"):
            fetch_image(site, allow_private=True, limit=2 << 20)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        (
            b"Content-Type: text/html; charset=utf-8",
            b"<html>" + bytes(9000),
            "the server sends text/html, and no image",
        ),
        (b"Content-Type: video/mp4", b"\0\0\0\x18ftypmp42", "the server sends video/mp4, and no image"),
        (b"Content-Type: text/plain", b"", "the server sends text/plain, and no image"),
        (b"Content-Encoding: gzip", PNG, "the server sends it packed as gzip, though it was asked not to"),
        (b"Content-Length: 99999999999", b"", "larger than 64 MiB"),
        (b"Content-Type: text/html", PNG, None),
        (b"Content-Type: application/octet-stream", b"anything", None),
        (b"Content-Type: image/jpeg", PNG, None),
    ],
)
def test_content_decides_and_other_types_are_left_early(headers: bytes, body: bytes, reason: str | None) -> None:
    for site in raw_site(lambda stream: stream.sendall(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body)):
        if reason is None:
            assert fetch_image(f"{site}/a", allow_private=True) == body
        else:
            with pytest.raises(UnreadableImage) as raised:
                fetch_image(f"{site}/a", allow_private=True)
            assert str(raised.value) == f"{site}/a: {reason}"


def test_every_redirect_is_looked_at(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_address, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
    assert fetch_image(f"{site}/moved") == b"bytes"
    for target in ("127.0.0.2", "169.254.169.254", "[::1]", "2130706434", "0x7f.2", "10.1.2.3", "0"):
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://%s/latest/meta-data/\r\n\r\n" % target.encode()
        for leading in raw_site(lambda stream, answer=answer: stream.sendall(answer)):
            with pytest.raises(UnreadableImage, match="which is not a public address"):
                fetch_image(leading)


def test_hosts_that_are_not_public_are_not_asked(site: str) -> None:
    with pytest.raises(UnreadableImage, match=r"127\.0\.0\.1, which is not a public address; --allow-private-urls"):
        fetch_image(f"{site}/image")
    with pytest.raises(UnreadableImage, match="not a public address"):
        fetch_image(site.replace("127.0.0.1", "localhost") + "/image")


def test_what_is_an_address_of_the_web() -> None:
    assert all(map(is_url, ("https://example.org/a.jpg", "HTTP://x")))
    assert not any(map(is_url, ("http://", "see http://x", "http://x and more", "ftp://x", "https:///a")))


def certificate_of_this_machine(folder: Path) -> Path:
    """A file of a key and a certificate that it signed for itself, for 127.0.0.1."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "both.pem"
    file.write_bytes(private + made.public_bytes(encoding))
    return file


@pytest.fixture
def trust_read_anew() -> Iterator[None]:
    connection._trusted.cache_clear()
    yield
    connection._trusted.cache_clear()


@pytest.mark.usefixtures("trust_read_anew")
def test_whom_to_trust_is_read_once_and_strangers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certificate_of_this_machine(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"https://127.0.0.1:{server.server_port}"
        with pytest.raises(UnreadableImage, match="certificate verify failed"):
            fetch_image(f"{site}/image", allow_private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        connection._trusted.cache_clear()
        made: list[ssl.SSLContext] = []
        create = ssl.create_default_context
        monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(create()) or made[-1])
        for _ in range(3):
            assert fetch_image(f"{site}/moved", allow_private=True) == b"bytes"
        assert len(made) == 1
        server.shutdown()


def test_an_address_by_numbers_asks_no_name_server(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = socket.getaddrinfo

    def noted(*given: object, **named: object) -> object:
        asked.append(threading.current_thread().name)
        return ask(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    assert fetch_image(f"{site.replace('127.0.0.1', 'localhost')}/image", allow_private=True) == b"bytes"
    assert "bt-look-up" in asked
    asked.clear()
    assert fetch_image(f"{site}/image", allow_private=True) == b"bytes"
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
        with pytest.raises(UnreadableImage, match="not a public address"):
            fetch_image(f"http://{host}/image")
    assert "bt-look-up" not in asked


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"Content-Range: bytes 0-4/99\r\nContent-Length: 5\r\n\r\nbytes", "for: bytes 0-4/99"),
        (b"Content-Range: bytes 10-15/99\r\nContent-Length: 5\r\n\r\nbytes", "for: bytes 10-15/99"),
        (b"Content-Range: bytes 10-14/*\r\nContent-Length: 5\r\n\r\nbytes", "for: bytes 10-14/*"),
        (b"Content-Length: 5\r\n\r\nbytes", "for: it says not which"),
        (b"Content-Range: bytes 10-14/99\r\nContent-Length: 2\r\n\r\nby", "the answer was cut short: 2 bytes of 5"),
        (b"Content-Range: bytes 10-14/99\r\nContent-Length: 5\r\n\r\nbytes", None),
        (b"Content-Range: bytes 10-12/99\r\nContent-Length: 3\r\n\r\nbyt", None),
        (b"Content-Range: bytes 10-11/12\r\nContent-Length: 2\r\n\r\nby", None),
    ],
)  # fmt: skip
def test_a_part_is_the_one_that_was_asked_for(answer: bytes, reason: str | None) -> None:
    for site in raw_site(lambda stream: stream.sendall(b"HTTP/1.1 206 Partial Content\r\n" + answer)):
        if reason is None:
            assert b"bytes".startswith(fetch_part(f"{site}/a", 10, 5, allow_private=True).content)
        else:
            with pytest.raises(UnreadableImage) as raised:
                fetch_part(f"{site}/a", 10, 5, allow_private=True)
            said = str(raised.value).removeprefix(f"{site}/a: ")
            assert said.removeprefix("the server sends other bytes than it was asked ") == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc", "the answer was cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "the answer was cut short"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what the server sends is no answer of HTTP"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_answers_that_break_off_or_are_none_are_said_in_words(answer: bytes, reason: str) -> None:
    for site in raw_site(lambda stream: stream.sendall(answer)):
        with pytest.raises(UnreadableImage) as raised:
            fetch_image(f"{site}/a", allow_private=True)
        assert str(raised.value) == f"{site}/a: {reason}"


def test_a_redirect_may_be_written_in_utf_8_and_with_spaces(site: str) -> None:
    answer = f"HTTP/1.1 302 Found\r\nLocation: {site}/image?ü ö\r\nContent-Length: 0\r\n\r\n".encode()
    for leading in raw_site(lambda stream: stream.sendall(answer)):
        with pytest.raises(UnreadableImage, match="404"):  # asked there, and not refused as no address
            fetch_image(leading, allow_private=True)
