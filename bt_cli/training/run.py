"""A run, put together: network, words, images and what to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.errors import BadConfig, EmptyFolder
from bt_cli.training.distributed import Ranks
from bt_cli.training.initial_weights import Start, from_nothing
from bt_cli.training.recipe import Recipe
from bt_cli.training.sources import CaptionSource, OnSkip, SceneSource, Source
from bt_cli.training.validation import HeldOut

if TYPE_CHECKING:
    import torch

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.captions.captions import Caption
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer

VOCABULARY_CAPTIONS = 20_000


@dataclass
class Run:
    """What a run needs beside its recipe. `out` receives the checkpoint, `out/training` the state, log and plot.

    `start` names what the weights came from, `data` says in words what they learn from; `validation` is None where
    nothing is held out.
    """

    network: BridgeTower
    tokenizer: Tokenizer
    processor: ImageProcessor
    source: Source
    validation: HeldOut | None
    out: Path
    start: str
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    data: str = ""


def scene_run(recipe: Recipe, out: Path, device: torch.device, ranks: Ranks, start: Start | None = None) -> Run:
    """A run on scenes that are drawn on the way; from nothing unless `start` is given. Raises BadConfig."""
    from bt_cli.scenes import vocabulary_captions

    settings = {name: value for name, value in recipe.source.items() if name != "kind"}
    if start is None:
        start = _scratch(recipe, vocabulary_captions(VOCABULARY_CAPTIONS, recipe.seed), out)
    source = SceneSource(settings, start.processor)
    validation = source.held_out(recipe.validation_items, recipe.seed)
    return Run(
        start.network,
        start.tokenizer,
        start.processor,
        source,
        validation,
        out,
        start.name,
        device,
        ranks,
        "scenes that were drawn for it",
    )


def caption_run(
    recipe: Recipe,
    captions: Sequence[Caption],
    held_out: Sequence[Caption],
    out: Path,
    device: torch.device,
    ranks: Ranks,
    start: Start | None = None,
    *,
    workers: int = 4,
    on_skip: OnSkip | None = None,
) -> Run:
    """A run on captioned images; `held_out` is what recall is measured on, by the first process alone.

    `on_skip` hears of images that can't be read, without it they are an error. Raises BadConfig, EmptyFolder,
    UnreadableImage.
    """
    if not captions:
        raise EmptyFolder("no captioned image to train on")
    if start is None:
        start = _scratch(recipe, [caption.text for caption in captions], out)
    source = CaptionSource(captions, start.processor, workers=workers, on_skip=on_skip)
    validation = None
    if held_out and ranks.first:
        some = held_out[: recipe.validation_items]
        measured = CaptionSource(some, start.processor, workers=workers, on_skip=on_skip)
        validation = measured.held_out()
    images = len({caption.image for caption in captions})
    data = f"{len(captions):,} captions of {images:,} images"
    return Run(
        start.network, start.tokenizer, start.processor, source, validation, out, start.name, device, ranks, data
    )


def _scratch(recipe: Recipe, captions: Sequence[str], out: Path) -> Start:
    if recipe.network is None:
        raise BadConfig(f"recipe {recipe.name}: has no network to train from nothing, and no checkpoint was named")
    folder = out / "training"
    return from_nothing(recipe.network, captions, folder, seed=recipe.seed, wave_positions=recipe.positions)
