"""`bt fill-mask`."""

from __future__ import annotations


def test_words_for_a_mask(bt, gallery) -> None:
    ran = bt("fill-mask", "a <mask> here", "--image", "c car.jpg", "--model", "reader", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    common = {"image": "c car.jpg", "text": "a <mask> here", "mask": 0}
    assert ran.objects == [
        {**common, "token": " red", "token_id": 100, "prob": 0.5, "sentence": "a red here"},
        {**common, "token": " car", "token_id": 101, "prob": 0.25, "sentence": "a car here"},
    ]
    assert list(ran.objects[0])[:6] == ["image", "text", "mask", "token", "token_id", "prob"]


def test_several_masks(bt, gallery) -> None:
    text = "<mask> and <mask>"
    ran = bt("fill-mask", text, "--image", "c car.jpg", "--model", "both", "--json", "-k", "2")
    assert [(word["mask"], word["token"], word["sentence"]) for word in ran.objects] == [
        (0, " red", "red and red"),
        (0, " car", "car and red"),
        (1, " red", "red and red"),
        (1, " car", "red and car"),
    ]
    assert len(bt("fill-mask", text, "--image", "c car.jpg", "--model", "both", "--json", "-k", "1").objects) == 2


def test_for_people_the_sentence_and_whole_words(bt, gallery) -> None:
    ran = bt("fill-mask", "a <mask> here", "--image", "c car.jpg", "--model", "both")
    assert ran.out.splitlines() == [
        "a red here",
        "  prob                word",
        "50.0 %  ██████        red",
        "25.0 %  ███           car",
    ]
    assert ran.err.startswith("bt: 1 mask filled in ")


def test_what_goes_wrong(bt, gallery) -> None:
    ran = bt("fill-mask", "a cat", "--image", "c car.jpg", "--model", "both")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "bt: no <mask> in the text; write it where a word is wanted, as in 'a <mask> on a table'\n"
    ran = bt("fill-mask", "caf\udce9 <mask>", "--image", "c car.jpg", "--model", "both")
    assert (ran.code, ran.err) == (2, "bt: the text is not UTF-8 text: caf\\xe9 <mask>\n")
    assert gallery.models == []
    ran = bt("fill-mask", "a <mask>", "--image", "c car.jpg", "--model", "finder")
    assert (ran.code, ran.err) == (1, "bt: finder has no MLM head\n")
    ran = bt("fill-mask", "a <mask>", "--image", "gone.jpg", "--model", "both")
    assert (ran.code, ran.err) == (1, "bt: gone.jpg: No such file or directory\n")
    ran = bt("fill-mask", "a <mask>")
    assert (ran.code, ran.out, ran.err) == (2, "", "bt: missing option '--image' (see bt fill-mask --help)\n")
    ran = bt("fill-mask", "a <mask>", "--image", "c car.jpg", "-k", "0")
    assert ran.code == 2


def test_the_default_checkpoint(bt, gallery) -> None:
    assert bt("fill-mask", "a <mask>", "--image", "c car.jpg").code == 0
    assert gallery.loaded == ["BridgeTower/bridgetower-large-itm-mlm"]
