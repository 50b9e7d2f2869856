"""An image from the web, because someone named its address: bounded in time, size and redirects, public hosts alone.

An address that a user pasted may lead, by itself or by a redirect, to what only this machine can reach (a router, a
cloud's metadata service). So every host is looked up once, each of its addresses has to be a public one, and the
connection goes to the very address that was looked at: a second look-up could answer otherwise.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from bt_cli.errors import UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.version import __version__

SECONDS = 30.0
"""The longest that a fetch may take, redirects included."""
BYTES = 64 << 20
"""The largest file that is taken."""
REDIRECTS = 5

_URL = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_MOVED = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_url(text: str) -> bool:
    """Whether a text is the address of something on the web, and nothing beside it."""
    return bool(_URL.fullmatch(text))


def fetch_image(url: str, *, allow_private: bool = False, seconds: float = SECONDS, limit: int = BYTES) -> bytes:
    """The bytes at `url`; whether they are an image is seen when they are decoded. Proxies are not used.

    Args:
        url: An http or https address.
        allow_private: Hosts of this machine and its networks may be asked, too.
        seconds: The longest that all of it may take.
        limit: The most bytes.

    Raises:
        UnreadableImage: It can't be had, for whatever reason, or not within the bounds. One line.
    """
    deadline = time.monotonic() + seconds
    place = url
    try:
        for _ in range(REDIRECTS + 1):
            found, content = _ask(place, allow_private, deadline, limit)
            if found is None:
                return content
            place = urljoin(place, found)
            if not is_url(place):
                raise _Refused(f"it leads to {shown_path(place)}, which is no web address")
    except _Refused as error:
        raise UnreadableImage(f"{shown_path(url)}: {error}") from None
    except TimeoutError:
        raise UnreadableImage(f"{shown_path(url)}: no whole answer within {seconds:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImage(f"{shown_path(url)}: {' '.join(str(reason).split())}") from error
    raise UnreadableImage(f"{shown_path(url)}: more than {REDIRECTS} redirects")


class _Refused(Exception):
    """Why an address is not taken, as the end of a message."""


def _ask(url: str, allow_private: bool, deadline: float, limit: int) -> tuple[str | None, bytes]:
    """(where it has moved, nothing) or (None, the bytes)."""
    parts = urlsplit(url)
    connection = _connect(parts, allow_private, deadline)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": f"bt/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
        # Spaces and other scripts in an address are written as percent signs; what is written so already stays.
        connection.request("GET", _quoted(target), headers=headers)
        answer = connection.getresponse()
        moved = answer.getheader("Location")
        if answer.status in _MOVED and moved:
            return moved, b""
        if answer.status != 200:
            raise _Refused(f"the server says {answer.status} {answer.reason}".rstrip())
        return None, _read(answer, connection, deadline, limit)
    finally:
        connection.close()


def _connect(parts: SplitResult, allow_private: bool, deadline: float) -> http.client.HTTPConnection:
    """A connection to an address of the host that was looked at before."""
    host = parts.hostname
    if not host:
        raise _Refused("the address names no host")
    secure = parts.scheme.lower() == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise _Refused(f"{host} is {private[0]}, which is not a public address; --allow-private-urls asks it anyway")
    failure: OSError | None = None
    for address in addresses:
        try:
            stream = socket.create_connection((address, port), timeout=_left(deadline))
        except OSError as error:
            failure = error
            continue
        if secure:
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=_left(deadline))
        if secure:
            connection.default_port = 443
        connection.sock = stream
        return connection
    raise failure or OSError("the host has no address")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's, and not one host's or network's own, in whatever form."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


def _read(
    answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float, limit: int
) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if connection.sock is not None:
            connection.sock.settimeout(_left(deadline))
        _left(deadline)
        part = answer.read1(1 << 16)
        if not part:
            break
        size += len(part)
        if size > limit:
            raise _Refused(f"larger than {limit >> 20} MiB")
        parts.append(part)
    if answer.length:
        raise _Refused(f"the answer was cut short: {answer.length:,} bytes are missing")
    return b"".join(parts)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _quoted(target: str) -> str:
    from urllib.parse import quote

    return quote(target, safe="/%?&=:;,+~!*'()@$[]-._")
