"""Metrics as a person reads them."""

from __future__ import annotations

from bt_cli.display.metrics_table import metrics_table
from bt_cli.display.table import show


def test_fractions_become_percent_and_ranks_stay_ranks(capsysbinary):
    metrics = {"tr@1": 0.947, "tr@5": 0.996, "tr@10": 1.0, "ir@1": 0.858, "ir@5": 0.976, "ir@10": 0.989, "rsum": 5.766}
    metrics |= {"tr_median_rank": 1.0, "ir_median_rank": 1.5, "tr_mrr": 0.97049, "ir_mrr": 0.90961}
    show(metrics_table({"ITC": dict.fromkeys(metrics, 1.0), "ITM": metrics}))
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "percent   TR@1   TR@5  TR@10   IR@1   IR@5  IR@10   RSUM  TR MRR  IR MRR  TR median rank  IR median rank",
        "ITC      100.0  100.0  100.0  100.0  100.0  100.0  100.0   100.0   100.0               1               1",
        "ITM       94.7   99.6  100.0   85.8   97.6   98.9  576.6    97.0    91.0               1             1.5",
    ]
