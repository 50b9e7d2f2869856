"""Many texts at once against each alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_cli.datasets.trec import read_texts
from bt_cli.errors import UnreadableRun

QUERIES = ["red car", "cat left of dog", "snow", "cat"]


def alone(bt, *options: str) -> list[dict]:
    return [
        {"query": str(number), **hit}
        for number, text in enumerate(QUERIES, 1)
        for hit in bt("search", text, "--json", *options).objects
    ]


@pytest.mark.parametrize(
    "options", [[], ["-k", "2"], ["--glob", "*r.jpg", "-g", "!c*"], ["--min-score", "0.3"], ["--to", "captions"]]
)
def test_answers_are_those_of_each_text_alone(bt, gallery, options: list[str]) -> None:
    Path("q.txt").write_text("".join(f"{text}\n" for text in QUERIES))
    ran = bt("search", "--queries", "q.txt", "--json", *options)
    assert ran.code == 0
    assert ran.objects == alone(bt, *options)
    noun = "caption" if "captions" in options else "image"
    assert ran.err.startswith(f"bt: {len(ran.objects)} answers to 4 queries from 4 {noun}s in ")


def test_a_trec_run_that_rerank_reads(bt, gallery) -> None:
    Path("q.tsv").write_text("id\ttext\nq7\tcat left of dog\nq1\tred car\n")
    ran = bt("search", "--queries", "q.tsv", "-k", "2", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split(" ") for line in ran.out.splitlines()]
    assert [(line[0], line[1], line[3], line[5]) for line in lines] == [
        ("q7", "Q0", "1", "bt-itc"),
        ("q7", "Q0", "2", "bt-itc"),
        ("q1", "Q0", "1", "bt-itc"),
        ("q1", "Q0", "2", "bt-itc"),
    ]
    assert [line[2] for line in lines[:3]] == ["a%20mirror.jpg", "b%20right.jpg", "c%20car.jpg"]
    assert float(lines[0][4]) > float(lines[1][4])  # equal cosines, told apart for every reader
    Path("run").write_text(ran.out)
    again = bt("rerank", "--run", "run", "--queries", "q.tsv", "--quiet")
    assert again.out.splitlines()[0].split(" ")[:3] == ["q7", "Q0", "b%20right.jpg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["cat"], "--queries brings its own texts"),
        (["--image", "x.jpg"], "--queries brings its own texts"),
        (["--add", "x"], "--queries brings its own texts"),
        (["--rerank"], "--queries only finds"),
        (["--paths"], "a TREC run or with --json"),
        (["--to", "captions"], "a TREC run names images"),
    ],
)
def test_what_does_not_go_together(bt, gallery, options: list[str], said: str) -> None:
    Path("q.txt").write_text("cat\n")
    ran = bt("search", "--queries", "q.txt", *options)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_files_that_are_none(bt, gallery) -> None:
    ran = bt("search", "--queries", "nowhere")
    assert (ran.code, ran.out, ran.err) == (1, "", "bt: nowhere: no such file\n")
    Path("empty").write_text("\n \n")
    assert bt("search", "--queries", "empty").err.startswith("bt: empty: no query there")
    Path("stray").write_bytes(b"caf\xe9\n")
    ran = bt("search", "--queries", "stray")
    assert (ran.code, ran.err.startswith("bt: query 1 is not UTF-8 text")) == (2, True)
    assert gallery.models == []


def test_lines_are_texts_or_have_ids(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("a cat\n\n two dogs \r\n")
    assert read_texts(tmp_path / "q") == {"1": "a cat", "3": "two dogs"}
    (tmp_path / "q").write_text("x\ta cat\ntwo dogs\n")
    with pytest.raises(UnreadableRun, match="line 2: expected 'id<TAB>text'"):
        read_texts(tmp_path / "q")


@pytest.mark.parametrize(
    "content",
    [b'{"id": "1", "text": "a cat"}\n', b'["a cat", "a dog"]\n', b"query,text\n1,a cat\n", b'"ID";"Query"\n1;a cat\n'],
)
def test_other_formats_are_not_asked_for_as_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "q").write_bytes(content)
    with pytest.raises(UnreadableRun, match="q: line 1: no text but another format; write one a line, or id<TAB>text"):
        read_texts(tmp_path / "q")
    (tmp_path / "q").write_text("query, text and logo\n{a cat}\n")
    assert list(read_texts(tmp_path / "q").values()) == ["query, text and logo", "{a cat}"]


def test_a_nul_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes("a cat\n".encode("utf-16"))
    with pytest.raises(UnreadableRun, match="line 1: holds a NUL byte; convert the file to UTF-8"):
        read_texts(tmp_path / "q")


def test_an_id_with_white_space_would_break_a_run(bt, gallery) -> None:
    Path("q.tsv").write_text("a b\tred car\n")
    ran = bt("search", "--queries", "q.tsv")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: a TREC run has no place for white space in an id, as in 'a b'; use --json, or other ids\n"
    assert {hit["query"] for hit in bt("search", "--queries", "q.tsv", "--json").objects} == {"a b"}
