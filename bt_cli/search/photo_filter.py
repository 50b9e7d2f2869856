"""What `--after`, `--before`, `--near` and `--camera` keep: images by when, where and with what they were taken."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bt_cli.errors import Misuse
from bt_cli.files.photo_facts import PhotoFacts, clock_milliseconds
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import numpy as np

EARTH = 6371.0088
"""Kilometres: the mean radius of the earth, IUGG."""
KILOMETRES = {"m": 0.001, "km": 1.0, "mi": 1.609344}
_TIME = re.compile(
    r"(\d{4})(?:-(\d\d?)(?:-(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?"
    r"(?:(Z)|([+-])(\d\d):?(\d\d))?)?)?)?",
    re.ASCII,
)
_NUMBER = r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)"
_NEAR = re.compile(rf"\s*{_NUMBER}\s*,\s*{_NUMBER}\s*,\s*{_NUMBER}\s*({'|'.join(KILOMETRES)})\s*", re.ASCII | re.I)


class Photos(Protocol):
    """How the images of an index were taken: :class:`bt_cli.store.photo_table.PhotoTable`."""

    def column(self, name: str) -> np.ndarray: ...

    def cameras(self) -> tuple[np.ndarray, list[str]]: ...

    def facts(self, ids: Any) -> list[PhotoFacts]: ...


class Bound(NamedTuple):
    """A point in time: on the clock of wherever a picture was taken, or with an `offset` (minutes) an instant."""

    clock: int
    """Milliseconds, as `PhotoFacts.taken`."""
    offset: int | None


class Circle(NamedTuple):
    """A place and how far around it: degrees and kilometres."""

    latitude: float
    longitude: float
    radius: float


@dataclass(frozen=True)
class PhotoFilter:
    """Which images are wanted; every part that is given has to hold.

    Attributes:
        after, before: As they were written: from the beginning of the one on, and up to the beginning of the other,
            which itself is left out.
        near: As it was written: latitude, longitude, radius with its unit.
        cameras: Parts of names, or globs of whole names, whatever the case; one of them has to fit.
    """

    after: str | None = None
    before: str | None = None
    near: str | None = None
    cameras: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        after: str | None = None,
        before: str | None = None,
        near: str | None = None,
        cameras: Sequence[str] | None = None,
    ) -> PhotoFilter | None:
        """What was asked for, or None where nothing was.

        Raises:
            Misuse: A time, a place or a name that is none; an end that is not behind its beginning.
        """
        made = cls(after, before, near, tuple(cameras or ()))
        made._check()
        return made if made != cls() else None

    def __str__(self) -> str:
        parts = [("--after", self.after), ("--before", self.before), ("--near", self.near)]
        parts += [("--camera", camera) for camera in self.cameras]
        return " ".join(f"{name} {shown_path(value)}" for name, value in parts if value is not None)

    def record(self) -> dict[str, Any]:
        """What was asked for, for a JSON object: what `build` takes."""
        values = {"after": self.after, "before": self.before, "near": self.near, "cameras": list(self.cameras) or None}
        return {name: value for name, value in values.items() if value is not None}

    def left_out(self, images: int) -> str:
        """What to say of images of which not all is known that is asked: `12 without date or place left out`."""
        asked = (("date", self.after or self.before), ("place", self.near), ("camera", self.cameras))
        return f"{images:,} without {' or '.join(name for name, value in asked if value)} left out"

    def images(self, photos: Photos) -> tuple[np.ndarray, np.ndarray]:
        """Which images fit, (n,) bool, and which lack a value that is asked for, (n,) bool: none of these fits."""
        import numpy as np

        found, lacking = zip(*self._parts(photos), strict=True)
        unknown = np.logical_or.reduce(lacking)
        return np.logical_and.reduce(found) & ~unknown, unknown

    def _parts(self, photos: Photos) -> list[tuple[np.ndarray, np.ndarray]]:
        parts = []
        if self.after is not None or self.before is not None:
            parts.append(_taken(photos, self._bound("after"), self._bound("before")))
        if self.near is not None:
            parts.append(_near(photos, parse_circle(self.near)))
        if self.cameras:
            parts.append(_by_camera(photos, self.cameras))
        return parts

    def _bound(self, name: str) -> Bound | None:
        text = getattr(self, name)
        return None if text is None else parse_time(text, f"--{name}")

    def _check(self) -> None:
        after, before = self._bound("after"), self._bound("before")
        if after and before and (after.offset is None) == (before.offset is None):
            ends = [bound.clock - (bound.offset or 0) * 60_000 for bound in (after, before)]
            if ends[0] >= ends[1]:
                raise Misuse(f"--before {self.before} is not later than --after {self.after}: no image can be of then")
        if self.near is not None:
            parse_circle(self.near)
        if not all(camera.strip() for camera in self.cameras):
            raise Misuse("--camera is empty; give a part of its name, as in --camera iphone")


def parse_time(text: str, option: str) -> Bound:
    """The beginning of a year, a month or a day, or a time of day, perhaps with its offset from UTC.

    Raises:
        Misuse: It is none of these; names the option.
    """
    found = _TIME.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (int(found[place] or place < 4) for place in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second, int((found[7] or "").ljust(6, "0")))
        offset = 0 if found[8] else None
        if found[9]:
            if int(found[10]) > 23 or int(found[11]) > 59:
                raise ValueError
            offset = int(f"{found[9]}1") * (int(found[10]) * 60 + int(found[11]))
    except ValueError:
        raise Misuse(
            f"{option} {shown_path(text)}: no date; give a year, a month (2024-06), a day (2024-06-03) or a time "
            "(2024-06-03T14:05, perhaps with its offset, +02:00)"
        ) from None
    return Bound(clock_milliseconds(moment), offset)


def parse_circle(text: str) -> Circle:
    """A place and a radius: `48.2,16.37,20km`.

    Raises:
        Misuse: It is none.
    """
    found = _NEAR.fullmatch(text)
    circle = Circle(float(found[1]), float(found[2]), float(found[3]) * KILOMETRES[found[4].lower()]) if found else None
    if circle is None or not (abs(circle.latitude) <= 90 and abs(circle.longitude) <= 180 and 0 < circle.radius < 1e9):
        raise Misuse(
            f"--near {shown_path(text)}: no place; give latitude, longitude and how far around, as in "
            "--near 48.2,16.37,20km (or m, mi)"
        )
    return circle


def kilometres_from(circle: Circle, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """How far places (n,) are from the circle's centre along the earth, by the haversine formula, (n,) float64."""
    import numpy as np

    north, east = np.radians(latitude), np.radians(longitude)
    here = math.radians(circle.latitude)
    half = np.sin((north - here) / 2) ** 2
    half += math.cos(here) * np.cos(north) * np.sin((east - math.radians(circle.longitude)) / 2) ** 2
    return 2 * EARTH * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def _taken(photos: Photos, after: Bound | None, before: Bound | None) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    from bt_cli.embeddings.photo_columns import NEVER, UNKNOWN

    clock = photos.column("taken")
    instant, has_offset = clock, np.zeros(len(clock), bool)
    if any(bound is not None and bound.offset is not None for bound in (after, before)):
        offset = photos.column("taken_offset")
        has_offset = offset != UNKNOWN
        instant = np.where(has_offset, clock - offset.astype(np.int64) * 60_000, clock)
    fits = np.ones(len(clock), bool)
    for bound, compare in ((after, np.greater_equal), (before, np.less)):
        if bound is None:
            continue
        if bound.offset is None:
            fits &= compare(clock, bound.clock)
        else:
            ends = np.where(has_offset, bound.clock - bound.offset * 60_000, bound.clock)
            fits &= compare(instant, ends)
    return fits, clock == NEVER


def _near(photos: Photos, circle: Circle) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    latitude, longitude = (photos.column(name) for name in ("latitude", "longitude"))
    # Who is too far north or south is too far: of small circles most are, and sines take their time.
    reach = math.degrees(circle.radius / EARTH) * (1 + 1e-9) + 1e-9
    near = np.flatnonzero(np.abs(latitude - circle.latitude) <= reach)
    fits = np.zeros(len(latitude), bool)
    fits[near] = kilometres_from(circle, latitude[near], longitude[near]) <= circle.radius
    return fits, np.isnan(latitude) | np.isnan(longitude)


def _by_camera(photos: Photos, cameras: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    codes, names = photos.cameras()
    tests = [_camera_test(camera.strip().casefold()) for camera in cameras]
    fits = [any(test.search(name.casefold()) for test in tests) for name in names]
    return np.array([*fits, False], bool)[codes], codes < 0


def _camera_test(wanted: str) -> re.Pattern[str]:
    """A part of the name, or a glob of all of it."""
    import fnmatch

    return re.compile(rf"\A{fnmatch.translate(wanted)}" if any(sign in wanted for sign in "*?[") else re.escape(wanted))
