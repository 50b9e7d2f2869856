"""Bytes that threads take, wait for, and give back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from bt_cli.preprocessing import decoding
from bt_cli.preprocessing.decoding import DecodeStream
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.preprocessing.memory_budget import MemoryBudget, Reservation


def test_who_asks_for_too_much_waits_until_it_fits() -> None:
    budget = MemoryBudget(100)
    order: list[str] = []

    def second() -> None:
        with Reservation(budget) as memory:
            memory.ask(60)
            order.append("second")

    with Reservation(budget) as memory:
        memory.ask(50)
        memory.ask(40)  # it has them
        assert budget.held == 50
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert budget.held == 0


def test_what_is_beyond_the_budget_goes_alone_and_nothing_blocks_for_ever() -> None:
    budget = MemoryBudget(100)
    at_once, most, lock = 0, 0, threading.Lock()

    def task(number: int) -> None:
        nonlocal at_once, most
        size = 500 if number % 7 == 0 else 30
        with Reservation(budget) as memory:
            memory.ask(10)
            memory.ask(size)
            with lock:
                at_once += size
                most = max(most, at_once)
            time.sleep(0.001)
            with lock:
                at_once -= size

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(task, range(60)))
    assert most == 500
    assert budget.held == 0


def test_bytes_come_back_after_a_failure() -> None:
    budget = MemoryBudget(100)

    def fail() -> None:
        with Reservation(budget) as memory:
            memory.ask(80)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert budget.held == 0


def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path in paths:
        Image.new("RGBA", (500, 400), (200, 40, 60, 128)).save(path)
    budget = MemoryBudget(2_000_000)  # one takes 1.6 MB
    monkeypatch.setattr(decoding, "DECODING", budget)
    at_once, most, lock = 0, 0, threading.Lock()
    processor = ImageProcessor.from_dict({"size": 32})
    pixels = processor.pixels

    def watched(*args, **options):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return pixels(*args, **options)

    monkeypatch.setattr(processor, "pixels", watched)
    with DecodeStream(paths, processor, batch_size=6, workers=4) as stream:
        (batch,) = list(stream)
    assert (len(batch.indices), most, budget.held) == (6, 1, 0)
