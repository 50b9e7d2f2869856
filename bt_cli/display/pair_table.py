"""Scored pairs for people."""

from __future__ import annotations

from collections.abc import Sequence

from bt_cli.display.hit_table import BAR, COSINE, LOGIT, MATCH, decimal, percent
from bt_cli.display.table import Column, Rows, show
from bt_cli.search.scoring import Pair


def show_pairs(pairs: Sequence[Pair]) -> None:
    """Print one row a pair on stdout, in the order given."""
    cosines = any(pair.itc is not None for pair in pairs)
    rows = Rows([MATCH, BAR, LOGIT, *([COSINE] if cosines else []), Column("image", path=True), Column("text")])
    for pair in pairs:
        itc = [decimal(pair.itc, 4)] if cosines else []
        rows.add(percent(pair.itm_prob), pair.itm_prob, decimal(pair.itm_logit, 2), *itc, pair.image, pair.text)
    show(rows)
