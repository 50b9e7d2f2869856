"""An index whose images are embedded with their captions: what is encoded, left out, kept and refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder, Stops, embedding_of, joined

from bt_cli.captions.captions import Caption
from bt_cli.embeddings.embedding_table import read_columns, read_embeddings
from bt_cli.errors import IndexMismatch, Misuse, UnreadableCaptions
from bt_cli.indexing.build import build_index
from bt_cli.indexing.summary import IndexSummary
from bt_cli.store.manifest import Manifest


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"photos/{name}.jpg").write_bytes(f"image {name}".encode() * 3)
    return tmp_path


def of(**captions: Sequence[str] | str) -> list[tuple[str, list[Caption]]]:
    """Captions of images by their names without suffix, as a caption file beside the folder has them."""
    items = [
        Caption(text, f"photos/{name}.jpg", None)
        for name, texts in captions.items()
        for text in ([texts] if isinstance(texts, str) else texts)
    ]
    return [("captions.csv", items)]


def update(encoder: FakeEncoder, pairs: object = None, roots: Sequence[str] = (), **options: object) -> IndexSummary:
    return build_index(".bt", roots, encoder, pairs=pairs, store_dtype="float32", **options)  # type: ignore[arg-type]


def check(**captions: Sequence[str] | str) -> None:
    """The index holds exactly these images, each embedded with exactly these captions."""
    manifest = Manifest.read(".bt")
    found: dict[str, np.ndarray] = {}
    for piece in manifest.pieces:
        paths = read_columns(f".bt/{piece.table}", ["path"]).column("path").to_pylist()
        rows = np.concatenate(list(read_embeddings(f".bt/{piece.table}")))
        deleted = set(piece.deleted_rows().tolist())
        found |= {path: rows[number] for number, path in enumerate(paths) if number not in deleted}
        assert pyarrow.parquet.read_schema(f".bt/{piece.table}").metadata[b"bt.kind"].decode() == manifest.kind
    assert sorted(found) == sorted(f"photos/{name}.jpg" for name in captions)
    for name, texts in captions.items():
        path = f"photos/{name}.jpg"
        wanted = embedding_of(joined(Path(path).read_bytes(), [texts] if isinstance(texts, str) else texts))
        assert np.allclose(found[path], wanted, atol=1e-6), path


def test_an_image_is_embedded_with_all_its_captions_and_one_without_is_left_out(photos: Path) -> None:
    summary = update(FakeEncoder(), of(a="a cat", b=["a dog", "a brown dog"], d="rain"), ["photos"])
    assert (summary.added, summary.uncaptioned, summary.captions) == (3, 1, 4)
    assert Manifest.read(".bt").kind == "pairs"
    check(a="a cat", b=["a dog", "a brown dog"], d="rain")


def test_mixed_takes_the_others_alone(photos: Path) -> None:
    summary = update(FakeEncoder(), of(a="a cat"), ["photos"], mixed=True)
    assert (summary.added, summary.uncaptioned) == (4, 0)
    assert Manifest.read(".bt").kind == "mixed"
    check(a="a cat", b=(), c=(), d=())
    assert update(FakeEncoder(), of(a="a cat", b="a dog")).updated == 1
    check(a="a cat", b="a dog", c=(), d=())


def test_only_what_changed_is_encoded_again(photos: Path) -> None:
    update(FakeEncoder(), of(a="a cat", b="a dog", c="rain"), ["photos"])
    again = FakeEncoder()
    assert update(again, of(a="a cat", b="a dog", c="rain")).unchanged == 3
    assert again.encoded == []
    (photos / "photos/a.jpg").write_bytes(b"another image")
    changed = FakeEncoder()
    summary = update(changed, of(a="a cat", b="a brown dog", d="snow"))
    assert (summary.added, summary.updated, summary.removed, summary.uncaptioned) == (1, 2, 1, 1)
    assert sorted(os.path.basename(path) for path in changed.encoded) == ["a.jpg", "b.jpg", "d.jpg"]
    check(a="a cat", b="a brown dog", d="snow")


def test_without_new_captions_the_old_ones_stay_and_follow_moved_images(photos: Path) -> None:
    update(FakeEncoder(), of(a="a cat", b="a dog"), ["photos"])
    os.rename("photos/a.jpg", "photos/z.jpg")
    (photos / "photos/e.jpg").write_bytes(b"an image that nobody has described")
    again = FakeEncoder()
    summary = update(again)
    assert (summary.added, summary.removed, summary.unchanged, summary.uncaptioned) == (1, 1, 1, 3)
    assert again.encoded == []
    check(z="a cat", b="a dog")
    assert update(FakeEncoder()).unchanged == 2
    check(z="a cat", b="a dog")


def test_a_touched_image_is_not_encoded_again(photos: Path) -> None:
    update(FakeEncoder(), of(a="a cat", b="a dog"), ["photos"])
    os.utime("photos/a.jpg", ns=(1, 1))
    again = FakeEncoder()
    update(again)
    assert again.encoded == []
    check(a="a cat", b="a dog")


def test_equal_images_with_other_captions_are_embedded_each_with_its_own(photos: Path) -> None:
    update(FakeEncoder(), of(a="a cat"), ["photos"])
    (photos / "photos/copy.jpg").write_bytes((photos / "photos/a.jpg").read_bytes())
    update(FakeEncoder(), of(a="a cat", copy="the same cat"))
    check(a="a cat", copy="the same cat")


@pytest.mark.parametrize("changed", [False, True])
def test_an_interrupted_run_goes_on_unless_the_captions_changed(photos: Path, changed: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        update(Stops(batch_size=2), of(a="a cat", b="a dog", c="rain"), ["photos"])
    captions = of(a="a tiger" if changed else "a cat", b="a dog", c="rain")
    again = FakeEncoder(batch_size=2)
    update(again, captions, ["photos"])
    assert len(again.encoded) == (3 if changed else 1)
    check(a="a tiger" if changed else "a cat", b="a dog", c="rain")


def test_an_image_that_cant_be_read_keeps_its_caption_findable(photos: Path) -> None:
    (photos / "photos/a.jpg").write_bytes(b"broken")
    summary = update(FakeEncoder(), of(a="a cat", b="a dog"), ["photos"])
    assert (summary.skipped, summary.captions) == (1, 2)
    check(b="a dog")
    (photos / "photos/a.jpg").write_bytes(b"mended")
    update(FakeEncoder(), of(a="a cat", b="a dog"))
    check(a="a cat", b="a dog")


def test_kinds_are_not_mixed_unasked(photos: Path) -> None:
    update(FakeEncoder(), None, ["photos"])
    with pytest.raises(IndexMismatch, match="embeds images alone, which can't stand beside pairs; bt index --rebuild"):
        update(FakeEncoder(), of(a="a cat"))
    assert update(FakeEncoder(), of(a="a cat"), rebuild=True).added == 1
    check(a="a cat")
    with pytest.raises(Misuse, match="its images are embedded with their captions; give these with --pairs"):
        update(FakeEncoder(), captions=of(a="a dog"))
    again = FakeEncoder()
    assert update(again, rebuild=True).uncaptioned == 3
    assert len(again.encoded) == 1
    check(a="a cat")
    with pytest.raises(Misuse, match="leave --captions out"):
        update(FakeEncoder(), of(a="a cat"), captions=of(a="a cat"))
    check(a="a cat")


def test_mixed_alone_is_no_index_of_pairs(photos: Path) -> None:
    with pytest.raises(Misuse, match="--mixed goes with --pairs"):
        update(FakeEncoder(), None, ["photos"], mixed=True)


def test_no_image_with_a_caption_makes_no_index(photos: Path) -> None:
    with pytest.raises(UnreadableCaptions, match="none of the 4 images has a caption"):
        update(FakeEncoder(), of(x="a cat"), ["photos"])
    assert not os.path.exists(".bt")
