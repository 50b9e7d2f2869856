"""Caches under a budget of bytes: the least recently used goes first, and nothing is kept beyond the budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bt_cli.bridgetower.states import TextStates
from bt_cli.errors import Misuse
from bt_cli.inference.cache import ByteCache, ImageCache, TextCache


def features(number: int) -> Tensor:
    return torch.full((2, 5, 8), float(number))


BYTES = features(0).nbytes


def test_the_last_used_are_kept() -> None:
    cache = ImageCache.in_memory(3 * BYTES)
    for number in range(3):
        assert cache.put(bytes([number]), features(number))
    assert torch.equal(cache.get(b"\0"), features(0))
    assert cache.put(b"\3", features(3))
    assert [number for number in range(4) if cache.get(bytes([number])) is not None] == [0, 2, 3]
    assert cache.room == 0
    cache.clear()
    assert (len(cache), cache.room) == (0, 3 * BYTES)


@given(st.lists(st.tuples(st.sampled_from(["get", "put", "pop", "stay"]), st.integers(0, 5), st.integers(1, 9))))
def test_never_more_than_the_budget_and_in_the_order_of_use(steps: list[tuple[str, int, int]]) -> None:
    cache: ByteCache[int, str] = ByteCache(12, len)
    model: OrderedDict[int, str] = OrderedDict()
    for what, key, size in steps:
        if what == "get":
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif what == "pop":
            assert cache.pop(key) == model.pop(key, None)
        else:
            fits = what == "put" or size + sum(map(len, model.values())) <= 12
            assert cache.put(key, "x" * size, evict=what == "put") is (key in model or fits)
            if fits and key not in model:
                model[key] = "x" * size
            while sum(map(len, model.values())) > 12:
                model.popitem(last=False)
        assert [other for other in range(6) if other in cache] == sorted(model)
        assert cache.room == 12 - sum(map(len, model.values())) >= 0


@pytest.mark.parametrize("limit", [float("inf"), float("nan"), -1])
def test_a_budget_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(Misuse, match=f"a cache of {limit} bytes can't be kept; give a finite number, 0 for none"):
        ByteCache(limit, len)


def test_a_value_beyond_the_budget_drops_nothing() -> None:
    cache: ByteCache[int, str] = ByteCache(3, len)
    assert cache.put(1, "abc")
    assert not cache.put(2, "abcd")
    assert cache.get(1) == "abc"


@pytest.mark.parametrize(
    ("limit", "encoded"), [(1 << 20, ["abc", "d"]), (200, ["abc", "a", "d"]), (0, ["abc", "acb", "d"])]
)
def test_texts_are_encoded_again_only_where_they_were_dropped(limit: int, encoded: list[str]) -> None:
    heard = []

    def encode(texts: Sequence[str]) -> TextStates:
        heard.append("".join(texts))
        bridges = torch.tensor([float(ord(text)) for text in texts]).view(1, -1, 1, 1).expand(1, -1, 3, 8)
        return TextStates(bridges.contiguous(), None, bridges[0, :, 0].contiguous())

    cache = TextCache(["a", "b", "c", "d"], encode, limit)
    for positions in ([0, 1, 2], [0, 2, 1], [3, 3]):
        taken = cache.take(positions)
        assert taken.need_bridges()[0, :, 0, 0].tolist() == [ord("abcd"[position]) for position in positions]
        assert taken.embeds is not None
        assert len(taken.embeds) == len(positions)
    assert heard == encoded


def test_a_kept_image_holds_no_batch(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"x")
    memory = ImageCache.in_memory()
    cache = ImageCache(memory, None, torch.device("cpu"), torch.float32)
    cache.keep([*files, b"no file"], torch.stack([features(number) for number in range(3)], dim=1))
    assert len(memory) == 2
    found = cache.find(files[1])
    assert found is not None
    assert torch.equal(found, features(1))
    assert found.untyped_storage().nbytes() == BYTES
