"""Tables: nothing cut, nothing interpreted, bars that mean something."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest

from bt_cli.display.hit_table import decimal, percent, show_hits
from bt_cli.display.mask_table import show_words, whole_word
from bt_cli.display.pair_table import show_pairs
from bt_cli.display.score_bar import score_bar
from bt_cli.display.table import Column, Rows, show
from bt_cli.search.candidates import Hit
from bt_cli.search.scoring import Pair


class Screen(io.TextIOWrapper):
    """A terminal that remembers what was written on it."""

    def __init__(self, encoding: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a function draws on stdout: a terminal of so many columns, or (None) a file."""

    def draw(
        function: Callable[..., None], *arguments, columns: int | None = None, encoding: str = "utf-8", **named
    ) -> str:
        screen = Screen(encoding, columns is not None)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            patch.setenv("COLUMNS", str(columns or 40))
            patch.setenv("TERM", "xterm")
            function(*arguments, **named)
        return re.sub(r"\x1b\[[0-9;]*m", "", screen.text)

    return draw


FOUND = [
    Hit(1, 3, "photos/a\nb [red].jpg", 0.5, itc=0.5),
    Hit(2, 4, "x" * 90 + ".jpg", 0.25, itc=0.25),
    Hit(3, 5, "日本\udcff.jpg", -0.00001, itc=-0.00001),
]


def test_a_file_gets_one_row_a_line_however_long(drawn) -> None:
    assert drawn(show_hits, FOUND).splitlines() == [
        "#  cosine (ITC)                image",
        "1        0.5000  ████████████  photos/a\\nb [red].jpg",
        "2        0.2500  ██████        " + "x" * 90 + ".jpg",
        "3        0.0000                日本\\xff.jpg",
    ]


@pytest.mark.parametrize("columns", [None, 80])
def test_columns_without_headings_have_no_line_for_them(drawn, columns: int | None) -> None:
    rows = Rows([Column(""), Column("")])
    rows.add("index", "a")
    assert drawn(show, rows, columns=columns).splitlines() == ["index  a"]


@pytest.mark.parametrize("columns", [200, 80, 60, 40, 25])
def test_a_narrow_terminal_folds_and_loses_nothing(drawn, columns: int) -> None:
    text = drawn(show_hits, FOUND, columns=columns)
    assert all(len(line) <= columns for line in text.splitlines())
    squeezed = "".join(text.split())
    for name in ("photos/a\\nb[red].jpg", "x" * 90 + ".jpg", "日本\\xff.jpg"):
        assert name in squeezed
    assert ("█" in text) == (columns >= 60)
    assert ("cosine (ITC)" in text) == (columns >= 80)
    assert "cosine" in text


def test_after_reranking_the_bar_is_the_probability(drawn) -> None:
    hits = [
        Hit(1, 1, "a", 9.0, 0.1, 9.0, 0.99999),
        Hit(2, 2, "b", 0.0, 0.4, 0.0, 0.5),
        Hit(3, 3, "c", -9.0, None, -9.0, 0.00001),
    ]
    assert drawn(show_hits, hits).splitlines() == [
        "#    match                logit  cosine (ITC)  image",
        "1  >99.9 %  ████████████   9.00        0.1000  a",
        "2   50.0 %  ██████         0.00        0.4000  b",
        "3   <0.1 %  ▏             -9.00                c",
    ]


def test_captions_stand_before_their_image(drawn) -> None:
    hits = [Hit(1, 1, "a.jpg", 0.5, 0.5, caption="two\tcats"), Hit(2, 2, None, 0.5, 0.5, caption="a dog")]
    assert drawn(show_hits, hits, captions=True).splitlines() == [
        "#  cosine (ITC)                caption    image",
        "1        0.5000  ████████████  two\\tcats  a.jpg",
        "2        0.5000  ████████████  a dog",
    ]


def test_without_unicode_there_are_plain_bars_and_escapes(drawn) -> None:
    last = drawn(show_hits, FOUND, encoding="ascii").splitlines()[3]
    assert last == "3        0.0000                \\u65e5\\u672c\\xff.jpg"
    assert "############" in drawn(show_hits, FOUND, encoding="ascii")


def test_no_hits_no_table(drawn) -> None:
    assert drawn(show_hits, []) == ""


def test_pairs(drawn) -> None:
    pairs = [Pair("a.jpg", "a cat", 2.0, 0.75, 0.3), Pair("a.jpg", "[bold]dog", -1.0, 0.25, -0.1)]
    assert drawn(show_pairs, pairs).splitlines() == [
        " match                logit  cosine (ITC)  image  text",
        "75.0 %  █████████      2.00        0.3000  a.jpg  a cat",
        "25.0 %  ███           -1.00       -0.1000  a.jpg  [bold]dog",
    ]
    assert "itc" not in drawn(show_pairs, [Pair("a", "b", 0.0, 0.5)])


def test_masks(drawn) -> None:
    one = [[(" cat", 7, 0.75), ("s", 8, 0.25)]]
    assert drawn(show_words, "a cat", one).splitlines() == [
        "a cat",
        "  prob                word",
        "75.0 %  █████████     cat",
        "25.0 %  ███           …s",
    ]
    assert drawn(show_words, "a cat and a dog", [[(" cat", 7, 0.5)], [(" dog", 8, 0.5)]]).splitlines()[1:] == [
        "mask    prob                word",
        "   0  50.0 %  ██████        cat",
        "   1  50.0 %  ██████        dog",
    ]


@pytest.mark.parametrize(
    ("token", "word"), [(" cat", "cat"), ("cat", "…cat"), (".", "."), (" ", "' '"), ("", "''"), ("\u2581x", "\u2581x")]
)
def test_whole_words(token: str, word: str) -> None:
    assert whole_word(token) == word


@pytest.mark.parametrize(
    ("share", "bar"),
    [(0.0, ""), (1e-9, "▏"), (0.5, "██"), (0.53, "██▏"), (1.0, "████"), (7.0, "████"), (-1.0, "")],
)
def test_bars(share: float, bar: str) -> None:
    assert score_bar(share, 4) == bar


def test_numbers() -> None:
    assert [percent(p) for p in (None, 0.0, 1e-9, 0.1234, 0.99999, 1.0)] == [
        None,
        "0.0 %",
        "<0.1 %",
        "12.3 %",
        ">99.9 %",
        "100.0 %",
    ]
    assert [decimal(value, 2) for value in (None, -0.001, -0.5, 12.345)] == [None, "0.00", "-0.50", "12.35"]
