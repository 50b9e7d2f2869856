"""Pillow's settings for as long as an image of ours is read, and as the process had them afterwards.

They are the process's, so that threads that read at once have to share them: the first sets, the last puts back.
"""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image

_QUIET: Any = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""Pillow remarks on every odd tag that it meets. What matters is raised as UnreadableImage; the rest is no news to a
user with ten thousand images."""
_lock = threading.Lock()
_readers = 0
_former_limit: int | None = None
_raised_limits = 0


@contextlib.contextmanager
def pillow_settings(limit: int | None) -> Iterator[None]:
    """No warnings of Pillow's, and no smaller limit of its own than `limit` pixels; 0 leaves its own, None is none."""
    raises = _is_beyond_pillows(limit)
    _enter(raises)
    try:
        yield
    finally:
        _leave(raises)


def _is_beyond_pillows(limit: int | None) -> bool:
    """Whether Pillow would refuse what is allowed: it does so from twice its own number on."""
    pillows = Image.MAX_IMAGE_PIXELS
    return _raised_limits > 0 or (pillows is not None and (limit is None or limit > 2 * pillows))


def _enter(raises: bool) -> None:
    # Not `warnings.catch_warnings`: leaving it in one thread undoes what others have set meanwhile.
    global _readers, _raised_limits, _former_limit
    with _lock:
        _readers += 1
        if _QUIET not in warnings.filters:
            warnings.filters.insert(0, _QUIET)  # type: ignore[attr-defined]
        if raises:
            if not _raised_limits:
                _former_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            _raised_limits += 1


def _leave(raises: bool) -> None:
    global _readers, _raised_limits
    with _lock:
        _readers -= 1
        if not _readers:
            with contextlib.suppress(ValueError):
                warnings.filters.remove(_QUIET)  # type: ignore[attr-defined]
        if raises:
            _raised_limits -= 1
            if not _raised_limits:
                Image.MAX_IMAGE_PIXELS = _former_limit
