from __future__ import annotations

import random

import pytest

from bt_cli.scenes.layout import FAMILIES, compose
from bt_cli.scenes.scene import Meaning, Mention
from bt_cli.scenes.wording import ROLES, Wording, put_into_words

PLAIN = Wording()


@pytest.mark.parametrize(
    ("said", "wording", "words"),
    [
        (Meaning((Mention("cat"),)), PLAIN, "a cat"),
        (Meaning((Mention("apple"),)), PLAIN, "an apple"),
        (Meaning((Mention("unicorn"),)), PLAIN, "a unicorn"),
        (Meaning((Mention("apple", "red"),)), PLAIN, "a red apple"),
        (Meaning((Mention("cat", "orange"),)), PLAIN, "an orange cat"),
        (Meaning((Mention("cat"),)), Wording(names=(1, 0, 0, 0)), "a kitten"),
        (Meaning((Mention("lion"),)), Wording(names=(1, 0, 0, 0)), "a lion"),
        (Meaning((Mention("cat", None, 1),)), PLAIN, "one cat"),
        (Meaning((Mention("cat", "blue", 3),)), PLAIN, "three blue cats"),
        (Meaning((Mention("rabbit", None, 2),)), Wording(names=(1, 0, 0, 0)), "two bunnies"),
        (Meaning((Mention("cat", None, 2),)), Wording(opening=3), "there are two cats"),
        (Meaning((Mention("cat", None, 1),)), Wording(opening=3), "there is one cat"),
        (Meaning((Mention("cat", None, None, "top"),)), Wording(opening=1), "a picture of a cat at the top"),
        (
            Meaning((Mention("cat", None, None, "left"), Mention("dog", "red", None, "right"))),
            PLAIN,
            "a cat on the left and a red dog on the right",
        ),
        (Meaning((Mention("cat"), Mention("owl")), "left"), PLAIN, "a cat to the left of an owl"),
        (Meaning((Mention("cat"), Mention("owl")), "right"), Wording(relation=1), "a cat right of an owl"),
        (Meaning((Mention("cat"), Mention("owl")), "below"), Wording(relation=1), "a cat under an owl"),
        (Meaning((Mention("cat"), Mention("owl")), "above"), Wording(copula=True), "a cat is above an owl"),
        (
            Meaning((Mention("cat"), Mention("owl")), "above"),
            Wording(copula=True, opening=3),
            "there is a cat above an owl",
        ),
        (Meaning((Mention("bee"), Mention("cat"), Mention("owl")), "between"), PLAIN, "a bee between a cat and an owl"),
        (
            Meaning((Mention("bee", None, 2), Mention("cat"), Mention("owl", "red"))),
            PLAIN,
            "two bees, a cat and a red owl",
        ),
        (Meaning((Mention("cat"),), None, "orange"), PLAIN, "a cat on an orange background"),
        (Meaning((Mention("cat"),), None, "blue"), Wording(background=1), "a cat in front of a blue wall"),
        (Meaning((Mention("cat"),), None, "night"), Wording(background=1), "a cat under the stars"),
        (Meaning((Mention("cat"), Mention("owl")), "left", "beach"), PLAIN, "a cat to the left of an owl on the beach"),
    ],
)
def test_sentences(said: Meaning, wording: Wording, words: str):
    assert put_into_words(said, wording).text == words


def test_spans_are_the_telling_words():
    said = Meaning((Mention("bee", "red", 2), Mention("owl", "blue")), None, "meadow")
    text, spans = put_into_words(said, Wording(opening=2, background=1))
    assert text == "a drawing of two red bees and a blue owl on the grass"
    assert [(text[start:end], role) for start, end, role in spans] == [
        ("two", "count"),
        ("red", "colour"),
        ("bees", "object"),
        ("blue", "colour"),
        ("owl", "object"),
        ("grass", "background"),
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Meaning((Mention("cat"), Mention("owl")), "left"), ["left"]),
        (Meaning((Mention("cat"), Mention("owl")), "below"), ["below"]),
        (Meaning((Mention("bee"), Mention("cat"), Mention("owl")), "between"), ["between"]),
        (Meaning((Mention("cat", None, None, "top"),)), ["top"]),
        (Meaning((Mention("cat", None, None, "left"), Mention("owl", None, None, "right"))), ["left", "right"]),
    ],
)
def test_relation_spans_hold_the_one_word_that_tells(said: Meaning, words: list[str]):
    text, spans = put_into_words(said, PLAIN)
    assert [text[start:end] for start, end, role in spans if role == "relation"] == words


@pytest.mark.parametrize("family", FAMILIES)
def test_spans_are_whole_words_in_order(family: str):
    rng = random.Random(family)
    for _ in range(100):
        _, said = compose(family, rng, split="train", colour=0.5, background=0.5)
        text, spans = put_into_words(said, Wording.choose(rng, synonyms=0.5, phrases=0.5))
        end_before = 0
        for start, end, role in spans:
            assert end_before <= start < end <= len(text)
            assert text[start:end].isalpha()
            assert start == 0 or text[start - 1] == " "
            assert end == len(text) or text[end] in " ,"
            assert role in ROLES
            end_before = end
        assert sum(role == "object" for _, _, role in spans) == len(said.mentions)
        assert text == text.lower()
        assert "  " not in text
