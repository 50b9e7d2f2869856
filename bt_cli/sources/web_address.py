"""Addresses of images on the web and in stores of objects: told from paths, before anything is asked of a network."""

from __future__ import annotations

import os
import re
from pathlib import Path

_URL = re.compile(r"https?://[^\s/]\S*|(?:s3|gs|gcs|hf)://[^\s/].*", re.IGNORECASE | re.DOTALL)
SCHEMES = ("http://", "https://", "s3://", "gs://", "gcs://", "hf://")
"""How addresses begin, in small letters."""
_STORES = ("s3:", "gs:", "gcs", "hf:")


class WebImage(str):
    """The address of an image that its user lets be fetched from this machine's own networks, too.

    Wherever an image's path is taken, its address is as well: a plain text is asked of public hosts alone.
    """


def allowed(path: str) -> str:
    """An image's path; where it is an address, it may be one of this machine's own networks."""
    return WebImage(path) if is_url(path) else path


def allowed_as(path: str, other: str) -> str:
    """`other`, to be fetched from where `path` may be."""
    return WebImage(other) if isinstance(path, WebImage) else other


def is_url(text: str) -> bool:
    """Whether a text is the address of something on the web or in a store of objects (S3, Google's, the hub), and
    nothing beside it."""
    return "://" in text[:9] and bool(_URL.fullmatch(text))


def is_in_store(url: str) -> bool:
    """Whether an address is one of a store of objects, which has folders and can list them."""
    return url[:3].lower() in _STORES


def address_of(path: str) -> str:
    """The address of an image, for a link: its own for one on the web, else that of the file."""
    return path if is_url(path) else Path(os.path.abspath(path)).as_uri()
