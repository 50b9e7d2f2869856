"""The gradient of each loss against autograd through transformers' network, and which pairs the ITM head is shown."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from random_checkpoint import random_network, small_config
from torch import Tensor
from torch.nn import functional as F

from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.checkpoints.saving import hub_tensors, save_checkpoint
from bt_cli.training.distributed import Ranks
from bt_cli.training.examples import Examples
from bt_cli.training.objectives import compute_losses, matching_pairs
from bt_cli.training.recipe import Matching, Stage

COUNT, LENGTH = 4, 7
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network() -> BridgeTower:
    return random_network(small_config(text_config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))


@pytest.fixture(scope="module")
def folder(network: BridgeTower, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "network"
    save_checkpoint(network, folder)
    return folder


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Four images; three captions masked; a given wrong caption for the first two, hard ones for the others."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(4, 260, (COUNT + 3 + 2, LENGTH), generator=generator)
    ids[:, 0], ids[:, -1] = 0, 2
    keep = torch.ones_like(ids)
    ids[1, 4:], keep[1, 4:] = torch.tensor([2, 1, 1]), torch.tensor([1, 0, 0])
    labels = torch.full((3, LENGTH), -100)
    labels[0, 2], labels[1, 1], labels[2, 3], labels[2, 4] = 11, 12, 13, 14
    return Examples(
        pixel_values=torch.randn(COUNT, 3, 64, 64, generator=generator),
        input_ids=ids,
        attention_mask=keep,
        groups=torch.tensor([0, 1, 1, 3]),
        truth=torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool),
        masked=torch.tensor([0, 1, 2]),
        labels=labels,
        wrong=torch.tensor([0, 1]),
        slots=torch.tensor([[0], [1], [-1], [-2]]),
        noise=torch.randn(COUNT, 1, COUNT, generator=generator),
    )


def our_gradients(network: BridgeTower, examples: Examples, stage: Stage) -> tuple[float, dict[str, Tensor]]:
    network = copy.deepcopy(network)
    losses = compute_losses(network, examples, stage, Ranks())
    total = sum(stage.weight(name) * loss for name, loss in losses.items())
    assert isinstance(total, torch.Tensor)
    total.backward()
    for parameter in network.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return total.item(), {name: tensor.make() for name, tensor in hub_tensors(network).items()}


def compare(ours: tuple[float, dict[str, Tensor]], loss: Tensor, oracle: torch.nn.Module) -> None:
    loss.backward()
    assert ours[0] == pytest.approx(loss.item(), abs=1e-5)
    reached = {name: parameter.grad for name, parameter in oracle.named_parameters() if parameter.grad is not None}
    assert len(reached) > 20
    largest = 0.0
    for name, gradient in reached.items():
        assert torch.allclose(ours[1][name], gradient, atol=TOLERANCE, rtol=1e-3), name
        largest = max(largest, gradient.abs().max().item())
    assert largest > 100 * TOLERANCE


def oracle(folder: Path, name: str) -> torch.nn.Module:
    import transformers

    return getattr(transformers, name).from_pretrained(folder).eval()


def pairs_of(network: BridgeTower, examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        images = network.encode_images(examples.pixel_values)
        texts = network.encode_texts(examples.input_ids, examples.attention_mask)
        return matching_pairs(images, texts, examples, Matching().hardness)


def test_itm_gradient(network: BridgeTower, folder: Path, examples: Examples) -> None:
    stage = Stage(losses={"itm": 1.0}, steps=1)
    images, captions, labels = pairs_of(network, examples)
    assert labels.tolist() == [1] * 4 + [0] * 4
    theirs = oracle(folder, "BridgeTowerForImageAndTextRetrieval")
    logits = theirs(
        pixel_values=examples.pixel_values[images],
        input_ids=examples.input_ids[captions],
        attention_mask=examples.attention_mask[captions],
    ).logits
    compare(our_gradients(network, examples, stage), F.cross_entropy(logits, labels), theirs)


def test_mlm_gradient(network: BridgeTower, folder: Path, examples: Examples) -> None:
    stage = Stage(losses={"mlm": 1.0}, steps=1, matching=Matching(negatives=1))
    theirs = oracle(folder, "BridgeTowerForMaskedLM")
    out = theirs(
        pixel_values=examples.pixel_values[examples.masked],
        input_ids=examples.input_ids[COUNT : COUNT + 3],
        attention_mask=examples.attention_mask[COUNT : COUNT + 3],
        labels=examples.labels,
    )
    compare(our_gradients(network, examples, stage), out.loss, theirs)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3], [0, 1, 1, 3]])
def test_itc_gradient_with_and_without_soft_targets(
    network: BridgeTower, folder: Path, examples: Examples, groups: list[int]
) -> None:
    examples = copy.copy(examples)
    examples.groups = torch.tensor(groups)
    targets = torch.eye(4)
    if groups[1] == groups[2]:
        targets[1:3, 1:3] = 0.5
    stage = Stage(losses={"itc": 1.0, "itm": 1e-12, "itc_cross": 1.0}, steps=1)
    theirs = oracle(folder, "BridgeTowerForContrastiveLearning")
    out = theirs(
        pixel_values=examples.pixel_values,
        input_ids=examples.input_ids[:COUNT],
        attention_mask=examples.attention_mask[:COUNT],
    )
    scale = theirs.logit_scale.exp()

    def both(left: Tensor, right: Tensor, way: Callable[[Tensor], Tensor] = lambda logits: logits) -> Tensor:
        return F.cross_entropy(way(left @ right.T * scale), targets)

    text, image, cross = out.text_embeds, out.image_embeds, out.cross_embeds
    contrast = (both(text, image) + both(image, text)) / 2
    fused = (both(text, cross) + both(image, cross)) / 2
    compare(our_gradients(network, examples, stage), contrast + fused, theirs)


def test_no_hard_pair_is_true_and_where_all_are_the_slot_stays_empty(examples: Examples) -> None:
    similar = torch.eye(COUNT)
    images, texts = ImageStates(embeds=similar), TextStates(embeds=similar)
    for noise_seed in range(50):
        drawn = copy.copy(examples)
        uniform = torch.rand(COUNT, 1, COUNT, generator=torch.Generator().manual_seed(noise_seed))
        drawn.noise = -torch.log(-torch.log(uniform))
        drawn.slots = torch.tensor([[-1], [-2], [-1], [-2]])
        image_rows, captions, labels = matching_pairs(images, texts, drawn, 14.3)
        assert labels.tolist() == [1] * 4 + [0] * 4
        assert image_rows[4:6].tolist()[0] == 0
        assert captions[5] == 1
        wrong = examples.truth[image_rows[4:], captions[4:]]
        assert not wrong.any()
    alone = copy.copy(examples)
    alone.truth = torch.ones(COUNT, COUNT, dtype=torch.bool)
    assert matching_pairs(images, texts, alone, 14.3)[2].tolist() == [1, 1, 1, 1, 0, 0]


def test_the_most_similar_wrong_caption_is_drawn_most(examples: Examples) -> None:
    similar = torch.eye(COUNT)
    similar[0, 3] = 0.9
    texts = TextStates(embeds=similar.T.contiguous())
    drawn = copy.copy(examples)
    drawn.slots = torch.full((COUNT, 1), -1)
    counts = [0] * COUNT
    for seed in range(300):
        uniform = torch.rand(COUNT, 1, COUNT, generator=torch.Generator().manual_seed(seed))
        drawn.noise = -torch.log(-torch.log(uniform))
        counts[int(matching_pairs(ImageStates(embeds=torch.eye(COUNT)), texts, drawn, 3.0)[1][COUNT])] += 1
    expected = torch.tensor([0.0, 0.0, 0.0, 2.7]).exp()[1:] / (2 + 2.718281828**2.7)
    assert counts[0] == 0
    assert [count / 300 for count in counts[1:]] == pytest.approx(expected.tolist(), abs=0.08)
