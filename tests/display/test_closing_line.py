"""What a command says at its end."""

from __future__ import annotations

import pytest

from bt_cli.display import remarks
from bt_cli.display.closing_line import closing_line, count, duration, rate


def test_few_of_each_reason_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    remarks.set_quiet(False)
    skipped = [f"{number}.heic: HEIC needs an extra: pip install x" for number in range(60)]
    skipped[3] = "a: b.jpg: the file is empty"
    incomplete = [f"{number}.jpg: truncated, the last {number}.5% of its rows are filled in" for number in range(7)]
    closing_line(
        "3 images",
        seconds=2,
        skipped=skipped,
        incomplete=incomplete,
        passed_over=["38 files passed over: 30 .dng, 8 .mp4", "2 files and folders excluded"],
    )
    assert capsys.readouterr().err.splitlines() == [
        "bt: skipped 0.heic: HEIC needs an extra: pip install x",
        "bt: skipped 1.heic: HEIC needs an extra: pip install x",
        "bt: skipped 2.heic: HEIC needs an extra: pip install x",
        "bt: skipped a: b.jpg: the file is empty",
        "bt: skipped 4.heic: HEIC needs an extra: pip install x",
        "bt: skipped 5.heic: HEIC needs an extra: pip install x",
        "bt: skipped 54 more: HEIC needs an extra: pip install x",
        *[f"bt: {number}.jpg: truncated, the last {number}.5% of its rows are filled in" for number in range(5)],
        "bt: 2 more: truncated, the last a share of its rows are filled in",
        "bt: 3 images in 2.00 s, 60 skipped, 7 incomplete; 38 files passed over: 30 .dng, 8 .mp4; "
        "2 files and folders excluded",
    ]


def test_numbers_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0.4, 12.34, 247, 7500)] == [
        "0.40 s",
        "12.3 s",
        "4 min 07 s",
        "2 h 05 min",
    ]
    assert [rate(value) for value in (0.05214, 4.37, 128.4, 1512)] == ["0.0521", "4.37", "128", "1,512"]
    assert [count(1, "image"), count(24_000, "image")] == ["1 image", "24,000 images"]
