"""`bt search`: whole outputs and exit codes, over fake pictures whose scores are known."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fakes import FakeCheckpoint, embed

CLOSING = re.compile(r"in \d+\.\d\d s, on cpu in float32(, [\d.,]+ images/s)?")


def without_time(err: str) -> str:
    """Stderr with the time taken out."""
    return CLOSING.sub("in TIME", err)


def test_a_table_for_people_and_a_closing_line(bt, gallery) -> None:
    ran = bt("search", "red car", "-k", "2")
    assert ran.code == 0
    cosine = float(embed("red car") @ embed("cat snow night"))
    others = [float(embed("red car") @ embed(text)) for text in ("dog left of cat", "cat left of dog")]
    second = max([cosine, *others])
    assert ran.out.splitlines()[0].split() == ["#", "cosine", "(ITC)", "image"]
    assert ran.out.splitlines()[1] == "1        1.0000  ████████████  c car.jpg"
    assert ran.out.splitlines()[2].startswith(f"2        {second:.4f}")
    assert without_time(ran.err) == "bt: 2 of 4 images by both in TIME\n"
    assert gallery.loaded == ["both"]


def test_json_lines_have_the_contracts_keys(bt, gallery) -> None:
    ran = bt("search", "red car", "-k", "1", "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    (hit,) = ran.objects
    cosine = hit["itc"]
    assert cosine == pytest.approx(1, abs=2e-7)
    assert cosine == float(f"{cosine:.7g}")
    assert ran.out == (
        f'{{"rank": 1, "id": 2, "path": "c car.jpg", "score": {cosine}, "itc": {cosine}, '
        '"itm_logit": null, "itm_prob": null}\n'
    )


def test_the_mirror_is_told_apart_by_reranking_alone(bt, gallery) -> None:
    first = bt("search", "cat left of dog", "--json").objects
    assert [hit["path"] for hit in first[:2]] == ["a mirror.jpg", "b right.jpg"]
    assert first[0]["itc"] == first[1]["itc"]
    second = bt("search", "cat left of dog", "--json", "--rerank")
    assert [hit["path"] for hit in second.objects[:2]] == ["b right.jpg", "a mirror.jpg"]
    best = second.objects[0]
    assert (best["rank"], best["id"], best["itc"]) == (1, 1, first[1]["itc"])
    assert best["score"] == best["itm_logit"] == 4.0
    assert best["itm_prob"] == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-6)
    assert without_time(second.err) == "bt: 4 of 4 images, 4 reranked, by both in TIME\n"
    assert gallery.loaded == ["both", "both"]


def test_a_small_k_is_the_beginning_of_a_larger_one(bt, gallery) -> None:
    for options in ([], ["--rerank"], ["--rerank", "--candidates", "3"]):
        whole = bt("search", "cat", "--json", "-k", "4", *options).objects
        for k in (1, 2, 3):
            assert bt("search", "cat", "--json", "-k", str(k), *options).objects == whole[:k]


def test_candidates_bound_what_is_read(bt, gallery) -> None:
    ran = bt("search", "cat", "--rerank", "--candidates", "2", "-k", "3", "--json")
    assert len(ran.objects) == 2
    assert ran.err.startswith("bt: -k 3 is more than the 2 candidates that were read; --candidates N reads more\n")
    assert gallery.models[-1].calls[-1] == ("itm", 2, 1, None)


def test_two_checkpoints_find_and_read(bt, gallery) -> None:
    gallery.made_by("finder")
    assert (
        bt("search", "cat left of dog", "--rerank", "--reranker", "reader", "--json").objects[0]["path"]
        == "b right.jpg"
    )
    assert gallery.loaded == ["finder", "reader"]
    bt("search", "cat", "--rerank")
    assert gallery.loaded[2:] == ["finder", "BridgeTower/bridgetower-large-itm-mlm"]


def test_kept_bridge_features_are_used_by_what_reads(bt, gallery) -> None:
    (gallery.folder / "index" / "bridges").mkdir(parents=True)
    bt("search", "cat")
    assert gallery.models[-1].calls == [("encode_texts", "cat")]
    found = bt("search", "cat", "--rerank", "--json")
    assert gallery.models[-1].calls[1:] == [("use_bridge_cache", "index/bridges"), ("itm", 4, 1, None)]
    bt("rerank", "cat", stdin=found.out_bytes)
    assert gallery.models[-1].calls == [("use_bridge_cache", "index/bridges"), ("itm", 4, 1, None)]


def test_a_missing_head_is_named(bt, gallery) -> None:
    ran = bt("search", "cat", "--rerank", "--reranker", "finder")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: finder has no ITM head\n")
    gallery.made_by("reader")
    ran = bt("search", "cat")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: reader has no ITC head\n")


def test_another_checkpoint_than_the_indexs_is_refused(bt, gallery) -> None:
    ran = bt("search", "cat", "--model", "finder")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bt: index fake: made by checkpoint both, not finder; ")
    assert "--rebuild" in ran.err


def test_an_unknown_checkpoint(bt, gallery) -> None:
    ran = bt("search", "cat", "--model", "nope")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: nope: no such checkpoint\n")


def test_no_index(bt, gallery) -> None:
    gallery.index = None
    ran = bt("search", "cat")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: no index here; bt index FOLDER makes one\n")
    assert gallery.models == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([""], "bt: the query is empty: give it some words\n"),
        ([], "bt: nothing to search for: give a query text, --image FILE or --add TEXT\n"),
        (["cat", "--add", " "], "bt: --add is empty: give it some words\n"),
        (["cat", "--json", "--paths"], "bt: --json and --paths exclude each other\n"),
        (["cat", "--to", "captions", "-0"], "bt: --paths prints images; for captions use --json\n"),
        (
            ["--image", "c car.jpg", "--rerank"],
            "bt: reranking reads each image with a text: give a query text beside --image\n",
        ),
        (
            ["cat", "--to", "captions", "--rerank"],
            "bt: reranking captions reads them with one image: give --image FILE, once\n",
        ),
        (["cat", "--candidates", "5"], "bt: --candidates belongs to --rerank\n"),
        (["cat", "-k", "0"], "bt: invalid value for '-k' / '--top' / '--top-k': "),
        (["cat", "--to", "videos"], "bt: invalid value for '--to': "),
    ],
)
def test_misuse(bt, gallery, arguments: list[str], line: str) -> None:
    ran = bt("search", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1
    assert gallery.models == []


def test_terms_that_cancel(bt, gallery) -> None:
    ran = bt("search", "cat", "-s", "cat")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: the terms of the query cancel one another out: nothing is left to search for\n"


def test_an_image_and_texts_add_up(bt, gallery) -> None:
    assert bt("search", "--image", "c car.jpg", "--json").objects[0]["path"] == "c car.jpg"
    hits = bt("search", "--image", "d snow.jpg", "-s", "2:snow", "-s", "2:night", "-a", "3:red", "--json").objects
    assert hits[0]["path"] == "c car.jpg"
    ran = bt("search", "--image", "gone.jpg")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: gone.jpg: No such file or directory\n")


def test_more_than_the_index_holds(bt, gallery) -> None:
    ran = bt("search", "cat", "-k", "9", "--paths")
    assert ran.code == 0
    assert sorted(ran.out.splitlines()) == sorted(["a mirror.jpg", "b right.jpg", "c car.jpg", "d snow.jpg"])
    assert without_time(ran.err) == "bt: the index holds 4 images, fewer than -k 9\nbt: 4 of 4 images by both in TIME\n"


def test_filters(bt, gallery) -> None:
    assert bt("search", "cat", "-g", "c*", "-g", "d*", "--paths").out == "d snow.jpg\nc car.jpg\n"
    assert bt("search", "cat", "-g", "!c*", "-g", "!d*", "--paths").out.splitlines() == ["a mirror.jpg", "b right.jpg"]
    ran = bt("search", "cat", "-g", "z*")
    assert (ran.code, ran.out) == (0, "")
    assert without_time(ran.err) == "bt: no image matches --glob z*\nbt: 0 of 4 images by both in TIME\n"
    for globs, said in [
        (["*.jpg"], "--glob *.jpg: every image of the index matches"),
        (["c*", "z*"], "--glob z*: no image of the index matches"),
        (["!@eaDir"], "--glob !@eaDir: takes nothing away"),
    ]:
        ran = bt("search", "cat", *(word for glob in globs for word in ("-g", glob)))
        assert ran.code == 0
        assert ran.err.splitlines()[0] == f"bt: {said}"
    ran = bt("search", "cat", "-g", "!*")
    assert without_time(ran.err) == "bt: no image matches --glob !*\nbt: 0 of 4 images by both in TIME\n"


def test_least_scores(bt, gallery) -> None:
    assert bt("search", "red car", "--min-score", "0.9", "--paths").out == "c car.jpg\n"
    ran = bt("search", "cat", "--min-score", "1.1", "--paths")
    assert (ran.code, ran.out) == (0, "")
    assert without_time(ran.err) == "bt: no image reaches --min-score 1.1\nbt: 0 of 4 images by both in TIME\n"
    ran = bt("search", "cat", "--min-score", "nan")
    assert (ran.code, ran.err) == (2, "bt: --min-score nan: no score is at least that; give a number\n")
    hits = bt("search", "cat left of dog", "--rerank", "--min-score", "3", "--json").objects
    assert [hit["path"] for hit in hits] == ["b right.jpg"]


def test_paths_are_bytes_and_a_line_break_is_remarked_on(bt, gallery) -> None:
    gallery.index._paths[2] = "c\n\udcff.jpg"
    ran = bt("search", "red car", "-k", "1", "--paths")
    assert ran.out_bytes == b"c\n\xff.jpg\n"
    assert ran.err.startswith("bt: 1 path with a line break among these; -0 keeps them whole\n")
    assert bt("search", "red car", "-k", "1", "-0", "-q").out_bytes == b"c\n\xff.jpg\0"


def test_captions(bt, gallery) -> None:
    ran = bt("search", "--image", "b right.jpg", "--to", "captions", "--json", "-k", "2")
    assert [(hit["caption"], hit["path"]) for hit in ran.objects] == [
        ("cat left of dog", "b right.jpg"),
        ("dog left of cat", "a mirror.jpg"),
    ]
    assert list(ran.objects[0]) == ["rank", "id", "path", "caption", "score", "itc", "itm_logit", "itm_prob"]
    ran = bt("search", "--image", "a mirror.jpg", "--to", "captions", "--rerank", "--json")
    assert [hit["caption"] for hit in ran.objects[:2]] == ["dog left of cat", "cat left of dog"]
    assert "caption" in bt("search", "tree", "--to", "captions").out.splitlines()[0]
    gallery.index.captions = None
    ran = bt("search", "tree", "--to", "captions")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "bt: the index holds no captions; bt index IMAGES --captions FILE adds them\n"


def test_an_image_that_vanished_is_named_and_left_out(bt, gallery) -> None:
    (gallery.folder / "b right.jpg").unlink()
    ran = bt("search", "cat left of dog", "--rerank", "--paths")
    assert ran.code == 0
    assert "b right.jpg" not in ran.out
    assert ran.err.startswith("bt: skipped b right.jpg: No such file or directory\n")
    assert ran.err.endswith(", 1 skipped\n")
    ran = bt("search", "cat left of dog", "--rerank", "--strict")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: b right.jpg: No such file or directory\n")


def test_an_image_file_as_the_query_is_searched_as_an_image(bt, gallery, monkeypatch) -> None:
    from fakes import FakeModel
    from PIL import Image

    Image.new("RGB", (4, 4)).save("query.png")
    monkeypatch.setattr(FakeModel, "encode_images", lambda self, images: np.stack([embed("red car") for _ in images]))
    ran = bt("search", "./query.png", "--top-k", "1", "--paths")
    assert (ran.code, ran.out) == (0, "c car.jpg\n")
    assert ran.err.startswith("bt: searching by the image in the file ./query.png, not for these words\n")
    data = (gallery.folder / "query.png").read_bytes()
    ran = bt("search", "-", "--top", "1", "--paths", stdin=data)
    assert (ran.code, ran.out) == (0, "c car.jpg\n")
    assert ran.err.startswith("bt: searching by the image on stdin\n")
    ran = bt("search", "-", stdin=b"")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1] == "bt: the image on stdin: the file is empty"
    assert bt("search", "-", "--image", "-").code == 2
    ran = bt("search", "http://127.0.0.1:9/a.jpg")
    assert ran.code == 1
    assert "which is not a public address" in ran.err


def test_a_text_that_is_the_name_of_a_text_file_stays_a_text(bt, gallery) -> None:
    (gallery.folder / "red car").write_text("notes")
    ran = bt("search", "red car", "-k", "1", "--paths")
    assert (ran.code, ran.out) == (0, "c car.jpg\n")
    assert ran.err.startswith("bt: 1 of 4 images by both in ")


def test_reranked_answers_are_ordered_as_the_checkpoint_keeps_or_as_is_asked(bt, gallery, monkeypatch) -> None:
    plain = bt("search", "cat left of dog", "--json", "--rerank").objects
    summed = bt("search", "cat left of dog", "--json", "--rerank", "--combine", "itm+itc")
    assert [hit["score"] for hit in summed.objects] == pytest.approx([hit["itm_logit"] + hit["itc"] for hit in plain])
    assert without_time(summed.err) == "bt: 4 of 4 images, 4 reranked by itm+itc, by both in TIME\n"
    monkeypatch.setattr(FakeCheckpoint, "combine", property(lambda _: "itc", lambda *_: None), raising=False)
    kept = bt("search", "cat left of dog", "--json", "--rerank")
    assert [(hit["path"], hit["score"]) for hit in kept.objects] == [
        (hit["path"], hit["itc"]) for hit in sorted(plain, key=lambda hit: (-hit["itc"], hit["id"]))
    ]
    text = "4 of 4 images, 4 reranked by itc, as the checkpoint keeps as its best, by both in TIME"
    assert without_time(kept.err) == f"bt: {text}\n"
    assert bt("search", "cat left of dog", "--json", "--rerank", "--combine", "itm").objects == plain
    other = bt("search", "cat left of dog", "--json", "--rerank", "--reranker", "reader")
    assert [hit["score"] for hit in other.objects] == [hit["itm_logit"] for hit in other.objects]
    refused = bt("search", "cat", "--combine", "itc")
    assert (refused.code, refused.err) == (2, "bt: --combine belongs to --rerank\n")
