"""Bridge features kept on disk: found again, bounded, and never believed when torn or strange."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bt_cli.errors import Misuse
from bt_cli.store.bridge_cache import BridgeCache, file_key

SHAPE = (2, 5, 8)
BYTES = 2 * 5 * 8 * 2
MADE_BY: dict[str, Any] = {"checkpoint": "abc", "dtype": "bfloat16"}


def block(number: int) -> Tensor:
    return torch.full(SHAPE, float(number), dtype=torch.bfloat16)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def filled(folder: Path, numbers: range, limit: int = 100 * BYTES) -> BridgeCache:
    cache = BridgeCache(folder, MADE_BY, limit=limit)
    for number in numbers:
        assert cache.put(key(number), block(number))
    cache.close()
    return cache


def held(cache: BridgeCache, numbers: range) -> list[int]:
    found = []
    for number in numbers:
        kept = cache.get(key(number))
        if kept is not None:
            assert torch.equal(kept, block(number))
            found.append(number)
    return found


def test_what_was_put_is_found_again_by_another_process(tmp_path: Path) -> None:
    filled(tmp_path, range(7))
    again = BridgeCache(tmp_path, MADE_BY)
    assert len(again) == 7
    assert held(again, range(9)) == list(range(7))
    assert not again.put(key(8), block(8))  # opened for reading


def test_the_oldest_make_room(tmp_path: Path) -> None:
    cache = filled(tmp_path, range(25), limit=10 * BYTES + 3)
    assert held(cache, range(25)) == list(range(15, 25))
    again = BridgeCache(tmp_path, MADE_BY, limit=10 * BYTES)
    assert held(again, range(25)) == list(range(15, 25))
    assert again.put(key(25), block(25))
    assert held(again, range(30)) == list(range(16, 26))
    again.close()
    assert (again.folder / "features.bin").stat().st_size == 10 * BYTES


def test_a_smaller_limit_gives_space_back(tmp_path: Path) -> None:
    filled(tmp_path, range(20))
    small = BridgeCache(tmp_path, MADE_BY, limit=4 * BYTES)
    assert small.put(key(99), block(99))
    small.close()
    assert (small.folder / "features.bin").stat().st_size == 4 * BYTES
    again = BridgeCache(tmp_path, MADE_BY)
    assert held(again, range(100)) == [1, 2, 3, 99]


@pytest.mark.parametrize("change", [{"checkpoint": "other"}, {"dtype": "float32"}, {"precision": "int8"}])
def test_another_checkpoint_finds_nothing(tmp_path: Path, change: dict[str, str]) -> None:
    filled(tmp_path, range(3))
    assert len(BridgeCache(tmp_path, {**MADE_BY, **change})) == 0
    assert len(BridgeCache(tmp_path, MADE_BY)) == 3


def test_torn_and_cut_files_are_absent_not_wrong(tmp_path: Path) -> None:
    folder = filled(tmp_path, range(6)).folder
    features = bytearray((folder / "features.bin").read_bytes())
    features[2 * BYTES + 7] ^= 1
    (folder / "features.bin").write_bytes(features[: 5 * BYTES + 9])
    records = (folder / "keys.bin").read_bytes()
    (folder / "keys.bin").write_bytes(records + records[:10])
    assert held(BridgeCache(tmp_path, MADE_BY), range(6)) == [0, 1, 3, 4]
    (folder / "header.json").write_text("{")
    assert len(BridgeCache(tmp_path, MADE_BY)) == 0


def test_a_second_writer_only_reads(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = BridgeCache(tmp_path, MADE_BY, limit=100 * BYTES)
    assert first.put(key(1), block(1))
    second = BridgeCache(tmp_path, MADE_BY, limit=100 * BYTES)
    assert not second.put(key(2), block(2))
    assert held(second, range(3)) == [1]
    first.close()


def test_an_unwritable_folder_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = BridgeCache(tmp_path / "file" / "below", MADE_BY, limit=1000)
    with pytest.warns(UserWarning, match="bridge features are not kept"):
        assert not cache.put(key(1), block(1))
    assert not cache.put(key(2), block(2))  # and no second warning


def test_strange_blocks_are_not_kept(tmp_path: Path) -> None:
    cache = filled(tmp_path, range(1))
    cache.limit = 1000
    assert not cache.put(key(5), block(5)[:, :4])
    assert not cache.put(key(5), block(5).float())
    assert BridgeCache(tmp_path / "tiny", MADE_BY, limit=10).put(key(1), block(1)) is False


def test_a_changed_file_has_another_key(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    assert file_key(file) is None
    file.write_bytes(b"one")
    before = file_key(str(file))
    assert before == file_key(file)
    os.utime(file, ns=(5, 5))
    touched = file_key(file)
    file.write_bytes(b"more")
    os.utime(file, ns=(5, 5))
    assert len({before, touched, file_key(file)}) == 3
    assert file_key(b"bytes of an image") is None
    assert file_key("a\0b") is None


@pytest.mark.parametrize("limit", [float("inf"), float("nan"), -1])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(Misuse, match=f"a bridge cache of {limit} bytes can't be kept; give a finite number"):
        BridgeCache(tmp_path, MADE_BY, limit=limit)


@pytest.mark.parametrize("limit", [100 * BYTES, 6 * BYTES])
def test_a_torn_block_is_made_again(tmp_path: Path, limit: int) -> None:
    folder = filled(tmp_path, range(6), limit).folder
    features = bytearray((folder / "features.bin").read_bytes())
    features[2 * BYTES + 7] ^= 1
    (folder / "features.bin").write_bytes(features)
    cache = BridgeCache(tmp_path, MADE_BY, limit=limit)
    assert [number for number in range(6) if key(number) in cache] == [0, 1, 3, 4, 5]
    assert len(cache) == 5
    assert cache.put(key(2), block(2))
    cache.close()
    # A full cache gives it the torn block's place, not that of a whole one.
    assert held(BridgeCache(tmp_path, MADE_BY), range(6)) == list(range(6))
    unasked = BridgeCache(tmp_path, MADE_BY, limit=limit)
    assert not unasked.put(key(2), block(2))


@pytest.mark.parametrize(
    "shape", [[2, 5, 4], [2, 5, 16], [-2, -5, 8], [0, 5, 8], [2**62, 4, 1], [80], [2, 5, "8"], [2.0, 5, 8], 3, None]
)
def test_a_header_of_another_shape_is_written_anew(tmp_path: Path, shape: object) -> None:
    folder = filled(tmp_path, range(6)).folder
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, "shape": shape}))
    cache = BridgeCache(tmp_path, MADE_BY, limit=100 * BYTES)
    assert held(cache, range(6)) == []
    for number in range(4):
        assert cache.put(key(number), block(number))
    cache.close()
    assert held(BridgeCache(tmp_path, MADE_BY), range(6)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["header.json", "features.bin", "keys.bin"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_holds_no_block_and_takes_none(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    folder = filled(tmp_path, range(3)).folder
    (folder / name).unlink()
    make(folder / name)
    cache = BridgeCache(tmp_path, MADE_BY, limit=100 * BYTES)
    assert held(cache, range(3)) == []
    if name != "header.json":
        with pytest.warns(UserWarning, match="bridge features are not kept any more$"):
            assert not cache.put(key(5), block(5))


def test_a_link_in_the_cache_is_not_written_through(tmp_path: Path) -> None:
    folder = filled(tmp_path / "cache", range(1)).folder
    (tmp_path / "mine").write_bytes(b"somebody's")
    (folder / "keys.bin").unlink()
    (folder / "keys.bin").symlink_to(tmp_path / "mine")
    cache = BridgeCache(tmp_path / "cache", MADE_BY, limit=100 * BYTES)
    with pytest.warns(UserWarning, match="bridge features are not kept any more$"):
        assert not cache.put(key(5), block(5))
    assert (tmp_path / "mine").read_bytes() == b"somebody's"
