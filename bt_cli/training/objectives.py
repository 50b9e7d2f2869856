"""The training objectives over one accumulation step: ITC, ITM with hard negatives, MLM on the image.

Images and captions go through their towers once; true pairs, wrong pairs and masked captions are then fused from the
same states. Losses are scaled so that the mean of their gradients over ranks is the gradient over the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from bt_cli.bridgetower.losses import itc_pair_loss, soft_targets
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.training.distributed import Ranks
from bt_cli.training.examples import IGNORED, Examples
from bt_cli.training.recipe import Stage

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower

FORBIDDEN = -1e4


def compute_losses(network: BridgeTower, examples: Examples, stage: Stage, ranks: Ranks) -> dict[str, Tensor]:
    """Each loss of the stage that has a weight, a float32 scalar; unweighted."""
    fused = stage.weight("itm") > 0 or len(examples.masked) > 0
    # Hard negatives are drawn by ITC similarity, where there is an ITC head to tell.
    embeds = network.itc_image_head is not None and (stage.weight("itc") > 0 or stage.weight("itm") > 0)
    images = network.encode_images(examples.pixel_values, bridges=fused, embeds=embeds)
    texts = network.encode_texts(examples.input_ids, examples.attention_mask, bridges=fused, embeds=embeds)
    losses: dict[str, Tensor] = {}
    if stage.weight("itc"):
        losses["itc"] = _contrast(network, images, texts, examples.groups, ranks)
    if stage.weight("itm"):
        match, cross_embeds = _match(network, images, texts, examples, ranks, stage)
        losses["itm"] = match
        if stage.weight("itc_cross"):
            losses["itc_cross"] = _contrast_fused(network, images, texts, cross_embeds, examples.groups, ranks)
    if stage.weight("mlm"):
        losses["mlm"] = _fill(network, images, texts, examples, ranks)
    return losses


def _contrast(network: BridgeTower, images: ImageStates, texts: TextStates, groups: Tensor, ranks: Ranks) -> Tensor:
    """Both directions over the embeddings of all ranks."""
    image_embeds, text_embeds = ranks.gather(_made(images.embeds)), ranks.gather(_made(texts.embeds)[: len(groups)])
    return itc_pair_loss(text_embeds, image_embeds, _made(network.logit_scale).float(), ranks.gather(groups))


def _made(states: Tensor | None) -> Tensor:
    """What was asked for is there; a stage's losses are checked against the network's heads before a run."""
    assert states is not None
    return states


def _contrast_fused(
    network: BridgeTower, images: ImageStates, texts: TextStates, cross: Tensor, groups: Tensor, ranks: Ranks
) -> Tensor:
    """The two terms of the port's loss that hold the fused pair's embedding; they teach the head of that embedding."""
    scale = _made(network.logit_scale).float().exp()
    targets = soft_targets(ranks.gather(groups))
    cross = ranks.gather(cross)
    one_modality = (ranks.gather(_made(texts.embeds)[: len(groups)]), ranks.gather(_made(images.embeds)))
    return torch.stack([F.cross_entropy(embeds @ cross.T * scale, targets) for embeds in one_modality]).mean()


def _match(
    network: BridgeTower, images: ImageStates, texts: TextStates, examples: Examples, ranks: Ranks, stage: Stage
) -> tuple[Tensor, Tensor]:
    """ITM loss over the true pairs and the wrong ones; also the fused embeddings (n, d) of the true pairs."""
    image_rows, text_rows, labels = matching_pairs(images, texts, examples, stage.matching.hardness)
    fusion = network.fuse(images, texts, pairs=(image_rows, text_rows), wanted="pooled")
    pooled = _made(fusion.pooler_output)
    total = F.cross_entropy(network.itm_logits(pooled), labels, reduction="sum")
    loss = total * ranks.world / ranks.total(torch.tensor(float(len(labels)), device=total.device))
    return loss, network.cross_embeds(pooled[: len(examples)]) if stage.weight("itc_cross") else total


@torch.no_grad()
def matching_pairs(
    images: ImageStates, texts: TextStates, examples: Examples, hardness: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Image rows, caption rows and labels (p,) int64 of the pairs for the ITM head: the true ones first.

    A hard negative is drawn with the probability that the ITC head gives it, among the pairs that are not true; where
    the batch has none, the slot stays empty.
    """
    count = len(examples)
    own = torch.arange(count, device=examples.slots.device)
    if images.embeds is None or texts.embeds is None:
        similarity = torch.zeros((count, count), device=own.device)
    else:
        similarity = images.embeds.float() @ texts.embeds[:count].float().T
    similarity = (similarity * hardness).masked_fill(examples.truth, FORBIDDEN)
    image_rows, text_rows = [own], [own]
    first_wrong = count + len(examples.masked)
    for number in range(examples.slots.shape[1]):
        slots, noise = examples.slots[:, number], examples.noise[:, number]
        caption_score, caption = (similarity + noise).max(dim=1)
        image_score, image = (similarity.T + noise).max(dim=1)
        given, by_caption = slots >= 0, slots == -1
        image_rows.append(torch.where(given | by_caption, own, image))
        text_rows.append(torch.where(given, slots + first_wrong, torch.where(by_caption, caption, own)))
        possible = given | (torch.where(by_caption, caption_score, image_score) > FORBIDDEN / 2)
        image_rows[-1], text_rows[-1] = image_rows[-1][possible], text_rows[-1][possible]
    left, right = torch.cat(image_rows), torch.cat(text_rows)
    labels = torch.zeros(len(left), dtype=torch.int64, device=left.device)
    labels[:count] = 1
    return left, right, labels


def _fill(network: BridgeTower, images: ImageStates, texts: TextStates, examples: Examples, ranks: Ranks) -> Tensor:
    """MLM loss: masked captions fused with their images; the head sees the hidden positions alone."""
    rows = torch.arange(len(examples.masked), device=examples.masked.device) + len(examples)
    fusion = network.fuse(images, texts, pairs=(examples.masked, rows), wanted="text")
    hidden = examples.labels.ne(IGNORED)
    logits = network.mlm_logits(_made(fusion.text_features)[hidden])
    total = F.cross_entropy(logits.float(), examples.labels[hidden], reduction="sum")
    return total * ranks.world / ranks.total(hidden.sum().float())
