"""Whatever the threads do, the batches come in order, whole, and a few at a time."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bt_cli.errors import BadConfig, UnreadableImage
from bt_cli.preprocessing import decoding
from bt_cli.preprocessing.decoding import DecodedBatch, DecodeStream, default_workers
from bt_cli.preprocessing.image_processor import ImageProcessor

PROCESSOR = ImageProcessor.from_dict({"size": 32})
UNCROPPED = ImageProcessor.from_dict({"size": 32, "do_center_crop": False})


def picture(number: int) -> Image.Image:
    """Told apart by its colour and its size; every fifth is tall, the others wide."""
    size = (40, 60 + number % 7) if number % 5 == 0 else (60 + number % 7, 40)
    return Image.new("RGB", size, (number % 256, number * 7 % 256, 255 - number % 256))


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """30 files, of which numbers 3, 10, 11 and 29 can't be read in different ways."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number:02}.png" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(png(number))
    paths[3].write_bytes(b"no picture")
    paths[10].write_bytes(b"")
    paths[11].unlink()
    paths[29].write_bytes(png(29)[:60])
    return paths


BROKEN = [3, 10, 11, 29]


def rows_of(batches: list[DecodedBatch]) -> dict[int, tuple]:
    rows = {}
    for batch in batches:
        assert len(batch.indices) == len(batch.pixel_values) == len(batch.sizes) == len(batch.hashes)
        assert batch.pixel_values.dtype == np.float32
        assert batch.pixel_values.flags.c_contiguous
        for index, pixels, size, content_hash in zip(
            batch.indices, batch.pixel_values, batch.sizes, batch.hashes, strict=True
        ):
            rows[index] = (pixels.tobytes(), size, content_hash)
    return rows


def errors_of(batches: list[DecodedBatch]) -> list[tuple[int, UnreadableImage]]:
    return [error for batch in batches for error in batch.errors]


@pytest.mark.parametrize("processor", [PROCESSOR, UNCROPPED], ids=["cropped", "any size"])
@pytest.mark.parametrize(
    ("workers", "batch_size"), [(0, 4), (1, 1), (1, 30), (2, 4), (3, 7), (8, 5), (8, 100), (None, 8)]
)
def test_rows_depend_on_neither_threads_nor_batches(
    files: list[Path], processor: ImageProcessor, workers: int | None, batch_size: int
) -> None:
    batches = list(DecodeStream(files, processor, batch_size=batch_size, workers=workers))
    rows = rows_of(batches)
    assert list(rows) == [number for number in range(30) if number not in BROKEN]  # in order, each once
    for number, (pixels, size, content_hash) in rows.items():
        assert pixels == processor(files[number]).tobytes()
        assert size == picture(number).size
        assert content_hash is None
    said = [(index, str(error)) for index, error in errors_of(batches)]
    assert [index for index, _ in said] == BROKEN
    assert said[0][1] == f"{files[3]}: not an image that can be read"
    assert said[1][1] == f"{files[10]}: the file is empty"
    assert said[2][1] == f"{files[11]}: no such file"
    assert said[3][1].startswith(f"{files[29]}: broken image: ")


def test_batches_have_the_size_asked_for_less_what_cannot_be_read(files: list[Path]) -> None:
    batches = list(DecodeStream(files, PROCESSOR, batch_size=8))
    assert [len(batch.indices) for batch in batches] == [7, 6, 8, 5]
    assert [[index for index, _ in batch.errors] for batch in batches] == [[3], [10, 11], [], [29]]


def test_nothing_is_padded_where_sizes_vary(files: list[Path]) -> None:
    for batch in DecodeStream(files, UNCROPPED, batch_size=8):
        for index, pixels in zip(batch.indices, batch.pixel_values, strict=True):
            assert pixels.shape == UNCROPPED(files[index]).shape


@pytest.mark.parametrize("processor", [PROCESSOR, UNCROPPED], ids=["cropped", "any size"])
def test_a_batch_of_broken_files_alone(files: list[Path], processor: ImageProcessor) -> None:
    (batch,) = DecodeStream([files[3], files[10]], processor, batch_size=8)
    assert (batch.indices, batch.sizes, batch.hashes, len(batch.pixel_values)) == ([], [], [], 0)
    assert [index for index, _ in batch.errors] == [0, 1]


