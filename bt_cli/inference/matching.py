"""Pairs of images and texts through the cross-modal encoder, each image and each text encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.errors import Misuse
from bt_cli.inference.cache import TextCache

IMAGES_AT_ONCE = 16
TEXTS_AT_ONCE = 64

Progress = Callable[[int, int], None]


@dataclass
class Matches:
    """What pairing gave: ITM logits (p, 2), and the embeddings of both sides where they were asked for, all float32.

    Pairs and rows of images that could not be read are NaN.
    """

    logits: NDArray[np.float32]
    image_embeds: NDArray[np.float32] | None
    text_embeds: NDArray[np.float32] | None

    @classmethod
    def empty(cls, pairs: int, images: int, texts: int, dimension: int | None) -> Matches:
        """All NaN; with `dimension` room for embeddings."""

        def table(rows: int, width: int) -> NDArray[np.float32]:
            return np.full((rows, width), np.nan, dtype=np.float32)

        if dimension is None:
            return cls(table(pairs, 2), None, None)
        return cls(table(pairs, 2), table(images, dimension), table(texts, dimension))


def all_pairs(images: int, texts: int) -> NDArray[np.int64]:
    """Every image with every text: (images * texts, 2) int64, image by image."""
    return np.stack(np.divmod(np.arange(images * texts, dtype=np.int64), max(texts, 1)), axis=1)


def checked_pairs(pairs: object, images: int, texts: int) -> NDArray[np.int64]:
    """`pairs` as (p, 2) int64 of (image row, text row). Raises Misuse for another shape or a row that is not there."""
    rows = np.asarray(list(pairs) if isinstance(pairs, Iterator) else pairs)
    if rows.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise Misuse(f"pairs have to be (p, 2) whole numbers (image row, text row), not {rows.dtype} {rows.shape}")
    if rows.min() < 0 or rows[:, 0].max() >= images or rows[:, 1].max() >= texts:
        raise Misuse(f"a pair names a row outside of {images} image(s) and {texts} text(s)")
    return rows.astype(np.int64)


def match_blocks(
    network: BridgeTower,
    parts: Iterator[tuple[list[int], ImageStates]],
    texts: TextCache,
    pairs: NDArray[np.int64],
    matches: Matches,
    progress: Progress | None = None,
) -> None:
    """Fill `matches` from the encoded images as they come; `parts` yields (image rows, states)."""
    order = np.argsort(pairs[:, 0], kind="stable")
    starts = np.searchsorted(pairs[order, 0], np.arange(int(pairs[:, 0].max(initial=-1)) + 2))
    done = 0
    for rows, states in _blocks(parts):
        if matches.image_embeds is not None and states.embeds is not None:
            matches.image_embeds[rows] = states.embeds.cpu().numpy()
        chosen = np.concatenate(
            [order[starts[row] : starts[row + 1]] for row in rows if row + 1 < len(starts)] or [order[:0]]
        )
        where = {row: index for index, row in enumerate(rows)}
        for some in _by_text(pairs, chosen):
            used, by_text = np.unique(pairs[some, 1], return_inverse=True)
            by_image = np.array([where[row] for row in pairs[some, 0].tolist()])
            taken = texts.take(used.tolist())
            if matches.text_embeds is not None and taken.embeds is not None:
                matches.text_embeds[used] = taken.embeds.cpu().numpy()
            matches.logits[some] = pair_logits(network, states, taken, by_image, by_text)
            done += len(some)
            if progress is not None:
                progress(done, len(pairs))


def pair_logits(
    network: BridgeTower,
    images: ImageStates,
    texts: TextStates,
    by_image: NDArray[np.int64],
    by_text: NDArray[np.int64],
) -> NDArray[np.float32]:
    """ITM logits (p, 2) float32 of pairs of encoded images and texts, given as row numbers (p,) each."""
    device = images.need_bridges().device
    used, image_rows = np.unique(by_image, return_inverse=True)
    if len(used) < len(images):
        images, by_image = images.select(torch.from_numpy(used).to(device)), image_rows
    order = np.arange(len(by_text))
    if texts.keep is not None:  # texts of like length together: the encoder cuts each of its steps to the longest
        order = np.argsort(texts.keep.sum(dim=1).cpu().numpy()[by_text], kind="stable")
    pairs = torch.from_numpy(by_image[order]).to(device), torch.from_numpy(by_text[order]).to(device)
    fusion = network.fuse(images, texts, pairs, wanted="pooled")
    assert fusion.pooler_output is not None
    logits = np.empty((len(order), 2), dtype=np.float32)
    logits[order] = network.itm_logits(fusion.pooler_output).cpu().numpy()
    return logits


def _blocks(parts: Iterator[tuple[list[int], ImageStates]]) -> Iterator[tuple[list[int], ImageStates]]:
    """Batches of encoded images joined up to IMAGES_AT_ONCE, so that the first layer's work per text is shared."""
    rows: list[int] = []
    waiting: list[ImageStates] = []
    for positions, states in parts:
        mixed = waiting and waiting[0].need_bridges().shape[2] != states.need_bridges().shape[2]
        if rows and (mixed or len(rows) + len(positions) > IMAGES_AT_ONCE):
            yield rows, ImageStates.cat(waiting)
            rows, waiting = [], []
        rows = rows + positions
        waiting.append(states)
    if rows:
        yield rows, ImageStates.cat(waiting)


def _by_text(pairs: NDArray[np.int64], chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The pairs `chosen`, grouped so that each group holds at most TEXTS_AT_ONCE texts."""
    texts = np.unique(pairs[chosen, 1])
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        group = texts[start : start + TEXTS_AT_ONCE]
        yield chosen[np.isin(pairs[chosen, 1], group)]


def candidates_of(pairs: NDArray[np.int64], count: int) -> Sequence[int]:
    """The image rows that stand in a pair, ascending: no other needs encoding."""
    return np.flatnonzero(np.bincount(pairs[:, 0], minlength=count)).tolist()
