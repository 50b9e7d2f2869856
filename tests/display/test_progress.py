"""The bar of a terminal and the lines of a log."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from bt_cli.display import progress as module
from bt_cli.display import remarks
from bt_cli.display.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def loud() -> None:
    remarks.set_quiet(False)


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.1)
    with progress("encoding") as tick:
        tick(0, 1000)
        for done in range(1, 7):
            time.sleep(0.05)
            tick(done * 10, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    for line in lines[1:]:
        assert re.fullmatch(r"bt: encoding: \d+ of 1,000 images, [\d.,]+ images/s, [\d.]+ s left", line), line


def test_a_run_of_less_than_a_minute_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("encoding") as tick:
        tick(1, 3)
        tick(3, 3)
    assert capsys.readouterr().err == ""


def test_what_takes_long_to_begin_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.2)
    monkeypatch.setattr(module, "_last_line", 0.0)
    with progress("downloading", "byte"), progress("encoding"):  # a checkpoint that is here is not fetched
        time.sleep(0.3)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"bt: encoding: not begun after 0\.2\d s", line)


def test_the_first_tick_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = module._Lines("training", "image")
    lines.close()
    began = time.monotonic()
    lines.tick(4096, 100_000)
    assert lines.line(began + 0.001) == "training: 4,096 of 100,000 images"
    lines.first, lines.last = (began, 4096), (began + 60, 4096 + 600, 100_000)
    assert lines.line(began + 60) == "training: 4,696 of 100,000 images, 10 images/s, 2 h 38 min left"
    assert lines.line(began + 120) == "training: 4,696 of 100,000 images, 10 images/s, 2 h 37 min left"
    lines.last = (began + 60, 100_000, 100_000)
    assert lines.line(began + 60) is None


def test_bytes() -> None:
    lines = module._Lines("downloading", "byte")
    lines.close()
    lines.first, lines.last = (100.0, 0), (110.0, 200 << 20, 3500 << 20)
    assert lines.line(110.0) == "downloading: 200 of 3,500 MB, 20 MB/s, 2 min 45 s left"


def test_a_terminal_gets_a_bar_that_shows_no_rate_before_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.3)
    with progress("training") as tick:
        tick(4096, 8192)  # a run that goes on
        time.sleep(0.15)
        tick(4097, 8192)
        assert "4097/8192" in terminal.getvalue()
        assert "images/s" not in terminal.getvalue()
        time.sleep(0.3)
        tick(4098, 8192)
        time.sleep(0.15)
        tick(4099, 8192)
    rates = [float(found) for found in re.findall(r"([\d.]+) images/s", terminal.getvalue())]
    rates += [1 / float(found) for found in re.findall(r"([\d.]+)s/ images", terminal.getvalue())]
    assert rates
    assert max(rates) < 30


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.01)
    remarks.set_quiet(True)
    with progress("encoding") as tick:
        tick(1, 100)
        time.sleep(0.05)
    remarks.set_quiet(False)
    assert capsys.readouterr().err == ""
