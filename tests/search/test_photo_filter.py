"""Dates, places and cameras: what is understood, and what is kept, against the plainest computation."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS, arrow_columns, camera_codes, column_array, facts_arrays
from bt_cli.errors import Misuse
from bt_cli.files.photo_facts import PhotoFacts, clock_milliseconds
from bt_cli.search.photo_filter import Circle, PhotoFilter, kilometres_from, parse_circle, parse_time


class Photos:
    """Images in memory."""

    def __init__(self, *facts: PhotoFacts) -> None:
        self.given = facts
        self.columns = arrow_columns(facts_arrays(facts, len(facts)))

    def halves(self, name: str) -> pa.ChunkedArray:
        half = len(self.given) // 2
        return pa.chunked_array([self.columns[name][:half], self.columns[name][half:]])

    def column(self, name: str) -> np.ndarray:
        return column_array(name, self.halves(name))

    def cameras(self) -> tuple[np.ndarray, list[str]]:
        return camera_codes(self.halves("camera"))

    def facts(self, ids: Any) -> list[PhotoFacts]:
        return [self.given[id] for id in ids]


def clock(*parts: int) -> int:
    return clock_milliseconds(datetime(*parts))  # type: ignore[arg-type]


def kept(photos: Photos, **asked: Any) -> list[int]:
    wanted = PhotoFilter.build(**asked)
    assert wanted is not None
    return np.flatnonzero(wanted.images(photos)[0]).tolist()


@pytest.mark.parametrize(
    ("text", "clock_time", "offset"),
    [
        ("2024", (2024, 1, 1), None),
        ("2024-06", (2024, 6, 1), None),
        ("2024-6-3", (2024, 6, 3), None),
        ("2024-06-03T14:05", (2024, 6, 3, 14, 5), None),
        (" 2024-06-03 14:05:09 ", (2024, 6, 3, 14, 5, 9), None),
        ("2024-06-03T14:05:09.250Z", (2024, 6, 3, 14, 5, 9, 250_000), 0),
        ("2024-06-03T14:05-03:30", (2024, 6, 3, 14, 5), -210),
        ("2024-06-03T14:05+0200", (2024, 6, 3, 14, 5), 120),
    ],
)
def test_times(text: str, clock_time: tuple[int, ...], offset: int | None) -> None:
    assert parse_time(text, "--after") == (clock(*clock_time), offset)


@pytest.mark.parametrize(
    "text",
    ["", "24", "2024-13", "2023-02-29", "2024-06-03T25:00", "2024-06-03T14:05+24:00", "June 2024", "0000", "2024-"],
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Misuse, match=r"^--after .*: no date; give a year, a month \(2024-06\)"):
        PhotoFilter.build(after=text)


def test_the_beginning_is_taken_and_the_end_is_not() -> None:
    photos = Photos(
        PhotoFacts(clock(2024, 5, 31, 23, 59, 59)),
        PhotoFacts(clock(2024, 6, 1)),
        PhotoFacts(clock(2024, 9, 14, 23, 59, 59)),
        PhotoFacts(clock(2024, 9, 15)),
        PhotoFacts(),
    )
    assert kept(photos, after="2024-06", before="2024-09-15") == [1, 2]
    assert kept(photos, after="2024-09-15") == [3]
    assert kept(photos, before="2024-06") == [0]
    assert kept(photos, before="2030") == [0, 1, 2, 3]
    wanted = PhotoFilter.build(before="2030")
    assert wanted is not None
    assert wanted.images(photos)[1].tolist() == [False] * 4 + [True]


def test_an_instant_is_compared_with_instants_where_the_offset_is_known() -> None:
    noon = clock(2024, 6, 3, 12)
    photos = Photos(PhotoFacts(noon, 120), PhotoFacts(noon, -300), PhotoFacts(noon))
    assert kept(photos, after="2024-06-03T12:00+02:00") == [0, 1, 2]
    assert kept(photos, after="2024-06-03T10:00:01Z") == [1, 2]
    assert kept(photos, before="2024-06-03T17:00Z", after="2024-06-03T11:00Z") == [2]
    assert kept(photos, after="2024-06-03T12:00") == [0, 1, 2]


def test_an_end_before_its_beginning() -> None:
    with pytest.raises(Misuse, match=r"^--before 2024-06 is not later than --after 2024-06-01: no image can be"):
        PhotoFilter.build(after="2024-06-01", before="2024-06")


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("48.2,16.37,20km", Circle(48.2, 16.37, 20)),
        (" -33.9 , +151.2 , 500 M ", Circle(-33.9, 151.2, 0.5)),
        ("90,-180,.5mi", Circle(90, -180, 0.804672)),
    ],
)
def test_places(text: str, circle: Circle) -> None:
    assert parse_circle(text) == circle


@pytest.mark.parametrize(
    "text", ["", "Vienna", "48.2,16.37", "48.2,16.37,20", "91,0,1km", "0,181,1km", "0,0,0km", "0,0,-1km", "nan,0,1km"]
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(Misuse, match=r"^--near .*: no place; give latitude, longitude and how far around"):
        PhotoFilter.build(near=text)


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(PLACES, PLACES)
def test_distances_are_those_of_the_spherical_law_of_cosines(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    def point(place: tuple[float, float]) -> np.ndarray:
        north, east = map(math.radians, place)
        return np.array([math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)])

    chord = np.linalg.norm(point(one) - point(other))
    wanted = 2 * 6371.0088 * math.asin(min(chord / 2, 1))
    (found,) = kilometres_from(Circle(*one, 1), np.array([other[0]]), np.array([other[1]]))
    assert found == pytest.approx(wanted, abs=1e-3)


def test_around_a_place_over_the_date_line_and_at_the_pole() -> None:
    photos = Photos(
        PhotoFacts(latitude=48.2, longitude=16.37),
        PhotoFacts(latitude=48.3, longitude=16.37),
        PhotoFacts(latitude=0.0, longitude=-179.95),
        PhotoFacts(latitude=90.0, longitude=12.0),
        PhotoFacts(),
    )
    assert kept(photos, near="48.2,16.37,11km") == [0]
    assert kept(photos, near="48.2,16.37,11.2km") == [0, 1]
    assert kept(photos, near="0,179.95,12km") == [2]
    assert kept(photos, near="90,-70,1m") == [3]
    assert kept(photos, near="0,0,30000km") == [0, 1, 2, 3]


def test_cameras() -> None:
    names = ["Apple iPhone 12", "Canon EOS 5D", None, "NIKON [D90]", "canon powershot"]
    photos = Photos(*(PhotoFacts(camera=name) for name in names))
    assert kept(photos, cameras=["CANON"]) == [1, 4]
    assert kept(photos, cameras=["canon*d"]) == [1]
    assert kept(photos, cameras=["eos", "iphone"]) == [0, 1]
    assert kept(photos, cameras=["*[[]d90]"]) == [3]
    assert kept(photos, cameras=["."]) == []
    wanted = PhotoFilter.build(cameras=["canon"])
    assert wanted is not None
    assert wanted.images(photos)[1].tolist() == [False, False, True, False, False]
    with pytest.raises(Misuse, match="--camera is empty"):
        PhotoFilter.build(cameras=[" "])


def test_nothing_asked_is_no_filter_and_all_parts_have_to_hold() -> None:
    assert PhotoFilter.build(cameras=[]) is None
    photos = Photos(
        PhotoFacts(clock(2024, 6, 1), None, "A"),
        PhotoFacts(clock(2024, 6, 1)),
        PhotoFacts(clock(2020, 1, 1), None, "A"),
    )
    wanted = PhotoFilter.build(after="2024", cameras=["a"])
    assert wanted is not None
    fits, unknown = wanted.images(photos)
    assert (fits.tolist(), unknown.tolist()) == ([True, False, False], [False, True, False])
    assert wanted.left_out(1) == "1 without date or camera left out"
    assert str(wanted) == "--after 2024 --camera a"
    assert PhotoFilter.build(**wanted.record()) == wanted


TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))


@given(st.lists(st.tuples(TIMES, st.none() | st.integers(-900, 900))), TIMES, st.integers(-1439, 1439))
def test_instants_against_python_own(rows: list[tuple[datetime, int | None]], end: datetime, ahead: int) -> None:
    end = end.replace(microsecond=0)
    rows = [(moment.replace(microsecond=0), offset) for moment, offset in rows]
    photos = Photos(*(PhotoFacts(clock_milliseconds(moment), offset) for moment, offset in rows))
    sign, (hours, minutes) = "-" if ahead < 0 else "+", divmod(abs(ahead), 60)
    instant = end.replace(tzinfo=UTC) - timedelta(minutes=ahead)
    wanted = [
        place
        for place, (moment, offset) in enumerate(rows)
        if (moment < end if offset is None else moment.replace(tzinfo=UTC) - timedelta(minutes=offset) < instant)
    ]
    assert kept(photos, before=f"{end.isoformat()}{sign}{hours:02}:{minutes:02}") == wanted


@given(st.builds(PhotoFacts, st.none() | st.integers(-(10**12), 10**13), st.none() | st.integers(-900, 900)))
def test_a_record_says_what_the_facts_say(facts: PhotoFacts) -> None:
    if facts.taken is None:
        facts = facts._replace(taken_offset=None)
    assert PhotoFacts.from_record(facts.record()) == facts
    assert set(PHOTO_COLUMNS) == set(PhotoFacts._fields)
