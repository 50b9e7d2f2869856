"""`bt rerank`: from arguments, stdin, the index and a TREC run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUERY = "cat left of dog"


def test_images_from_arguments(bt, gallery) -> None:
    ran = bt("rerank", QUERY, "a mirror.jpg", "c car.jpg", "b right.jpg", "--model", "reader", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    assert [(hit["rank"], hit["path"], hit["itm_logit"]) for hit in ran.objects] == [
        (1, "b right.jpg", 4.0),
        (2, "a mirror.jpg", pytest.approx(8 * 5 / 7 - 4, abs=1e-5)),
        (3, "c car.jpg", -4.0),
    ]
    assert list(ran.objects[0]) == ["rank", "id", "path", "score", "itc", "itm_logit", "itm_prob"]
    assert (ran.objects[0]["id"], ran.objects[0]["itc"]) == (None, None)
    assert gallery.loaded == ["reader"]


def test_a_table_for_people(bt, gallery) -> None:
    ran = bt("rerank", QUERY, "a mirror.jpg", "b right.jpg", "--model", "reader", "-k", "1")
    assert ran.out.splitlines() == [
        "#   match                logit  image",
        "1  98.2 %  ███████████▊   4.00  b right.jpg",
    ]
    assert ran.err.startswith("bt: 2 images reranked in ")


@pytest.mark.parametrize(
    "stdin",
    [
        b"a mirror.jpg\nb right.jpg\n",
        b"a mirror.jpg\r\n\r\nb right.jpg",
        b'{"path": "a mirror.jpg"}\n{"path": "b right.jpg", "score": 1}\n',
    ],
)
def test_images_from_stdin(bt, gallery, stdin: bytes) -> None:
    assert bt("rerank", QUERY, "--model", "both", "--paths", stdin=stdin).out == "b right.jpg\na mirror.jpg\n"
    assert bt("rerank", QUERY, "-", "--model", "both", "--paths", stdin=stdin).out == "b right.jpg\na mirror.jpg\n"


def test_nuls_on_stdin_keep_line_breaks_whole(bt, gallery) -> None:
    odd = b"e\n\xff.jpg"
    Path(os.fsdecode(odd)).write_text(QUERY)
    ran = bt("rerank", QUERY, "-0", "--paths", "--model", "both", stdin=b"a mirror.jpg\0" + odd + b"\0")
    assert ran.out_bytes == odd + b"\0a mirror.jpg\0"


def test_search_lines_keep_their_id_and_cosine(bt, gallery) -> None:
    found = bt("search", QUERY, "--json")
    ran = bt("rerank", QUERY, "--model", "both", "--json", stdin=found.out_bytes)
    before = {hit["path"]: (hit["id"], hit["itc"]) for hit in found.objects}
    assert [hit["path"] for hit in ran.objects[:2]] == ["b right.jpg", "a mirror.jpg"]
    assert {hit["path"]: (hit["id"], hit["itc"]) for hit in ran.objects} == before
    assert ran.objects == bt("search", QUERY, "--rerank", "--json").objects


def test_search_lines_are_read_by_the_checkpoint_that_found_them(bt, gallery) -> None:
    found = bt("search", QUERY, "--json")
    bt("rerank", QUERY, stdin=found.out_bytes)
    bt("rerank", QUERY, "--model", "reader", stdin=found.out_bytes)
    gallery.index = None
    bt("rerank", QUERY, stdin=found.out_bytes)
    assert gallery.loaded == ["both", "both", "reader", "BridgeTower/bridgetower-large-itm-mlm"]


def test_nothing_on_stdin_is_nothing_to_rerank(bt, gallery) -> None:
    ran = bt("rerank", QUERY, stdin=b"")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "bt: no image on stdin; where the index is meant, give it nothing to read: < /dev/null\n"
    assert gallery.models == []


def test_without_images_the_index_gives_them(bt, gallery) -> None:
    ran = bt("rerank", QUERY, "--json")
    assert ran.objects == bt("search", QUERY, "--rerank", "--json").objects
    assert len(bt("rerank", QUERY, "--json", "--candidates", "2").objects) == 2
    gallery.index = None
    ran = bt("rerank", QUERY)
    assert (ran.code, ran.err) == (1, "bt: no index here; bt index FOLDER makes one\n")


def test_the_default_reranker(bt, gallery) -> None:
    bt("rerank", QUERY, "c car.jpg")
    bt("rerank", QUERY, "c car.jpg", "--model", "finder")
    bt("rerank", QUERY, "c car.jpg", "--model", "finder", "--reranker", "both")
    large = "BridgeTower/bridgetower-large-itm-mlm"
    assert gallery.loaded == [large, large, "both"]


def test_an_unreadable_image_is_named(bt, gallery) -> None:
    Path("x.txt").write_text("broken")
    arguments = ["rerank", QUERY, "x.txt", "b right.jpg", "gone", "--model", "both", "--paths"]
    ran = bt(*arguments)
    assert (ran.code, ran.out) == (0, "b right.jpg\n")
    assert ran.err.startswith("bt: skipped x.txt: not an image\nbt: skipped gone: No such file or directory\n")
    assert ran.err.endswith(", 2 skipped\n")
    ran = bt(*arguments, "--strict")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: x.txt: not an image\n")
    ran = bt("rerank", QUERY, "x.txt", "--model", "both")
    assert (ran.code, ran.err) == (1, "bt: the image can't be read: x.txt: not an image\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "bt: nothing to search for"),
        ([" ", "a.jpg"], "bt: the query is empty"),
        ([QUERY, "--json", "--paths"], "bt: --json and --paths exclude each other"),
        ([QUERY, "-", "a.jpg"], "bt: - stands for all images of stdin; it can't be mixed with others"),
        (["--run", "r"], "bt: a TREC run takes its texts from a file: bt rerank --run RUN --queries TSV"),
        (["--queries", "q"], "bt: a TREC run takes its texts from a file"),
        ([QUERY, "--run", "r", "--queries", "q"], "bt: a TREC run takes its texts from a file"),
        ([QUERY, "a.jpg", "--images", "d"], "bt: --images and --run-out belong to --run"),
        (["--run", "r", "--queries", "q", "--paths"], "bt: a reranked run is written as a TREC run or with --json"),
    ],
)
def test_misuse(bt, gallery, arguments: list[str], line: str) -> None:
    ran = bt("rerank", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1
    assert gallery.models == []


def test_a_bad_json_line_is_named(bt, gallery) -> None:
    ran = bt("rerank", QUERY, stdin=b'{"path": "a"}\noops\n')
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("bt: stdin line 2 is no JSON object, as the first line is")


@pytest.fixture
def trec(gallery) -> list[str]:
    """The arguments that rerank a run of two queries over the gallery."""
    Path("run.txt").write_text(
        "q1 Q0 a%20mirror.jpg 1 9 x\nq1 Q0 b%20right.jpg 2 8 x\nq1 Q0 gone.jpg 3 7 x\nq2 Q0 b%20right.jpg 1 1 x\n"
    )
    Path("queries.tsv").write_text(f"q1\t{QUERY}\nq2\tred car\n")
    return ["rerank", "--run", "run.txt", "--queries", "queries.tsv", "--images", ".", "--model", "both"]


def test_a_trec_run(bt, trec: list[str]) -> None:
    ran = bt(*trec)
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()] == [
        ["q1", "Q0", "b%20right.jpg", "1", "4.0", "bt-itm"],
        ["q1", "Q0", "a%20mirror.jpg", "2", "1.7142857", "bt-itm"],
        ["q2", "Q0", "b%20right.jpg", "1", "-4.0", "bt-itm"],
    ]
    assert ran.err.startswith("bt: skipped gone.jpg: No such file or directory\nbt: 4 pairs of 2 queries reranked in ")


def test_a_trec_run_as_json_and_into_a_file(bt, trec: list[str]) -> None:
    objects = bt(*trec, "--json").objects
    assert [(hit["query"], hit["document"], hit["path"], hit["rank"], hit["id"]) for hit in objects] == [
        ("q1", "b%20right.jpg", "b right.jpg", 1, None),
        ("q1", "a%20mirror.jpg", "a mirror.jpg", 2, None),
        ("q2", "b%20right.jpg", "b right.jpg", 1, None),
    ]
    ran = bt(*trec, "--run-out", "out.txt")
    assert (ran.code, ran.out) == (0, "")
    assert Path("out.txt").read_text() == bt(*trec).out
    assert len(bt(*trec, "-k", "1").out.splitlines()) == 2
    assert len(bt(*trec, "--candidates", "1", "--json").objects) == 2


def test_a_trec_run_that_cannot_be_used(bt, trec: list[str]) -> None:
    Path("queries.tsv").write_text("q1\tx\n")
    ran = bt(*trec)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: query q2 of the run has no text in --queries (1 of 2 lack one)\n"
    Path("run.txt").write_text("nonsense\n")
    ran = bt(*trec)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bt: run.txt: line 1: ")


def test_real_stdin_is_told_apart() -> None:
    """A pipe or file feeds candidates; a terminal's place or /dev/null does not."""
    code = "import json, sys; from bt_cli.commands.rerank import _is_fed; print(json.dumps(_is_fed(sys.stdin)))"
    with open(__file__) as file:
        for stdin, fed in ((subprocess.PIPE, True), (subprocess.DEVNULL, False), (file, True)):
            process = subprocess.Popen([sys.executable, "-c", code], stdin=stdin, stdout=subprocess.PIPE, text=True)
            assert json.loads(process.communicate()[0]) is fed
