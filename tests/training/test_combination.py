"""The three ways of ordering pairs, against every pair's own scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.training.combination import best_combination, candidates, compare_combinations
from bt_cli.training.validation import HeldOut, cosines, match_logits, recall

CPU = torch.device("cpu")


def test_the_candidates_are_the_best_of_either_side() -> None:
    similarity = np.array([[0.9, 0.8, 0.1], [0.7, 0.6, 0.2], [0.3, 0.5, 0.0]], np.float32)
    assert candidates(similarity, 1).tolist() == [[True, True, False], [True, False, True], [False, True, False]]
    assert candidates(similarity, 9).all()


def test_among_equals_the_published_way_is_the_best() -> None:
    assert best_combination({name: {"recall": 0.5} for name in ("itm", "itm+itc", "itc")}) == "itm"
    assert best_combination({"itm": {"recall": 0.27}, "itm+itc": {"recall": 0.3}, "itc": {"recall": 0.42}}) == "itc"


def test_every_way_is_measured_as_its_dense_scores_say() -> None:
    tiny = Checkpoint.open("tiny")
    network, tokenizer = tiny.network({"itc", "itm"}), tiny.tokenizer()
    own = np.arange(6)
    pixels = torch.randn(6, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    texts = [f"a {colour} car" for colour in ("red", "green", "blue", "white", "black", "pink")]
    held_out = HeldOut(pixels, texts, own, own, own, [[] for _ in texts])
    every = np.argwhere(np.ones((6, 6), bool))
    logits = match_logits(network, held_out, every, tokenizer, 16, CPU).reshape(6, 6)
    for caption, image in ((0, 5), (4, 1)):
        images = network.encode_images(pixels[image : image + 1], bridges=True, embeds=False)
        tokens = tokenizer.encode([texts[caption]], max_length=16)
        ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
        states = network.encode_texts(ids, mask, bridges=True, embeds=False)
        fusion = network.fuse(images, states, (torch.tensor([0]), torch.tensor([0])), wanted="pooled")
        alone = network.itm_logits(fusion.pooler_output)[0, 1].item()
        assert logits[caption, image] == pytest.approx(alone, abs=1e-4)
    similarity = cosines(network, held_out, tokenizer, 16, CPU)
    truth = np.eye(6, dtype=bool)
    assert compare_combinations(network, held_out, tokenizer, 16, CPU) == {
        "itm": recall(logits, truth),
        "itm+itc": recall(logits + similarity, truth),
        "itc": recall(similarity, truth),
    }
