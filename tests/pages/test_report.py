"""The report of `bt eval --html` in a browser, on captions and names that would break a page that believed them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, in_scheme, of_width, requested, serious_faults

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"
NAME = '"><script>alert(1)<_script>.jpg'
CAPTIONS = {
    "scene-0163.jpg": "a green snail below a blue crab <img src=x onerror=alert(3)>",
    "scene-0165.jpg": "a unicorn to the left of a green dragon",
    NAME: "a green dragon below a unicorn </h3><script>alert(2)</script>",
}
"""Two of them are another's, so that they fail and are shown."""


@pytest.fixture
def report(tmp_path, bt):
    images = tmp_path / '"><b>pictures<'
    images.mkdir()
    for name in CAPTIONS:
        shutil.copy(SAMPLES / ("scene-0059.jpg" if name == NAME else name), images / name)
    quoted = ['"' + name.replace('"', '""') + f'","{caption}"' for name, caption in CAPTIONS.items()]
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(quoted) + "\n")
    place = tmp_path / "report.html"
    asked = ["eval", tmp_path / "captions.csv", "--images", images, "--model", "tiny", "--rerank", "--no-resume"]
    assert bt(*asked, "--html", place, "--quiet").code == 0
    return place


def test_the_report_in_a_browser(report, tmp_path):
    from selenium.webdriver.common.by import By

    with browser(tmp_path / "profile") as opened:
        for width in (1400, 400):
            for scheme in ("light", "dark"):
                in_scheme(opened, scheme)
                of_width(opened, width)
                opened.get(report.as_uri())
                assert serious_faults(opened) == []
                assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        assert opened.execute_script("return [document.scripts.length, document.querySelectorAll('b').length]") == [
            0,
            0,
        ]
        assert opened.execute_script("return [...document.images].every((one) => one.naturalWidth > 0)")
        assert len(opened.find_elements(By.CSS_SELECTOR, "svg.chart")) == 4
        shown = opened.find_element(By.TAG_NAME, "main").text
        assert f"{NAME}\n" in shown
        assert all(CAPTIONS[name] in shown for name in ("scene-0163.jpg", NAME))
        assert opened.get_log("browser") == []
        assert set(requested(opened)) == {report.as_uri()}
