"""The protocol against a literal, dense computation of it, and its promises about work, memory and interruptions."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.exact_model import ExactModel
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.errors import BtError, EmptyFolder, Misuse, UnreadableImage
from bt_cli.evaluation import protocol
from bt_cli.evaluation.gallery import Gallery
from bt_cli.evaluation.protocol import run_protocol
from bt_cli.evaluation.resume import ResumableArrays
from bt_cli.metrics.recall import metrics_from_scores as metrics_of_matrix


def unit_rows(rng, rows, d=8):
    table = rng.standard_normal((rows, d)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def make_case(seed, images, captions_each, distinct=None):
    """A gallery with several captions an image, some of them the same text, and a model with random scores."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(images), captions_each)
    rng.shuffle(owner)
    texts = rng.integers(0, distinct or len(owner), len(owner))
    gallery = Gallery(
        [f"i{i}" for i in range(images)],
        [f"i{i}" for i in range(images)],
        [f"c{c}" for c in range(len(owner))],
        [f"t{t} {'long ' * (t % 3)}".strip() for t in texts],
        owner.tolist(),
    )
    # Logits on a coarse grid: ties are frequent.
    logits = np.round(rng.standard_normal((images, len(owner))) * 2).astype(np.float32)
    model = ExactModel(unit_rows(rng, images), unit_rows(rng, len(owner)), logits)
    return gallery, model, texts


def literal_protocol(model, texts, k, with_itc=False):
    """Two dense matrices, -100 everywhere but at the candidates of one direction, and their elementwise maximum."""
    itc = (model.images.astype(np.float64) @ model.texts[texts].T.astype(np.float64)).astype(np.float32)
    itm = model.logits[:, texts] + (itc if with_itc else 0)
    of_images, of_captions = np.full_like(itm, -100), np.full_like(itm, -100)
    for i in range(itm.shape[0]):
        best = sorted(range(itm.shape[1]), key=lambda c: (-itc[i, c], c))[:k]
        of_images[i, best] = itm[i, best]
    for c in range(itm.shape[1]):
        best = sorted(range(itm.shape[0]), key=lambda i: (-itc[i, c], i))[:k]
        of_captions[best, c] = itm[best, c]
    return itc, np.maximum(of_images, of_captions)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(12, 40), st.integers(1, 3), st.integers(10, 45), st.booleans())
def test_candidates_equal_the_literal_protocol(seed, images, captions_each, k, with_itc):
    gallery, model, texts = make_case(seed, images, captions_each, distinct=images)
    combine = "itm+itc" if with_itc else "itm"
    found = run_protocol(gallery, model, model, candidates=k, combine=combine)
    itc, itm = literal_protocol(model, texts, k, with_itc)
    assert found.itc == metrics_of_matrix(itc, gallery.owner)
    assert found.itm == metrics_of_matrix(itm, gallery.owner)
    assert found.pairs == np.count_nonzero(itm > -100)
    captions = len(texts)
    assert np.array_equal(found.scores.image_rows(0, images), itm)
    assert np.array_equal(found.scores.caption_rows(0, captions), itm.T)
    assert np.array_equal(found.scores.image_rows(2, 5), itm[2:5])
    assert np.array_equal(found.scores.caption_rows(3, 7), itm.T[3:7])


def test_a_k_as_large_as_the_gallery_is_the_exhaustive_protocol():
    gallery, model, texts = make_case(1, 30, 2)
    exhaustive = run_protocol(gallery, model, model)
    for k in (60, 1000):
        assert run_protocol(gallery, model, model, candidates=k).itm == exhaustive.itm
    assert exhaustive.itm == metrics_of_matrix(model.logits[:, texts], gallery.owner)
    assert exhaustive.pairs == 30 * 60
    # 30 candidates are every image of a caption, so every pair, though not every caption of an image.
    assert run_protocol(gallery, model, model, candidates=30).itm == exhaustive.itm


