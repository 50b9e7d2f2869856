"""TREC files: what is written is read back, by us and by ranx, with the values that we compute."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bt_cli.datasets import trec
from bt_cli.errors import NotFound, UnreadableRun
from bt_cli.metrics import recall


def test_a_run_as_it_stands_in_the_file(tmp_path):
    path = tmp_path / "deep" / "run.trec"
    trec.write_run(
        path, {"q1": [("a.jpg", 0.5), ("b.jpg", 0.25), ("c.jpg", 0.25)], "q2": [("a.jpg", -100.0)]}, tag="tiny"
    )
    assert path.read_text() == (
        "q1 Q0 a.jpg 1 0.5 tiny\nq1 Q0 b.jpg 2 0.25 tiny\nq1 Q0 c.jpg 3 0.24999999 tiny\nq2 Q0 a.jpg 1 -100.0 tiny\n"
    )
    assert trec.read_run(path)["q1"][2] == trec.RunEntry("q1", "c.jpg", 3, 0.24999999, "tiny")


def test_a_run_of_any_origin(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(
        b"\xef\xbb\xbfq1\tQ0\tx%20y\t2\t1e-1\tmy run with words\r\n"
        b"\r\n"
        b"q0  Q0 caf\xe9.jpg  1  7\n"
        b"q1 Q0 z 1 .1\tr \n"
        b"q1 Q0 best 9 3 r"
    )
    run = trec.read_run(path)
    assert list(run) == ["q1", "q0"]
    assert [(e.document, e.rank, e.score, e.tag) for e in run["q1"]] == [
        ("best", 9, 3.0, "r"),
        ("z", 1, 0.1, "r"),
        ("x%20y", 2, 0.1, "my run with words"),
    ]
    assert run["q0"] == [trec.RunEntry("q0", os.fsdecode(b"caf\xe9.jpg"), 1, 7.0, "")]
    (tmp_path / "zipped").write_bytes(gzip.compress(path.read_bytes()))
    assert trec.read_run(tmp_path / "zipped") == run


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q Q0 d 1", "expected 'query Q0 document rank score tag'"),
        ("q Q0 d one 1.0 t", "'one' is no rank (a whole number)"),
        ("q Q0 d 1 high t", "'high' is no score"),
        ("q Q0 d 1 nan t", "'nan' is no score"),
        ("q Q0 first 1 1.0 t", "document first stands twice for query q"),
    ],
)
def test_a_broken_run_line_is_named(tmp_path, line, reason):
    path = tmp_path / "run"
    path.write_text(f"q Q0 first 1 1.0 t\n\n{line}\n")
    with pytest.raises(UnreadableRun) as caught:
        trec.read_run(path)
    assert str(caught.value) == f"{path}: line 3: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q 0 d", "expected 'query 0 document relevance'"),
        ("q 0 d yes", "'yes' is no relevance (a whole number)"),
        ("q 0 first 0", "document first is judged twice for query q"),
    ],
)
def test_a_broken_qrels_line_is_named(tmp_path, line, reason):
    path = tmp_path / "qrels"
    path.write_text(f"q 0 first 1\n{line}\n")
    with pytest.raises(UnreadableRun) as caught:
        trec.read_qrels(path)
    assert str(caught.value) == f"{path}: line 2: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q2 no tab", "expected 'id<TAB>text'"),
        ("\tno id", "expected 'id<TAB>text'"),
        ("q2\t ", "query q2 has no text"),
        ("q1\tagain", "query q1 stands twice"),
    ],
)
def test_a_broken_queries_line_is_named(tmp_path, line, reason):
    path = tmp_path / "queries.tsv"
    path.write_text(f"query_id\ttext\nq1\ta cat\n{line}\n")
    with pytest.raises(UnreadableRun) as caught:
        trec.read_queries(path)
    assert str(caught.value) == f"{path}: line 3: {reason}"


def test_queries_keep_their_text_and_order(tmp_path):
    path = tmp_path / "queries.tsv"
    trec.write_queries(path, {"z#0": "two  cats\n on a couch", "a#1": "id\tas text"})
    assert path.read_text() == "z#0\ttwo cats on a couch\na#1\tid as text\n"
    assert trec.read_queries(path) == {"z#0": "two cats on a couch", "a#1": "id as text"}


def test_a_file_that_is_not_there_and_one_that_is_no_gzip(tmp_path):
    with pytest.raises(NotFound) as caught:
        trec.read_run(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'}: no such file"
    (tmp_path / "torn").write_bytes(gzip.compress(b"".join(b"q Q0 d%d 1 1 t\n" % number for number in range(99)))[:-20])
    with pytest.raises(UnreadableRun) as caught:
        trec.read_run(tmp_path / "torn")
    assert str(caught.value) == f"{tmp_path / 'torn'}: broken gzip file; copy or download it again"


def test_what_would_make_a_broken_file_is_refused(tmp_path):
    for run in ({"q 1": [("d", 1.0)]}, {"q": [("d e", 1.0)]}, {"q": [("", 1.0)]}):
        with pytest.raises(ValueError, match="can't stand in a TREC file"):
            trec.write_run(tmp_path / "run", run)
    with pytest.raises(ValueError, match="can't be ranked"):
        trec.write_run(tmp_path / "run", {"q": [("d", float("nan"))]})
    with pytest.raises(ValueError, match=r"best first: 2\.0 follows 1\.0"):
        trec.write_run(tmp_path / "run", {"q": [("d", 1.0), ("e", 2.0)]})
    assert not (tmp_path / "run").exists()


ODD = ["\udc80", "\udcff", " ", "%", "\t", "\n", "\u00a0"]
NAMES = st.text(st.characters(codec="utf-8") | st.sampled_from(ODD), min_size=1)


@given(NAMES)
def test_any_name_survives_as_an_id(name):
    token = trec.encode_id(name)
    assert token.split() == [token]
    assert trec.decode_id(token) == name


def test_ordinary_names_stay_as_they_are():
    assert trec.encode_id("COCO_val2014_000000039769.jpg#3") == "COCO_val2014_000000039769.jpg#3"
    assert trec.encode_id("ein Bär 100%.jpg") == "ein%20Bär%20100%25.jpg"


@given(st.lists(st.sampled_from([-100.0, 0.1, 0.1 + 1e-12, 5.0, -1e-40, 1e38]), min_size=1))
def test_written_scores_fall_strictly_for_a_reader_with_32_bits(scores):
    written = trec.descending_scores(sorted(scores, reverse=True))
    as_float32 = np.array(written, dtype=np.float32)
    assert (np.diff(as_float32) < 0).all()
    assert np.allclose(as_float32, sorted(scores, reverse=True), rtol=1e-5)


@st.composite
def matrices_with_ties(draw):
    images = draw(st.integers(1, 12))
    captions = draw(st.integers(images, 20))
    owner = [*range(images), *(draw(st.integers(0, images - 1)) for _ in range(captions - images))]
    shape = (images, len(owner))
    return draw(arrays(np.float32, shape, elements=st.sampled_from([-100.0, 0.0, 0.5, 0.75]))), owner


def ranking(scores):
    order = np.argsort(-scores, kind="stable")
    return [(f"d{item}", float(scores[item])) for item in order]


@pytest.fixture(scope="module")
def ranx():
    """ranx without its just-in-time compiler, which takes the better part of a minute for examples of this size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        yield pytest.importorskip("ranx")


