"""Remarks, progress and the closing line on stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings

import pytest

from bt_cli.display import remarks
from bt_cli.display.closing_line import closing_line, count, duration, rate
from bt_cli.display.data_lines import write_object, write_paths
from bt_cli.display.progress import progress
from bt_cli.display.remarks import complain, listen, remark


@pytest.fixture(autouse=True)
def _speaking():
    remarks.set_quiet(False)
    yield
    remarks.set_quiet(False)


class Fake:
    device, precision = "cpu", "bfloat16"


def test_a_remark_is_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    remark("a\nb\x1b[31m \udcff é 👩‍🚀")
    assert capsys.readouterr().err == "bt: a\\nb\\x1b[31m \\xff é 👩‍🚀\n"


def test_quiet_silences_remarks_and_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    remarks.set_quiet(True)
    remark("x")
    complain("y")
    assert capsys.readouterr().err == "bt: y\n"


def test_a_closed_stderr_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    complain("x")


def test_warnings_and_log_lines_of_the_package_are_remarks_and_others_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with warnings.catch_warnings():
        listen()
        listen()
        for _ in range(2):
            warnings.warn_explicit("ours", UserWarning, remarks.__file__, 1)
            warnings.warn_explicit("theirs", UserWarning, "/elsewhere/torch.py", 1)
            warnings.warn_explicit("old", DeprecationWarning, remarks.__file__, 1)
        logging.getLogger("bt_cli.store").info("logged %d", 1)
        logging.getLogger("other").warning("foreign")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bt: ")]
    assert said == ["bt: ours", "bt: ours", "bt: logged 1"]


def test_the_closing_line(capsys: pytest.CaptureFixture[str]) -> None:
    closing_line("100 images reranked", seconds=2.0, images=100, model=Fake(), skipped=["a\nb.jpg: not an image"])
    assert capsys.readouterr().err == (
        "bt: skipped a\\nb.jpg: not an image\n"
        "bt: 100 images reranked in 2.00 s, on cpu in bfloat16, 50 images/s, 1 skipped\n"
    )
    closing_line("nothing done", seconds=0.0)
    assert capsys.readouterr().err == "bt: nothing done in 0.00 s\n"


def test_spans_rates_and_counts() -> None:
    assert [duration(s) for s in (0.004, 9.99, 59.94, 60, 3599, 3661)] == [
        "0.00 s",
        "9.99 s",
        "59.9 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 01 min",
    ]
    assert [rate(value) for value in (0.05214, 4.371, 99.6, 1512.3)] == ["0.0521", "4.37", "99.6", "1,512"]
    assert [count(1, "image"), count(24000, "image"), count(2, "query", "queries")] == [
        "1 image",
        "24,000 images",
        "2 queries",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_rate_and_total_on_a_terminal_and_remarks_go_above(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("bt_cli.display.progress.LEAST_SECONDS", 0.0)
    with progress("encoding", "image") as tick:
        tick(1, 4)
        remark("note")
        tick(4, 4)
    drawn = screen.getvalue()
    assert "encoding" in drawn
    assert "1/4" in drawn
    assert "images/s" in drawn
    assert "\rbt: note\n" in drawn
    assert remarks._bar is None


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_silent_without_a_terminal_or_when_quiet(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    screen = Terminal() if quiet else io.StringIO()
    remarks.set_quiet(quiet)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress("encoding") as tick:
        tick(1, 2)
    assert screen.getvalue() == ""


def test_objects_are_lines_of_utf8_and_stray_bytes_are_json_escapes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write_object({"path": "é\n\udcff", "id": 1, "itc": None})
    out = capsysbinary.readouterr().out
    assert out == b'{"path": "\xc3\xa9\\n\\udcff", "id": 1, "itc": null}\n'
    assert json.loads(out) == {"path": "é\n\udcff", "id": 1, "itc": None}
    with pytest.raises(ValueError, match="NaN|nan|JSON"):
        write_object({"x": float("nan")})


def test_paths_are_the_very_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write_paths(["a b", "\udcff"])
    write_paths(["a\nb", "c"], nul=True)
    assert capsysbinary.readouterr().out == b"a b\n\xff\na\nb\0c\0"
