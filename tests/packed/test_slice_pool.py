"""Slices of work on several threads: in order, each once, with torch's thread count left as it was."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
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


def test_failures_come_out_and_leave_the_pool_working() -> None:
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


def network_threads() -> set[int | None]:
    """By their numbers: another pool's, which may live in this process, are called the same."""
    return {thread.ident for thread in threading.enumerate() if thread.name.startswith("bt-network")}


def wait_for_the_end_of_threads(before: set[int | None]) -> None:
    deadline = time.monotonic() + 30
    while network_threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert network_threads() - before == set()


def test_threads_end_with_their_owner() -> None:
    gc.collect()
    before = network_threads()
    pool = SlicePool(CPU)
    pool.map(lambda number: number, [0, 1])
    assert network_threads() - before
    del pool
    wait_for_the_end_of_threads(before)


def test_a_closed_pool_has_no_threads_and_starts_new_ones_for_new_work() -> None:
    gc.collect()
    before = network_threads()
    pool = SlicePool(CPU)
    pool.close()
    pool.map(lambda number: number, [0, 1])
    pool.close()
    wait_for_the_end_of_threads(before)
    assert pool.map(lambda number: number, [0, 1]) == [0, 1]
    pool.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_works_on() -> None:
    pool = SlicePool(CPU)

    def product(seed: int) -> float:
        square = torch.full((600, 600), 1.0 / (seed + 1))
        return (square @ square).relu().sum().item()

    here = pool.map(product, list(range(4)))
    product(0)  # with all of torch's threads, which the child lacks as well
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends the child where it hangs
        right = False
        try:
            right = pool.map(product, list(range(4))) == pytest.approx(here) and product(0) == pytest.approx(here[0])
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.get_num_threads() == 2
    assert pool.map(product, list(range(4))) == here
    pool.close()