def test_no_sources() -> None:
    assert list(DecodeStream([], PROCESSOR, batch_size=4)) == []


def test_every_kind_of_source() -> None:
    sources = [picture(1), png(1), np.asarray(picture(1))]
    (batch,) = DecodeStream(sources, PROCESSOR, batch_size=4, content_hash=lambda data: "files only")
    assert batch.hashes == [None, None, None]
    assert len({pixels.tobytes() for pixels in batch.pixel_values}) == 1


def test_a_source_without_a_name_is_told_by_its_position() -> None:
    sources = [png(1), b"broken", Image.new("RGB", (0, 3)), np.zeros((3, 3), np.float32), 5]
    (batch,) = DecodeStream(sources, PROCESSOR, batch_size=8)
    assert [str(error) for _, error in batch.errors] == [
        "image 1: not an image that can be read",
        "image 2: the image has no pixels",
        "image 3: float32 (3, 3) is no image; uint8 (H, W), (H, W, 3) or (H, W, 4) is",
        "image 4: int is neither a path nor an image",
    ]


def test_each_file_is_read_once_and_hashed_from_the_bytes_decoded(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = decoding.read_image_file
    monkeypatch.setattr(decoding, "read_image_file", lambda path: read.append(path) or original(path))
    stream = DecodeStream(
        files, PROCESSOR, batch_size=8, workers=1, content_hash=lambda d: hashlib.sha256(d).hexdigest()
    )
    batches = list(stream)
    assert read == files
    for index, (_, _, content_hash) in rows_of(batches).items():
        assert content_hash == hashlib.sha256(png(index)).hexdigest()
    said = {index: str(error) for index, error in errors_of(batches)}
    assert said[3] == f"{files[3]}: not an image that can be read"
    assert said[11] == f"{files[11]}: no such file"


def test_memory_is_bounded_however_many_sources() -> None:
    """Live arrays and sources drawn ahead are counted, rather than bytes: exact, and as good."""
    alive: set[int] = set()
    most = 0
    drawn = taken = 0

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        nonlocal most
        array = np.empty(shape, np.float32)
        alive.add(id(array))
        weakref.finalize(array, alive.discard, id(array))
        most = max(most, len(alive))
        return array

    def sources() -> Iterator[bytes]:
        nonlocal drawn
        data = png(1)
        for _ in range(400):
            drawn += 1
            assert drawn - taken <= 4 * 4  # the batch in hand, the next one, two ahead
            yield data

    for batch in DecodeStream(sources(), PROCESSOR, batch_size=4, ahead=2, workers=3, allocate=allocate):
        taken += len(batch.indices)
    assert drawn == taken == 400
    assert most <= 2 + 2


def test_decoding_goes_on_while_the_consumer_works(files: list[Path]) -> None:
    decoded = threading.Event()
    names = set()

    class Watched(ImageProcessor):
        def decoded(self, image, **options):
            names.add(threading.current_thread().name.rsplit("_", 1)[0])
            if image == files[5]:
                decoded.set()
            return super().decoded(image, **options)

    with DecodeStream(files, Watched(PROCESSOR.settings), batch_size=2, workers=2) as stream:
        next(iter(stream))
        assert decoded.wait(10)  # number 5 is in the third batch, and only the first was asked for
    assert names == {"bt-decode"}


def test_leaving_early_ends_the_threads(files: list[Path]) -> None:
    before = threading.active_count()
    with DecodeStream(files, PROCESSOR, batch_size=2, workers=4) as stream:
        next(iter(stream))
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert list(stream) == []


def test_another_error_is_not_swallowed_and_ends_the_threads(
    monkeypatch: pytest.MonkeyPatch, files: list[Path]
) -> None:
    before = threading.active_count()
    monkeypatch.setenv("BT_MAX_PIXELS", "lots")
    with pytest.raises(BadConfig, match="BT_MAX_PIXELS=lots"):
        list(DecodeStream(files, PROCESSOR, batch_size=4))
    assert threading.active_count() == before


def test_an_error_of_the_sources_comes_through() -> None:
    def sources() -> Iterator[bytes]:
        yield png(1)
        raise PermissionError("the folder went away")

    with pytest.raises(PermissionError, match="the folder went away"):
        list(DecodeStream(sources(), PROCESSOR, batch_size=4))


def test_the_clock_says_who_waited_for_whom() -> None:
    class Slow(ImageProcessor):
        def decoded(self, image, **options):
            time.sleep(0.02)
            return super().decoded(image, **options)

    slow_decoding = DecodeStream([png(1)] * 6, Slow(PROCESSOR.settings), batch_size=2, workers=1)
    list(slow_decoding)
    assert slow_decoding.clock.slower == "decoding"
    assert slow_decoding.clock.waiting > 0.06
    assert slow_decoding.clock.decoding > 0.12

    slow_network = DecodeStream([png(1)] * 6, PROCESSOR, batch_size=2, workers=1)
    for _ in slow_network:
        time.sleep(0.05)
    assert slow_network.clock.slower == "network"
    assert slow_network.clock.elsewhere > 0.15


def test_exact_and_draft() -> None:
    buffer = io.BytesIO()
    ramp = np.add.outer(np.arange(600), np.arange(800)).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1)).save(buffer, "JPEG", quality=92)
    data = buffer.getvalue()
    (exact,) = DecodeStream([data], PROCESSOR, batch_size=1, exact=True)
    (draft,) = DecodeStream([data], PROCESSOR, batch_size=1)
    np.testing.assert_array_equal(exact.pixel_values[0], PROCESSOR(data))
    np.testing.assert_array_equal(draft.pixel_values[0], PROCESSOR(data, exact=False))
    assert (exact.pixel_values != draft.pixel_values).any()
    assert exact.sizes == draft.sizes == [(800, 600)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_any_plan_gives_the_same_rows(numbers: list[int], batch_size: int, workers: int, ahead: int) -> None:
    sources = [png(number) if number < 36 else b"broken" for number in numbers]
    batches = list(DecodeStream(sources, UNCROPPED, batch_size=batch_size, workers=workers, ahead=ahead))
    rows = rows_of(batches)
    assert list(rows) == [index for index, number in enumerate(numbers) if number < 36]
    for index, (pixels, _, _) in rows.items():
        assert pixels == UNCROPPED(png(numbers[index])).tobytes()
    assert [index for index, _ in errors_of(batches)] == [index for index, n in enumerate(numbers) if n >= 36]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 1, "workers": -1}, {"batch_size": 1, "ahead": -1}])
