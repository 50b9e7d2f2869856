"""What a photo library asks, against brute force: `python -m benchmarks.filters [--images 20000] [--rows 1000000]`.

Small drawn JPEGs with drawn EXIF (one in ten has none, one in twenty is a copy of another file, one in twenty another
file saved anew) are indexed with the bundled checkpoint. Filters, filtered searches, duplicates and labels are then
compared with the plainest computation from what was drawn, in Python, picture by picture; any difference is printed
and ends in exit code 1. A table of `--rows` drawn rows gives the time of a filter alone. Filters are timed by the
processor's clock, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.base_checkpoint import cache_folder
from bt_cli.embeddings.embedding_table import TableWriter, image_schema, times, vector_array, vectors_of
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.photo_columns import arrow_columns, facts_arrays
from bt_cli.files.photo_facts import PhotoFacts, clock_milliseconds
from bt_cli.indexing.build import build_index
from bt_cli.indexing.encoder import ModelEncoder
from bt_cli.indexing.from_tables import index_tables
from bt_cli.inference.model import Model, load
from bt_cli.search.duplicates import find_duplicates
from bt_cli.search.labelling import by_embedding, in_template, temperature
from bt_cli.search.nearest import search_images, wanted_images
from bt_cli.search.photo_filter import EARTH, PhotoFilter, parse_circle, parse_time
from bt_cli.store.index_folder import IndexFolder

CAMERAS = (("Canon", "Canon EOS 5D"), ("NIKON CORPORATION", "NIKON D90"), ("Apple", "iPhone 12"), ("FUJIFILM", "X100V"))
NAMES = ("Canon EOS 5D", "NIKON D90", "Apple iPhone 12", "FUJIFILM X100V")
CITIES = ((48.21, 16.37), (-33.87, 151.21), (64.15, -21.94), (-17.71, 178.07))
FILTERS: tuple[dict[str, Any], ...] = (
    {"after": "2024"},
    {"after": "2023-06", "before": "2023-09-15"},
    {"after": "2022-03-05T12:00+02:00", "before": "2024-01-01T00:00Z"},
    {"near": "48.2,16.37,20km"},
    {"near": "-17.7,179.9,300km"},
    {"cameras": ["iphone"]},
    {"cameras": ["nikon*", "x100"]},
    {"after": "2021", "before": "2025", "near": "48.2,16.37,500km", "cameras": ["canon"]},
)
NEAR, LABELS, TRIES = 0.98, ("cat", "dog", "car", "tree", "house", "lake"), 5
ROWS_AT_A_TIME = 1 << 16


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filters", description="Filters against brute force.")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        folder = Path(name)
        wrong = library(folder, asked.images) + many_rows(folder, asked.rows)
    print(f"{wrong} answers differ from brute force" if wrong else "every answer is that of brute force")
    sys.exit(bool(wrong))


def library(folder: Path, images: int) -> int:
    """The drawn pictures; how many answers are wrong."""
    drawn = draw_pictures(folder / "photos", images)
    model = load("tiny", device="cpu", dtype="float32")
    seconds, summary = timed(
        lambda: build_index(folder / "index", [folder / "photos"], ModelEncoder(model), store_dtype="float32")
    )
    print(f"{images:,} pictures: indexed in {seconds:.1f} s, {summary.images_per_second:.0f} images/s")
    with IndexFolder.open(folder / "index") as index:
        facts = [drawn[Path(path).name] for path in index.paths(range(len(index)))]
        vectors = vectors_of(index.table(["embedding"]).column("embedding"))
        wrong = check_read(index, facts)
        wrong += check_filters(index, facts) + check_searches(index, facts, vectors, model)
        wrong += check_duplicates(index, vectors) + check_labels(index, vectors, model)
    return wrong


def draw_pictures(folder: Path, count: int) -> dict[str, PhotoFacts]:
    """The files, and what each says of the shot."""
    folder.mkdir()
    draw, drawn = random.Random(0), {}
    for number in range(count):
        kind, name = draw.random(), f"{number:06d}.jpg"
        if number and kind < 0.05:
            other = f"{draw.randrange(number):06d}.jpg"
            (folder / name).write_bytes((folder / other).read_bytes())
            drawn[name] = drawn[other]
            continue
        if number and kind < 0.1:
            with Image.open(folder / f"{draw.randrange(number):06d}.jpg") as image:
                picture = image.convert("RGB")
        else:
            blocks = np.frombuffer(draw.randbytes(4 * 4 * 3), np.uint8).reshape(4, 4, 3)
            picture = Image.fromarray(blocks).resize((64, 64), Image.Resampling.BICUBIC)
        camera = draw.randrange(len(CAMERAS))
        drawn[name] = facts = PhotoFacts() if draw.random() < 0.1 else draw_facts(draw, camera)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=draw.randrange(80, 96), exif=exif_of(facts, camera))
        (folder / name).write_bytes(written.getvalue())
    return drawn


def draw_facts(draw: random.Random, camera: int) -> PhotoFacts:
    """When, with what and where: each may be missing."""
    moment = datetime(2020, 1, 1) + timedelta(seconds=draw.randrange(6 * 365 * 86_400))
    taken = clock_milliseconds(moment) if draw.random() < 0.9 else None
    offset = draw.choice((None, 0, 120, -300, 345)) if taken is not None else None
    city, spread = draw.choice(CITIES), draw.choice((0.05, 0.5, 5.0))
    latitude, longitude = (round(value + draw.uniform(-spread, spread), 6) for value in city)
    longitude = (longitude + 180) % 360 - 180
    place = (latitude, longitude) if draw.random() < 0.7 else (None, None)
    return PhotoFacts(taken, offset, NAMES[camera] if draw.random() < 0.9 else None, *place)


def exif_of(facts: PhotoFacts, camera: int) -> Image.Exif:
    """The facts as a camera writes them."""
    exif = Image.Exif()
    if facts.camera is not None:
        exif[0x010F], exif[0x0110] = CAMERAS[camera]
    if facts.taken is not None:
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=facts.taken)
        exif.get_ifd(0x8769)[0x9003] = f"{moment:%Y:%m:%d %H:%M:%S}"
        if facts.taken_offset is not None:
            hours, minutes = divmod(abs(facts.taken_offset), 60)
            exif.get_ifd(0x8769)[0x9011] = f"{'-' if facts.taken_offset < 0 else '+'}{hours:02}:{minutes:02}"
    if facts.latitude is not None and facts.longitude is not None:
        gps: dict[int, Any] = exif.get_ifd(0x8825)
        for tag, degrees, sides in ((1, facts.latitude, "NS"), (3, facts.longitude, "EW")):
            gps[tag], gps[tag + 1] = sides[degrees < 0], (abs(degrees), 0.0, 0.0)
    return exif


def check_read(index: IndexFolder, facts: list[PhotoFacts]) -> int:
    """What the index says of each picture, degrees to the sixth digit."""

    def rounded(fact: PhotoFacts) -> tuple[Any, ...]:
        return (*fact[:3], *(None if value is None else round(value, 6) for value in fact[3:]))

    found = index.photos.facts(range(len(index)))
    return report("facts read", sum(rounded(a) != rounded(b) for a, b in zip(found, facts, strict=True)))


def check_filters(index: IndexFolder, facts: list[PhotoFacts]) -> int:
    """Which pictures each filter leaves, and how many it knows too little of."""
    wrong = 0
    for asked in FILTERS:
        wanted = PhotoFilter.build(**asked)
        assert wanted is not None
        seconds = min(
            timed(lambda wanted=wanted: wanted_images(index, (), wanted), time.process_time)[0] for _ in range(TRIES)
        )
        kept, begun = wanted_images(index, (), wanted), time.process_time()
        answers = [by_hand(fact, asked) for fact in facts]
        taken = time.process_time() - begun
        same = (
            kept.ids.tolist() == [id for id, answer in enumerate(answers) if answer] if kept.ids is not None else False
        )
        wrong += not same or kept.unknown != answers.count(None)
        print(f"  {wanted!s:70} {answers.count(True):7,} {seconds * 1000:7.2f} ms ({taken * 1000:.0f} by hand)")
    return report("filters", wrong)


def by_hand(fact: PhotoFacts, asked: dict[str, Any]) -> bool | None:
    """Whether one picture fits; None where it does not say."""
    fits: list[bool | None] = []
    for name, compare in (("after", int.__ge__), ("before", int.__lt__)):
        if name in asked:
            bound = parse_time(asked[name], name)
            mine, end = fact.taken, bound.clock
            if mine is not None and bound.offset is not None and fact.taken_offset is not None:
                mine, end = mine - fact.taken_offset * 60_000, end - bound.offset * 60_000
            fits.append(None if mine is None else compare(mine, end))
    if "near" in asked:
        circle = parse_circle(asked["near"])
        known = fact.latitude is not None and fact.longitude is not None
        fits.append(chord_kilometres(circle[:2], fact[3:]) <= circle.radius if known else None)
    if "cameras" in asked:
        name = fact.camera and fact.camera.lower()
        parts = [part.strip("*") for part in asked["cameras"]]
        fits.append(None if name is None else any(part in name for part in parts))
    return None if None in fits else all(fits)


def chord_kilometres(one: Any, other: Any) -> float:
    """Along the earth, by the chord between two points of a sphere."""
    points = []
    for latitude, longitude in (one, other):
        north, east = math.radians(latitude), math.radians(longitude)
        points.append((math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)))
    return 2 * EARTH * math.asin(min(math.dist(*points) / 2, 1))


def check_searches(index: IndexFolder, facts: list[PhotoFacts], vectors: np.ndarray, model: Model) -> int:
    """The best ten among what each filter leaves."""
    wrong, spent = 0, []
    queries = np.asarray(model.encode_texts(["a red car", "a lake", "a green tree"]), np.float32)
    cosines = vectors.astype(np.float64) @ queries.astype(np.float64).T
    for asked in FILTERS:
        wanted = PhotoFilter.build(**asked)
        fitting = [id for id, fact in enumerate(facts) if by_hand(fact, asked)]
        for row, query in enumerate(queries):
            seconds, hits = timed(
                lambda query=query, wanted=wanted: search_images(
                    index, query, 10, ids=wanted_images(index, (), wanted).ids
                )
            )
            spent.append(seconds)
            best = sorted(fitting, key=lambda id, row=row: (-cosines[id, row], id))[:10]
            scores = [cosines[id, row] for id in best]
            # Equal pictures tie, and float32 rounds: the scores decide.
            same = len(hits) == len(best) and np.allclose([hit.score for hit in hits], scores, atol=2e-6)
            wrong += not (same and {hit.id for hit in hits} <= set(fitting))
    print(f"  ten best among them: {1000 * float(np.median(spent)):.2f} ms (median of {len(spent)})")
    return report("filtered searches", wrong)


def check_duplicates(index: IndexFolder, vectors: np.ndarray) -> int:
    """Groups of equal files, and of near twins."""
    paths = index.paths(range(len(index)))
    digests: dict[str, set[str]] = {}
    for path in paths:
        digests.setdefault(hashlib.sha256(Path(path).read_bytes()).hexdigest(), set()).add(path)
    seconds, groups = timed(lambda: find_duplicates(index))
    equal = {frozenset(group) for group in digests.values() if len(group) > 1}
    wrong = {frozenset(copy.path for copy in group.images) for group in groups} != equal
    print(f"  duplicates: {len(groups):,} groups of equal files in {seconds:.2f} s")
    seconds, groups = timed(lambda: find_duplicates(index, NEAR))
    near = {frozenset(copy.path for copy in group.images) for group in groups}
    wanted = {frozenset(paths[id] for id in group) for group in components(vectors)}
    print(f"  duplicates --near {NEAR}: {len(groups):,} groups in {seconds:.2f} s")
    return report("duplicates", int(wrong) + len(near ^ wanted))


def components(vectors: np.ndarray) -> list[list[int]]:
    """Rows that are connected by cosines of at least `NEAR`, each by a walk over all others; groups of two or more."""
    left, groups = np.ones(len(vectors), bool), []
    for start in range(len(vectors)):
        if not left[start]:
            continue
        left[start], group, waiting = False, [start], [start]
        while waiting:
            rows = np.flatnonzero(left)
            found = rows[vectors[rows] @ vectors[waiting.pop()] >= NEAR].tolist()
            left[found] = False
            group += found
            waiting += found
        if len(group) > 1:
            groups.append(group)
    return groups


def check_labels(index: IndexFolder, vectors: np.ndarray, model: Model) -> int:
    """The share of each label, against a softmax in Python over the index's own embeddings."""
    sentences, scale = in_template("a photo of a {}", LABELS), temperature(model)
    texts = np.asarray(model.encode_texts(sentences), np.float64)
    files = index.paths(range(len(index)))
    seconds, shares = timed(lambda: by_embedding(model, files, sentences))
    wrong = 0
    for row, vector in enumerate(vectors.astype(np.float64)):
        weights = [math.exp(scale * float(vector @ text)) for text in texts]
        wrong += any(abs(weight / sum(weights) - shares[row, place]) > 1e-4 for place, weight in enumerate(weights))
    print(f"  labels: {len(LABELS)} for each in {seconds:.1f} s, {len(files) / seconds:.0f} images/s")
    return report("labels", wrong)


