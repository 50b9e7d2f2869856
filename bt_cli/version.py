"""The version of bt, in one place: the package, the tables and the indexes that it writes say it."""

from __future__ import annotations

__version__ = "0.1.0"
