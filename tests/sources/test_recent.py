"""What was opened last is kept, and no more of it than was said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bt_cli.sources.recent import Recent


def test_the_one_not_asked_for_the_longest_goes_first() -> None:
    opened: list[str] = []
    kept: Recent[str, str] = Recent(2)
    for key in "abacab":
        assert kept.get(key, lambda key=key: opened.append(key) or key.upper()) == key.upper()  # type: ignore[misc]
    assert opened == ["a", "b", "c", "b"]


def test_threads_open_a_thing_once() -> None:
    opened: list[int] = []
    kept: Recent[str, int] = Recent(4)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: kept.get("a", lambda: opened.append(1) or len(opened)), range(64)))  # type: ignore[func-returns-value]
    assert found == [1] * 64