def many_rows(folder: Path, rows: int) -> int:
    """Filters over a large table: the first time, which reads its columns, and again."""
    draw = np.random.default_rng(1)
    schema = image_schema(Identity("generated", "0" * 64, "none", 8, "float32"), "float16", str(folder))
    clocks, cameras, places = [], [], []
    with open(folder / "rows.parquet", "wb") as file, TableWriter(file, schema) as table:
        for first in range(0, rows, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, rows - first)
            columns = drawn_columns(draw, first, count)
            table.write(columns)
            clocks.append(np.asarray(columns["taken"].fill_null(0).cast("int64")))
            cameras.append(np.array(columns["camera"].to_pylist(), object))
            places.append(np.stack([np.asarray(columns[name]) for name in ("latitude", "longitude")], 1))
    index_tables(folder / "large", [folder / "rows.parquet"])
    clock, camera, place = np.concatenate(clocks), np.concatenate(cameras), np.concatenate(places)
    print(f"{rows:,} rows (milliseconds of the processor: asked the first time, the least of {TRIES} again)")
    wrong = 0
    for asked, fits in (
        ({"after": "2024-06"}, clock >= clock_milliseconds(datetime(2024, 6, 1))),
        ({"near": "48.2,16.37,200km"}, arc_kilometres(place, 48.2, 16.37) <= 200),
        ({"cameras": ["iphone"]}, camera == "Apple iPhone 12"),
    ):
        wanted = PhotoFilter.build(**asked)
        with IndexFolder.open(folder / "large") as index:
            first, kept = timed(lambda index=index, wanted=wanted: wanted_images(index, (), wanted), time.process_time)
            again = min(
                timed(lambda index=index, wanted=wanted: wanted_images(index, (), wanted), time.process_time)[0]
                for _ in range(TRIES)
            )
        wrong += kept.ids is None or not np.array_equal(kept.ids, np.flatnonzero(fits))
        print(f"  {wanted!s:40} {int(fits.sum()):9,} {first * 1000:8.1f} {again * 1000:8.1f}")
    return report("filters of many rows", wrong)


