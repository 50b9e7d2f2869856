"""Texts embedded without torch as long as that is the shorter way: while their work takes less than torch's import."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bt_cli.inference.token_batches import batches

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.inference.text_encoder import TextEncoder
    from bt_cli.preprocessing.tokenizer import TokenBatch

PRODUCTS = 20e9
"""Multiplications done here before torch takes over: two to three seconds of one core, about what importing torch and
reading its weights takes. See docs/performance.md."""

CHARACTERS_PER_TOKEN = 4.0
"""Of English under RoBERTa's vocabulary, about; beside them each text has a beginning and an end."""


class LightTexts:
    """What stands in for the network while a process has asked for nothing but the embeddings of a few texts.

    `used` says whether it has been.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.used = False
        self._left = PRODUCTS

    @functools.cached_property
    def _encoder(self) -> TextEncoder | None:
        from bt_cli.inference.text_encoder import TextEncoder

        return TextEncoder.of(self.checkpoint)

    def expect(self, texts: Sequence[str]) -> bool:
        """Whether all of these, which will come in several calls, are few enough; if so, they are taken however many
        tokens they turn out to have."""
        if "torch" in sys.modules or self._encoder is None:
            return False
        tokens = sum(map(len, texts)) / CHARACTERS_PER_TOKEN + 2 * len(texts)
        self.used = tokens * self._encoder.parameters <= self._left
        if self.used:
            self._left = float("inf")
        return self.used

    def can_take(self, tokens: TokenBatch) -> bool:
        """Whether these texts are few enough, torch is not there anyway, and the weights can be read without it."""
        if "torch" in sys.modules:
            return False
        return self._encoder is not None and self._work(self._encoder, tokens) <= self._left

    def encode(
        self, tokens: TokenBatch, rows: NDArray[np.float32], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write the embeddings of texts that `can_take` took to `rows` (n, d) float32; `progress` counts texts."""
        encoder = self._encoder
        assert encoder is not None
        self._left -= self._work(encoder, tokens)
        self.used = True
        done = 0
        for batch in batches(tokens):
            rows[batch.positions] = encoder.encode(batch.ids, batch.mask)
            done += len(batch.positions)
            if progress is not None:
                progress(done, len(rows))

    @staticmethod
    def _work(encoder: TextEncoder, tokens: TokenBatch) -> float:
        return float(tokens.attention_mask.sum()) * encoder.parameters
