"""Queries: weights, sums, and what is no query."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeModel, embed

from bt_cli.errors import Misuse
from bt_cli.search.query import Query, Term, parse_weighted


@pytest.mark.parametrize(
    ("item", "term"),
    [
        ("snow", Term("snow", 1.0)),
        ("2:snow", Term("snow", 2.0)),
        ("0.5:deep snow", Term("deep snow", 0.5)),
        (".25: snow ", Term("snow", 0.25)),
        ("1:10:30 train", Term("10:30 train", 1.0)),
        ("note: snow", Term("note: snow", 1.0)),
        ("-2:snow", Term("-2:snow", 1.0)),
    ],
)
def test_weights_are_read(item: str, term: Term) -> None:
    assert parse_weighted(item, "--add") == term


@pytest.mark.parametrize("item", ["", "  ", "2:", "2: ", "0:snow", "0.0:snow"])
def test_empty_and_weightless_terms_are_refused(item: str) -> None:
    with pytest.raises(Misuse, match="--add"):
        parse_weighted(item, "--add")


def test_a_weight_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(Misuse, match="--add .*: the weight is too large a number"):
        parse_weighted("9" * 400 + ":snow", "--add")


@pytest.mark.parametrize("weight", ["1" + 45 * "0", "0." + 45 * "0" + "1", "100000000000000000000"])
def test_only_the_proportions_of_weights_matter(weight: str) -> None:
    found = Query.build(add=[f"{weight}:snow"]).embedding(FakeModel())
    np.testing.assert_allclose(found, embed("snow"), atol=1e-7)
    found = Query.build("cat", add=[f"{weight}:snow"]).embedding(FakeModel())
    assert np.linalg.norm(found) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_query_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match="the query is empty"):
        Query.build(text)
    with pytest.raises(Misuse, match="nothing to search for"):
        Query.build()


def test_the_embedding_is_the_weighted_sum_normalised(tmp_path) -> None:
    picture = tmp_path / "p"
    picture.write_text("dog")
    model = FakeModel()
    query = Query.build("cat", str(picture), add=["2:snow"], subtract=["0.5:night"])
    expected = embed("cat") + embed("dog") + 2 * embed("snow") - 0.5 * embed("night")
    expected /= np.linalg.norm(expected)
    found = query.embedding(model)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.calls == [("encode_texts", "cat", "snow", "night"), ("encode_images", str(picture))]


def test_a_text_never_passes_the_vision_tower() -> None:
    model = FakeModel()
    query = Query.build("cat")
    query.embedding(model)
    assert model.calls == [("encode_texts", "cat")]


def test_half_precision_embeddings_are_summed_in_float32() -> None:
    class Half(FakeModel):
        def encode_texts(self, texts):
            return super().encode_texts(texts).astype(np.float16)

    found = Query.build("cat", add=["1000:snow"]).embedding(Half())
    expected = embed("cat").astype(np.float16).astype(np.float32) + 1000 * embed("snow").astype(np.float16).astype(
        np.float32
    )
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-7)


def test_terms_that_cancel_are_refused() -> None:
    with pytest.raises(Misuse, match="cancel one another out"):
        Query.build("cat", subtract=["cat"]).embedding(FakeModel())


def test_a_large_weight_does_not_hide_that_terms_cancel() -> None:
    with pytest.raises(Misuse, match="cancel one another out"):
        Query.build(add=["1000:cat"], subtract=["1000:cat"]).embedding(FakeModel())


def test_words_that_name_images_are_images_with_their_weights(tmp_path, monkeypatch, caplog) -> None:
    from PIL import Image

    from bt_cli.search.query import image_term
    from bt_cli.search.query_image import ImageWords

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    (tmp_path / "a cat").write_text("the name of a file, but no image")
    words = ImageWords()
    query = Query.build(
        "a.png", add=["2:a.png", "3:gone.png", "a cat"], subtract=["0.5:a.png"], recognise=words.recognise
    )
    assert query.images == (Term("a.png"), Term("a.png", 2.0), Term("a.png", -0.5))
    assert query.texts == (Term("gone.png", 3.0), Term("a cat"))
    assert Query.build("a cat", recognise=words.recognise) == Query((Term("a cat"),))
    assert image_term("2:a.png", words.read) == Term("a.png", 2.0)
    Image.new("RGB", (4, 4)).save("2:b.png", "png")
    assert image_term("2:b.png", words.read) == Term("2:b.png")
    assert Query.build("2:b.png", recognise=words.recognise).images == (Term("2:b.png"),)
