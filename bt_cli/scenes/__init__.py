"""Drawn scenes of everyday things with captions that know what they say: data without end, for training and tests."""

from __future__ import annotations

from bt_cli.scenes.layout import FAMILIES
from bt_cli.scenes.mistakes import KINDS, Negative
from bt_cli.scenes.sampler import SceneBatch, SceneSampler, truth_of, vocabulary_captions
from bt_cli.scenes.sprites import SpriteSheet
from bt_cli.scenes.wording import Span

__all__ = [
    "FAMILIES",
    "KINDS",
    "Negative",
    "SceneBatch",
    "SceneSampler",
    "Span",
    "SpriteSheet",
    "truth_of",
    "vocabulary_captions",
]
