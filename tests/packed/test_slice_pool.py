"""Slices of work on several threads: in order, each once, with torch's thread count left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from bt_cli.packed.slice_pool import SlicePool

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_keep_their_order_and_threads_are_shared_out() -> None:
    pool = SlicePool(CPU)
    meeting = threading.Barrier(2, timeout=30)

    def work(number: int) -> tuple[int, int, bool, str]:
        if number < 2:
            meeting.wait()  # only two threads at once get past here
        name = threading.current_thread().name
        return number, torch.get_num_threads(), torch.is_inference_mode_enabled(), name

    done = pool.map(work, list(range(7)))
    assert [number for number, *_ in done] == list(range(7))
    assert {threads for _, threads, _, _ in done} == {1}
    assert all(inference for _, _, inference, _ in done)
    assert len({name for *_, name in done}) == 2
    assert torch.get_num_threads() == 2


def test_too_little_work_keeps_all_threads_at_it() -> None:
    pool = SlicePool(CPU)
    assert pool.map(lambda _: (torch.get_num_threads(), threading.current_thread().name), [0]) == [(2, "MainThread")]
    assert pool.map(lambda number: number, []) == []
    assert SlicePool(torch.device("meta")).size == 1


def test_failures_come_out_and_leave_the_crew_working() -> None:
    pool = SlicePool(CPU)

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        pool.map(work, list(range(6)))
    assert torch.get_num_threads() == 2
    assert pool.map(work, [0, 1, 2]) == [0, 1, 2]


@pytest.mark.parametrize(("count", "most", "share"), [(1, 8, 1), (4, 8, 2), (5, 8, 3), (64, 8, 8), (0, 8, 1)])
def test_slices_keep_everyone_busy(count: int, most: int, share: int) -> None:
    assert SlicePool(CPU).share(count, most) == share
