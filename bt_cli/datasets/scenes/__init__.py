"""Drawn scenes of everyday things with captions that know what they say: data without end, for training and tests."""

from __future__ import annotations

from bt_cli.datasets.scenes.captions import Span
from bt_cli.datasets.scenes.collection import Exhibit, collect, write_dataset
from bt_cli.datasets.scenes.layout import FAMILIES
from bt_cli.datasets.scenes.mistakes import KINDS, Negative
from bt_cli.datasets.scenes.sampler import SceneBatch, SceneSampler, truth_of, vocabulary_captions
from bt_cli.datasets.scenes.sprites import SpriteSheet

__all__ = [
    "FAMILIES",
    "KINDS",
    "Exhibit",
    "Negative",
    "SceneBatch",
    "SceneSampler",
    "Span",
    "SpriteSheet",
    "collect",
    "truth_of",
    "vocabulary_captions",
    "write_dataset",
]
