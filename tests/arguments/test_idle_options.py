"""An option that would change nothing beside the others is refused, and never passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.tsv").write_text("1\ta dog\n")
    Path("run").write_text("1 Q0 a.jpg 1 1.0 x\n")


NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search x --reranker y", "--reranker belongs to --rerank"),
        ("search x --combine itm", "--combine belongs to --rerank"),
        ("search --queries q.tsv --unique", "--unique is for the answers to one query; leave out --queries"),
        ("search --queries q.tsv --candidates 3", "--candidates belongs to --rerank"),
        ("search --queries q.tsv --reranker y", "--reranker belongs to --rerank"),
        (f"search x --server {NOWHERE} --device cpu", "--device says how this machine computes; leave it out with "),
        (f"rerank x a.jpg --server {NOWHERE} --dtype int8", "--dtype says how this machine computes; leave it out w"),
        (f"score a.jpg x --server {NOWHERE} --dtype int8", "--dtype says how this machine computes; leave it out wi"),
        (f"fill-mask <mask> --image a.jpg --server {NOWHERE} --device cpu", "--device says how this machine computes"),
        ("rerank x a.jpg --candidates 3", "--candidates counts images of the index or of a run; those given are all"),
        ("rerank x a.jpg --index y", "--index is not asked where images are given; leave it out"),
        ("rerank x a.jpg -0", "-0 is about paths on stdin, or with --paths about those printed"),
        ("rerank --run run --queries q.tsv --index y", "--index names images to read, which a run does itself; leave"),
        ("rerank --run run --queries q.tsv --run-out y --json", "--run-out writes the run into a file, --json shows "),
        ("export --to npy -o x.npy --shard-size 3", "--shard-size belongs to --to webdataset"),
        ("export --to npy -o x.npy --strict", "--strict belongs to --to webdataset"),
        ("export --to webdataset -o x --name y", "--name names a table or collection, of --to lancedb or qdrant"),
        ("eval c.csv --reranker y", "--reranker goes with --rerank or --exhaustive"),
        ("eval c.csv --combine itm", "--combine itm goes with --rerank or --exhaustive"),
        ("eval c.csv --run-depth 3", "--run-depth goes with --run-out or --tr-run-out"),
        ("eval c.csv --no-resume --resume-dir y", "--resume-dir keeps results to go on from, and --no-resume keeps n"),
        ("index x --format csv", "--format is about a file of captions; add --captions FILE or --pairs FILE"),
        ("index x --split test", "--split is about a file of captions; add --captions FILE or --pairs FILE"),
        ("index x --reranker y", "--reranker chooses what --bridge-cache keeps for; leave it out without"),
        ("index --tables x --engine processes", "--engine has no place beside --tables, which takes what is encoded "),
        ("index --tables x --strict", "--strict has no place beside --tables, which takes what is encoded already; "),
        ("index --tables x --batch-size 3", "--batch-size has no place beside --tables, which takes what is encoded "),
        ("train c.csv --out x --recipe tiny --epochs 3", "--epochs is for the recipe to say; leave one of the two out"),
        ("train c.csv --out x --recipe tiny --dtype float32", "--dtype is for the recipe to say; leave one of the tw"),
        ("train --out x --recipe tiny --split y", "--split is about the captions to train on; name a file of them"),
        (
            "train c.csv --out x --validation y --validation-share 0.2",
            "--validation-share holds images out where no --validation is given; leave one of the two out",
        ),
    ],
)
def test_it_is_named_with_the_reason(bt, words: str, said: str) -> None:
    ran = bt(*words.split())
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"bt: {said}")


def test_variables_are_for_all_commands(bt, monkeypatch: pytest.MonkeyPatch) -> None:
    """BT_RERANKER beside a search without reranking is no wish that goes unheard."""
    monkeypatch.setenv("BT_RERANKER", "y")
    ran = bt("search", "x")
    assert (ran.code, "no index in " in ran.err) == (1, True)
