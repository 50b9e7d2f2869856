"""Captions in a folder of images: metadata files and texts beside the images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bt_cli.captions.captions import image_places, read_captions
from bt_cli.errors import Misuse, UnreadableCaptions


def fill(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_texts_beside_images(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "a/horse.png": "",
            "a/horse.txt": "A horse.\nde.utf8=Ein Pferd.\npt_br.utf8=Um cavalo.\nsr@latin.utf8=Konj\n",
            "b/2.JPG": "",
            "b/2.caption": "one\n\n two \n",
            "b/3.jpg": "",
            "b/3.jpg.txt": "three",
            "00.jpg": "",
            "00.txt": "an alt text\nin two lines",
            "00.json": json.dumps({"caption": "an alt text\nin two lines", "url": "x"}),
            ".hidden/x.txt": "never",
        },
    )
    found = read_captions(tmp_path, images=tmp_path)
    assert found.format == "sidecars"
    assert [(str(Path(item.image or "").relative_to(tmp_path)), item.text, item.line) for item in found.items] == [
        ("00.jpg", "an alt text\nin two lines", 1),
        ("a/horse.png", "A horse.", 1),
        ("b/2.JPG", "one", 1),
        ("b/2.JPG", "two", 3),
        ("b/3.jpg", "three", 1),
    ]
    assert found.items[2].image_id == "b/2.JPG"
    assert found.place(found.items[3]) == f"{tmp_path}/b/2.caption:3"
    assert image_places(tmp_path) == [str(tmp_path)]


def test_texts_that_are_no_captions_are_told(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "a.png": "",
            "a.txt": "fine",
            "b.png": "",
            "b.txt": " \n",
            "c.png": "",
            "c.jpg": "",
            "c.txt": "whose",
            "d.png": "",
            "d.txt": b"\xe9t\xe9",
            "e.txt": "lost",
            "f.png": "",
            "f.txt": "x" * (1 << 20) + "y",
        },
    )
    said: list[UnreadableCaptions] = []
    assert [item.text for item in read_captions(tmp_path, on_skip=said.append).items] == ["fine"]
    assert [str(error).removeprefix(f"{tmp_path}/") for error in said] == [
        "b.txt: no caption",
        "c.txt: stands beside c.jpg and c.png; rename one of them",
        "d.txt:1: not UTF-8 (byte 0xe9); convert the file to UTF-8",
        "e.txt: no image of this name beside it",
        f"{tmp_path}/f.txt: larger than 1 MiB; a text beside an image holds its captions, one a line"[
            len(str(tmp_path)) + 1 :
        ],
    ]
    with pytest.raises(UnreadableCaptions, match=r"b\.txt: no caption"):
        read_captions(tmp_path)


def test_metadata_files_count_names_from_their_own_folder(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "train/metadata.jsonl": '{"file_name": "x/1.png", "text": "one"}\n'
            '{"file_name": "2.png", "text": ["two", "too"]}\n',
            "test/metadata.csv": "file_name,text\n1.png,three\n",
            "train/x/1.png": "",
            "train/2.png": "",
            "test/1.png": "",
            "test/1.txt": "not this",
        },
    )
    found = read_captions(tmp_path, images=tmp_path)
    assert found.format == "metadata"
    assert [(item.image_id, item.text, item.split) for item in found.items] == [
        ("test/1.png", "three", "test"),
        ("train/x/1.png", "one", "train"),
        ("train/2.png", "two", "train"),
        ("train/2.png", "too", "train"),
    ]
    assert found.place(found.items[0]) == f"{tmp_path}/test/metadata.csv:2"
    assert len(read_captions(tmp_path, split="train")) == 3


def test_a_folder_without_captions(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": "", "captions.csv": "image,caption\na.png,x\n"})
    with pytest.raises(UnreadableCaptions, match=r"a folder without metadata\.jsonl .*; name the caption file"):
        read_captions(tmp_path)
    with pytest.raises(Misuse, match="a folder; --format says what a caption file holds"):
        read_captions(tmp_path, format="csv")