def test_without_a_reranker_nothing_is_fused():
    gallery, model, _ = make_case(2, 30, 2)
    found = run_protocol(gallery, model)
    assert (found.itm, found.pairs, model.read) == (None, 0, [])
    assert found.itc == run_protocol(gallery, model, model, candidates=10).itc


def test_a_reranker_of_its_own_gives_the_logits():
    gallery, retriever, texts = make_case(3, 30, 1)
    reranker = ExactModel(retriever.images, retriever.texts, -retriever.logits)
    found = run_protocol(gallery, retriever, reranker, candidates=30)
    assert found.itm == metrics_of_matrix(-retriever.logits[:, texts], gallery.owner)
    assert retriever.read == []


def test_a_model_without_itc_can_read_every_pair():
    gallery, model, texts = make_case(4, 20, 2)
    gallery = with_files(gallery, broken=[])
    found = run_protocol(gallery, None, model)
    assert found.itc is None
    assert found.itm == metrics_of_matrix(model.logits[:, texts], gallery.owner)


def test_each_image_and_each_different_text_is_encoded_once(monkeypatch):
    monkeypatch.setattr(protocol, "GROUP_IMAGES", 4)
    monkeypatch.setattr(protocol, "GROUP_TEXTS", 5)
    gallery, model, texts = make_case(5, 30, 2, distinct=20)
    run_protocol(gallery, model, model, candidates=10)
    assert sorted(model.encoded_images) == sorted(gallery.paths)
    assert sorted(model.encoded_texts) == sorted(set(gallery.captions))
    assert len(model.read) == len(set(model.read))


def test_without_room_images_are_encoded_twice_and_the_result_is_the_same(monkeypatch):
    monkeypatch.setattr(protocol, "GROUP_IMAGES", 4)
    monkeypatch.setattr(protocol, "GROUP_TEXTS", 5)
    gallery, model, texts = make_case(6, 30, 2)
    roomy = run_protocol(gallery, model, model, candidates=12)
    model.encoded_images.clear()
    cramped = run_protocol(gallery, model, model, candidates=12, budget=0)
    assert cramped.itm == roomy.itm
    assert sorted(model.encoded_images) == sorted(gallery.paths * 2)


def test_a_fusion_call_is_bounded(monkeypatch):
    monkeypatch.setattr(protocol, "FUSED_PAIRS", 7)
    gallery, model, texts = make_case(7, 25, 2)
    calls = []
    plain = model.itm_logits
    model.itm_logits = lambda images, texts, pairs: calls.append(len(pairs)) or plain(images, texts, pairs)
    found = run_protocol(gallery, model, model)
    assert max(calls) == 7
    assert found.itm == metrics_of_matrix(model.logits[:, texts], gallery.owner)


class Killed(BaseException):
    """Stands for a process that ends in the middle of everything."""


@pytest.mark.parametrize("candidates", [12, None])
def test_an_interrupted_run_goes_on_where_it_stopped(monkeypatch, tmp_path, candidates):
    monkeypatch.setattr(protocol, "GROUP_IMAGES", 4)
    monkeypatch.setattr(protocol, "FUSED_PAIRS", 16)
    gallery, model, texts = make_case(8, 30, 2)
    whole = run_protocol(gallery, model, model, candidates=candidates)
    pairs = sorted(model.read)
    rng = np.random.default_rng(0)
    model.read.clear()
    model.encoded_images.clear()
    plain, kills = model.itm_logits, 0
    for _ in range(100):
        left = int(rng.integers(1, 8))

        def dying(images, texts, pairs):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return plain(images, texts, pairs)

        model.itm_logits = dying
        try:
            resumable = ResumableArrays(tmp_path, gallery.fingerprint)
            resumed = run_protocol(gallery, model, model, candidates=candidates, resumable=resumable)
            break
        except Killed:
            kills += 1
    assert kills > 3
    assert (resumed.itc, resumed.itm) == (whole.itc, whole.itm)
    assert sorted(model.read) == pairs  # no pair was read twice
    assert len(model.encoded_images) <= len(gallery.paths) + 4 * kills + 30
    resumable.finish()
    assert list(tmp_path.parent.glob(f"{tmp_path.name}/*")) == []