@settings(max_examples=25, deadline=None)
@given(case=matrices_with_ties())
def test_ranx_reads_the_files_and_finds_our_values(ranx, tmp_path_factory, case):
    scores, owner = case
    folder = tmp_path_factory.mktemp("trec")
    own = recall.own_captions(owner)
    ours = recall.metrics_from_scores(scores, owner)
    directions = {
        "tr": (scores, {f"q{i}": {f"d{c}": 1 for c in captions} for i, captions in own.items()}),
        "ir": (scores.T, {f"q{c}": {f"d{i}": 1} for c, i in enumerate(owner)}),
    }
    for name, (rows, qrels) in directions.items():
        trec.write_run(folder / f"{name}.trec", {f"q{q}": ranking(row) for q, row in enumerate(rows)})
        trec.write_qrels(folder / f"{name}.qrels", qrels)
        theirs = ranx.evaluate(
            ranx.Qrels.from_file(str(folder / f"{name}.qrels"), kind="trec"),
            ranx.Run.from_file(str(folder / f"{name}.trec"), kind="trec"),
            ["hit_rate@1", "hit_rate@5", "hit_rate@10", "mrr"],
        )
        for measure, key in {"hit_rate@1": "@1", "hit_rate@5": "@5", "hit_rate@10": "@10", "mrr": "_mrr"}.items():
            assert ours[name + key] == pytest.approx(theirs[measure], abs=1e-9)


def test_a_zipped_file_that_unpacks_to_no_end_is_refused(tmp_path):
    bomb, line = tmp_path / "bomb", tmp_path / "line"
    bomb.write_bytes(gzip.compress(b"\n" * (1 << 24)))
    line.write_bytes(b"q " * (1 << 20))
    for path, reason in (
        (bomb, "unpacks to more than 100 times its size, as no run does"),
        (line, "a line longer than"),
    ):
        with pytest.raises(UnreadableRun, match=f"{path.name}: {reason}"):
            trec.read_run(path)
    with pytest.raises(UnreadableRun, match="/dev/zero: a device"):
        trec.read_queries("/dev/zero")


def test_damage_anywhere_in_a_zipped_file_is_one_line_with_its_name(tmp_path):
    whole = gzip.compress(b"".join(b"q%d\ttext %d\n" % (number, number * 7919) for number in range(2000)))
    path = tmp_path / "queries.gz"
    for place in range(2, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        reason = ""
        try:
            trec.read_queries(path)  # a few bytes of the head, as the time, carry nothing
        except UnreadableRun as error:
            reason = str(error)
        assert not reason or reason.startswith(f"{path}: ")
        assert "\n" not in reason
