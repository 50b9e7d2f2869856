"""`bt score`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import embed


def test_an_image_and_texts(bt, gallery) -> None:
    ran = bt("score", "b right.jpg", "cat left of dog", "red car", "--model", "both", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    first, second = ran.objects
    assert list(first) == ["image", "text", "itm_logit", "itm_prob", "itc"]
    assert (first["image"], first["text"], first["itm_logit"]) == ("b right.jpg", "cat left of dog", 4.0)
    assert first["itm_prob"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert first["itc"] == pytest.approx(1.0, abs=1e-6)
    assert (second["text"], second["itm_logit"]) == ("red car", -4.0)
    assert second["itc"] == pytest.approx(float(embed("cat left of dog") @ embed("red car")), abs=1e-6)


def test_images_by_texts(bt, gallery) -> None:
    ran = bt("score", "--image", "c car.jpg", "--image", "b right.jpg", "red car", "cat", "--model", "reader", "--json")
    assert [(pair["image"], pair["text"]) for pair in ran.objects] == [
        ("c car.jpg", "red car"),
        ("c car.jpg", "cat"),
        ("b right.jpg", "red car"),
        ("b right.jpg", "cat"),
    ]
    assert all("itc" not in pair for pair in ran.objects)
    assert gallery.models[0].calls == [("itm", 2, 2, 4)]
    assert ran.err.startswith("bt: 4 pairs of 2 images scored in ")


def test_a_table_for_people(bt, gallery) -> None:
    ran = bt("score", "b right.jpg", "cat left of dog", "--model", "reader")
    assert ran.out.splitlines() == [
        " match                logit  image        text",
        "98.2 %  ███████████▊   4.00  b right.jpg  cat left of dog",
    ]


def test_pairs_from_a_file_each_encoded_once(bt, gallery) -> None:
    Path("lists").mkdir()
    Path("lists/beside.jpg").write_text("green tree")
    Path("lists/pairs.csv").write_text("image,text\nb right.jpg,red car\nbeside.jpg,green tree\nb right.jpg,cat\n")
    ran = bt("score", "--pairs", "lists/pairs.csv", "--model", "both", "--json")
    assert [(pair["image"], pair["text"], pair["itm_logit"]) for pair in ran.objects] == [
        ("b right.jpg", "red car", -4.0),
        ("lists/beside.jpg", "green tree", 4.0),
        ("b right.jpg", "cat", 4.0),
    ]
    assert gallery.models[0].calls == [("itm", 2, 3, 3)]
    ran = bt("score", "--pairs", "lists/pairs.csv", "--images", "nowhere", "--model", "both")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bt: ")


def test_unreadable_images(bt, gallery) -> None:
    ran = bt("score", "--image", "gone.jpg", "--image", "c car.jpg", "red car", "--model", "both", "--json")
    assert ran.code == 0
    assert [pair["image"] for pair in ran.objects] == ["c car.jpg"]
    assert ran.err.startswith("bt: skipped gone.jpg: No such file or directory\nbt: 1 pair of 1 image scored in ")
    ran = bt("score", "--image", "gone.jpg", "--image", "c car.jpg", "x", "--model", "both", "--strict")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: gone.jpg: No such file or directory\n")
    ran = bt("score", "gone.jpg", "x", "--model", "both")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "bt: the image can't be read: gone.jpg: No such file or directory\n"


def test_a_checkpoint_without_the_head(bt, gallery) -> None:
    ran = bt("score", "c car.jpg", "x", "--model", "finder")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: finder has no ITM head\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "bt: nothing to score: "),
        (["a.jpg"], "bt: nothing to score: "),
        (["--image", "a.jpg"], "bt: nothing to score: "),
        (["a.jpg", " "], "bt: a text is empty"),
        (["a.jpg", "caf\udce9"], "bt: a text is not UTF-8 text: caf\\xe9"),
        (["a.jpg", "x", "--pairs", "p"], "bt: --pairs brings its own images and texts"),
        (["a.jpg", "x", "--images", "d"], "bt: --images belongs to --pairs"),
    ],
)
def test_misuse(bt, gallery, arguments: list[str], line: str) -> None:
    ran = bt("score", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1


def test_pairs_without_images(bt, gallery) -> None:
    Path("plain.txt").write_text("just a caption\nand another one\n")
    ran = bt("score", "--pairs", "plain.txt")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: plain.txt:1: names no image; give image and text in two columns\n"


def test_folders_stand_for_the_images_in_them(bt, gallery) -> None:
    Path("more").mkdir()
    for name in ("x", "y"):
        Path(f"more/{name}.jpg").write_text("red car")
        Path(f"more/{name}.txt").write_text("red car")
    ran = bt("score", "more", "red car", "--model", "both", "--json")
    assert [(pair["image"], pair["itm_logit"]) for pair in ran.objects] == [("more/x.jpg", 4.0), ("more/y.jpg", 4.0)]
    ran = bt("score", "--pairs", "more", "--model", "both", "--json")
    assert [(pair["image"], pair["text"]) for pair in ran.objects] == [
        ("more/x.jpg", "red car"),
        ("more/y.jpg", "red car"),
    ]


def test_bad_pairs_are_skipped_or_an_error(bt, gallery) -> None:
    Path("p.csv").write_text("image,text\nb right.jpg,cat\nb right.jpg,\n")
    ran = bt("score", "--pairs", "p.csv", "--model", "both", "--json")
    assert (ran.code, len(ran.objects)) == (0, 1)
    assert ran.err.startswith("bt: skipped p.csv:3: no caption\n")
    ran = bt("score", "--pairs", "p.csv", "--model", "both", "--strict")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: p.csv:3: no caption\n")
