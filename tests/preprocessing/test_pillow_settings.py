"""Reading images leaves Pillow, and the process's warnings, as they were."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings

import pytest
from PIL import Image

from bt_cli.errors import UnreadableImage
from bt_cli.preprocessing.image_file import open_image
from bt_cli.preprocessing.pillow_settings import pillow_settings


def png(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG")
    return file.getvalue()


def test_importing_changes_nothing() -> None:
    code = (
        "import os, warnings, numpy, PIL.Image\n"
        "before = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS\n"
        "os.umask = None\n"
        "import bt_cli.preprocessing.image_file, bt_cli.files.atomic_write\n"
        "assert before == (list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("limit", ["", "0", "200", "1000000000"])
def test_reading_changes_nothing(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("BT_MAX_PIXELS", limit)
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    assert open_image(png(8)).size == (8, 8)
    with pytest.raises(UnreadableImage):
        open_image(b"no image")
    assert before == (list(warnings.filters), Image.MAX_IMAGE_PIXELS)


def test_a_limit_above_pillows_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImage, match="more pixels than the"):
        open_image(png(40))
    monkeypatch.setenv("BT_MAX_PIXELS", "2000")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(png(40)).size == (40, 40)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_share_the_settings_and_the_last_puts_them_back() -> None:
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    inside, leave = threading.Barrier(2, timeout=30), threading.Event()

    def read() -> None:
        with pillow_settings(None):
            inside.wait()
            leave.wait(30)

    other = threading.Thread(target=read)
    other.start()
    inside.wait()
    with pillow_settings(100):
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS is None
    assert len(warnings.filters) == len(before[0]) + 1
    leave.set()
    other.join()
    assert before == (list(warnings.filters), Image.MAX_IMAGE_PIXELS)
