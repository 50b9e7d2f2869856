"""`bt train`: fine-tune a checkpoint on captioned images, or train one from nothing by a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bt_cli.commands.options import Device, Dtype, Json, Model, Quiet, Strict, Threads, Workers
from bt_cli.display.data_lines import write_line, write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.errors import BtError, Misuse

if TYPE_CHECKING:
    import torch

    from bt_cli.training.distributed import Ranks
    from bt_cli.training.trainer import Outcome, Report

REMARK_SECONDS = 10.0


def run(
    context: typer.Context,
    captions: Annotated[
        Path | None, typer.Argument(metavar="CAPTIONS", help="Caption file, any format.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the checkpoint.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder that the captions' images lie in.")
    ] = None,
    model: Model = None,
    from_scratch: Annotated[
        Path | None,
        typer.Option("--from-scratch", metavar="CONFIG.json", help="Train a new network of this configuration."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE", help="A recipe (JSON): tiny, or a file; replaces the options."),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the captions.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Optimizer steps; 0 = by --epochs.", min=0)] = 0,
    batch_size: Annotated[int, typer.Option(help="Captioned images at a time, over all processes.", min=2)] = 32,
    accumulate: Annotated[int, typer.Option(help="Batches summed into one step.", min=1)] = 1,
    itc: Annotated[float, typer.Option(help="Weight of the contrastive loss.")] = 1.0,
    itc_cross: Annotated[float, typer.Option(help="Weight of its terms with the fused embedding.")] = 0.0,
    itm: Annotated[float, typer.Option(help="Weight of the matching loss.")] = 1.0,
    mlm: Annotated[float, typer.Option(help="Weight of the masked-word loss.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Of the towers.")] = 1e-5,
    cross_multiplier: Annotated[float, typer.Option(help="Rate of the cross-modal layers, times the towers'.")] = 5.0,
    head_multiplier: Annotated[float, typer.Option(help="Rate of the heads, times the towers'.")] = 5.0,
    warmup: Annotated[float, typer.Option(help="Share of the steps (or number of steps) of rising rate.")] = 0.1,
    decay: Annotated[float, typer.Option(help="Share of the steps, at the end, of falling rate.")] = 1.0,
    weight_decay: Annotated[float, typer.Option(help="Not applied to biases and LayerNorms.")] = 0.01,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 = any.")] = 0.0,
    dropout: Annotated[
        float | None, typer.Option(help="Default: as the checkpoint's config says.", show_default=False)
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="text|vision", help="Leave this tower as it is. Repeatable.")
    ] = None,
    negatives: Annotated[int, typer.Option(help="Wrong pairs for each true one.", min=1)] = 2,
    given_share: Annotated[float, typer.Option(help="Share of them from the `negative` column.")] = 0.5,
    mask_rate: Annotated[float, typer.Option(help="Share of the tokens that are masked.")] = 0.15,
    crop: Annotated[
        float, typer.Option(metavar="SHARE", help="Random crops of at least this share of the image; 1 = whole images.")
    ] = 1.0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the images: left and right go.")] = False,
    text_length: Annotated[int, typer.Option(help="Tokens of a caption that are read.", min=3)] = 50,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Another input size than the checkpoint's.", min=1)
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="CAPTIONS", help="Captions to measure recall on (images in --images).")
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Without --validation: share of the images that is held out.", min=0.0, max=0.9)
    ] = 0.1,
    validate_every: Annotated[int, typer.Option(metavar="STEPS", help="0 = ten times in the run.", min=0)] = 0,
    keep: Annotated[str, typer.Option(metavar="best|last", help="Which weights to leave in --out.")] = "best",
    save_dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16|float16", help="Of the weights in --out.")
    ] = "float32",
    checkpoint_layers: Annotated[
        bool, typer.Option("--checkpoint-layers", help="Recompute activations: slower, far less memory.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    split: Annotated[str | None, typer.Option(help="Of a Karpathy JSON.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="Of CAPTIONS, where it is not told rightly.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    workers: Workers = None,
    threads: Threads = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a checkpoint on captioned images, jointly with ITC, ITM and MLM; or train one from nothing.

    The same command with the same --out goes on where a stopped run was, with the same losses as if it had never
    stopped. `torchrun --nproc-per-node N -m bt_cli train ...` shares the batches among N processes.
    """
    options = {name: value for name, value in locals().items() if name != "context"}
    source = context.get_parameter_source("model")
    options["model_is_default"] = model_is_default = source is not None and source.name == "ENVIRONMENT"
    if out is None:
        raise Misuse("--out DIR is needed: the folder that the trained checkpoint goes to")
    if recipe is None and captions is None:
        raise Misuse("name a caption file to train on, or a --recipe that draws its own pictures")
    if from_scratch is not None and ((model is not None and not model_is_default) or recipe is not None):
        raise Misuse("--from-scratch trains a new network; it can't go with --model or --recipe")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from bt_cli.inference.device import choose_device, keep_freed_memory
    from bt_cli.training.distributed import Ranks

    keep_freed_memory()
    ranks, where = Ranks.join(choose_device(device))
    try:
        _train(options, out, where, ranks)
    finally:
        ranks.leave()


