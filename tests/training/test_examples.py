"""Masks and wrong captions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.preprocessing.tokenizer import Tokenizer
from bt_cli.training.examples import IGNORED, choose_negative, mask_tokens, word_tokens
from bt_cli.training.initial_weights import train_tokenizer
from bt_cli.training.recipe import Masking, Matching

TEXTS = ["a cat to the left of a red dog", "two dogs", "a cat", "three red cats above a dog on the right"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, max_length=32)


def test_every_word_is_one_token_whatever_its_case_and_place(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["Cat", "a CAT", "cat <mask>"]).input_ids
    cat = tokenizer.token_to_id("Ġcat")
    assert ids[0].tolist() == [0, cat, 2, 1]
    assert ids[1].tolist() == [0, tokenizer.token_to_id("Ġa"), cat, 2]
    assert ids[2].tolist() == [0, cat, tokenizer.mask_id, 2]
    assert tokenizer.mask_id == tokenizer.vocab_size - 1


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), rate=st.floats(0.0, 1.0))
def test_masks_fall_on_words_alone_and_on_at_least_one(seed: int, rate: float) -> None:
    tokenizer = train_tokenizer(TEXTS, max_length=32)
    tokens = tokenizer.encode(TEXTS)
    chances = np.random.default_rng(seed).random((len(TEXTS), 32, 3))
    shown, labels = mask_tokens(
        tokens.input_ids, tokens.attention_mask, Masking(rate=rate), tokenizer, chances, chances[:, 0, 0]
    )
    chosen = labels != IGNORED
    assert chosen.any(axis=1).all()
    assert (labels[chosen] == tokens.input_ids[chosen]).all()
    assert (shown[~chosen] == tokens.input_ids[~chosen]).all()
    special = np.isin(tokens.input_ids, [0, 1, 2])
    assert not chosen[special].any()


def test_of_the_chosen_four_fifths_are_hidden_and_a_tenth_swapped(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode([TEXTS[0]] * 3000)
    chances = np.random.default_rng(0).random((3000, 32, 3))
    shown, labels = mask_tokens(
        tokens.input_ids, tokens.attention_mask, Masking(rate=0.5), tokenizer, chances, chances[:, 0, 0]
    )
    chosen = labels != IGNORED
    assert chosen[:, 1:10].mean() == pytest.approx(0.5, abs=0.02)
    hidden = shown[chosen] == tokenizer.mask_id
    kept = shown[chosen] == labels[chosen]
    assert hidden.mean() == pytest.approx(0.8, abs=0.01)
    assert kept.mean() == pytest.approx(0.1, abs=0.01)


def test_a_focus_masks_its_words_and_nothing_else(tokenizer: Tokenizer) -> None:
    words = ("left", "right", "above", "nowhere at all")
    assert sorted(word_tokens(tokenizer, words)) == sorted(tokenizer.token_to_id(f"Ġ{word}") for word in words[:3])
    tokens = tokenizer.encode(TEXTS)
    masking = Masking(rate=1.0, focus=1.0, words=words)
    chances = np.random.default_rng(1).random((len(TEXTS), 32, 3))
    _, labels = mask_tokens(tokens.input_ids, tokens.attention_mask, masking, tokenizer, chances, chances[:, 0, 0])
    masked = [[tokenizer.id_to_token(each) for each in row[row != IGNORED]] for row in labels]
    assert masked[0] == ["Ġleft"]
    assert masked[1] == ["Ġtwo", "Ġdogs"]  # no such word in it: masked as ever
    assert masked[3] == ["Ġabove", "Ġright"]


def test_wrong_captions_come_by_the_weight_of_their_kind() -> None:
    candidates = [("m1", "mirror"), ("m2", "mirror"), ("c", "colour"), ("o", "object")]
    matching = Matching(kinds={"mirror": 0.6, "colour": 0.4})
    drawn = [choose_negative(candidates, matching, (number + 0.5) / 100) for number in range(100)]
    assert {text: drawn.count(text) for text in set(drawn)} == {"m1": 30, "m2": 30, "c": 40}
    assert choose_negative([("o", "object")], matching, 0.5) is None
    assert choose_negative([], Matching(), 0.5) is None
    assert [choose_negative(candidates, Matching(), chance) for chance in (0.0, 0.3, 0.6, 0.99)] == [
        "m1",
        "m2",
        "c",
        "o",
    ]
