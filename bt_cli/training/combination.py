"""Which order is best after training: by embeddings, by the ITM head's reading of the best candidates, or by both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_cli.checkpoints.combination import COMBINATIONS
from bt_cli.training.validation import HeldOut, cosines, match_logits, recall

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.tokenizer import Tokenizer

CANDIDATES = 20
"""Captions of each image, and images of each caption, that the ITM head reads."""
UNREAD = -100.0


def compare_combinations(
    network: BridgeTower, held_out: HeldOut, tokenizer: Tokenizer, length: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Recall (see `validation.recall`) by each of COMBINATIONS, of a network with ITC and ITM heads.

    Raises BadConfig where a score is not a finite number.
    """
    similarity = cosines(network, held_out, tokenizer, length, device)
    own = held_out.caption_groups[:, None] == held_out.image_groups[None, :]
    read = candidates(similarity, CANDIDATES)
    logits = np.full(similarity.shape, UNREAD, np.float32)
    logits[read] = match_logits(network, held_out, np.argwhere(read), tokenizer, length, device)
    summed = np.where(read, logits + similarity, UNREAD).astype(np.float32)
    scores = dict(zip(COMBINATIONS, (logits, summed, similarity), strict=True))
    return {name: recall(each, own) for name, each in scores.items()}


def best_combination(measured: dict[str, dict[str, float]]) -> str:
    """The one of the best mean recall; among equals the one that stands first, so the published way before others."""
    return max(measured, key=lambda name: measured[name]["recall"])


def candidates(similarity: np.ndarray, k: int) -> np.ndarray:
    """The k best of each row and of each column, as a mask of the same shape."""
    read = np.zeros(similarity.shape, bool)
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    columns = np.argsort(-similarity, axis=0, kind="stable")[:k]
    np.put_along_axis(read, rows, True, axis=1)
    np.put_along_axis(read, columns, True, axis=0)
    return read
