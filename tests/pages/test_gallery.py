"""The gallery in a browser, on names that would break a page that believed them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser, requested, serious_faults

from bt_cli.pages.gallery import Card, gallery
from bt_cli.pages.page import text
from bt_cli.pages.picture import link

NAMES = ['"><script>alert(1)<‎', "' onerror='alert(2)", "javascript:alert(3)", "a&b #?%41.png", "é \udce9.png"]


@pytest.fixture
def cards(tmp_path):
    made = []
    for number, name in enumerate(NAMES):
        name = name.replace("/", "_")
        path = str(tmp_path / name)
        Image.new("RGB", (40 + 9 * number, 40), (50 * number, 90, 120)).save(path, "PNG")
        caption = [f"</p><script>alert('{number}')</script>"]
        made.append(Card(path, name, 0.9 - number / 10, f"{90 - number} %", {"cosine": "0.5"}, caption, 5 - number))
    return made


def test_the_page_in_a_browser(tmp_path, cards):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    place = tmp_path / "out.html"
    made = gallery('<script>alert("title")</script>', ["5 of 5 images"], cards, place=place)
    assert made.skipped == []
    place.write_text(made.html, "utf-8")
    with browser(tmp_path / "profile") as opened:
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            opened.get(place.as_uri())
            assert serious_faults(opened) == []
        assert opened.find_element(By.TAG_NAME, "h1").text == '<script>alert("title")</script>'
        assert opened.execute_script("return document.scripts.length") == 1
        frames = opened.find_elements(By.CSS_SELECTOR, "a.frame")
        assert len(frames) == 5
        loaded = "return [...document.images].filter((each) => each.src).every((each) => each.naturalWidth > 0)"
        assert opened.execute_script(loaded)
        # A click enlarges, arrows go on and round, Escape gives the focus back to the card last seen.
        large = opened.find_element(By.ID, "large")
        assert not large.is_displayed()
        frames[0].click()
        assert large.is_displayed()
        words = opened.find_element(By.ID, "large-words")
        assert words.text.startswith("1. ")
        body = opened.switch_to.active_element
        body.send_keys(Keys.ARROW_LEFT)
        assert words.text.startswith("5. ")
        assert serious_faults(opened) == []
        opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert words.text.startswith("2. ")
        opened.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not large.is_displayed()
        assert opened.switch_to.active_element.get_attribute("data-card") == "2"
        # From card to card, and open by Enter.
        opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        opened.switch_to.active_element.send_keys(Keys.ENTER)
        assert words.text.startswith("3. ")
        hrefs = [frame.get_attribute("href") for frame in frames]
        assert all(href.startswith("file://") for href in hrefs)
        assert opened.get_log("browser") == []
        assert set(requested(opened)) == {place.as_uri()}
        # The link leads to the very file, whatever it is called.
        opened.get(hrefs[3])
        assert opened.execute_script("return document.images[0].naturalWidth") == 67


def test_the_page_holds_on_a_phone(tmp_path, cards):
    place = tmp_path / "out.html"
    place.write_text(gallery("cats " * 40, ["x" * 200], cards, place=place).html, "utf-8")
    with browser(tmp_path / "profile") as opened:
        screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        opened.get(place.as_uri())
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
        assert serious_faults(opened) == []


def test_a_picture_that_can_not_be_read_is_told_and_leaves_its_place(tmp_path):
    made = gallery("q", [], [Card(str(tmp_path / "gone.png"), "gone.png", 1.0, "1")])
    assert len(made.skipped) == 1
    assert "gone.png" in made.skipped[0]
    assert "no picture" in made.html
    assert "<li" in made.html


def test_moves_are_drawn_only_where_a_second_stage_moved(tmp_path):
    first, second = Card(None, "a", 1.0, "1", before=2), Card(None, "b", 0.5, "2", before=1)
    html = gallery("q", [], [first, second]).html
    assert "Moves from place to place: 2 to 1; 1 to 2" in html
    assert "up from 2" in html
    assert "down from 1" in html
    assert "<aside" not in gallery("q", [], [Card(None, "a", 1.0, "1")]).html


def test_no_answer_is_a_page_too():
    assert "Nothing was found." in gallery("q", [], []).html


def test_text_is_safe_in_elements_and_attributes():
    assert text("<a b=\"c\" d='e'>&\n\udce9") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;\\n\\xe9"


def test_a_link_is_never_a_scheme(tmp_path):
    page = tmp_path / "pages" / "out.html"
    assert link(str(tmp_path / "pages" / "javascript:x"), page) == "./javascript%3Ax"
    assert link(str(tmp_path / "a b\udce9#.png"), page) == "../a%20b%E9%23.png"
