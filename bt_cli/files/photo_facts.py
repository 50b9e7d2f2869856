"""What a picture's file says of the shot: when, with what and where it was taken."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

_EPOCH = datetime(1970, 1, 1)


class PhotoFacts(NamedTuple):
    """Each is None where the file does not say it, or says what can't be."""

    taken: int | None = None
    """The clock's time where the picture was taken, in milliseconds since 1970-01-01T00:00:00 on the same clock."""
    taken_offset: int | None = None
    """Minutes by which that clock is ahead of UTC, where the file says it."""
    camera: str | None = None
    """Make and model."""
    latitude: float | None = None
    """Degrees north, in [-90, 90]."""
    longitude: float | None = None
    """Degrees east, in [-180, 180]; None exactly where `latitude` is."""

    @property
    def taken_text(self) -> str | None:
        """`taken` in ISO 8601, with its offset where that is known: `2024-06-03T14:05:00+02:00`."""
        if self.taken is None:
            return None
        moment = _EPOCH + timedelta(milliseconds=self.taken)
        if self.taken_offset is not None:
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=self.taken_offset)))
        return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")

    def record(self) -> dict[str, Any]:
        """What is known, for a JSON object: `taken` (as `taken_text`), `camera`, `latitude`, `longitude`."""
        values = (self.taken_text, self.camera, self.latitude, self.longitude)
        found = zip(("taken", "camera", "latitude", "longitude"), values, strict=True)
        return {name: value for name, value in found if value is not None}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PhotoFacts:
        """The reverse of `record`. Raises ValueError for a time that is none."""
        places = record.get("camera"), record.get("latitude"), record.get("longitude")
        if "taken" not in record:
            return cls(None, None, *places)
        moment = datetime.fromisoformat(record["taken"])
        ahead = moment.utcoffset()
        return cls(clock_milliseconds(moment), None if ahead is None else ahead // timedelta(minutes=1), *places)


def clock_milliseconds(moment: datetime) -> int:
    """What `PhotoFacts.taken` is of a time without time zone."""
    return (moment.replace(tzinfo=None) - _EPOCH) // timedelta(milliseconds=1)
