"""From a recipe, data and a place to start from to a run that only has to be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.errors import BadConfig, BtError, MissingHead, Misuse
from bt_cli.training.distributed import Ranks
from bt_cli.training.initial_weights import Start, from_checkpoint
from bt_cli.training.recipe import Recipe
from bt_cli.training.run import Run, caption_run, scene_run

if TYPE_CHECKING:
    import torch

    from bt_cli.training.data import TrainingData

LOOKS = 10
"""How often a run is validated where nothing else is said."""
WORKERS = 4
"""Threads that decode images where nothing else is said."""


@dataclass(frozen=True)
class StartingPoint:
    """What a run starts from: a checkpoint or, without one, the recipe's own network from nothing."""

    checkpoint: str | None = None
    image_size: int | None = None
    """Another input size in pixels than the checkpoint's or the network's own."""
    every_loss: bool = False
    """A loss whose head the checkpoint lacks is an error, and not left out: the user named it."""

    def network(self, recipe: Recipe) -> tuple[Recipe, Start | None]:
        """The recipe as it fits what it starts from, and the checkpoint's network; None = from nothing.

        Raises Misuse, BadConfig, MissingHead, and what opening a checkpoint raises.
        """
        if self.checkpoint is not None:
            start = from_checkpoint(self.checkpoint, image_size=self.image_size)
            return _without_missing_heads(recipe, start, self.every_loss), start
        if recipe.network is None:
            raise Misuse("name a checkpoint to start from (--model tiny), or --from-scratch CONFIG.json")
        return (recipe if self.image_size is None else _with_image_size(recipe, self.image_size)), None


def prepare_run(
    recipe: Recipe,
    data: TrainingData | None,
    start: StartingPoint,
    out: Path,
    device: torch.device,
    ranks: Ranks,
    *,
    workers: int | None = None,
    on_skip: Callable[[BtError], None] | None = None,
) -> tuple[Recipe, Run]:
    """Network, captions and held-out captions for a recipe; the recipe with its validation steps settled.

    Args:
        recipe: What decides the weights.
        data: The captions; None only for a recipe that draws its own scenes.
        start: A checkpoint, or nothing.
        out: The folder for the trained checkpoint.
        device: Where this process computes.
        ranks: This process's place among those that share the batches.
        workers: Threads that decode images; None: 4.
        on_skip: Hears of each image that is missing, and of those that can't be read when their turn comes; they are
            left out. Without it they are errors.

    Raises what reading the checkpoint and the captions raises, and MissingHead for a loss without its head.
    """
    recipe, initial = start.network(recipe)
    if data is None:
        if recipe.source.get("kind") != "scenes":
            raise Misuse(f"recipe {recipe.name} trains on captions; name a caption file")
        return recipe, scene_run(recipe, out, device, ranks, initial)
    # Every process finds the same images missing; one of them says so.
    train, held_out = data.read(recipe.seed, on_skip if ranks.first or on_skip is None else lambda error: None)
    workers = workers or WORKERS
    run = caption_run(recipe, train, held_out, out, device, ranks, initial, workers=workers, on_skip=on_skip)
    return _with_looks(recipe, len(train)), run


def _with_image_size(recipe: Recipe, size: int) -> Recipe:
    """The recipe with another input size of the network that is trained from nothing. Raises Misuse, BadConfig."""
    if recipe.source.get("kind") == "scenes":
        raise Misuse("--image-size: the recipe's scenes are drawn in a size of their own; change it in the recipe")
    network = dict(recipe.network or {})
    vision = network.get("vision_config", {})
    if not isinstance(vision, Mapping):
        raise BadConfig(f"network: vision_config is {vision!r}, but has to be an object")
    return replace(recipe, network={**network, "vision_config": {**vision, "image_size": size}})


def _with_looks(recipe: Recipe, captions: int) -> Recipe:
    """A run on captions is validated ten times unless the recipe says how often."""
    if recipe.validate_every:
        return recipe
    stage = recipe.stages[0]
    steps = stage.steps or round(stage.epochs * captions / (stage.batch * stage.accumulate))
    return replace(recipe, validate_every=max(1, steps // LOOKS))


def _without_missing_heads(recipe: Recipe, start: Start, every_loss: bool) -> Recipe:
    """Losses whose head the checkpoint lacks are left out of the default mix, unless every loss is wanted."""
    network = start.network
    heads = {
        "itc": network.itc_image_head,
        "itc_cross": network.itc_cross_head,
        "itm": network.itm_head,
        "mlm": network.mlm_head,
    }
    missing = {name for name, head in heads.items() if head is None}
    stages = []
    for stage in recipe.stages:
        losses = {name: weight for name, weight in stage.losses.items() if weight > 0 and name not in missing}
        lost = sorted(name for name, weight in stage.losses.items() if weight > 0 and name in missing)
        if lost and (every_loss or not losses):
            raise MissingHead(
                f"{start.name}: no head for {', '.join(lost)}; give the loss no weight, or take another checkpoint"
            )
        if "itm" not in losses:
            losses.pop("itc_cross", None)
        stages.append(replace(stage, losses=losses))
    return replace(recipe, stages=tuple(stages))
