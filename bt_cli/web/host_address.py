"""The addresses of a host, looked up within a limit of time, and which of them are the public internet's."""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
import time

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291, section 2.5.5.1


class NotPublic(Exception):
    """A host has an address that is not a public one; the message is the start of a sentence that says so."""


def public_addresses(host: str, port: int, deadline: float, *, allow_private: bool) -> list[str]:
    """The addresses of a host, each a public one unless others are allowed.

    Raises:
        NotPublic: One is not.
        TimeoutError: Nobody answered before the deadline.
        OSError: There is no such host.
    """
    addresses = _look_up(host, port, deadline)
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise NotPublic(f"{host} is {private[0]}, which is not a public address")
    return addresses


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
        elif ip in _IPV4_COMPATIBLE or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast


def left(deadline: float) -> float:
    """Seconds until a time of `time.monotonic`. Raises TimeoutError where none is left."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _look_up(host: str, port: int, deadline: float) -> list[str]:
    """The addresses of a host. The system's own look-up knows no time limit, so a thread waits for it."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]  # nobody is asked what this one is
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="bt-look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer
