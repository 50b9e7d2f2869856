"""The three losses, as functions over the network's outputs: ITC, ITM and MLM.

`itc_loss` is the port's; `itc_pair_loss` that of the authors' retrieval fine-tuning, which `bt train` uses.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def itm_loss(itm_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of match logits (B, 2) against labels (B,) int64, 1 where image and text belong together."""
    return F.cross_entropy(itm_logits.float(), labels)


def mlm_loss(mlm_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of word logits (B, T, V) against token ids (B, T) int64; -100 marks rows that don't count.

    Without a single row that counts the loss is 0, not NaN.
    """
    logits = mlm_logits.float().flatten(0, -2)
    total = F.cross_entropy(logits, labels.flatten(), ignore_index=-100, reduction="sum")
    return total / labels.ne(-100).sum().clamp(min=1)


def itc_loss(text_embeds: Tensor, image_embeds: Tensor, cross_embeds: Tensor, logit_scale: Tensor) -> Tensor:
    """The port's contrastive loss: mean of three cross-entropies (text-image, text-cross, image-cross).

    Embeddings are (B, d) of norm 1, row i of each belonging together; `logit_scale` is a log.
    """
    scale = logit_scale.exp()
    labels = torch.arange(len(text_embeds), device=text_embeds.device)
    couples = (text_embeds, image_embeds), (text_embeds, cross_embeds), (image_embeds, cross_embeds)
    return torch.stack([F.cross_entropy(a @ b.T * scale, labels) for a, b in couples]).mean()


def itc_pair_loss(
    text_embeds: Tensor, image_embeds: Tensor, logit_scale: Tensor, groups: Tensor | None = None
) -> Tensor:
    """The retrieval fine-tuning's contrastive loss: both directions, with soft targets for captions of one image.

    Embeddings (B, d) of norm 1; `groups` (B,) int64 is equal where rows belong to one image, None where no two do.
    """
    logits = text_embeds @ image_embeds.T * logit_scale.exp()
    targets = soft_targets(torch.arange(len(logits), device=logits.device) if groups is None else groups)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def soft_targets(groups: Tensor) -> Tensor:
    """(n, n) float32: each row shares its weight among the rows of its group. `groups` (n,) int64."""
    same = groups[:, None].eq(groups[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)
