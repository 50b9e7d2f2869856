"""An index of many pieces answers as one made at once, whatever came, went and moved."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.captions.captions import Caption
from bt_cli.embeddings import index_choice
from bt_cli.indexing.build import build_index
from bt_cli.store import index_writer
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest


def answers(folder: Path, home: Path) -> list[object]:
    """What an index says, ids taken out."""
    with IndexFolder.open(folder) as index:
        paths = [str(Path(path).resolve().relative_to(home)) for path in index.paths(range(len(index)))]
        queries = np.stack([embedding_of(b"query %d" % number) for number in range(4)])
        scores, ids = index.search(queries, 10)
        some = index.matching("*[02468].jpg")
        among, found = index.search(queries, 5, ids=some)
        names = [[paths[number] for number in line] for line in [*ids.tolist(), *found.tolist()]]
        vectors = dict(zip(paths, index.vectors_of(np.arange(len(index))).tolist(), strict=True))
        rows = [(*row.values(),) for row in index.table(["size", "content_hash", "width"]).to_pylist()]
        captions = index.captions
        assert captions is not None
        owners = [paths[row] if row >= 0 else None for row in captions.image_ids(range(len(captions))).tolist()]
        table = dict(zip(paths, rows, strict=True))
        return [scores.tolist(), among.tolist(), names, vectors, table, owners, captions.texts(range(len(captions)))]


@pytest.mark.parametrize("with_lists", [False, True])
def test_thirty_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_lists: bool) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 3)
    if with_lists:
        monkeypatch.setattr(index_choice, "EXACT_NUMBERS", 100 * 16)
        monkeypatch.setattr(index_choice, "GRAPH_NUMBERS", 0)
    chance = random.Random(7)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(200):
        (photos / f"{number:04d}.jpg").write_bytes(b"image %d" % number)
    captions = [Caption(f"of {number}", image=f"{number:04d}.jpg") for number in range(0, 200, 9)]
    build_index(".bt", ["photos"], FakeEncoder(), captions=[("c.csv", captions)])
    most = deleted = 0
    for step in range(30):
        files = sorted(photos.iterdir())
        for file in chance.sample(files, chance.randrange(6)):
            what = chance.randrange(4)
            if what == 0:
                file.unlink()
            elif what == 1:
                file.rename(photos / f"moved-{step}-{file.name[-8:]}")
            elif what == 2:
                file.write_bytes(b"other %d %s" % (step, file.name.encode()))
            else:
                (photos / f"new-{step}-{chance.randrange(10)}.jpg").write_bytes(b"new %d" % step)
        summary = build_index(".bt", [], FakeEncoder())
        manifest = Manifest.read(".bt")
        assert {path.name for path in Path(".bt").glob("*-*")} == manifest.files()
        assert manifest.rows == summary.added + summary.updated + summary.unchanged == len(list(photos.iterdir()))
        most = max(most, len(manifest.pieces))
        deleted = max(deleted, sum(len(piece.deleted_rows()) for piece in manifest.pieces))
    assert 1 < most <= index_writer.MOST_PIECES + 1
    assert deleted > 0
    (tmp_path / "fresh").mkdir()
    build_index("fresh/.bt", ["photos"], FakeEncoder())
    with IndexFolder.open(".bt") as index, IndexFolder.open("fresh/.bt") as fresh:
        assert sorted(index.paths(range(len(index)))) == sorted(fresh.paths(range(len(fresh))))
        if not with_lists:
            queries = np.stack([embedding_of(b"query %d" % number) for number in range(4)])
            assert np.array_equal(index.search(queries, 20)[0], fresh.search(queries, 20)[0])
    before = answers(Path(".bt"), tmp_path)
    for path, vector in before[3].items():  # type: ignore[attr-defined]
        assert np.array_equal(vector, embedding_of(Path(path).read_bytes()).astype(np.float16).astype(np.float32))
    encoder = FakeEncoder()
    build_index(".bt", [], encoder, compact=True)
    assert (encoder.encoded, encoder.texts, len(Manifest.read(".bt").pieces)) == ([], [], 1)
    after = answers(Path(".bt"), tmp_path)
    assert after[3:] == before[3:]
    if not with_lists:
        assert after == before
    with IndexFolder.open(".bt") as index:
        assert len(index.table()) == len(index)
    assert Path(".bt/images.parquet").resolve().name == Manifest.read(".bt").pieces[0].table


def test_pieces_share_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_choice, "EXACT_NUMBERS", 1000 * 16)
    monkeypatch.setattr(index_choice, "GRAPH_NUMBERS", 0)
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 3)
    photos = tmp_path / "photos"
    photos.mkdir()

    def grow(first: int, last: int, **options: bool) -> list[tuple[int, str, float, float]]:
        for number in range(first, last):
            (photos / f"{number * 7919 % 10_000:05d}.jpg").write_bytes(b"image %d" % number)
        build_index(".bt", ["photos"], FakeEncoder(500), **options)
        pieces = Manifest.read(".bt").pieces
        return [(piece.rows, piece.kind, piece.search["trained"], piece.search["quantizer"]) for piece in pieces]

    def found() -> float:
        with IndexFolder.open(".bt") as index:
            queries = index.vectors_of(np.arange(0, len(index), 61))
            exact = index.search(queries, 10, ids=np.arange(len(index)))[1]
            pairs = zip(index.search(queries, 10)[1], exact, strict=True)
            return float(np.mean([len(np.intersect1d(mine, theirs)) for mine, theirs in pairs]) / 10)

    [first] = grow(0, 1300)
    assert first == (1300, "IVF32,SQfp16", 1300, first[3])
    assert grow(1300, 1800) == [first, (500, "IVF32,SQfp16", 1300, first[3])]
    assert found() > 0.95
    assert grow(0, 0, compact=True) == [(1800, "IVF32,SQfp16", 1300, first[3])]
    assert found() > 0.95
    assert grow(1800, 5201, compact=True) == [
        (5201, "IVF64,SQfp16", 5201, Manifest.read(".bt").pieces[0].search["quantizer"])
    ]
    assert Manifest.read(".bt").pieces[0].search["quantizer"] != first[3]
    assert found() > 0.95
