"""`bt encode`: where the table goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Ran


def test_a_dash_is_stdout(tmp_path: Path, checkpoint_folder: Path) -> None:
    import io

    import pyarrow.parquet

    (tmp_path / "c.txt").write_text("a red car\ntwo dogs\n")
    command = [sys.executable, "-m", "bt_cli", "encode", "captions", "c.txt", "-o", "-", "--model", checkpoint_folder]
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONPATH": root}, check=True)
    table = pyarrow.parquet.read_table(io.BytesIO(ran.stdout))
    assert table.column("caption").to_pylist() == ["a red car", "two dogs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt"]


def test_an_npy_name_gives_an_array_and_a_line_for_each_row(
    bt: Callable[..., Ran], tmp_path: Path, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import pyarrow.parquet
    from PIL import Image

    from bt_cli.embeddings.embedding_table import vectors_of

    monkeypatch.chdir(tmp_path)
    os.mkdir("pictures")
    names = ["a.png", "line\nbreak.png", os.fsdecode(b"caf\xe9.png")]
    for number, name in enumerate(names):
        Image.new("RGB", (20 + number, 30), (90 * number, 10, 200)).save(tmp_path / "pictures" / name, "PNG")
        os.utime(tmp_path / "pictures" / name, ns=(0, 1_700_000_000_123_456_789 + number))
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for out in ("x.npy", "x.parquet"):
        ran = bt("encode", "images", "pictures", "-o", out, "--model", checkpoint_folder)
        assert ran.code == 0, ran.err
    table = pyarrow.parquet.read_table("x.parquet")
    vectors = np.load("x.npy", mmap_mode="r")
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, vectors_of(table.column("embedding")))
    rows = [json.loads(line) for line in (tmp_path / "x.rows.jsonl").read_bytes().splitlines()]
    assert [row["path"] for row in rows] == sorted((f"pictures/{name}" for name in names), key=os.fsencode)
    assert [row["content_hash"] for row in rows] == table.column("content_hash").to_pylist()
    shot = ["taken", "taken_offset", "camera", "latitude", "longitude"]
    assert list(rows[0]) == ["path", "size", "mtime", "content_hash", "width", "height", *shot]
    assert (rows[0]["width"], rows[0]["mtime"]) == (20, "2023-11-14T22:13:20.123456789Z")
    assert sorted(os.listdir(tmp_path)) == ["pictures", "x.npy", "x.parquet", "x.rows.jsonl"]


def test_captions_as_npy_say_their_text_and_image(
    bt: Callable[..., Ran], tmp_path: Path, checkpoint_folder: Path
) -> None:
    import numpy as np

    (tmp_path / "c.csv").write_text('image,caption\na.jpg,a red car\nb.jpg,"two\ndogs"\n')
    out = tmp_path / "x.NPY"
    ran = bt(
        "encode", "captions", tmp_path / "c.csv", "-o", out, "--model", checkpoint_folder, "--store-dtype", "float32"
    )
    assert ran.code == 0, ran.err
    assert np.load(out).dtype == np.float32
    assert len(np.load(out)) == 2
    lines = [json.loads(line) for line in (tmp_path / "x.rows.jsonl").read_bytes().splitlines()]
    assert [(line["caption"], line["image"]) for line in lines] == [("a red car", "a.jpg"), ("two\ndogs", "b.jpg")]


@pytest.mark.parametrize("name", ["x.npz", "x.csv"])
def test_a_suffix_of_another_format_is_refused(bt, tmp_path: Path, name: str) -> None:
    ran = bt("encode", "captions", "c.txt", "-o", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    assert "the table is Parquet or NumPy; name it .parquet or .npy, or - for stdout" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_two_things_do_not_share_stdout(bt) -> None:
    ran = bt("encode", "captions", "c.txt", "-o", "-", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: -o - and --json both write to stdout; name a file for the table\n"


@pytest.mark.parametrize("strict", [False, True])
def test_pairs_that_cannot_be_are_named_and_counted(
    bt, tmp_path: Path, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    """A row without its caption, an image that is not there, a caption without an image: the others are encoded."""
    import pyarrow.parquet
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 30), "red").save(name)
    rows = ["a.png,a red car", "b.png,", "gone.png,a dog", ",two dogs", "b.png,a cat"]
    Path("c.csv").write_text("image,caption\n" + "".join(f"{row}\n" for row in rows))
    more = ["--strict"] if strict else []
    ran = bt("encode", "pairs", "c.csv", "-o", "x.parquet", "--model", checkpoint_folder, "--json", *more)
    if strict:
        assert (ran.code, ran.out, ran.err) == (1, "", "bt: c.csv:3: no caption\n")
        return
    assert ran.code == 0, ran.err
    assert ran.err.splitlines()[:-1] == [
        "bt: skipped c.csv:3: no caption",
        "bt: skipped c.csv:4: its image gone.png is not below .",
        "bt: c.csv: 1 caption without an image left out",
    ]
    table = pyarrow.parquet.read_table("x.parquet")
    assert table.column("caption").to_pylist() == ["a red car", "a cat"]
    assert (ran.objects[0]["encoded"], ran.objects[0]["skipped"]) == (2, 3)


def test_a_table_that_is_read_as_plain_text_is_remarked_on(
    bt, tmp_path: Path, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.csv").write_text("a red car,a.jpg\ntwo dogs,b.jpg\n")
    command = ("encode", "captions", "c.csv", "-o", "x.parquet", "--model", checkpoint_folder)
    ran = bt(*command)
    assert (ran.code, ran.err.splitlines()[0]) == (
        0,
        "bt: c.csv: read as plain text, a caption a line, for no header names a column of captions, as image,caption "
        "does (--format plain says that it is meant so)",
    )
    assert bt(*command, "--format", "plain").err.count("\n") == 1
