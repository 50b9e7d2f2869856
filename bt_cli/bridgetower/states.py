"""What encoding one modality leaves behind: everything that fusing and comparing needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bt_cli.errors import MissingHead


@dataclass
class ImageStates:
    """Encoded images: bridge features (L, B, P, h), ITC embeddings (B, d) float32 of norm 1, each None if not made."""

    bridges: Tensor | None = None
    embeds: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeds) if self.bridges is None and self.embeds is not None else self.need_bridges().shape[1]

    def need_bridges(self) -> Tensor:
        """The bridge features (L, B, P, h); raises MissingHead where they were not computed."""
        if self.bridges is None:
            raise MissingHead("images were encoded without bridge features; encode them with bridges=True to fuse")
        return self.bridges

    def select(self, index: Tensor) -> ImageStates:
        """The rows `index` (n,) int64."""
        return ImageStates(_rows(self.bridges, 1, index), _rows(self.embeds, 0, index))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ImageStates:
        """Moved, and the bridge features cast; embeddings stay float32."""
        return ImageStates(_move(self.bridges, device, dtype), _move(self.embeds, device, None))

    @classmethod
    def cat(cls, states: Sequence[ImageStates]) -> ImageStates:
        """One after the other."""
        bridges = [state.bridges for state in states if state.bridges is not None]
        embeds = [state.embeds for state in states if state.embeds is not None]
        return cls(torch.cat(bridges, dim=1) if bridges else None, torch.cat(embeds) if embeds else None)


@dataclass
class TextStates:
    """Encoded texts: bridge features (L, B, T, h), `keep` (B, T) bool (None: nothing padded), embeddings (B, d)."""

    bridges: Tensor | None = None
    keep: Tensor | None = None
    embeds: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeds) if self.bridges is None and self.embeds is not None else self.need_bridges().shape[1]

    def need_bridges(self) -> Tensor:
        """The bridge features (L, B, T, h); raises MissingHead where they were not computed."""
        if self.bridges is None:
            raise MissingHead("texts were encoded without bridge features; encode them with bridges=True to fuse")
        return self.bridges

    def select(self, index: Tensor) -> TextStates:
        """The rows `index` (n,) int64; padding that all of them share stays."""
        return TextStates(_rows(self.bridges, 1, index), _rows(self.keep, 0, index), _rows(self.embeds, 0, index))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextStates:
        """Moved, and the bridge features cast; embeddings stay float32."""
        moved = _move(self.bridges, device, dtype), _move(self.keep, device, None), _move(self.embeds, device, None)
        return TextStates(*moved)

    @classmethod
    def cat(cls, states: Sequence[TextStates]) -> TextStates:
        """One after the other, padded to the longest."""
        embeds = [state.embeds for state in states if state.embeds is not None]
        joined = torch.cat(embeds) if embeds else None
        if not states or any(state.bridges is None for state in states):
            return cls(None, None, joined)
        longest = max(state.need_bridges().shape[2] for state in states)
        return cls(*_pad_together(states, longest), joined)


def _pad_together(states: Sequence[TextStates], longest: int) -> tuple[Tensor, Tensor | None]:
    bridges, keeps = [], []
    for state in states:
        features = state.need_bridges()
        missing = longest - features.shape[2]
        bridges.append(F.pad(features, (0, 0, 0, missing)))
        keep = state.keep
        if keep is None:
            keep = features.new_ones(features.shape[1:3], dtype=torch.bool)
        keeps.append(F.pad(keep, (0, missing)))
    keep = torch.cat(keeps)
    return torch.cat(bridges, dim=1), None if bool(keep.all()) else keep


def _rows(states: Tensor | None, dim: int, index: Tensor) -> Tensor | None:
    return None if states is None else states.index_select(dim, index)


def _move(states: Tensor | None, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if states is None else states.to(device=device, dtype=dtype or states.dtype)
