"""The page in headless Chromium: typed at, clicked, dropped on; names that are markup stay names."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs chromium and chromedriver (Debian: chromium-driver)", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "pages")]
from browser import browser, in_scheme, of_width, requested, serious_faults  # noqa: E402

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"
HOSTILE = '"><script>alert(1)</script>.png'
"""A folder and a file in it, which together make a path that is markup."""
SCREENSHOTS = os.environ.get("BT_SCREENSHOTS")
"""A folder for screenshots that are to be looked at."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        opened.set_window_size(1400, 1000)
        opened.set_page_load_timeout(60)
        yield opened


@pytest.fixture(scope="module")
def many(serving, tmp_path_factory) -> Iterator:
    """A server over ninety pictures, more than a page shows at first, one of whose path is a script."""
    from bt_cli.commands.app import main

    home = tmp_path_factory.mktemp("many") / "album"
    scripted = home / Path(HOSTILE).parent
    (home / "2024").mkdir(parents=True)
    scripted.mkdir()
    for number in range(1, 90):
        folder = home / "2024" if number < 10 else home
        shutil.copy(SAMPLES / f"scene-{number:04}.jpg", folder / f"scene-{number:04}.jpg")
    shutil.copy(SAMPLES / "scene-0090.jpg", home / HOSTILE)
    assert main(["index", str(home), "--index", str(home / ".bt"), "--model", "tiny", "--dtype", "float32", "-q"]) == 0
    yield from serving(home, tmp_path_factory.mktemp("thumbnails"))


def open_page(chromium, url: str) -> None:
    """Load a page, and forget what the one before asked for and said.

    On a busy machine the driver comes back while the page before is there still, and what is typed and dropped then
    falls on that; so there is a blank one in between, and the page's own script is waited for.
    """
    chromium.get("about:blank")
    requested(chromium)
    chromium.get_log("browser")
    chromium.get(url)
    until(lambda: chromium.execute_script("return typeof listed === 'function' && document.readyState === 'complete'"))


def watched(chromium, url: str) -> Iterator:
    """The page, and after the test: no dialog, no complaint on the console, no request to anywhere else."""
    in_scheme(chromium, "light")
    of_width(chromium, 1400, 1000)
    open_page(chromium, url + "/")
    yield chromium
    complaints = [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert complaints == []
    assert [asked for asked in requested(chromium) if not asked.startswith((url, "blob:"))] == []


@pytest.fixture
def page(chromium, served):
    yield from watched(chromium, served.url)


@pytest.fixture
def album(chromium, many):
    yield from watched(chromium, many.url)


def until(check, seen=lambda: "", seconds: float = 30):
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"it did not come: {seen()}"
        time.sleep(0.05)
    return found


def names(page) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('#results .name')].map((one) => one.textContent)")


