"""Images and texts pair by pair: one embedding of both, and a query's images in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.states import ImageStates
from bt_cli.errors import MissingHead, Misuse
from bt_cli.inference.cache import TextCache

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint

PAIRS_AT_A_TIME = 64


def require_joint_head(checkpoint: Checkpoint) -> None:
    """Raise MissingHead for a checkpoint that makes no joint embedding."""
    if "itc_cross" not in checkpoint.heads:
        have = ", ".join(sorted(head.upper() for head in checkpoint.heads)) or "none"
        raise MissingHead(
            f"{checkpoint.name} has no cross-modal ITC head (its heads: {have}), so it embeds no pairs; "
            "BridgeTower/bridgetower-large-itm-mlm-itc and tiny have one"
        )


def aligned(images: Sequence[Any], texts: Sequence[str]) -> int:
    """How many pairs these are. Raises Misuse where there are more of one than of the other."""
    if len(images) != len(texts):
        raise Misuse(f"{len(images)} images and {len(texts)} texts: pairs need as many of one as of the other")
    return len(texts)


def distinct(items: Sequence[Any]) -> tuple[list[int], NDArray[np.int64]]:
    """The positions of items that no earlier one equals, and for each item which of these it is.

    Paths, texts and bytes are compared; what can't be compared cheaply (an image in memory) only with itself.
    """
    numbers: dict[Any, int] = {}
    first: list[int] = []
    which = np.empty(len(items), dtype=np.int64)
    for position, item in enumerate(items):
        key = item if isinstance(item, (str, bytes)) else ("at", id(item))
        if key not in numbers:
            numbers[key] = len(first)
            first.append(position)
        which[position] = numbers[key]
    return first, which


def embed_blocks(
    network: BridgeTower,
    parts: Iterator[tuple[list[int], ImageStates]],
    texts: TextCache,
    by_image: NDArray[np.int64],
    by_text: NDArray[np.int64],
    rows: NDArray[np.float32],
    progress: Any = None,
) -> None:
    """Fill `rows` (p, d) with the joint embeddings of pairs, as encoded images come: (image rows, states).

    `by_image` and `by_text` (p,) say which image and which of the texts each pair joins.
    """
    done = 0
    for positions, states in parts:
        where = {image: place for place, image in enumerate(positions)}
        pairs = np.flatnonzero(np.isin(by_image, positions))
        for start in range(0, len(pairs), PAIRS_AT_A_TIME):
            some = pairs[start : start + PAIRS_AT_A_TIME]
            used, of_text = np.unique(by_text[some], return_inverse=True)
            of_image = np.array([where[image] for image in by_image[some].tolist()])
            device = states.need_bridges().device
            fused = network.fuse(
                states,
                texts.take(used.tolist()),
                (torch.from_numpy(of_image).to(device), torch.from_numpy(of_text).to(device)),
                wanted="pooled",
            )
            assert fused.pooler_output is not None
            rows[some] = network.cross_embeds(fused.pooler_output).cpu().numpy()
            done += len(some)
            if progress is not None:
                progress(done, len(rows))


def embed_captioned(
    network: BridgeTower, states: ImageStates, cache: TextCache, captions: Sequence[Sequence[str]]
) -> NDArray[np.float32]:
    """Embeddings (n, d) float32 of norm 1 of encoded images with their captions: the mean over an image's pairs.

    `captions` holds those of each image; one without takes its own embedding, which `states` have then to hold.
    `cache` has every caption.
    """
    assert states.embeds is not None
    rows = states.embeds.float().cpu().numpy().copy()
    number = {text: place for place, text in enumerate(cache.texts)}
    by_image = np.array([image for image, own in enumerate(captions) for _ in own], np.int64)
    if not len(by_image):
        return rows
    by_text = np.array([number[text] for own in captions for text in own], np.int64)
    pairs = np.empty((len(by_image), rows.shape[1]), np.float32)
    with torch.inference_mode():
        embed_blocks(network, iter([(list(range(len(captions))), states)]), cache, by_image, by_text, pairs)
    sums = np.zeros(rows.shape, np.float64)
    np.add.at(sums, by_image, pairs)
    captioned = np.unique(by_image)
    rows[captioned] = sums[captioned] / np.linalg.norm(sums[captioned], axis=1, keepdims=True)
    return rows


def ranked(
    scores: NDArray[np.float32], documents: Sequence[Any] | None, top_k: int | None
) -> list[dict[str, int | float | Any]]:
    """Match logits (n,) as a list of `corpus_id`, `score` and, where given, `document`, best first; ties by id.

    Images without a score (NaN: they could not be read) are left out.
    """
    order = np.lexsort((np.arange(len(scores)), -scores))
    best = [int(place) for place in order if not np.isnan(scores[place])][: len(scores) if top_k is None else top_k]
    if documents is None:
        return [{"corpus_id": place, "score": float(scores[place])} for place in best]
    return [{"corpus_id": place, "score": float(scores[place]), "document": documents[place]} for place in best]
