"""A headless Chromium for tests of pages: nothing is fetched but the page itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """Debian's chromium, driven; skips where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with its driver here: pages are not tested in a browser")
    options = Options()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


def _axe_core() -> str:
    """axe-core's current version, which `make axe` fetches; else the older one that axe-selenium-python brings."""
    current = Path(__file__).resolve().parents[2] / ".axe" / "package" / "axe.min.js"
    if current.is_file():
        return current.read_text("utf-8")
    package = pytest.importorskip("axe_selenium_python", reason="neither `make axe` nor axe-selenium-python was run")
    return (Path(package.__file__).parent / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def in_scheme(opened: Any, scheme: str) -> None:
    """Show pages as someone sees them who prefers `light` or `dark`."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def of_width(opened: Any, width: int, height: int = 900) -> None:
    """Show pages on a screen of so many pixels; a narrow one is a phone's."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requested(opened: Any) -> list[str]:
    """Every address that the page asked for since the last call, data: URLs and the browser's own tab left out."""
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith(("data:", "chrome://", "chrome-untrusted://"))]


def serious_faults(opened: Any) -> list[str]:
    """What axe-core finds of the grades serious and critical, an entry a rule and element."""
    opened.execute_script(_axe_core())
    # Before version 4 its rule on autocomplete knew no type="search", and called "off" there a fault.
    options = "{rules: {'autocomplete-valid': {enabled: !axe.version.startsWith('3.')}}}"
    found = opened.execute_async_script(f"axe.run({options}).then(arguments[arguments.length - 1])")
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