def drawn_columns(draw: np.random.Generator, first: int, count: int) -> dict[str, Any]:
    """Rows of a table; paths ascend, so that ids are their numbers."""
    arrays = facts_arrays((), count)
    arrays["taken"][:] = clock_milliseconds(datetime(2020, 1, 1)) + draw.integers(0, 6 * 365 * 86_400_000, count)
    arrays["camera"][:] = np.array(NAMES, object)[draw.integers(0, len(NAMES), count)]
    arrays["latitude"][:], arrays["longitude"][:] = draw.uniform(-90, 90, count), draw.uniform(-180, 180, count)
    return {
        "path": [f"photos/{number:09d}.jpg" for number in range(first, first + count)],
        "path_bytes": [None] * count,
        "size": np.full(count, 40_000),
        "mtime": times(np.full(count, 1, np.int64)),
        "content_hash": [f"{number:064x}" for number in range(first, first + count)],
        "width": np.full(count, 64, np.int32),
        "height": np.full(count, 64, np.int32),
        **arrow_columns(arrays),
        "embedding": vector_array(np.eye(8, dtype=np.float32)[draw.integers(0, 8, count)], "float16"),
    }


def arc_kilometres(places: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """As `chord_kilometres`, of many places (n, 2)."""

    def points(degrees: np.ndarray) -> np.ndarray:
        north, east = np.radians(degrees).T
        return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], 1)

    chords = np.linalg.norm(points(places) - points(np.array([[latitude, longitude]])), axis=1)
    return 2 * EARTH * np.arcsin(np.clip(chords / 2, 0, 1))


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """Seconds, and what came of them."""
    begun = clock()
    result = work()
    return clock() - begun, result


def report(what: str, wrong: int) -> int:
    """Say how one comparison ended."""
    print(f"  {what}: {'right' if not wrong else f'{wrong} WRONG'}")
    return wrong


if __name__ == "__main__":
    main()
