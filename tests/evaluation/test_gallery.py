"""From a caption file to a gallery: order, names, owners, and what is left when images go."""

from __future__ import annotations

import pytest
from PIL import Image

from bt_cli.captions.captions import read_captions
from bt_cli.errors import Misuse, NotFound
from bt_cli.evaluation.gallery import Gallery


@pytest.fixture
def album(tmp_path):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def gallery_of(folder, text, **options):
    (folder / "captions").write_text(text)
    return Gallery.of(read_captions(folder / "captions", **options), folder)


def test_images_and_captions_keep_the_order_of_the_file(album):
    gallery = gallery_of(album, "image,caption\nb.jpg,two dogs\na.jpg,one cat\nb.jpg,one cat\n")
    assert gallery.image_ids == ["b.jpg", "a.jpg"]
    assert gallery.paths == [str(album / "b.jpg"), str(album / "a.jpg")]
    assert gallery.captions == ["two dogs", "one cat", "one cat"]
    assert gallery.caption_ids == ["b.jpg#0", "a.jpg#0", "b.jpg#1"]
    assert gallery.owner == [0, 1, 0]
    assert gallery.own_captions == {0: [0, 2], 1: [1]}
    assert gallery.texts == ["one cat", "two dogs"]
    assert gallery.text_of.tolist() == [1, 0, 0]


def test_two_spellings_of_a_file_are_one_image(album):
    gallery = gallery_of(album, "image,caption\n./b.jpg,two dogs\na.jpg,one cat\nb.jpg,one cat\nold/b.jpg,a dog\n")
    assert gallery.image_ids == ["./b.jpg", "a.jpg"]
    assert gallery.paths == [str(album / "b.jpg"), str(album / "a.jpg")]
    assert gallery.owner == [0, 1, 0, 0]
    assert gallery.caption_ids == ["./b.jpg#0", "a.jpg#0", "./b.jpg#1", "./b.jpg#2"]


def test_the_ids_of_the_file_are_kept_where_they_are_unique(album):
    rows = ["a.jpg#0\tone", "a.jpg#1\ttwo", "c.jpg#0\tthree"]
    assert gallery_of(album, "\n".join(rows) + "\n").caption_ids == ["a.jpg#0", "a.jpg#1", "c.jpg#0"]


def test_the_folder_of_the_images_is_no_file(album):
    (album / "captions").write_text("image,caption\na.jpg,one cat\n")
    with pytest.raises(Misuse, match=r"a\.jpg: a file; name the folder that the captions' images lie in"):
        Gallery.of(read_captions(album / "captions"), album / "a.jpg")


def test_what_is_left_without_an_image(album):
    gallery = gallery_of(album, "image,caption\nb.jpg,one\na.jpg,two\nb.jpg,three\nc.jpg,four\n")
    left = gallery.without({1})
    assert (left.image_ids, left.captions, left.owner) == (["b.jpg", "c.jpg"], ["one", "three", "four"], [0, 0, 1])
    assert left.caption_ids == ["b.jpg#0", "b.jpg#1", "c.jpg#0"]
    first = gallery.first(2)
    assert (first.image_ids, first.captions, first.owner) == (["b.jpg", "a.jpg"], ["one", "two", "three"], [0, 1, 0])
    assert gallery.first(9) == gallery


def test_the_fingerprint_follows_captions_and_files(album):
    text = "image,caption\nb.jpg,one\na.jpg,two\n"
    before = gallery_of(album, text).fingerprint
    assert gallery_of(album, text).fingerprint == before
    assert gallery_of(album, text.replace("two", "too")).fingerprint != before
    Image.new("RGB", (5, 5)).save(album / "a.jpg")
    assert gallery_of(album, text).fingerprint != before


def test_a_missing_image_is_kept_for_whoever_opens_it_and_all_missing_is_an_error(album, tmp_path):
    gallery = gallery_of(album, "image,caption\nb.jpg,one\nnone.jpg,two\n")
    assert gallery.paths == [str(album / "b.jpg"), str(album / "none.jpg")]
    with pytest.raises(NotFound, match="none of its 1 images is below .*; --images names their folder"):
        gallery_of(album, "image,caption\nnone.jpg,two\n")


def test_a_caption_without_an_image_is_refused_by_its_line(album):
    with pytest.raises(Misuse) as caught:
        gallery_of(album, "one cat\ntwo dogs\n", format="plain")
    assert str(caught.value) == f"{album / 'captions'}:1: names no image, and recall needs one a caption"
