"""Every table of every command on narrow and wide terminals: no number, no name and no path is ever cut."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from bt_cli.commands.models import list_checkpoints
from bt_cli.display.hit_table import show_hits
from bt_cli.display.mask_table import show_words
from bt_cli.display.metrics_table import RANKS, SHARES, metrics_table
from bt_cli.display.pair_table import show_pairs
from bt_cli.display.table import Column, Rows, show
from bt_cli.hub.model_names import OFFICIAL
from bt_cli.search.candidates import Hit
from bt_cli.search.scoring import Pair

LONG = "/mnt/archive/日本語の写真/" + "a-very-long-folder-name/" * 4 + "京都の紅葉.jpg"
CAPTION = "二匹の犬が海辺で遊んでいる and a cat that sits far above them on a wall of red bricks"
METRICS = {name: 0.123 + place / 50 for place, name in enumerate((*SHARES, *RANKS))} | {"rsum": 5.766}
FOUND = [Hit(1000 + n, n, LONG, 0.5, 0.51234, -12.345, 0.99999, caption=CAPTION) for n in range(3)]
FACTS = Rows([Column(""), Column("")], [("index", LONG), ("written by", "1.0"), ("fingerprint", "f" * 64)])
TABLES: dict[str, tuple[Callable[[], None], list[str]]] = {
    "search": (lambda: show_hits([Hit(1, 1, LONG, 0.5, 0.51234)]), [LONG, "0.5123"]),
    "search --rerank": (lambda: show_hits(FOUND), [LONG, "0.5123", ">99.9 %", "-12.35", "1002"]),
    "search --to captions": (lambda: show_hits(FOUND, captions=True), [LONG, CAPTION, "-12.35", "1001"]),
    "score": (lambda: show_pairs([Pair(LONG, CAPTION, -12.345, 0.99999, 0.5)]), [LONG, CAPTION, "-12.35", "0.5000"]),
    "fill-mask": (
        lambda: show_words("a", [[(" " + "giraffe" * 17, 1, 0.5)], [(" 犬", 2, 0.25)]]),
        ["giraffe" * 17, "犬", "50.0 %", "25.0 %"],
    ),
    "eval": (
        lambda: show(metrics_table({"ITC": METRICS, "ITM": METRICS})),
        ["ITC", "ITM", "576.6", *(f"{100 * METRICS[name]:.1f}" for name in SHARES), "TR@1", "IR@10", "RSUM"],
    ),
    "models list": (list_checkpoints, ["tiny", "hub", "1.31 GB", "1.46 GB", "3.68 GB"]),
    "info": (lambda: show(FACTS), [LONG, "written by", "f" * 64]),
}


class Terminal(io.TextIOWrapper):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a function sends to a terminal of so many columns."""

    def send(function: Callable[[], None], columns: int, **variables: str) -> str:
        screen = Terminal(io.BytesIO(), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            for name, value in {"COLUMNS": str(columns), "TERM": "xterm", **variables}.items():
                patch.setenv(name, value)
            function()
            screen.flush()
        return screen.buffer.getvalue().decode()  # type: ignore[attr-defined]

    return send


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("name", TABLES)
def test_no_table_is_cut(sent, name: str, columns: int) -> None:
    draw, wanted = TABLES[name]
    text = re.sub(r"\x1b\[[0-9;]*m", "", sent(draw, columns))
    assert [line for line in text.splitlines() if cell_len(line) > columns] == []
    assert "…" not in text
    for cell in wanted:
        # A number stands whole on one line; what is long is folded, and its pieces stand below one another.
        if len(cell) < 10:
            assert cell in text
        else:
            assert pieces(cell, text)


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_names_of_checkpoints_are_whole(sent, columns: int) -> None:
    words = re.sub(r"\x1b\[[0-9;]*m", "", sent(list_checkpoints, columns)).split()
    assert {"tiny", *OFFICIAL} <= set(words)


def pieces(cell: str, text: str) -> bool:
    """Whether every character of a cell comes in its order, in pieces that stand one below the other."""
    rest = squeezed(cell)
    for line in text.splitlines():
        for part in re.split(r"  +", line.strip()):
            part = squeezed(part)
            if part and rest.startswith(part):
                rest = rest[len(part) :]
    return not rest


def test_metrics_are_turned_where_they_do_not_fit(sent) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", sent(TABLES["eval"][0], 60))
    assert text.splitlines()[:3] == [
        "percent           ITC    ITM",
        "TR@1             12.3   12.3",
        "TR@5             14.3   14.3",
    ]
    assert len(text.splitlines()) == 12


def test_paths_are_links_where_a_terminal_has_them(sent, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = TABLES["search"][0]
    assert "\x1b]8;" not in sent(draw, 200)  # the tests' NO_COLOR
    monkeypatch.delenv("NO_COLOR")
    link = "file:///mnt/archive/%E6%97%A5%E6%9C%AC"
    assert link in sent(draw, 200)
    assert "\x1b]8;" not in sent(draw, 200, TERM="dumb")
    assert "\x1b]8;" not in sent(draw, 200, NO_COLOR="1")
