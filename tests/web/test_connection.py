"""Connections that are kept open: servers on this machine that keep, close and break them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from bt_cli.errors import UnreadableImage
from bt_cli.sources.web_image import fetch
from bt_cli.web import connection, host_address
from bt_cli.web.connection import MOST_IDLE, Connection, Endpoint, kept
from bt_cli.web.host_address import NotPublic

Answer = Callable[[str, int], bytes]
"""What a server says to a path, the so many-th that is asked for on its connection; nothing: it closes this."""


class Spoken:
    """A server that says what it is told to, byte for byte, on connections that stay open until it says nothing."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                stream, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream, suppress(OSError):
            count = 0
            while request := stream.recv(1 << 16):
                path = request.split()[1].decode()
                self.asked.append(path)
                said = self.answer(path, count)
                count += 1
                if not said:
                    return
                stream.sendall(said)


@contextmanager
def spoken(answer: Answer) -> Iterator[Spoken]:
    server = Spoken(answer)
    try:
        yield server
    finally:
        kept().close()
        server.listener.close()


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"


def echo(path: str, count: int) -> bytes:
    return whole(path.encode())


def get(url: str) -> bytes:
    return fetch(url, allow_private=True, seconds=5).content


def test_one_connection_serves_many_requests_of_a_host() -> None:
    with spoken(echo) as server:
        for number in range(20):
            assert get(f"{server.url}/{number}") == f"/{number}".encode()
        assert server.connections == 1
        assert server.asked == [f"/{number}" for number in range(20)]


def test_threads_take_a_connection_each_and_no_answer_is_anothers() -> None:
    with spoken(echo) as server, ThreadPoolExecutor(16) as threads:
        paths = [f"/{number}" for number in range(400)]
        assert [*threads.map(lambda path: get(server.url + path), paths)] == [path.encode() for path in paths]
        assert server.connections <= 16