def _train(options: dict[str, Any], out: Path, device: torch.device, ranks: Ranks) -> None:
    from bt_cli.packed.precision import choose_precision
    from bt_cli.training.preparation import prepare_run, recipe_of_options
    from bt_cli.training.recipe import Recipe
    from bt_cli.training.trainer import Trainer

    precision = choose_precision(options["dtype"], device)
    if precision == "int8":
        raise Misuse("training computes in bfloat16 or float32, not in int8")
    if options["recipe"] is not None:
        recipe = Recipe.read(options["recipe"])
    else:
        recipe = recipe_of_options(options, precision)
    if recipe.network is not None and options["model_is_default"]:
        options["model"] = None  # BT_MODEL says what to take where nothing is named; a network to train is named here
    skipped: list[str] = []

    def skip(error: BtError) -> None:
        skipped.append(str(error))
        remark(f"skipped {error}")  # now: the end of a run may be days away

    recipe, run = prepare_run(recipe, options, out, device, ranks, on_skip=None if options["strict"] else skip)
    trainer = Trainer(recipe, run)
    if not ranks.first:
        trainer.train()
        return
    done = trainer.position.step
    if done:
        remark(f"going on after step {done} of {trainer.recipe.steps}")
    with progress("training") as tick:
        outcome = trainer.train(_reporter(options["as_json"], tick, trainer.recipe.steps))
    _close(outcome, out, len(skipped), options["as_json"])


def _reporter(as_json: bool, tick: Callable[[int, int], None], steps: int) -> Callable[[Report], None]:
    """Where a person watches, a bar; into a file or a pipe, a line now and then; with --json, every logged step."""
    said = time.monotonic()

    def report(at: Report) -> None:
        nonlocal said
        tick(at.pictures, at.pictures_in_all)
        if as_json:
            losses = {name: round(value, 6) for name, value in at.losses.items()}
            speed = {"images_per_second": round(at.images_per_second, 1), "seconds_left": round(at.seconds_left)}
            write_object({"step": at.step, "steps": at.steps, "stage": at.stage, **losses, **speed})
        elif time.monotonic() - said >= REMARK_SECONDS or at.step == steps:
            said = time.monotonic()
            losses_shown = ", ".join(f"{name} {value:.3f}" for name, value in at.losses.items())
            left = f"{at.seconds_left / 60:.0f} min left" if at.seconds_left >= 90 else f"{at.seconds_left:.0f} s left"
            where = f"step {at.step} of {at.steps} ({at.stage})"
            remark(f"{where}: {losses_shown}; {at.images_per_second:.0f} images/s, {left}")

    return report


def _close(outcome: Outcome, out: Path, skipped: int, as_json: bool) -> None:
    metrics = outcome.metrics or {}
    if as_json:
        write_object({"out": str(out), **vars(outcome), "skipped": skipped})
        return
    named = {name: metrics[name] for name in ("ir@1", "tr@1", "recall") if name in metrics}
    shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in named.items())
    kept = f"; kept step {outcome.kept_step}: {shown}" if shown else ""
    left_out = f", {skipped} skipped" if skipped else ""
    remark(f"{outcome.steps} steps, {outcome.pictures} images in {outcome.seconds:.0f} s{left_out}{kept}")
    write_line(str(out))