def test_impossible_plans(wrong: dict) -> None:
    with pytest.raises(ValueError, match="batch_size begins at 1"):
        DecodeStream([], PROCESSOR, **wrong)


def test_the_default_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert default_workers() == 16
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: range(3), raising=False)
    assert default_workers() == 3


def test_pictures_that_lack_some_rows_are_told(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    data = buffer.getvalue()
    for name, content in [("whole", data), ("cut", data[: len(data) * 9 // 10]), ("unended", data[:-2])]:
        (tmp_path / f"{name}.jpg").write_bytes(content)
    paths = [tmp_path / "cut.jpg", tmp_path / "whole.jpg", tmp_path / "unended.jpg"]
    with DecodeStream(paths, PROCESSOR, batch_size=4, workers=2) as stream:
        (batch,) = list(stream)
    assert batch.indices == [0, 1, 2]
    ((index, said),) = batch.incomplete
    assert index == 0
    assert said.startswith(f"{tmp_path}/cut.jpg: truncated, the last ")
    assert said.endswith("% of its rows are filled in")


def test_a_long_file_is_hashed_by_its_path(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WHOLE_FILE", 100)
    hashed: list[object] = []

    def digest(source: object) -> str:
        hashed.append(source)
        return "x"

    with DecodeStream(files[:3], PROCESSOR, batch_size=4, content_hash=digest) as stream:
        (batch,) = list(stream)
    assert batch.hashes == ["x"] * 3
    assert sorted(map(str, hashed)) == sorted(map(str, files[:3]))