@pytest.mark.parametrize(
    ("say", "keeps"),
    [
        (lambda body: whole(body), True),
        (lambda body: whole(body, "Connection: keep-alive"), True),
        (lambda body: CHUNKED % (len(body), body), True),
        (lambda body: whole(body, "Connection: close"), False),
        (lambda body: whole(body).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (lambda body: whole(body) + b"and more", False),
        (lambda body: whole(body) + whole(b"an answer that nobody asked for"), False),
    ],
    ids=["length", "keep-alive", "chunked", "close", "1.0", "longer than told", "one too many"],
)  # fmt: skip
def test_what_a_server_says_decides_whether_a_connection_is_kept(say: Callable[[bytes], bytes], keeps: bool) -> None:
    with spoken(lambda path, count: say(path.encode())) as server:
        for path in ("/a", "/b", "/c"):
            assert get(server.url + path) == path.encode()
        assert server.connections == (1 if keeps else 3)


def test_errors_and_redirects_leave_the_connection_usable() -> None:
    def answer(path: str, count: int) -> bytes:
        if path.startswith("/gone"):
            return whole(b"<html>not found</html>", status="404 Not Found")
        if path.startswith("/moved"):
            return whole(b"over there", "Location: /there", status="302 Found")
        return whole(path.encode())

    with spoken(answer) as server:
        for _ in range(3):
            with pytest.raises(UnreadableImage, match="the server says 404 Not Found"):
                get(f"{server.url}/gone")
            assert get(f"{server.url}/moved") == b"/there"
        assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced_once() -> None:
    def closes_at_the_second(path: str, count: int) -> bytes:
        return b"" if count else whole(path.encode())

    with spoken(closes_at_the_second) as server:
        for number in range(4):
            assert get(f"{server.url}/{number}") == f"/{number}".encode()
        assert server.connections == 4
        assert server.asked == ["/0", "/1", "/1", "/2", "/2", "/3", "/3"]


def test_a_new_connection_that_is_closed_is_not_tried_again() -> None:
    with spoken(lambda path, count: b"") as server:
        with pytest.raises(UnreadableImage, match="closed connection without response"):
            get(f"{server.url}/a")
        assert server.asked == ["/a"]


def test_a_server_that_closed_meanwhile_is_seen_before_asking() -> None:
    def once(path: str, count: int) -> bytes:
        return whole(path.encode())

    with spoken(once) as server:
        assert get(f"{server.url}/a") == b"/a"
        (waiting,) = kept()._idle
        waiting._stream.shutdown(socket.SHUT_RD)  # as if the server's end had come
        assert get(f"{server.url}/b") == b"/b"
        assert server.asked == ["/a", "/b"]
        assert server.connections == 2


def test_the_time_limit_holds_on_a_kept_connection() -> None:
    def slow(path: str, count: int) -> bytes:
        time.sleep(1.5 if path == "/slow" else 0)
        return whole(path.encode())

    with spoken(slow) as server:
        assert get(f"{server.url}/a") == b"/a"
        begun = time.monotonic()
        with pytest.raises(UnreadableImage, match=r"no whole answer within 0\.3 s"):
            fetch(f"{server.url}/slow", allow_private=True, seconds=0.3)
        assert time.monotonic() - begun < 1.2
        assert get(f"{server.url}/b") == b"/b"
        assert server.connections == 2


def test_what_was_left_unread_is_no_ones_next_answer() -> None:
    with spoken(lambda path, count: whole(path.encode() * 1000, "Content-Type: image/png")) as server:
        assert get(f"{server.url}/a") == b"/a" * 1000
        with pytest.raises(UnreadableImage, match="larger than"):
            fetch(f"{server.url}/b", allow_private=True, limit=100)
        assert get(f"{server.url}/c") == b"/c" * 1000


def test_leave_to_ask_private_addresses_does_not_pass_on() -> None:
    with spoken(echo) as server:
        assert get(f"{server.url}/a") == b"/a"
        with pytest.raises(UnreadableImage, match=r"127\.0\.0\.1, which is not a public address"):
            fetch(f"{server.url}/a")
        assert server.asked == ["/a"]


def test_a_name_that_leads_elsewhere_by_now_is_asked_where_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept connection stays at the checked address, and a new one is checked anew."""
    with spoken(echo) as server:
        port = int(server.url.rpartition(":")[2])
        told = ["127.0.0.1"]
        monkeypatch.setattr(host_address, "_look_up", lambda host, port, deadline: list(told))
        monkeypatch.setattr(host_address, "is_public", lambda address: address == "127.0.0.1")
        assert fetch(f"http://pictures.example:{port}/a").content == b"/a"
        told[:] = ["127.0.0.2"]
        assert fetch(f"http://pictures.example:{port}/b").content == b"/b"
        assert server.connections == 1
        kept().close()
        with pytest.raises(UnreadableImage, match=r"pictures\.example is 127\.0\.0\.2, which is not a public"):
            fetch(f"http://pictures.example:{port}/c")
        with pytest.raises(NotPublic):
            Connection.open(Endpoint("pictures.example", port, False, False), time.monotonic() + 5)


def test_only_so_many_wait_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with spoken(echo) as server, ThreadPoolExecutor(8) as threads:
        monkeypatch.setattr(connection, "MOST_IDLE", 3)
        assert MOST_IDLE > 3
        [*threads.map(get, [f"{server.url}/{number}" for number in range(64)])]
        assert 1 <= len(kept()._idle) <= 3
        monkeypatch.setattr(connection, "IDLE_SECONDS", 0.0)
        before = server.connections
        assert get(f"{server.url}/z") == b"/z"
        assert server.connections == before + 1


def test_a_forked_process_begins_without() -> None:
    with spoken(echo) as server:
        assert get(f"{server.url}/a") == b"/a"
        child = os.fork()
        if child == 0:
            os._exit(len(kept()._idle))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert get(f"{server.url}/b") == b"/b"
        assert server.connections == 1
