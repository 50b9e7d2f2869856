"""The page in headless Chromium: typed at, clicked, dropped on; names that are markup stay names."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs chromium and chromedriver (Debian: chromium-driver)", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

SCREENSHOTS = os.environ.get("BT_SCREENSHOTS")
"""A folder for screenshots that are to be looked at."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.add_argument("--window-size=1400,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    browser.set_page_load_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture
def page(chromium, served):
    chromium.get(served.url + "/")
    yield chromium
    # After every test: no dialog, no complaint on the console, no request to anywhere else.
    complaints = [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert complaints == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    foreign = [url for url in asked if not url.startswith((served.url, "data:", "blob:", "chrome:"))]
    assert foreign == []


def until(check, seconds: float = 30):
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


def names(page) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('#results .name')].map((one) => one.textContent)")


def type_text(page, text: str) -> None:
    page.find_element(By.ID, "q").send_keys(text)


def test_results_come_while_typing_and_the_query_is_in_the_address(page, served):
    type_text(page, "a red car")
    until(lambda: "q=a+red+car" in page.current_url and len(names(page)) == 12)
    shown = names(page)
    assert '"><script>alert(1)<_script>.jpg' in shown
    page.get(page.current_url)
    until(lambda: names(page) == shown)
    assert page.find_element(By.ID, "q").get_attribute("value") == "a red car"


def test_reranking_draws_the_moves(page):
    type_text(page, "a dog")
    until(lambda: len(names(page)) == 12)
    page.find_element(By.ID, "rerank").click()
    until(lambda: page.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert "rerank=1" in page.current_url
    assert "12 read" in page.find_element(By.ID, "status").text


def test_a_click_enlarges_and_arrows_go_on(page):
    type_text(page, "a dog")
    until(lambda: len(names(page)) == 12)
    page.find_element(By.CSS_SELECTOR, "#results button").click()
    place = page.find_element(By.ID, "place")
    first = until(lambda: place.text)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    until(lambda: place.text != first)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_LEFT)
    until(lambda: place.text == first)
    page.find_element(By.ID, "heat").click()
    drawn = "const one = document.getElementById('large'); return one.src.includes('/heat/') && one.naturalWidth > 400"
    until(lambda: page.execute_script(drawn))
    page.find_element(By.ID, "like").click()
    until(lambda: "like=" in page.current_url and page.find_elements(By.CSS_SELECTOR, "#terms li"))
    page.find_element(By.CSS_SELECTOR, "#terms button").click()
    until(lambda: not page.find_elements(By.CSS_SELECTOR, "#terms li"))


def test_the_keyboard_reaches_everything(page):
    page.find_element(By.ID, "q").send_keys("a cat")
    until(lambda: len(names(page)) == 12)
    page.execute_script("document.querySelector('#results button').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    focused = "return [...document.querySelectorAll('#results button')].indexOf(document.activeElement)"
    assert page.execute_script(focused) == 1
    page.switch_to.active_element.send_keys("/")
    assert page.switch_to.active_element.get_attribute("id") == "q"


def test_a_dropped_picture_is_searched_for(page, library):
    page.find_element(By.ID, "file").send_keys(str(library / "scene-0003.jpg"))
    until(lambda: names(page)[:1] == ["scene-0003.jpg"])
    page.find_element(By.CSS_SELECTOR, "#terms button").click()
    until(lambda: not names(page))
    data = list((library / "scene-0005.jpg").read_bytes())
    page.execute_script(
        "const given = new DataTransfer();"
        "given.items.add(new File([new Uint8Array(arguments[0])], 'x.jpg', {type: 'image/jpeg'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));",
        data,
    )
    until(lambda: names(page)[:1] == ["scene-0005.jpg"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_sticks_out(page, tmp_path, width: int, scheme: str):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    type_text(page, "a dog")
    page.find_element(By.ID, "rerank").click()
    until(lambda: page.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    broken = "one.complete && !one.naturalWidth && one.id !== 'large'"
    loaded = f"return [...document.images].filter((one) => {broken}).length"
    assert page.execute_script(loaded) == 0
    until(lambda: page.execute_script("return document.querySelector('#results img').naturalWidth > 0"))
    page.save_screenshot(str(Path(SCREENSHOTS or tmp_path) / f"page-{width}-{scheme}.png"))
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
