"""The documented examples, word for word but for the import: the port's numbers from every layout of the hub."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from port_models import EMBEDDINGS, LAYOUTS, LOGITS, in_layout, port

from bt_cli import (
    BridgeTowerConfig,
    BridgeTowerForContrastiveLearning,
    BridgeTowerForImageAndTextRetrieval,
    BridgeTowerForMaskedLM,
    BridgeTowerModel,
    BridgeTowerProcessor,
)

SENTENCES = ["two cats on a couch", "a football player", "a cat"]


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module", params=LAYOUTS)
def name(request, checkpoint, tmp_path_factory):
    return in_layout(checkpoint, request.param, tmp_path_factory.mktemp("layout") / "checkpoint")


def apart(a, b) -> float:
    return float((a.detach() - b.detach()).abs().max())


def test_contrastive(name, picture):
    processor = BridgeTowerProcessor.from_pretrained(name)
    model = BridgeTowerForContrastiveLearning.from_pretrained(name, device_map="auto")
    other = port("BridgeTowerForContrastiveLearning", name)
    for sentence in SENTENCES:
        batch = processor(picture, sentence, return_tensors="pt").to(model.device)
        result, expected = model(**batch), other(**batch)
        for embeds in ("text_embeds", "image_embeds", "cross_embeds", "logits"):
            assert apart(result[embeds], expected[embeds]) < EMBEDDINGS


def test_the_loss_of_two_pairs(name, picture):
    processor = BridgeTowerProcessor.from_pretrained(name)
    model = BridgeTowerForContrastiveLearning.from_pretrained(name)
    images, texts = [picture, picture.rotate(90)], SENTENCES[:2]
    for some in (texts, texts[::-1]):
        inputs = processor(images, some, padding=True, return_tensors="pt")
        loss = model(**inputs, return_loss=True).loss
        expected = port("BridgeTowerForContrastiveLearning", name)(**inputs, return_loss=True).loss
        assert abs(round(loss.item(), 4) - expected.item()) < 2e-4


def test_matching(name, picture):
    processor = BridgeTowerProcessor.from_pretrained(name)
    matcher = BridgeTowerForImageAndTextRetrieval.from_pretrained(name, device_map="auto")
    other = port("BridgeTowerForImageAndTextRetrieval", name)
    for sentence in SENTENCES:
        encoding = processor(picture, sentence, return_tensors="pt")
        score = matcher(**encoding).logits[0, 1].item()
        assert abs(score - other(**encoding).logits[0, 1].item()) < LOGITS


def test_masked_words(name, picture):
    processor = BridgeTowerProcessor.from_pretrained(name)
    filler = BridgeTowerForMaskedLM.from_pretrained(name)
    encoding = processor(picture, "a <mask> looking out of the window", return_tensors="pt")
    logits = filler(**encoding).logits
    expected = port("BridgeTowerForMaskedLM", name)(**encoding).logits
    assert apart(logits, expected) < LOGITS
    ids = logits.argmax(dim=-1).squeeze(0).tolist()
    assert ids == expected.argmax(dim=-1).squeeze(0).tolist()
    assert isinstance(processor.decode(ids), str)


def test_the_bare_model(name, picture):
    batch = BridgeTowerProcessor.from_pretrained(name)(picture, "hello world", return_tensors="pt")
    outputs = BridgeTowerModel.from_pretrained(name)(**batch)
    assert list(outputs.keys()) == ["text_features", "image_features", "pooler_output"]
    expected = port("BridgeTowerModel", name)(**batch)
    assert all(apart(outputs[key], expected[key]) < EMBEDDINGS for key in outputs)


def test_a_model_from_a_configuration():
    sections = {"num_hidden_layers": 2, "hidden_size": 64}
    changes = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "text_config": {**sections, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100},
        "vision_config": {**sections, "image_size": 64},
    }
    model = BridgeTowerModel(BridgeTowerConfig(**changes))
    assert model.config.hidden_size == 64
    theirs = transformers.BridgeTowerModel(transformers.BridgeTowerConfig(**changes))
    assert model.num_parameters() == theirs.num_parameters()
    theirs.load_state_dict(model.state_dict())
    with torch.device("meta"):
        documented = BridgeTowerModel(BridgeTowerConfig())
    assert documented.num_parameters() == 326_347_008
    assert documented.config == BridgeTowerConfig()
