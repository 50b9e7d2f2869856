"""Retrieval metrics for people: percent, one row a stage."""

from __future__ import annotations

from collections.abc import Mapping

from bt_cli.display.table import Column, Rows

SHARES = ("tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "rsum", "tr_mrr", "ir_mrr")
RANKS = ("tr_median_rank", "ir_median_rank")


def metrics_table(stages: Mapping[str, Mapping[str, float]]) -> Rows:
    """A table of each stage's (`ITC`, `ITM`) metrics, which come as fractions and go out as percent, ranks as they are.

    RSUM is the sum of six percentages, up to 600.
    """
    columns = [Column("percent"), *(Column(_heading(name), right=True) for name in (*SHARES, *RANKS))]
    rows = Rows(columns)
    for stage, metrics in stages.items():
        shares = (f"{100 * metrics[name]:.1f}" for name in SHARES)
        rows.add(stage, *shares, *(f"{metrics[name]:g}" for name in RANKS))
    return rows


def _heading(name: str) -> str:
    """`tr@1` is `TR@1`, `tr_median_rank` is `TR median rank`."""
    direction, _, rest = name.partition("_")
    return f"{direction.upper()} {rest.replace('_', ' ').replace('mrr', 'MRR')}".strip()
