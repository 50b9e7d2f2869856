"""The network's own promises: one encoding serves any pairing, and nothing depends on what else is in the batch."""

from __future__ import annotations

import pytest
import torch

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.initialisation import initialise
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.errors import BadConfig, BadInput, MissingHead

CLOSE = 1e-5


def small_config(**changes: object) -> BridgeTowerConfig:
    values: dict = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "contrastive_hidden_size": 24,
        "text_config": {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "intermediate_size": 128,
            "vocab_size": 100,
            "max_position_embeddings": 40,
        },
        "vision_config": {"hidden_size": 128, "num_hidden_layers": 4, "patch_size": 8, "image_size": 32},
    }
    return BridgeTowerConfig.from_dict({**values, **changes})


def random_network(config: BridgeTowerConfig, seed: int = 0, **parts: object) -> BridgeTower:
    """Every parameter random, norms and biases too, so that none is idle."""
    network = BridgeTower(config, **parts).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + (parameter.ndim == 1) * 0.3)
    return network


@pytest.fixture(scope="module")
def network() -> BridgeTower:
    return random_network(small_config())


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(4, 99, (3, 10), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([10, 6, 3])
    keep = torch.arange(10)[None] < lengths[:, None]
    return ids.masked_fill(~keep, 1), keep.long()


@torch.no_grad()
def test_a_whole_number_will_do_for_the_temperature() -> None:
    scale = BridgeTower(small_config(logit_scale_init_value=3), heads=("itc",)).logit_scale
    assert scale.dtype == torch.float32
    assert scale.item() == 3


def test_shapes_and_norms(network: BridgeTower, pixels: torch.Tensor, tokens: tuple) -> None:
    out = network(pixels, *tokens, attentions=True)
    assert out.text_features.shape == (3, 10, 64)
    assert out.image_features.shape == (3, 17, 64)
    assert out.pooler_output.shape == (3, 128)
    assert (out.itm_logits.shape, out.mlm_logits.shape) == ((3, 2), (3, 10, 100))
    for embeds in (out.text_embeds, out.image_embeds, out.cross_embeds):
        assert embeds.shape == (3, 24)
        assert torch.allclose(embeds.norm(dim=1), torch.ones(3), atol=1e-6)
    assert len(out.attentions) == 3
    maps = out.attentions[-1]
    assert maps.image_to_text.shape == (3, 4, 17, 10)
    assert maps.text_to_image.shape == (3, 4, 10, 17)
    assert torch.allclose(maps.image_to_text.sum(-1), torch.ones(3, 4, 17), atol=1e-5)
    assert maps.image_to_text[1, :, :, 6:].abs().max() == 0, "padding is never attended to"


@torch.no_grad()
def test_one_encoding_serves_every_pairing(network: BridgeTower, pixels: torch.Tensor, tokens: tuple) -> None:
    images, texts = network.encode_images(pixels), network.encode_texts(*tokens)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    fused = network.fuse(images, texts, (grid[:, 0], grid[:, 1]))
    for wanted, name in (("pooled", "pooler_output"), ("text", "text_features")):
        part = network.fuse(images, texts, (grid[:, 0], grid[:, 1]), wanted=wanted)
        assert (getattr(part, name) - getattr(fused, name)).abs().max() < CLOSE
    for row, (image, text) in enumerate(grid.tolist()):
        length = int(tokens[1][text].sum())
        alone = network(pixels[image : image + 1], tokens[0][text : text + 1, :length])
        assert (alone.pooler_output[0] - fused.pooler_output[row]).abs().max() < CLOSE
        assert (alone.text_features[0] - fused.text_features[row, :length]).abs().max() < CLOSE


@torch.no_grad()
def test_attention_maps_do_not_change_the_result(network: BridgeTower, pixels: torch.Tensor, tokens: tuple) -> None:
    images, texts = network.encode_images(pixels), network.encode_texts(*tokens)
    pairs = torch.tensor([2, 0]), torch.tensor([1, 1])
    plain, mapped = network.fuse(images, texts, pairs), network.fuse(images, texts, pairs, attentions=True)
    assert (plain.image_features - mapped.image_features).abs().max() < CLOSE


@torch.no_grad()
def test_embeddings_alone_equal_those_made_beside_bridges(network, pixels, tokens) -> None:
    for bridges in (True, False):
        images = network.encode_images(pixels, bridges=bridges)
        texts = network.encode_texts(*tokens, bridges=bridges)
        assert (images.bridges is None) == (texts.bridges is None) == (not bridges)
        out = network(pixels, *tokens)
        assert (images.embeds - out.image_embeds).abs().max() < CLOSE
        assert (texts.embeds - out.text_embeds).abs().max() < CLOSE


@torch.no_grad()
def test_states_select_and_join(network: BridgeTower, pixels: torch.Tensor, tokens: tuple) -> None:
    images, texts = network.encode_images(pixels), network.encode_texts(*tokens)
    joined = ImageStates.cat([images.select(torch.tensor([2])), images.select(torch.tensor([0, 1]))])
    assert torch.equal(joined.bridges, images.bridges[:, [2, 0, 1]])
    short = network.encode_texts(tokens[0][2:, :3])
    assert (len(short), len(texts), len(joined)) == (1, 3, 3)
    together = TextStates.cat([texts, short])
    assert together.keep.sum(dim=1).tolist() == [10, 6, 3, 3]
    pooled = network.fuse(images.select(torch.tensor([0, 0])), together.select(torch.tensor([2, 3]))).pooler_output
    assert (pooled[0] - pooled[1]).abs().max() < CLOSE


@torch.no_grad()
def test_another_resolution_resizes_the_position_grid(network: BridgeTower, tokens: tuple) -> None:
    wide = torch.randn(3, 3, 40, 67)
    assert network(wide, *tokens).image_features.shape == (3, 1 + 5 * 8, 64), "a rest of three columns is left out"


def test_parts_are_built_as_asked() -> None:
    searcher = BridgeTower(small_config(), towers={"text"}, heads={"itc"})
    assert {name.split(".")[0] for name in searcher.state_dict()} == {"text_tower", "itc_text_head", "logit_scale"}
    indexer = BridgeTower(small_config(), towers={"vision"}, heads={"itc"})
    parts = {name.split(".")[0] for name in indexer.state_dict()}
    assert parts == {"vision_tower", "image_bridge", "itc_image_head", "logit_scale"}
    with pytest.raises(MissingHead, match="built without the vision tower"):
        searcher.encode_images(torch.zeros(1, 3, 32, 32))
    with pytest.raises(MissingHead, match="without the cross-modal encoder"):
        indexer.fuse(ImageStates(), TextStates())
    with pytest.raises(BadConfig, match="no part called vqa"):
        BridgeTower(small_config(), heads={"vqa"})


@torch.no_grad()
def test_missing_heads_give_none_in_the_output_and_an_error_on_demand(pixels: torch.Tensor, tokens: tuple) -> None:
    out = (bare := random_network(small_config(), heads=())).forward(pixels, *tokens)
    assert (out.itm_logits, out.mlm_logits, out.text_embeds, out.image_embeds, out.cross_embeds) == (None,) * 5
    with pytest.raises(MissingHead, match="an ITM head"):
        bare.itm_logits(out.pooler_output)


def test_recomputed_activations_give_the_same_gradients(pixels: torch.Tensor, tokens: tuple) -> None:
    gradients = []
    for on in (False, True):
        network = random_network(small_config())
        network.recompute_activations(on)
        network(pixels, *tokens).itm_logits.sum().backward()
        gradients.append(network.vision_tower.patch_embedding.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_initialisation_is_set_by_its_seed_alone() -> None:
    first, second, third = (BridgeTower(small_config()) for _ in range(3))
    initialise(first, seed=3, wave_positions=0.5)
    initialise(second, seed=3, wave_positions=0.5)
    initialise(third, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.text_tower.word_embeddings.weight, third.text_tower.word_embeddings.weight)
    assert first.vision_tower.position_embedding[1:].abs().max().item() == pytest.approx(0.5, abs=1e-3)
    assert all(torch.isfinite(parameter).all() for parameter in first.parameters())


def test_an_image_smaller_than_a_patch_is_refused(network: BridgeTower) -> None:
    height, width = network.config.vision_config.patch
    with pytest.raises(BadInput) as caught:
        network.encode_images(torch.zeros(1, 3, height - 1, 5 * width))
    assert str(caught.value) == (
        f"images of {5 * width} x {height - 1} pixels hold no patch of {width} x {height}; the size in the "
        "checkpoint's preprocessor_config.json is too small"
    )
