"""How a run is doing on images that it doesn't train on: recall by ITC, and ITM against given wrong captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bt_cli.errors import BadConfig
from bt_cli.metrics.recall import KS, ScoreRows, best_own_ranks, recall_at

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.tokenizer import Tokenizer

ROWS = 64
FUSED = 256
"""Pairs that are fused at a time."""
LEAST_IMAGES = 50
"""Held-out images below which recall tells little: one caption more or less is above 2 %."""


@dataclass
class HeldOut:
    """Images (m) and captions (n) to measure on.

    `pixel_values` (m, 3, H, W) float32; `owner` (n,) int64 is each caption's image. A caption is right for the
    images of its group: `image_groups` (m,), `caption_groups` (n,) int64. `negatives` per caption: (wrong
    caption, its kind).
    """

    pixel_values: Tensor
    captions: list[str]
    owner: np.ndarray
    image_groups: np.ndarray
    caption_groups: np.ndarray
    negatives: list[list[tuple[str, str]]]


@torch.no_grad()
def validate(
    network: BridgeTower, held_out: HeldOut, tokenizer: Tokenizer, length: int, device: torch.device, *, matching: bool
) -> dict[str, float]:
    """Fractions: `ir@k` and `tr@k` for k of 1, 5, 10 and their mean `recall`, and the contrastive `loss` over all that
    is held out; with `matching` also `itm/KIND`, the share of wrong captions of that kind that the ITM head puts below
    the true one. Without an ITC head `recall` is the mean of these, and there is no `loss`. Raises BadConfig where a
    score is no number.
    """
    was_training = network.training
    network.eval()
    metrics: dict[str, float] = {}
    if network.itc_image_head is not None and network.itc_text_head is not None:
        similarity = cosines(network, held_out, tokenizer, length, device)
        own = held_out.caption_groups[:, None] == held_out.image_groups[None, :]
        assert network.logit_scale is not None
        metrics = recall(similarity, own)
        metrics["loss"] = contrastive_loss(similarity, own, float(network.logit_scale.float().exp()))
    if matching:
        metrics |= _matching(network, held_out, tokenizer, length, device)
    if "recall" not in metrics:
        metrics["recall"] = float(np.mean(list(metrics.values()))) if metrics else 0.0
    network.train(was_training)
    return metrics


@torch.no_grad()
def cosines(
    network: BridgeTower, held_out: HeldOut, tokenizer: Tokenizer, length: int, device: torch.device
) -> np.ndarray:
    """(n captions, m images) float32: the cosine of every caption's embedding with every image's."""
    images = [
        network.encode_images(held_out.pixel_values[start : start + ROWS].to(device), bridges=False, embeds=True)
        for start in range(0, len(held_out.pixel_values), ROWS)
    ]
    texts = [
        network.encode_texts(
            *_tokens(tokenizer, held_out.captions[start : start + ROWS], length, device), bridges=False
        )
        for start in range(0, len(held_out.captions), ROWS)
    ]
    rows, columns = (
        torch.cat([part.embeds.float().cpu() for part in parts if part.embeds is not None]) for parts in (texts, images)
    )
    similarity: np.ndarray = (rows @ columns.T).numpy()
    return similarity


@torch.no_grad()
def match_logits(
    network: BridgeTower,
    held_out: HeldOut,
    pairs: np.ndarray,
    tokenizer: Tokenizer,
    length: int,
    device: torch.device,
) -> np.ndarray:
    """(p,) float32: the match logit, as `bt eval` ranks by, of `pairs` (p, 2) of a caption's and an image's row.

    Each caption's states are made once, an image's once for each block of captions.
    """
    found = np.empty(len(pairs), np.float32)
    for start in range(0, len(held_out.captions), ROWS):
        rows = np.flatnonzero((pairs[:, 0] >= start) & (pairs[:, 0] < start + ROWS))
        texts = held_out.captions[start : start + ROWS]
        states = network.encode_texts(*_tokens(tokenizer, texts, length, device), bridges=True, embeds=False)
        for first in range(0, len(held_out.pixel_values), ROWS):
            chosen = rows[(pairs[rows, 1] >= first) & (pairs[rows, 1] < first + ROWS)]
            if not len(chosen):
                continue
            pixels = held_out.pixel_values[first : first + ROWS].to(device)
            images = network.encode_images(pixels, bridges=True, embeds=False)
            for begin in range(0, len(chosen), FUSED):
                part = chosen[begin : begin + FUSED]
                columns = torch.from_numpy(pairs[part, 1] - first).to(device)
                places = torch.from_numpy(pairs[part, 0] - start).to(device)
                fusion = network.fuse(images, states, (columns, places), wanted="pooled")
                assert fusion.pooler_output is not None
                found[part] = network.itm_logits(fusion.pooler_output).float().cpu().numpy()[:, 1]
    _want_finite(found)
    return found


def contrastive_loss(similarity: np.ndarray, own: np.ndarray, scale: float) -> float:
    """The mean of both directions' cross-entropies; what several images or captions are right for is shared evenly.

    It tells apart what recall can't once every caption finds its image. Arguments as for :func:`recall`; `scale` is
    what similarities are multiplied by.
    """
    ways = []
    for scores, right in ((similarity, own), (similarity.T, own.T)):
        asked = right.any(axis=1)
        targets = torch.from_numpy(right[asked] / right[asked].sum(axis=1, keepdims=True))
        logits = torch.from_numpy(np.ascontiguousarray(scores[asked])).double() * scale
        ways.append(float(torch.nn.functional.cross_entropy(logits, targets)))
    return sum(ways) / len(ways)


def recall(similarity: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Recall both ways, as `bt eval` computes it, and their mean.

    Args:
        similarity: (n captions, m images) float32, higher is better.
        own: The same shape, bool: which images a caption is true of.

    Returns:
        `ir@k` and `tr@k` for k of 1, 5, 10 and their mean `recall`, each from 0 to 1.

    Raises:
        BadConfig: A similarity is not a finite number.
    """
    _want_finite(similarity)
    metrics: dict[str, float] = {}
    for way, scores, right in (("ir", similarity, own), ("tr", similarity.T, own.T)):
        ranks = best_own_ranks(_rows_of(scores), {query: np.flatnonzero(row) for query, row in enumerate(right)})
        metrics |= {f"{way}@{k}": recall_at(ranks, k) for k in KS}
    return {**metrics, "recall": sum(metrics.values()) / len(metrics)}


