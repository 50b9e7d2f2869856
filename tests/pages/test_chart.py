"""Charts: well-formed, with what they show said in words."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from bt_cli.pages.chart import HEIGHT, TOP, Series, histogram, line_chart


def test_a_line_chart_draws_each_series_and_says_its_ends():
    chart = line_chart("Recall <b>", "k", [Series("after", [0.5, 1.0]), Series("before", [0.25, 0.5])])
    figure = ElementTree.fromstring(chart)
    lines = [each.get("points") for each in figure.iter("polyline")]
    assert lines[0].split()[1].endswith(f",{TOP:.1f}")  # 1 is the top
    assert len(lines) == 2
    label = figure.find("svg").get("aria-label")
    assert label == "Recall <b>. after: 50.0 % at 1, 100.0 % at 2; before: 25.0 % at 1, 50.0 % at 2"


def test_a_line_of_one_place():
    assert "100.0 % at 1" in line_chart("t", "k", [Series("a", [1.0])])


def test_a_histogram_compares_shares_of_unlike_numbers():
    rng = np.random.default_rng(0)
    figure = ElementTree.fromstring(
        histogram("t", "x", [Series("few", rng.normal(1, 1, 50)), Series("many", rng.normal(0, 1, 5000))])
    )
    assert len([path for path in figure.iter("path") if "area" in path.get("class")]) == 2
    assert "few: 50 values" in figure.find("svg").get("aria-label")


def test_a_histogram_of_equal_values_and_of_none():
    assert f'viewBox="0 0 460 {HEIGHT}"' in histogram("t", "x", [Series("a", [2.0, 2.0, float("nan")])])
    with pytest.raises(ValueError, match="no finite value"):
        histogram("t", "x", [Series("a", [float("nan")])])