def type_text(page, text: str) -> None:
    """Type into the field and wait for the answer to all of it: results are drawn anew while somebody types."""
    page.find_element(By.ID, "q").send_keys(text)
    answered = "return new URLSearchParams(location.search).get('q') === arguments[0] && !state.running"
    until(lambda: page.execute_script(answered, text))


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
    page.find_element(By.ID, "heat").click()
    until(lambda: not page.execute_script(drawn))
    page.find_element(By.ID, "like").click()
    until(lambda: "like=" in page.current_url and page.find_elements(By.CSS_SELECTOR, "#terms li"))
    settled(page)  # terms are drawn anew with the answer
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
    in_scheme(page, scheme)
    of_width(page, width)
    type_text(page, "a dog")
    page.find_element(By.ID, "rerank").click()
    until(lambda: page.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    broken = "one.complete && !one.naturalWidth && one.id !== 'large'"
    loaded = f"return [...document.images].filter((one) => {broken}).length"
    assert page.execute_script(loaded) == 0
    until(lambda: page.execute_script("return document.querySelector('#results img').naturalWidth > 0"))
    assert serious_faults(page) == []
    page.save_screenshot(str(Path(SCREENSHOTS or tmp_path) / f"page-{width}-{scheme}.png"))


def test_results_go_on_while_scrolling(album):
    of_width(album, 1400, 500)
    type_text(album, "a dog")
    until(lambda: len(names(album)) == 40)
    assert album.find_element(By.ID, "status").text.startswith("40+ of 90 images")
    for reached in (80, 90):
        album.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
        until(lambda reached=reached: len(names(album)) == reached)
    ranks = album.execute_script(
        "return [...document.querySelectorAll('#results .rank')].map((one) => one.textContent)"
    )
    assert [rank for rank in ranks if rank.isdigit()] == [str(rank) for rank in range(1, 91)]
    assert (
        len({button.get_attribute("title") for button in album.find_elements(By.CSS_SELECTOR, "#results button")}) == 90
    )
    assert album.find_element(By.ID, "status").text.startswith("90 of 90 images")


def test_a_path_that_is_markup_stays_a_path(album):
    type_text(album, "a dog")
    until(lambda: len(names(album)) >= 40)
    album.find_element(By.ID, "more").click()
    album.find_element(By.ID, "glob").send_keys("*script*/**")
    until(lambda: names(album) == ["script>.png"])
    card = album.find_element(By.CSS_SELECTOR, "#results button")
    assert card.get_attribute("title").endswith("/" + HOSTILE)
    until(lambda: album.execute_script("return document.querySelector('#results img').naturalWidth > 0"))
    card.click()
    assert album.find_element(By.ID, "place").text.endswith("/" + HOSTILE)
    assert album.execute_script("return document.scripts.length") == 1


def test_a_deep_link_is_the_whole_question(album, many):
    album.get(many.url + "/?q=a+dog&add=2%3Asnow&subtract=a+cat&glob=2024%2F**&rerank=1&like=0.5%3A3")
    until(lambda: album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert len(names(album)) == 9
    typed = {name: album.find_element(By.ID, name).get_attribute("value") for name in ("q", "add", "subtract", "glob")}
    assert typed == {"q": "a dog", "add": "2:snow", "subtract": "a cat", "glob": "2024/**"}
    assert album.find_element(By.CSS_SELECTOR, "#terms input").get_attribute("value") == "0.5"
    reranked, address = names(album), album.current_url
    album.find_element(By.ID, "rerank").click()
    until(lambda: not album.find_elements(By.CSS_SELECTOR, ".up, .down") and len(names(album)) == 9)
    assert "rerank" not in album.current_url
    album.find_element(By.ID, "rerank").click()
    until(lambda: names(album) == reranked and album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert album.current_url == address


@pytest.mark.parametrize(
    "query",
    ["?like=99999", "?like=-2%3A99999&q=a", "?like=x%3Ay&q=a", "?index=nowhere&q=a", "?q=" + "%3Cscript%3E" * 9],
)
def test_a_broken_link_is_a_line_and_no_fault(album, many, query):
    album.get(f"{many.url}/{query}")
    status = album.find_element(By.ID, "status")
    until(lambda: status.text)
    refusals = {
        "99999": "has to be from 0 to 89",
        "x%3Ay": "x:y: no image of this index",
        "nowhere": "no index 'nowhere'",
    }
    said = [line for part, line in refusals.items() if part in query]
    if said:
        assert said[0] in status.text
        assert names(album) == []
        album.get_log("browser")  # the refusal
    else:
        assert len(names(album)) >= 40


def drop(page, content: bytes, name: str) -> None:
    page.execute_script(
        "const given = new DataTransfer();"
        "given.items.add(new File([new Uint8Array(arguments[0])], arguments[1], {type: 'image/png'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));",
        list(content),
        name,
    )


def test_a_dropped_file_may_be_called_anything(album, many):
    drop(album, (SAMPLES / "scene-0042.jpg").read_bytes(), HOSTILE)
    until(lambda: names(album)[:1] == ["scene-0042.jpg"])
    term = album.find_element(By.CSS_SELECTOR, "#terms li")
    assert HOSTILE.replace("/", ":") in term.find_element(By.TAG_NAME, "img").get_attribute("alt").replace("/", ":")
    assert serious_faults(album) == []
    assert album.execute_script("return document.scripts.length") == 1


def test_what_is_typed_and_dropped_before_the_server_has_answered_stays(album, many):
    album.set_network_conditions(latency=1500, throughput=1 << 24)
    try:
        open_page(album, many.url + "/")
        album.find_element(By.ID, "q").send_keys("a red car")
        drop(album, (SAMPLES / "scene-0042.jpg").read_bytes(), "mine.png")
        assert album.execute_script("return document.getElementById('index').options.length") == 0
        until(lambda: names(album))
    finally:
        album.delete_network_conditions()
    assert album.find_element(By.ID, "q").get_attribute("value") == "a red car"
    assert [term.get_attribute("alt") for term in album.find_elements(By.CSS_SELECTOR, "#terms img")] == ["mine.png"]


def test_the_keyboard_opens_walks_and_closes(album):
    type_text(album, "a dog")
    until(lambda: len(names(album)) >= 40)
    album.execute_script("document.querySelector('#results button').focus()")
    album.switch_to.active_element.send_keys(Keys.ENTER)
    viewer = album.find_element(By.ID, "viewer")
    assert viewer.is_displayed()
    album.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    album.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(lambda: not viewer.is_displayed())
    focused = "return [...document.querySelectorAll('#results button')].indexOf(document.activeElement)"
    until(lambda: album.execute_script(focused) == 2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(album, many, scheme):
    in_scheme(album, scheme)
    assert serious_faults(album) == []
    assert album.find_element(By.ID, "hint").is_displayed()
    album.get(many.url + "/?q=a+dog&add=2%3Asnow&rerank=1&like=0.5%3A3")
    until(lambda: album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    assert serious_faults(album) == []
    assert not album.find_element(By.ID, "hint").is_displayed()
    first = album.find_element(By.CSS_SELECTOR, "#results button")
    album.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)  # axe may have scrolled the page
    first.click()
    album.find_element(By.ID, "heat").click()
    assert serious_faults(album) == []


@pytest.fixture(scope="module")
def dated(serving, tmp_path_factory) -> Iterator:
    """A server over six photographs that say when, where and with what they were taken, and one that does not."""
    from photographs import photograph

    from bt_cli.commands.app import main

    home = tmp_path_factory.mktemp("dated") / "photos"
    for month in range(1, 7):
        photograph(
            home / f"month-{month}.jpg",
            colour=(40 * month, 90, 200 - 20 * month),
            taken=f"2024:{month:02}:03 14:05:09",
            offset="+02:00",
            model="X100V" if month < 3 else "<b>iPhone</b>",
            place=(48.2, 16.4) if month < 5 else (-33.9, 151.2),
        )
    photograph(home / "plain.jpg", colour=(200, 9, 90))
    assert main(["index", str(home), "--index", str(home / ".bt"), "--model", "tiny", "--dtype", "float32", "-q"]) == 0
    yield from serving(home, tmp_path_factory.mktemp("thumbnails"))


@pytest.fixture
def photos(chromium, dated):
    yield from watched(chromium, dated.url)


def fill(page, **fields: str) -> None:
    for name, text in fields.items():
        field = page.find_element(By.ID, name)
        field.clear()
        field.send_keys(text + Keys.TAB)


def found_months(page, expected: list[int]) -> bool:
    return sorted(names(page)) == [f"month-{month}.jpg" for month in expected]


def test_dates_places_and_cameras_narrow_the_answer(photos, dated):
    type_text(photos, "a colour")
    until(lambda: len(names(photos)) == 7)
    photos.find_element(By.CSS_SELECTOR, "#more summary").click()
    fill(photos, after="2024-02", before="2024-06")
    until(lambda: found_months(photos, [2, 3, 4, 5]))
    assert "of 7 images, 1 without a date, " in photos.find_element(By.ID, "status").text
    fill(photos, camera="iphone")
    until(lambda: found_months(photos, [3, 4, 5]))
    fill(photos, near="48.2,16.37,20km")
    until(lambda: found_months(photos, [3, 4]))
    photos.get(photos.current_url)
    until(lambda: found_months(photos, [3, 4]))
    assert photos.find_element(By.ID, "more").get_attribute("open")
    assert photos.find_element(By.ID, "near").get_attribute("value") == "48.2,16.37,20km"
    for field in ("near", "camera", "after", "before"):
        photos.execute_script(
            "const one = document.getElementById(arguments[0]); one.value = '';"
            "one.dispatchEvent(new Event(arguments[0] === 'camera' ? 'input' : 'change'))",
            field,
        )
    until(lambda: len(names(photos)) == 7)
    assert "without a" not in photos.find_element(By.ID, "status").text


def test_a_filter_that_is_none_is_said(photos, dated):
    photos.get(f"{dated.url}/?q=a&near=there")
    until(lambda: "no place" in photos.find_element(By.ID, "status").text)
    assert names(photos) == []
    photos.get_log("browser")  # the refusal


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_the_viewer_says_when_and_with_what(photos, dated, tmp_path, width: int, scheme: str):
    in_scheme(photos, scheme)
    of_width(photos, width)
    photos.get(f"{dated.url}/?q=a+colour&after=2024-05&before=2024-06&camera=iphone")
    until(lambda: found_months(photos, [5]))
    assert photos.execute_script("return document.documentElement.scrollWidth") <= width
    assert serious_faults(photos) == []
    until(lambda: photos.execute_script("return document.querySelector('#results img').naturalWidth > 0"))
    photos.save_screenshot(str(Path(SCREENSHOTS or tmp_path) / f"filters-{width}-{scheme}.png"))
    card = photos.find_element(By.CSS_SELECTOR, "#results button")
    photos.execute_script("arguments[0].scrollIntoView({block: 'center'})", card)
    card.click()
    taken = photos.find_element(By.ID, "taken")
    assert taken.text == "2024-05-03 14:05:09+02:00 · <b>iPhone</b> · -33.9000, 151.2000"
    assert photos.execute_script("return document.querySelectorAll('#taken b').length") == 0
    assert serious_faults(photos) == []
    photos.save_screenshot(str(Path(SCREENSHOTS or tmp_path) / f"viewer-{width}-{scheme}.png"))
    photos.get(f"{dated.url}/?q=a+colour&glob=plain.jpg")
    until(lambda: names(photos) == ["plain.jpg"])
    photos.find_element(By.CSS_SELECTOR, "#results button").click()
    assert photos.find_element(By.ID, "taken").text == ""


def status_says(page, words: str):
    until(lambda: words in page.find_element(By.ID, "status").text, lambda: page.find_element(By.ID, "status").text)


def settled(page):
    """Wait until nothing more comes, which would say something else."""
    quiet = "!state.more || at('end').getBoundingClientRect().top >= innerHeight + 600"
    until(lambda: page.execute_script(f"return !state.running && ({quiet})"))


def typed(page) -> str:
    return page.find_element(By.ID, "q").get_attribute("value")


def test_the_way_back_leads_through_the_questions(album):
    type_text(album, "a dog")
    until(lambda: len(names(album)) >= 40)
    dogs = names(album)
    album.find_element(By.ID, "rerank").click()
    until(lambda: len(names(album)) == 50 and album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    album.find_element(By.ID, "rerank").click()
    until(lambda: not album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    album.find_element(By.CSS_SELECTOR, "#results button").click()
    album.find_element(By.ID, "like").click()
    until(lambda: album.find_elements(By.CSS_SELECTOR, "#terms img[src]") and "like=1%3A%2F" in album.current_url)
    drop(album, (SAMPLES / "scene-0042.jpg").read_bytes(), "mine.png")
    until(lambda: len(album.find_elements(By.CSS_SELECTOR, "#terms li")) == 2)
    album.back()
    until(lambda: len(album.find_elements(By.CSS_SELECTOR, "#terms li")) == 1)
    album.forward()
    until(lambda: len(album.find_elements(By.CSS_SELECTOR, "#terms li")) == 2)
    for _ in range(2):
        album.back()
    until(lambda: names(album)[: len(dogs)] == dogs and not album.find_elements(By.CSS_SELECTOR, "#terms li"))
    album.back()
    until(lambda: album.find_elements(By.CSS_SELECTOR, ".up, .down"))
    for _ in range(2):
        album.back()
    until(lambda: typed(album) == "" and not names(album))


@pytest.mark.parametrize("weight", ["0", ""])
def test_a_weight_that_is_none_is_said_and_not_taken(album, many, weight):
    album.get(many.url + "/?like=0.5:3")
    until(lambda: len(names(album)) >= 40)
    settled(album)
    field = album.find_element(By.CSS_SELECTOR, "#terms input")
    album.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", field, weight
    )
    status_says(album, "A weight is a number other than 0")
    assert field.get_attribute("value") == "0.5"


def test_a_weight_of_0_in_a_link_is_said(album, many):
    album.get(many.url + "/?like=0:3")
    status_says(album, "an image of weight 0")
    album.get_log("browser")  # the refusal


def test_what_is_dropped_and_no_picture_is_said(album):
    put = (
        "const given = new DataTransfer();"
        "for (const [text, name, type] of arguments[0]) given.items.add(new File([text], name, {type}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));"
    )
    album.execute_script(put, [["some words", "notes.txt", "text/plain"]])
    status_says(album, "notes.txt: no picture.")
    album.execute_script("state.most = 200000")
    album.execute_script(put, [["x" * 100_000, "large.png", "image/png"]])
    status_says(album, "large.png: too large")
    album.execute_script(
        "const reading = FileReader.prototype.readAsDataURL;"
        "FileReader.prototype.readAsDataURL = function () { this.onerror(); };"
        "take([new File([], 'holidays')]).finally(() => { FileReader.prototype.readAsDataURL = reading; });"
    )
    status_says(album, "holidays: can't be read; a folder")
    assert not album.find_elements(By.CSS_SELECTOR, "#terms li")
    album.execute_script(put, [["no picture", "broken.png", "image/png"]])
    status_says(album, "broken.png: not an image that can be read")
    album.get_log("browser")  # the refusal


@pytest.fixture
def named(serving, tmp_path) -> Iterator:
    """A server over pictures whose names try to pass for others."""
    from bt_cli.commands.app import main

    home = tmp_path / "names"
    home.mkdir()
    for number, name in enumerate(
        ["\u202egpj.exe.jpg", "line\nbreak.jpg", NO_UTF8, "مرحبا.jpg", "long" * 60 + ".jpg"], 1
    ):
        shutil.copy(SAMPLES / f"scene-{number:04}.jpg", home / name)
    assert main(["index", str(home), "--index", str(home / ".bt"), "--model", "tiny", "--dtype", "float32", "-q"]) == 0
    yield from serving(home, tmp_path / "thumbnails")


@pytest.fixture
def strange(chromium, named):
    yield from watched(chromium, named.url)


NO_UTF8 = os.fsdecode(b"caf\xe9.jpg")


def test_names_pass_for_no_others(strange):
    type_text(strange, "a dog")
    until(lambda: len(names(strange)) == 5)
    expected = [r"\u202egpj.exe.jpg", r"line\nbreak.jpg", r"caf\xe9.jpg", "مرحبا.jpg", "long" * 60 + ".jpg"]
    assert sorted(names(strange)) == sorted(expected)
    assert serious_faults(strange) == []
    assert strange.execute_script("return document.documentElement.scrollWidth") <= 1400
    place = names(strange).index(r"caf\xe9.jpg")
    strange.find_elements(By.CSS_SELECTOR, "#results button")[place].click()
    assert strange.find_element(By.ID, "place").text.endswith(r"caf\xe9.jpg")
    strange.find_element(By.ID, "copy").click()
    until(lambda: strange.find_element(By.ID, "copy").text == "No UTF-8: can't be copied")
    strange.find_element(By.ID, "like").click()
    term = "const one = document.querySelector('#terms img[src]'); return one && one.alt"
    until(lambda: strange.execute_script(term) == r"caf\xe9.jpg")
    strange.get(strange.current_url)
    until(lambda: len(names(strange)) == 5 and strange.execute_script(term) == r"caf\xe9.jpg")


@pytest.fixture
def leaving(serving, tmp_path) -> Iterator:
    """A server that a test may stop, over an index that it may change: the two, and how to stop the first."""
    from bt_cli.commands.app import main

    home = tmp_path / "home"
    home.mkdir()
    for number in range(1, 90):
        shutil.copy(SAMPLES / f"scene-{number:04}.jpg", home / f"scene-{number:04}.jpg")
    arguments = ["index", str(home), "--index", str(home / ".bt"), "--dtype", "float32", "-q"]
    assert main([*arguments, "--model", "tiny"]) == 0
    server = serving(home, tmp_path / "thumbnails")
    yield next(server).url, home, lambda: main(arguments), lambda: next(server, None)
    next(server, None)


def test_an_index_that_changes_and_a_server_that_goes(chromium, leaving):
    url, home, update, stop = leaving
    in_scheme(chromium, "light")
    of_width(chromium, 1400, 500)
    chromium.get(f"{url}/?q=a+dog&like=1:{home}/scene-0050.jpg")
    until(lambda: len(names(chromium)) == 40)
    thumb = "return document.querySelector('#terms img').src"
    before = chromium.execute_script(thumb)
    (home / "scene-0001.jpg").unlink()  # now every id is another image's
    assert update() == 0
    chromium.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    status_says(chromium, "The index has changed meanwhile")
    assert len(names(chromium)) == 40
    chromium.find_element(By.ID, "q").send_keys(Keys.ENTER)
    status_says(chromium, "of 88 images")
    until(lambda: chromium.execute_script(thumb) != before)
    assert chromium.find_element(By.CSS_SELECTOR, "#terms img").get_attribute("alt") == "scene-0050.jpg"
    until(lambda: len(names(chromium)) in (40, 80, 88))
    chromium.execute_script("scrollTo(0, 0)")
    chromium.find_element(By.ID, "q").send_keys(" again" + Keys.ENTER)
    status_says(chromium, "40+ of 88 images")
    stop()
    chromium.get_log("browser")
    chromium.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    status_says(chromium, "The server does not answer.")
    time.sleep(1)
    assert len([entry for entry in chromium.get_log("browser") if "/api/search" in entry["message"]]) == 1
