"""Names in caption files: which file each means, and what is said where none or several fit."""

from __future__ import annotations

import unicodedata

import pytest

from bt_cli.datasets.image_names import ImageNames, not_found

NFC, NFD = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "files", "fitting"),
    [
        ("1.jpg", ["1.jpg", "a/1.jpg"], ["1.jpg"]),
        ("1.jpg", ["b/1.jpg", "a/1.jpg"], ["b/1.jpg", "a/1.jpg"]),
        ("a/1.jpg", ["b/1.jpg", "x/a/1.jpg"], ["x/a/1.jpg"]),
        (NFC, [NFD], [NFD]),
        (NFD, [NFC, NFD], [NFD]),
        ("img_1.jpg", ["IMG_1.JPG"], ["IMG_1.JPG"]),
        ("img_1.jpg", ["IMG_1.JPG", "img_1.jpg"], ["img_1.jpg"]),
        ("img_1.jpg", ["IMG_1.JPG", "Img_1.jpg"], ["IMG_1.JPG", "Img_1.jpg"]),
        ("IMG_1", ["img_1.jpg"], ["img_1.jpg"]),
        ("img.jpg", ["IMG.jpg", "a/IMG.jpg"], ["IMG.jpg"]),
        ("A/IMG.jpg", ["b/img.jpg", "x/a/img.jpg"], ["x/a/img.jpg"]),
        ("stra\u00dfe.jpg", ["STRASSE.JPG"], ["STRASSE.JPG"]),
        ("a.jpg", [" a.jpg "], [" a.jpg "]),
        ("a\\b.jpg", ["x/a\\b.jpg", "b.jpg"], ["x/a\\b.jpg"]),
        ("C:\\a\\b.jpg", ["x/b.jpg", "a/b.jpg"], ["a/b.jpg"]),
        ("b.jpg", ["a.jpg"], []),
    ],
)
def test_the_file_that_is_meant(name: str, files: list[str], fitting: list[str]) -> None:
    names = ImageNames([f"/photos/{file}" for file in files], ["/photos"])
    assert names.fitting(name) == [f"/photos/{file}" for file in fitting]
    assert names.find(name) == (f"/photos/{fitting[0]}" if len(fitting) == 1 else None)


def test_what_is_said_of_an_image_without_its_file() -> None:
    assert not_found("a\n.jpg", [], "below photos") == r"its image a\n.jpg is not below photos"
    assert not_found("a.jpg", ["b/a.jpg", "c/a.jpg", "d/a.jpg", "e/a.jpg"], "") == (
        "its image a.jpg fits 4 files, b/a.jpg, c/a.jpg, d/a.jpg and 1 more; write which, with its folder"
    )
