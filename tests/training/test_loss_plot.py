"""The loss plot, and the log that it is made from."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bt_cli.training.loss_plot import POINTS, loss_plot
from bt_cli.training.run_state import LOG_FILE, RunLog, read_log

SPACE = "{http://www.w3.org/2000/svg}"


def test_each_loss_has_a_curve_and_each_stage_a_line() -> None:
    lines = [
        {"step": step, "stage": "a" if step < 5 else "b", "loss": 4 / step, "itc": 2 / step} for step in range(1, 9)
    ]
    lines.insert(3, {"step": 3, "validation": {"recall": 0.5}})
    svg = ElementTree.fromstring(loss_plot(lines, "one < two"))
    curves = svg.findall(f"{SPACE}polyline")
    assert len(curves) == 2
    points = [tuple(map(float, point.split(","))) for point in curves[0].attrib["points"].split()]
    assert len(points) == 8
    assert points[0] == (146.2, 40.0)  # the highest loss touches the frame
    assert points[-1][0] == 750.0
    heights = [height for _, height in points]
    assert heights == sorted(heights)
    texts = [text.text for text in svg.findall(f"{SPACE}text")]
    assert texts[0] == "one < two: loss by step"
    assert {"a", "b", "loss", "itc", "4.00", "0.00"} <= set(texts)


def test_long_runs_are_thinned_and_empty_ones_drawn() -> None:
    lines = [{"step": step, "loss": 1.0} for step in range(1, 5001)]
    svg = ElementTree.fromstring(loss_plot(lines, "long"))
    assert len(svg.find(f"{SPACE}polyline").attrib["points"].split()) <= POINTS
    assert ElementTree.fromstring(loss_plot([], "none")).findall(f"{SPACE}polyline") == []


def test_a_resumed_log_forgets_what_came_after_the_state(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step=step, loss=1 / 3)
    log.close()
    with open(tmp_path / LOG_FILE, "a") as file:
        file.write('{"step": 4, "lo')  # a kill in the middle of a line
    again = RunLog(tmp_path, 2)
    again.write(step=3, loss=0.25)
    again.close()
    assert list(read_log(tmp_path / LOG_FILE)) == [
        {"step": 1, "loss": 0.333333},
        {"step": 2, "loss": 0.333333},
        {"step": 3, "loss": 0.25},
    ]
