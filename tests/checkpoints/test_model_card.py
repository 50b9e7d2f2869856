"""Model cards: metadata that the hub's own reader understands, and what a person wrote is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_checkpoint import small_config

from bt_cli.checkpoints.model_card import WRITTEN_HERE, model_card, write_card


def read(text: str):
    from huggingface_hub import ModelCard

    return ModelCard(text)


def test_the_hub_reads_the_metadata():
    card = read(
        model_card(
            small_config(),
            {"itc", "itm"},
            base_model="BridgeTower/bridgetower-base",
            datasets=["nlphuji/flickr30k"],
            metrics={"recall@1": 0.5},
            data="500 captions of 100 images",
        )
    )
    assert card.data.to_dict() == {
        "license": "mit",
        "library_name": "bridgetower",
        "pipeline_tag": "feature-extraction",
        "base_model": "BridgeTower/bridgetower-base",
        "datasets": ["nlphuji/flickr30k"],
        "metrics": ["recall@1"],
        "tags": ["bridgetower", "vision-language", "itc", "itm"],
        "language": ["en"],
    }
    assert "| recall@1 | 0.5 |" in card.text
    assert "\nTrained on 500 captions of 100 images.\n" in card.text
    assert 'BridgeTowerForContrastiveLearning.from_pretrained("' in card.text


@given(names=st.lists(st.text(min_size=1, max_size=8).filter(str.isprintable), min_size=1, max_size=3, unique=True))
def test_any_name_of_a_measure_stays_what_it_is(names):
    card = read(model_card(small_config(), set(), metrics=dict.fromkeys(names, 1.0)))
    assert card.data.to_dict()["metrics"] == names


def test_a_folder_is_no_name_on_the_hub():
    assert "base_model" not in read(model_card(small_config(), set(), base_model="/some/folder")).data.to_dict()


@pytest.mark.parametrize("mine", [False, True])
def test_what_a_person_wrote_stays(mine, tmp_path):
    write_card(tmp_path, small_config(), {"itm"}, metrics={"recall": 0.25})
    card = tmp_path / "README.md"
    if mine:
        card.write_text(card.read_text("utf-8").replace(WRITTEN_HERE, ""), "utf-8")
    write_card(tmp_path, small_config(), {"itm"}, metrics={"recall": 0.75})
    assert ("| recall | 0.25 |" in card.read_text("utf-8")) is mine
