"""From a batch of captioned images to what a training step computes on: ids, masks, wrong captions.

Every random choice comes from a generator that is seeded by (seed, step, accumulation), drawn for the rows of all
ranks and cut to this rank's: a resumed run, or one spread over more processes, makes the same choices.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bt_cli.training.recipe import Masking, Matching, Stage

if TYPE_CHECKING:
    from bt_cli.preprocessing.tokenizer import Tokenizer

IGNORED = -100
"""The label of tokens that the MLM loss does not count."""


@dataclass
class Batch:
    """Captioned images as a source gives them: one rank's n rows of a batch.

    `pixel_values` (n, 3, H, W) float32, `groups` (n,) int64 equal where captions belong to one image or mean the
    same, `truth` (n, n) bool: caption j is true of image i, `negatives` per row (wrong caption, its kind).
    """

    pixel_values: Tensor
    captions: list[str]
    groups: np.ndarray
    truth: np.ndarray
    negatives: list[list[tuple[str, str]]] = field(default_factory=list)


@dataclass
class Examples:
    """One accumulation step of one rank, on the device. n images, m masked captions, w given wrong captions.

    `input_ids` and `attention_mask` (n + m + w, T) int64 hold the true captions, then the masked ones, then the wrong
    ones; `masked` (m,) and `wrong` (w,) are the images they belong to; `labels` (m, T) int64 has the hidden tokens,
    else -100. `slots` (n, negatives) int64: the row in `wrong` to use, -1 a hard caption for this image, -2 a hard
    image for this caption. `noise` (n, negatives, n) float32 is Gumbel noise to draw the hard ones with.
    """

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    groups: Tensor
    truth: Tensor
    masked: Tensor
    labels: Tensor
    wrong: Tensor
    slots: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.pixel_values)

    def to(self, device: torch.device) -> Examples:
        """Moved to a device."""
        return Examples(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def make_examples(
    batch: Batch,
    stage: Stage,
    tokenizer: Tokenizer,
    length: int,
    generator: np.random.Generator,
    rows: int,
    part: slice,
) -> Examples:
    """Mask captions and choose wrong ones. `batch` is the `part` that is ours of `rows` rows over all ranks."""
    masking, matching = stage.masking, stage.matching
    with_itm, with_mlm = stage.weight("itm") > 0, stage.weight("mlm") > 0
    chances = generator.random((rows, matching.negatives, 3))
    mask_chances = generator.random((rows, length, 3))
    focus_chances = generator.random(rows)
    count = len(batch.captions)
    noise = generator.gumbel(size=(rows, matching.negatives, count if with_itm else 0))
    wrong_texts, wrong, slots = _wrong_captions(batch, matching, chances[part]) if with_itm else ([], [], None)
    tokens = tokenizer.encode([*batch.captions, *wrong_texts], max_length=length)
    ids, keep = np.asarray(tokens.input_ids), np.asarray(tokens.attention_mask)
    masked = np.arange(max(1, round(masking.share * count)) if with_mlm else 0)
    hidden, labels = mask_tokens(
        ids[masked], keep[masked], masking, tokenizer, mask_chances[part][masked], focus_chances[part][masked]
    )
    ids = np.concatenate([ids[:count], hidden, ids[count:]])
    keep = np.concatenate([keep[:count], keep[masked], keep[count:]])
    return Examples(
        pixel_values=batch.pixel_values,
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(keep),
        groups=torch.from_numpy(np.ascontiguousarray(batch.groups)),
        truth=torch.from_numpy(np.ascontiguousarray(batch.truth)),
        masked=torch.from_numpy(masked),
        labels=torch.from_numpy(labels),
        wrong=torch.tensor(wrong, dtype=torch.int64),
        slots=torch.from_numpy(slots) if slots is not None else torch.zeros((count, 0), dtype=torch.int64),
        noise=torch.from_numpy(noise[part].astype(np.float32)),
    )


def _wrong_captions(batch: Batch, matching: Matching, chances: np.ndarray) -> tuple[list[str], list[int], np.ndarray]:
    """Which wrong pairs each row gets: a given caption as often as `given` says, else a hard one of the
    batch."""
    texts: list[str] = []
    rows: list[int] = []
    slots = np.empty(chances.shape[:2], dtype=np.int64)
    for row in range(len(batch.captions)):
        candidates = batch.negatives[row] if batch.negatives else []
        for number in range(matching.negatives):
            wanted, which, side = chances[row, number]
            chosen = choose_negative(candidates, matching, which) if wanted < matching.given_share else None
            if chosen is None:
                slots[row, number] = -1 if side < 0.5 else -2
            else:
                slots[row, number] = len(texts)
                texts.append(chosen)
                rows.append(row)
    return texts, rows, slots


def choose_negative(candidates: Sequence[tuple[str, str]], matching: Matching, chance: float) -> str | None:
    """One of the wrong captions, by the weights of their kinds shared among captions of a kind; None if none has
    weight."""
    if not candidates:
        return None
    if not matching.kinds:
        return candidates[int(chance * len(candidates))][0]
    kinds = [kind for _, kind in candidates]
    weights = np.array([matching.kinds.get(kind, 0.0) / kinds.count(kind) for kind in kinds])
    if not weights.sum() > 0:
        return None
    place = np.searchsorted(np.cumsum(weights) / weights.sum(), chance, side="right")
    return candidates[min(int(place), len(candidates) - 1)][0]


def mask_tokens(
    ids: np.ndarray,
    keep: np.ndarray,
    masking: Masking,
    tokenizer: Tokenizer,
    chances: np.ndarray,
    focus_chances: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide tokens the way BERT does: of those chosen 80 % become `<mask>`, 10 % another token, 10 % stay.

    `ids`, `keep` (m, T); `chances` (m, at least T, 3) and `focus_chances` (m,) uniform in [0, 1). At least one token
    of each caption is chosen, never `<s>` or `</s>`. Returns the ids to show and the labels, both (m, T) int64.
    """
    width = ids.shape[1]
    chances = chances[:, :width]
    inner = keep.astype(bool).copy()
    inner[:, 0] = False
    last = keep.sum(axis=1) - 1
    inner[np.arange(len(ids)), last] = False
    allowed = inner
    if masking.focus > 0 and masking.words:
        focused = np.isin(ids, word_tokens(tokenizer, masking.words)) & inner
        narrowed = (focus_chances < masking.focus) & focused.any(axis=1)
        allowed = np.where(narrowed[:, None], focused, inner)
    order = np.where(allowed, chances[..., 0], 2.0)
    picked = order < masking.rate
    lowest = order.argmin(axis=1)
    picked[np.arange(len(ids)), lowest] |= allowed[np.arange(len(ids)), lowest]
    labels = np.where(picked, ids, IGNORED)
    shown = ids.copy()
    shown[picked & (chances[..., 1] < 0.8)] = tokenizer.mask_id
    swapped = picked & (chances[..., 1] >= 0.9)
    shown[swapped] = (chances[..., 2] * tokenizer.vocab_size).astype(np.int64)[swapped]
    return shown.astype(np.int64), labels.astype(np.int64)


def word_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> np.ndarray:
    """The ids of those words that are one token (as words inside a sentence, with the space before them)."""
    known = _WORD_TOKENS.setdefault(tokenizer, {})
    key = tuple(words)
    if key not in known:
        rows = tokenizer.encode([f"a {word}" for word in words])
        sizes = np.asarray(rows.attention_mask).sum(axis=1)
        known[key] = np.asarray(rows.input_ids)[sizes == 4, 2]
    return known[key]


_WORD_TOKENS: weakref.WeakKeyDictionary[Tokenizer, dict[tuple[str, ...], np.ndarray]] = weakref.WeakKeyDictionary()
"""Kept as long as the tokenizer: another one may later stand where it stood in memory."""
