"""An image from the web, because someone named its address: bounded in time, size and redirects, public hosts alone.

An address that a user pasted may lead, by itself or by a redirect, to what only this machine can reach (a router, a
cloud's metadata service). So every host is looked up once, each of its addresses has to be a public one, and the
connection goes to the very address that was looked at: a second look-up could answer otherwise.

The time limit is one for all of it. A name server that is silent, a greeting or headers that come a byte at a time, a
chain of redirects and a body that trickles share it: no wait begins anew with the next byte.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from bt_cli.errors import UnreadableImage
from bt_cli.files.image_format import HEAD, image_format
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.web_address import WebImage, is_in_store, is_url
from bt_cli.version import __version__
from bt_cli.web.connection import Connection, Endpoint, Stale, kept
from bt_cli.web.host_address import NotPublic

SECONDS = 30.0
"""The longest that a fetch may take, redirects included."""
BYTES = 64 << 20
"""The largest file that is taken."""
REDIRECTS = 5

_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII | re.IGNORECASE)
_MOVED = (301, 302, 303, 307, 308)
_ANY_BYTES = ("", "application/octet-stream", "binary/octet-stream", "application/binary", "application/x-download")
"""Content types that say nothing, as stores send them for files whose type nobody told them."""


class Fetched(NamedTuple):
    """What an address gave."""

    content: bytes
    modified_ns: int
    """When it was last changed, as the server says, nanoseconds since 1970; 0 where it says nothing."""
    total: int = 0
    """Of a part: the bytes of the whole."""
    etag: str = ""
    """By which the server names this version of it."""


def fetch_image(
    url: str, *, allow_private: bool = False, seconds: float | None = None, limit: int | None = None
) -> bytes:
    """The bytes at `url`, as `fetch` gets them; the message of what it raises begins with the address."""
    try:
        return fetch(url, allow_private=allow_private, seconds=seconds, limit=limit).content
    except UnreadableImage as error:
        raise UnreadableImage(f"{shown_path(url)}: {error}") from error.__cause__


def fetch(url: str, *, allow_private: bool = False, seconds: float | None = None, limit: int | None = None) -> Fetched:
    """What is at `url`; whether it is an image is seen when it is decoded. Proxies are not used.

    What the server calls something else (a page that says "not found", a film) is left after its first bytes, unless
    these are an image's: content decides.

    Args:
        url: An http or https address.
        allow_private: Hosts of this machine and its networks may be asked, too, as for a `WebImage`.
        seconds: The longest that all of it may take; None: `SECONDS`.
        limit: The most bytes; None: `BYTES`.

    Raises:
        UnreadableImage: It can't be had, or not within the bounds. The message is the reason, without the address.
    """
    seconds = SECONDS if seconds is None else seconds
    limit = BYTES if limit is None else limit
    return _fetched(url, allow_private, seconds, limit, None)


def fetch_part(url: str, first: int, size: int, *, allow_private: bool = False) -> Fetched:
    """`size` bytes (at least one) of what is at `url`, from `first` on, fewer at its end or where the server
    gives no more at a time, and the size of the whole; within the bounds of `fetch`.

    Raises:
        UnreadableImage: As `fetch`; also where the server gives no parts.
    """
    return _fetched(url, allow_private, SECONDS, size, (first, first + size - 1))


def _fetched(url: str, allow_private: bool, seconds: float, limit: int, part: tuple[int, int] | None) -> Fetched:
    deadline = time.monotonic() + seconds
    place = str(url)
    allow_private = allow_private or isinstance(url, WebImage)
    try:
        for _ in range(REDIRECTS + 1):
            found = _ask(place, allow_private, deadline, limit, part)
            if isinstance(found, Fetched):
                return found
            place = urljoin(place, _location(found))
            if not is_url(place) or is_in_store(place):
                raise _Refused(f"it leads to {shown_path(place)}, which is no web address")
    except _Refused as error:
        raise UnreadableImage(str(error)) from None
    except TimeoutError:
        raise UnreadableImage(f"no whole answer within {seconds:g} s") from None
    except http.client.IncompleteRead as error:
        raise UnreadableImage("the answer was cut short") from error
    except http.client.BadStatusLine as error:
        if isinstance(error, OSError):  # closed without an answer
            raise UnreadableImage(str(error)) from error
        raise UnreadableImage("what the server sends is no answer of HTTP") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImage(" ".join(str(reason).split())) from error
    raise UnreadableImage(f"more than {REDIRECTS} redirects")


class _Refused(Exception):
    """Why an address is not taken, as the end of a message."""


def _ask(url: str, allow_private: bool, deadline: float, limit: int, part: tuple[int, int] | None) -> str | Fetched:
    """Where it has moved, or what is there; by a connection that is open already, if there is one."""
    parts = urlsplit(url)
    if is_in_store(url):
        raise _Refused("it is no address of the web")
    if not parts.hostname:
        raise _Refused("the address names no host")
    secure = parts.scheme.lower() == "https"
    endpoint = Endpoint(parts.hostname, parts.port or (443 if secure else 80), secure, allow_private)
    # Spaces and other scripts in an address are written as percent signs; what is written so already stays.
    target = _quoted((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    headers = {"User-Agent": f"bt/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
    if part is not None:
        headers |= {"Range": f"bytes={part[0]}-{part[1]}", "Accept": "*/*"}

    def answer(connection: Connection) -> str | Fetched:
        is_ready = False
        try:
            came = connection.ask(target, headers, deadline)
            try:
                return _understood(came, limit, part)
            finally:
                is_ready = connection.is_ready(came)
        finally:
            if is_ready:
                kept().give(connection)
            else:
                connection.close()

    waiting = kept().take(endpoint)
    if waiting is not None:
        with contextlib.suppress(Stale):
            return answer(waiting)
    try:
        return answer(Connection.open(endpoint, deadline))
    except NotPublic as error:
        raise _Refused(f"{error}; --allow-private-urls asks it anyway") from None


def _understood(answer: http.client.HTTPResponse, limit: int, part: tuple[int, int] | None) -> str | Fetched:
    """Where it has moved, or what is there."""
    moved = answer.getheader("Location")
    if answer.status in _MOVED and moved:
        return moved
    modified = _nanoseconds(answer.getheader("Last-Modified", ""))
    if part is not None and answer.status == 206:
        given = answer.getheader("Content-Range", "")
        found = _RANGE.fullmatch(given.strip())
        last, total = (int(found[2]), int(found[3])) if found else (-1, 0)
        if not found or int(found[1]) != part[0] or not part[0] <= last <= min(part[1], total - 1):
            raise _Refused(f"the server sends other bytes than it was asked for: {given[:60] or 'it says not which'}")
        content = _read(answer, limit, told=True)
        if len(content) != last - part[0] + 1:
            raise _Refused(f"the answer was cut short: {len(content):,} bytes of {last - part[0] + 1:,}")
        return Fetched(content, modified, total, answer.getheader("ETag", ""))
    if part is not None and answer.status == 200:
        raise _Refused("the server gives no parts of it (byte ranges)")
    if answer.status != 200:
        raise _Refused(f"the server says {answer.status} {answer.reason}".rstrip())
    return Fetched(_read(answer, limit), modified)


def _read(answer: http.client.HTTPResponse, limit: int, told: bool = False) -> bytes:
    """The body; what is not `told` to be an image is left after its first bytes, unless these are an image's."""
    packed = answer.getheader("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise _Refused(f"the server sends it packed as {packed[:20]}, though it was asked not to")
    kind = answer.getheader("Content-Type", "").partition(";")[0].strip().lower()
    told = told or kind.startswith("image/") or kind in _ANY_BYTES
    if answer.length is not None and answer.length > limit:
        raise _Refused(f"larger than {limit >> 20} MiB")
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(1 << 16):
        size += len(part)
        if size > limit:
            raise _Refused(f"larger than {limit >> 20} MiB")
        parts.append(part)
        if not told and size >= HEAD:
            _require_image(b"".join(parts), kind)
            told = True
    if answer.length:
        raise _Refused(f"the answer was cut short: {answer.length:,} bytes are missing")
    content = b"".join(parts)
    if not told:
        _require_image(content, kind)
    return content


def _require_image(beginning: bytes, kind: str) -> None:
    if image_format(beginning[:HEAD]) is None:
        raise _Refused(f"the server sends {kind[:60]}, and no image")


def _nanoseconds(date: str) -> int:
    """An HTTP date (RFC 9110, section 5.6.7) as nanoseconds since 1970; 0 for what is none."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return 0


def _location(header: str) -> str:
    """An address as it is meant: headers are read as Latin-1, and servers write UTF-8 and spaces into this one."""
    with contextlib.suppress(UnicodeError):
        header = header.encode("latin-1").decode("utf-8")
    return header.strip().replace(" ", "%20")


def _quoted(target: str) -> str:
    return quote(target, safe="/%?&=:;,+~!*'()@$[]-._")