def _rows_of(scores: np.ndarray) -> ScoreRows:
    return lambda start, stop: scores[start:stop]


def _matching(
    network: BridgeTower, held_out: HeldOut, tokenizer: Tokenizer, length: int, device: torch.device
) -> dict[str, float]:
    verdicts: dict[str, list[bool]] = {}
    for start in range(0, len(held_out.captions), ROWS):
        rows = range(start, min(start + ROWS, len(held_out.captions)))
        wrong = [(row - start, *item) for row in rows for item in _one_of_each_kind(held_out.negatives[row])]
        if not wrong:
            continue
        texts = [held_out.captions[row] for row in rows] + [text for _, text, _ in wrong]
        pixels = held_out.pixel_values[held_out.owner[rows.start : rows.stop]].to(device)
        images = network.encode_images(pixels, bridges=True, embeds=False)
        states = network.encode_texts(*_tokens(tokenizer, texts, length, device), bridges=True, embeds=False)
        owners = torch.tensor([*range(len(rows)), *(row for row, _, _ in wrong)], device=device)
        fusion = network.fuse(images, states, (owners, torch.arange(len(texts), device=device)), wanted="pooled")
        assert fusion.pooler_output is not None
        logits = network.itm_logits(fusion.pooler_output).float().cpu()
        _want_finite(logits.numpy())
        match = logits[:, 1] - logits[:, 0]
        for place, (row, _, kind) in enumerate(wrong, start=len(rows)):
            verdicts.setdefault(kind, []).append(bool(match[row] > match[place]))
    return {f"itm/{kind}": float(np.mean(right)) for kind, right in sorted(verdicts.items())}


def _want_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise BadConfig(
            "validation: a score is not a finite number; a lower learning rate or a longer warm-up may help"
        )


def _tokens(tokenizer: Tokenizer, texts: list[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    tokens = tokenizer.encode(texts, max_length=length)
    return torch.from_numpy(tokens.input_ids).to(device), torch.from_numpy(tokens.attention_mask).to(device)


def _one_of_each_kind(items: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(text, kind) for kind, text in {kind: text for text, kind in reversed(items)}.items()]
