"""What a server answers instead of a result: a status, a type for programs and a line for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bt_cli.errors import (
    BtError,
    DownloadFailed,
    IndexMismatch,
    MissingHead,
    Misuse,
    NoIndex,
    NoMask,
    Offline,
    UnknownModel,
    UnreadableImage,
)

_STATUS: list[tuple[tuple[type[BtError], ...], int, str]] = [
    ((Misuse,), 400, "invalid_request_error"),
    ((UnreadableImage,), 400, "unreadable_image_error"),
    ((NoMask,), 400, "no_mask_error"),
    ((NoIndex,), 404, "not_found_error"),
    ((MissingHead,), 501, "not_supported_error"),
    ((Offline, DownloadFailed, UnknownModel, IndexMismatch), 503, "unavailable_error"),
]


class Refusal(Exception):
    """An answer that is an error: 4xx for what the caller did, 5xx for what the server could not do.

    Attributes:
        status: HTTP status.
        type: A word for programs: `invalid_request_error`, `not_found_error`, ...
        message: One line for people, with the way out.
        skipped: Where none of several images can be read: the reason of each.
    """

    def __init__(self, status: int, type: str, message: str, skipped: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status, self.type, self.message, self.skipped = status, type, message, skipped

    def body(self) -> dict[str, dict[str, Any]]:
        """The JSON object of the answer."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        return {"error": error | ({"skipped": list(self.skipped)} if self.skipped else {})}


def invalid(message: str) -> Refusal:
    """A request that was put together wrongly: 400."""
    return Refusal(400, "invalid_request_error", message)


def not_found(message: str) -> Refusal:
    """Something that is not there: 404."""
    return Refusal(404, "not_found_error", message)


def refusal_of(error: Exception) -> Refusal:
    """What a server answers for an exception of the rooms below."""
    if isinstance(error, Refusal):
        return error
    for kinds, status, type in _STATUS:
        if isinstance(error, kinds):
            return Refusal(status, type, str(error), getattr(error, "reasons", ()))
    if isinstance(error, BtError):
        return Refusal(500, "server_error", str(error))
    if isinstance(error, MemoryError):
        return Refusal(503, "overloaded_error", "out of memory; ask for less at a time")
    return Refusal(500, "server_error", f"unexpected {type_name(error)}; the server's log says more")


def type_name(error: Exception) -> str:
    """The name of an exception's class."""
    return type(error).__name__