def test_results_of_another_gallery_are_never_met(tmp_path):
    gallery, model, _ = make_case(9, 20, 1)
    other, _, _ = make_case(10, 20, 1)
    assert (
        ResumableArrays(tmp_path, "m", gallery.fingerprint).folder
        != ResumableArrays(tmp_path, "m", other.fingerprint).folder
    )
    assert (
        ResumableArrays(tmp_path, "m", gallery.fingerprint).folder
        != ResumableArrays(tmp_path, "n", gallery.fingerprint).folder
    )
    assert gallery.fingerprint == make_case(9, 20, 1)[0].fingerprint


def test_an_image_that_cannot_be_read_goes_with_its_captions():
    gallery, model, texts = make_case(11, 30, 2)
    model.broken = {"i3", "i17"}
    with pytest.raises(UnreadableImage, match="i3: not an image"):
        run_protocol(gallery, model, model, candidates=10)
    skipped = []
    found = run_protocol(
        gallery, model, model, candidates=10, on_skip=lambda path, error: skipped.append((path, str(error)))
    )
    assert skipped == [("i3", "i3: not an image"), ("i17", "i17: not an image")]
    left = gallery.without([3, 17])
    assert (len(left.paths), len(left.captions)) == (28, 56)
    assert found.gallery == left
    model.broken = set()
    clean = run_protocol(left, model, model, candidates=10)
    assert (found.itc, found.itm, found.pairs) == (clean.itc, clean.itm, clean.pairs)


def with_files(gallery, broken):
    """The gallery on disk in the working directory: one-pixel pictures under the names that it gives."""
    from PIL import Image

    for path in gallery.paths:
        Image.new("RGB", (1, 1)).save(path, "PNG")
    for path in broken:
        with open(path, "wb") as file:
            file.write(b"no picture")
    return gallery


@pytest.fixture(autouse=True)
def working_directory(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


def test_without_a_contrastive_stage_broken_images_are_found_before_fusing():
    gallery, model, texts = make_case(12, 12, 1)
    with_files(gallery, broken=["i5"])
    skipped = []
    found = run_protocol(gallery, None, model, on_skip=lambda path, error: skipped.append(path))
    assert skipped == ["i5"]
    assert "i5" not in model.encoded_images
    assert found.pairs == 11 * 11


def test_nothing_left_is_said():
    gallery, model, _ = make_case(13, 3, 1)
    model.broken = {"i0", "i1", "i2"}
    with pytest.raises(EmptyFolder) as caught:
        run_protocol(gallery, model, on_skip=lambda path, error: None)
    assert str(caught.value) == (
        "no captioned image can be read, so there is nothing to evaluate; first: i0: not an image"
    )


def test_a_logit_that_is_no_number_is_named():
    gallery, model, texts = make_case(14, 12, 1)
    model.logits[4, texts[7]] = np.nan
    with pytest.raises(BtError, match="i4 with 't.*': the match logit is not a number; try --dtype float32"):
        run_protocol(gallery, model, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 9}, "9 candidates are too few for R@10: at least 10 are needed"),
        ({"combine": "sum"}, "scores combine as itm, itm+itc, itc, not 'sum'"),
    ],
)
def test_misuse_is_named(options, message):
    gallery, model, _ = make_case(15, 12, 1)
    with pytest.raises(Misuse) as caught:
        run_protocol(gallery, model, model, **options)
    assert str(caught.value) == message


def test_progress_counts_every_stage_to_its_end(tmp_path):
    from contextlib import contextmanager

    gallery, model, _ = make_case(16, 20, 2)
    heard = {}

    @contextmanager
    def stage(description, unit):
        def tick(done, total):
            heard[description, unit] = (done, total)

        yield tick

    found = run_protocol(gallery, model, model, candidates=10, stage=stage)
    assert heard == {
        ("encoding captions", "caption"): (len(gallery.texts), len(gallery.texts)),
        ("encoding images", "image"): (20, 20),
        ("reading pairs", "pair"): (found.pairs, found.pairs),
    }
