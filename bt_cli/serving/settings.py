"""What a server is told when it is started, and what it bounds."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from bt_cli.errors import Misuse

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Where a server listens, and its bounds: every request meets one of them before it can take the machine down.

    Attributes:
        host: Address or name to listen at.
        port: TCP port; 0 takes a free one.
        token: What a caller has to show, or None. Needed for an address that other machines reach.
        body_bytes: Largest body of a request.
        body_seconds: A request's head, and its body, have to be there within this time.
        pixels: Most pixels of a picture that a request brings.
        pictures: Most pictures of one request.
        texts: Most texts of one request.
        characters: Most characters of one text.
        answers: Most answers of one search, those scrolled past included.
        candidates: Most candidates that one request has the ITM head read.
        seconds: Most time that a request may take, waiting in line included.
        allow_private_urls: Images of an index that lie on the web may be fetched from this machine's own networks, too.
        waiting: Most requests that may wait in one lane; those beyond are told to come back.
        searches: Searches that run at a time.
        memory_bytes: Most memory for the bridge features of pictures seen before.
        thumbnail_bytes: Most disk for thumbnails.
        thumbnails: Their folder.
        batch: Most texts, or queries of an index, that are worked on in one go.
        batch_wait: Seconds that the first of a batch waits for others, when others are about.
    """

    host: str = "127.0.0.1"
    port: int = 7788
    token: str | None = None
    body_bytes: int = 32 * MIB
    body_seconds: float = 10.0
    pixels: int = 50_000_000
    pictures: int = 256
    texts: int = 2048
    characters: int = 20_000
    answers: int = 10_000
    candidates: int = 1000
    seconds: float = 120.0
    allow_private_urls: bool = False
    waiting: int = 256
    searches: int = 16
    memory_bytes: int = 256 * MIB
    thumbnail_bytes: int = 512 * MIB
    thumbnails: Path = field(default_factory=lambda: Path.home() / ".cache" / "bt" / "thumbnails")
    batch: int = 32
    batch_wait: float = 0.002

    def check(self) -> None:
        """Refuse what would let others in without a word.

        Raises:
            Misuse: An address that other machines reach, without a token; a token that no header can carry.
        """
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise Misuse("--token has to be printable ASCII characters, at least one")
        if self.token is None and not self.loopback:
            raise Misuse(f"--host {self.host} is reached from other machines: give a --token that callers have to show")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
