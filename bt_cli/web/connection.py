"""Connections over HTTP that stay open between requests: a list of addresses mostly names few hosts, and to greet one
anew costs as much as an image.

A connection leads to an address that was looked at when it was opened (`host_address`) and to no other: what is asked
next on it reaches the same machine, whatever a name server says by then. It serves a host, a port and a permission, so
that none that was opened with leave to ask private addresses is used without.
"""

from __future__ import annotations

import http.client
import io
import os
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from functools import cache
from typing import Any, NamedTuple, cast

from bt_cli.web.host_address import left, public_addresses

MOST_IDLE = 64
"""Connections that wait for another request, of all hosts; the one that waited the longest is closed first."""
IDLE_SECONDS = 15.0
"""How long one waits at most: servers, and what lies between, forget about it after some time."""
BUFFER = 1 << 16


class Endpoint(NamedTuple):
    """What a connection is opened for, and may be used for again."""

    host: str
    port: int
    secure: bool
    allow_private: bool


class Connection:
    """An open connection, for one request after another, in one thread at a time.

    Attributes:
        endpoint: What it was opened for.
        used: Whether an answer came on it already.
    """

    def __init__(self, stream: socket.socket, endpoint: Endpoint, deadline: float) -> None:
        self.endpoint, self.used = endpoint, False
        self._stream = stream
        self._timed = _TimedSocket(stream, deadline)
        self._http = http.client.HTTPConnection(endpoint.host, endpoint.port)
        self._http.auto_open = 0  # it would look the host up by itself
        if endpoint.secure:
            self._http.default_port = 443  # which the Host header leaves out
        self._http.sock = cast(Any, self._timed)

    @classmethod
    def open(cls, endpoint: Endpoint, deadline: float) -> Connection:
        """A new connection to an address of the host that was looked at before.

        Raises:
            NotPublic: The host has an address that may not be asked.
            OSError: None of them can be reached; TimeoutError: not before the deadline.
        """
        host, port, secure, allow_private = endpoint
        addresses = public_addresses(host, port, deadline, allow_private=allow_private)
        failure: OSError | None = None
        for place, address in enumerate(addresses):
            # An address that never answers leaves time for the others.
            seconds = left(deadline) / (len(addresses) - place)
            try:
                stream = socket.create_connection((address, port), timeout=seconds)
            except OSError as error:
                failure = error
                continue
            if not secure:
                return cls(stream, endpoint, deadline)
            try:
                stream.settimeout(left(deadline))
                return cls(_trusted().wrap_socket(stream, server_hostname=host), endpoint, deadline)
            except BaseException:
                stream.close()
                raise
        raise failure or OSError("the host has no address")

    def ask(self, target: str, headers: dict[str, str], deadline: float) -> http.client.HTTPResponse:
        """Send a GET request; the answer as far as its headers, to be read before the next request. All of it has to be
        through at the deadline, a time of `time.monotonic`: a trickle does not put it off.

        Raises:
            Stale: The connection was used before, and the server had closed it: a new one has to be asked.
            OSError, http.client.HTTPException, ValueError: As `http.client` does.
        """
        self._timed.received.deadline = deadline
        try:
            self._http.request("GET", target, headers=headers)
            if _ACKNOWLEDGE is not None:
                # Servers that write head and body apart wait for the first to be acknowledged, which else takes 40 ms.
                self._stream.setsockopt(socket.IPPROTO_TCP, _ACKNOWLEDGE, 1)
            answer = self._http.getresponse()
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            if self.used:
                raise Stale from error
            raise
        self.used = True
        return answer

    def is_ready(self, answer: http.client.HTTPResponse) -> bool:
        """Whether the server takes another request: the answer was read to its end, or what is left of it (a page that
        says "not found") is here already, and nothing came behind it."""
        if not answer.chunked and answer.length and answer.length <= len(self._timed.at_hand()):
            answer.read()
        ended = answer.isclosed() or (answer.length == 0 and not answer.chunked)
        answer.close()
        return ended and not answer.will_close and not self._timed.at_hand()  # `is_silent` is asked before the next

    def is_silent(self) -> bool:
        """Whether nothing can be received: what would be is the end, or an answer that nobody asked for."""
        if isinstance(self._stream, ssl.SSLSocket) and self._stream.pending():
            return False
        waiting = select.poll()
        waiting.register(self._stream, select.POLLIN)
        return not waiting.poll(0)

    def close(self) -> None:
        """End it."""
        self._stream.close()


class Stale(Exception):
    """A kept connection was closed by the server."""


class _Received(io.RawIOBase):
    """What a socket receives. Each wait ends at the deadline of the whole."""

    def __init__(self, stream: socket.socket, deadline: float) -> None:
        self._stream, self.deadline = stream, deadline
        self.asks_nothing = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.asks_nothing:
            return None
        self._stream.settimeout(left(self.deadline))
        return self._stream.recv_into(buffer)


class _Reader(io.BufferedReader):
    """Stays open when an answer is closed: the next one is read from it."""

    def close(self) -> None:
        pass


class _TimedSocket:
    """As much of a socket as `http.client` uses; whoever opened the stream closes it."""

    def __init__(self, stream: socket.socket, deadline: float) -> None:
        self._stream = stream
        self.received = _Received(stream, deadline)
        self._reader = _Reader(self.received, BUFFER)

    def makefile(self, mode: str) -> io.BufferedReader:
        return self._reader

    def sendall(self, data: bytes) -> None:
        self._stream.settimeout(left(self.received.deadline))
        self._stream.sendall(data)

    def close(self) -> None:
        pass

    def at_hand(self) -> bytes:
        """What was received and not read; nothing is waited for."""
        self.received.asks_nothing = True
        try:
            return self._reader.peek(1)
        finally:
            self.received.asks_nothing = False


class KeptConnections:
    """Connections that wait for another request; for any thread. A forked process begins without: the sockets are its
    parent's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """When each began to wait, the longest ago first."""
        os.register_at_fork(after_in_child=self._begin_without)

    def _begin_without(self) -> None:
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Close all that wait."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
        _close(idle)

    def take(self, endpoint: Endpoint) -> Connection | None:
        """One that may be asked for the endpoint, and is nobody else's from now on; the one used last of those."""
        while True:
            with self._lock:
                old = self._too_old()
                found = next((one for one in reversed(self._idle) if one.endpoint == endpoint), None)
                if found is not None:
                    del self._idle[found]
            _close(old)
            if found is None or found.is_silent():
                return found
            found.close()

    def give(self, connection: Connection) -> None:
        """Take one in, which is ready for the next request."""
        with self._lock:
            self._idle[connection] = time.monotonic()
            old = self._too_old()
            while len(self._idle) > MOST_IDLE:
                old.append(self._idle.popitem(last=False)[0])
        _close(old)

    def _too_old(self) -> list[Connection]:
        old = []
        before = time.monotonic() - IDLE_SECONDS
        while self._idle and next(iter(self._idle.values())) < before:
            old.append(self._idle.popitem(last=False)[0])
        return old


_ACKNOWLEDGE: int | None = getattr(socket, "TCP_QUICKACK", None)


@cache
def kept() -> KeptConnections:
    """The process's own."""
    return KeptConnections()


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()


@cache
def _trusted() -> ssl.SSLContext:
    """Whom the system trusts, read once: it takes as long as many images do."""
    return ssl.create_default_context()
