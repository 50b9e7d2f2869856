"""From the options of `bt train` to a recipe and a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.errors import BadConfig, BtError, MissingHead, Misuse, NotFound, UnreadableCaptions
from bt_cli.files.shown_path import shown_path
from bt_cli.training.distributed import Ranks
from bt_cli.training.initial_weights import Start, from_checkpoint
from bt_cli.training.recipe import Recipe
from bt_cli.training.run import Run, caption_run, hold_out, scene_run

if TYPE_CHECKING:
    import torch

    from bt_cli.datasets.captions import Caption

LOOKS = 10
"""How often a run is validated where nothing else is said."""


def recipe_of_options(options: Mapping[str, Any], dtype: str) -> Recipe:
    """One stage on captions, by the options' names. Raises BadConfig, NotFound."""
    scratch = options["from_scratch"]
    rates = ("learning_rate", "cross_multiplier", "head_multiplier", "warmup", "decay", "weight_decay", "clip")
    stage = {
        "steps": options["steps"],
        "epochs": options["epochs"],
        "batch": options["batch_size"],
        "accumulate": options["accumulate"],
        "losses": {name: options[name] for name in ("itc", "itc_cross", "itm", "mlm")},
        "rates": {name: options[name] for name in rates},
        "matching": {"negatives": options["negatives"], "given_share": options["given_share"]},
        "masking": {"rate": options["mask_rate"]},
        "augmentation": {"crop": [options["crop"], 1.0], "flip": options["flip"]},
        "freeze": list(options["freeze"] or []),
        "dropout": options["dropout"],
    }
    names = ("seed", "save_dtype", "text_length", "validate_every", "keep", "checkpoint_layers")
    values = {name: options[name] for name in names}
    network = None if scratch is None else _config(Path(scratch))
    return Recipe.from_dict(values | {"dtype": dtype, "network": network, "stages": [stage]}, "options")


def _config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"{shown_path(path)}: no such file; --from-scratch needs a config.json") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise BadConfig(f"{shown_path(path)}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadConfig(f"{shown_path(path)}: holds {type(values).__name__}, but has to be a JSON object")
    return values


def prepare_run(
    recipe: Recipe,
    options: Mapping[str, Any],
    out: Path,
    device: torch.device,
    ranks: Ranks,
    *,
    on_skip: Callable[[BtError], None] | None = None,
) -> tuple[Recipe, Run]:
    """Network, captions and held-out captions for a recipe; the recipe with its validation steps settled.

    `on_skip` hears of each image that is missing, and of those that can't be read when their turn comes; they are left
    out. Without it they are errors.

    Raises what reading the checkpoint and the captions raises, and MissingHead for a loss without its head.
    """
    start = None
    if options["model"] is not None or recipe.network is None:
        if options["model"] is None:
            raise Misuse("name a checkpoint to start from (--model tiny), or --from-scratch CONFIG.json")
        start = from_checkpoint(options["model"], image_size=options["image_size"])
        recipe = _without_missing_heads(recipe, start, options)
    elif options["image_size"] is not None:
        recipe = _with_image_size(recipe, options["image_size"])
    if recipe.source.get("kind") == "scenes" and options["captions"] is None:
        return recipe, scene_run(recipe, out, device, ranks, start)
    if options["captions"] is None:
        raise Misuse(f"recipe {recipe.name} trains on captions; name a caption file")
    # Every process finds the same images missing; one of them says so.
    train, held_out = _captions(options, recipe.seed, on_skip if ranks.first or on_skip is None else lambda error: None)
    workers = options["workers"] or 4
    run = caption_run(recipe, train, held_out, out, device, ranks, start, workers=workers, on_skip=on_skip)
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


def _captions(
    options: Mapping[str, Any], seed: int, on_missing: Callable[[BtError], None] | None
) -> tuple[list[Caption], list[Caption]]:
    from bt_cli.datasets.captions import read_captions

    folder = options["images"] or Path(options["captions"]).parent
    captions = read_captions(
        options["captions"], format=options["format"], split=options["split"], images=folder, on_missing=on_missing
    )
    train = captions.items
    for item in train:
        if item.image is None:
            raise UnreadableCaptions(f"{captions.place(item)}: no image to this caption; training needs pairs")
    if options["validation"] is not None:
        return train, read_captions(options["validation"], images=folder, on_missing=on_missing).items
    return hold_out(train, options["validation_share"], seed)


def _with_looks(recipe: Recipe, captions: int) -> Recipe:
    """A run on captions is validated ten times unless the recipe says how often."""
    if recipe.validate_every:
        return recipe
    stage = recipe.stages[0]
    steps = stage.steps or round(stage.epochs * captions / (stage.batch * stage.accumulate))
    return replace(recipe, validate_every=max(1, steps // LOOKS))


def _without_missing_heads(recipe: Recipe, start: Start, options: Mapping[str, Any]) -> Recipe:
    """Losses whose head the checkpoint lacks are left out of the default mix; a recipe file asks for them in
    earnest."""
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
        if lost and (options["recipe"] is not None or not losses):
            raise MissingHead(
                f"{start.name}: no head for {', '.join(lost)}; give the loss no weight, or take another checkpoint"
            )
        if "itm" not in losses:
            losses.pop("itc_cross", None)
        stages.append(replace(stage, losses=losses))
    return replace(recipe, stages=tuple(stages))
