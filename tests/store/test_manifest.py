import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bt_cli.errors import BrokenIndex, NoIndex
from bt_cli.files.block_sums import WAY_OUT
from bt_cli.store.manifest import NAME, Manifest, Piece


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "holds a list, but has to be a JSON object"),
        (b"\xff", "not UTF-8 text (byte 0)"),
        (b'{"format": 2, "generation": 1e999}', "generation is inf"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_manifest_that_is_none_is_one_line_with_the_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(BrokenIndex) as caught:
        Manifest.read(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / NAME}: ")
    assert said in line
    assert line.endswith(WAY_OUT)
    assert "\n" not in line


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_opened_as_a_manifest(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / NAME)
    with pytest.raises(BrokenIndex) as caught:
        Manifest.read(tmp_path)
    assert str(caught.value) == f"{tmp_path / NAME}: not a regular file; {WAY_OUT}"


def test_a_folder_without_a_manifest_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(NoIndex) as caught:
        Manifest.read(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no index here; bt index FOLDER makes one"


@pytest.mark.parametrize(
    "search",
    [{"nprobe": 0}, {"nprobe": -5}, {"nprobe": 2.5}, {"nprobe": True}, {"efSearch": 1 << 60}, {"recall": 1.5}],
)
def test_a_search_is_tuned_to_nothing_that_faiss_would_choke_on(search: dict[str, float]) -> None:
    """The first format's manifest has no checksum: what it says is looked at for itself."""
    piece = Piece(3, "images-000001.parquet", "vectors-000001.faiss", "paths-000001.bin", kind="IVF2,Flat")
    replace(piece, search={"nprobe": 4, "recall": 0.97, "sample": 256, "lists_begin": 100, "lists_end": 900}).check()
    for value in ({"recall": float("nan")}, search):
        with pytest.raises(ValueError, match=r"^no search that bt writes$"):
            replace(piece, search=value).check()
