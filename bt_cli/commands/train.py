"""`bt train`: fine-tune a checkpoint on captioned images, or train one from nothing by a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.options import (
    AllowPrivateUrls,
    CaptionFormat,
    CaptionSplit,
    Device,
    Dtype,
    Json,
    Model,
    Quiet,
    Strict,
    Threads,
    Workers,
    from_environment,
    refuse_idle,
)
from bt_cli.display.data_lines import write_line, write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.display.skipped import SkipRemarks
from bt_cli.errors import BadConfig, Misuse
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.sources.web_address import allowed
from bt_cli.training.data import TrainingData
from bt_cli.training.recipe import (
    FINE_TUNING,
    Augmentation,
    Masking,
    Matching,
    Rates,
    Recipe,
    Stage,
    suited_learning_rate,
)

if TYPE_CHECKING:
    import torch

    from bt_cli.training.run import Run
    from bt_cli.training.trainer import Outcome, Report

OF_THE_RECIPE = (
    "epochs",
    "steps",
    "batch_size",
    "accumulate",
    "itc",
    "itc_cross",
    "itm",
    "mlm",
    "learning_rate",
    "cross_multiplier",
    "head_multiplier",
    "warmup",
    "decay",
    "weight_decay",
    "clip",
    "dropout",
    "freeze",
    "negatives",
    "given_share",
    "mask_rate",
    "crop",
    "flip",
    "text_length",
    "validate_every",
    "keep",
    "save_dtype",
    "checkpoint_layers",
    "seed",
    "dtype",
)
"""Parameters that a recipe's keys take the place of."""
HELD_OUT = "validation_share"
OF_THE_CAPTIONS = ("images", "validation", HELD_OUT, "split", "format")

STAGE = FINE_TUNING.stages[0]
"""Where every option of the stage has its default."""
REMARK_SECONDS = 10.0


def run(
    context: typer.Context,
    captions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CAPTIONS",
            help="Caption file of any format, folder, or tar and Parquet files of images with captions.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the checkpoint.", show_default=False)
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", metavar="DIR", help="Folder that the captions' images lie in.")
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
    epochs: Annotated[float, typer.Option(metavar="X", help="Passes over the captions.")] = STAGE.epochs,
    steps: Annotated[int, typer.Option(metavar="N", help="Optimizer steps; 0 = by --epochs.", min=0)] = STAGE.steps,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Captioned images at a time, over all processes.", min=2)
    ] = STAGE.batch,
    accumulate: Annotated[
        int, typer.Option(metavar="N", help="Batches summed into one step.", min=1)
    ] = STAGE.accumulate,
    itc: Annotated[float, typer.Option(metavar="X", help="Weight of the contrastive loss.")] = STAGE.weight("itc"),
    itc_cross: Annotated[
        float, typer.Option(metavar="X", help="Weight of its terms with the fused embedding.")
    ] = STAGE.weight("itc_cross"),
    itm: Annotated[float, typer.Option(metavar="X", help="Weight of the matching loss.")] = STAGE.weight("itm"),
    mlm: Annotated[float, typer.Option(metavar="X", help="Weight of the masked-word loss.")] = STAGE.weight("mlm"),
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Of the towers. Default: by the network's width, 1e-5 for the published ones.",
            show_default=False,
        ),
    ] = STAGE.rates.learning_rate,
    cross_multiplier: Annotated[
        float, typer.Option(metavar="X", help="Rate of the cross-modal layers, times the towers'.")
    ] = STAGE.rates.cross_multiplier,
    head_multiplier: Annotated[
        float, typer.Option(metavar="X", help="Rate of the heads, times the towers'.")
    ] = STAGE.rates.head_multiplier,
    warmup: Annotated[
        float, typer.Option(metavar="X", help="Share of the steps (or number of steps) of rising rate.")
    ] = STAGE.rates.warmup,
    decay: Annotated[
        float, typer.Option(metavar="X", help="Share of the steps, at the end, of falling rate.")
    ] = STAGE.rates.decay,
    weight_decay: Annotated[
        float, typer.Option(metavar="X", help="Not applied to biases and LayerNorms.")
    ] = STAGE.rates.weight_decay,
    clip: Annotated[float, typer.Option(metavar="X", help="Largest norm of the gradient; 0 = any.")] = STAGE.rates.clip,
    dropout: Annotated[
        float | None, typer.Option(metavar="X", help="Default: as the checkpoint's config says.", show_default=False)
    ] = STAGE.dropout,
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="text|vision", help="Leave this tower as it is. Repeatable.")
    ] = None,
    negatives: Annotated[
        int, typer.Option(metavar="N", help="Wrong pairs for each true one.", min=1)
    ] = STAGE.matching.negatives,
    given_share: Annotated[
        float, typer.Option(metavar="X", help="Share of them from the `negative` column.")
    ] = STAGE.matching.given_share,
    mask_rate: Annotated[
        float, typer.Option(metavar="X", help="Share of the tokens that are masked.")
    ] = STAGE.masking.rate,
    crop: Annotated[
        float, typer.Option(metavar="SHARE", help="Random crops of at least this share of the image; 1 = whole images.")
    ] = STAGE.augmentation.crop[0],
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror half of the images: left and right go.")
    ] = STAGE.augmentation.flip,
    text_length: Annotated[
        int, typer.Option(metavar="N", help="Tokens of a caption that are read.", min=3)
    ] = FINE_TUNING.text_length,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Another input size than the checkpoint's.", min=1)
    ] = None,
    validation: Annotated[
        str | None, typer.Option(metavar="CAPTIONS", help="Captions to measure recall on (images in --images).")
    ] = None,
    validation_share: Annotated[
        float,
        typer.Option(metavar="X", help="Without --validation: share of the images that is held out.", min=0.0, max=0.9),
    ] = TrainingData.validation_share,
    validate_every: Annotated[
        int, typer.Option(metavar="STEPS", help="0 = ten times in the run.", min=0)
    ] = FINE_TUNING.validate_every,
    keep: Annotated[str, typer.Option(metavar="best|last", help="Which weights to leave in --out.")] = FINE_TUNING.keep,
    save_dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16|float16", help="Of the weights in --out.")
    ] = FINE_TUNING.save_dtype,
    checkpoint_layers: Annotated[
        bool, typer.Option("--checkpoint-layers", help="Recompute activations: slower, far less memory.")
    ] = FINE_TUNING.checkpoint_layers,
    seed: Annotated[int, typer.Option(metavar="N", min=0)] = FINE_TUNING.seed,
    split: CaptionSplit = None,
    format: CaptionFormat = None,
    allow_private_urls: AllowPrivateUrls = False,
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
    model_is_default = from_environment(context, "model")
    if out is None:
        raise Misuse("--out DIR is needed: the folder that the trained checkpoint goes to")
    if recipe is None and not captions:
        raise Misuse("name a caption file to train on, or a --recipe that draws its own scenes")
    if from_scratch is not None and ((model is not None and not model_is_default) or recipe is not None):
        raise Misuse("--from-scratch trains a new network; it can't go with --model or --recipe")
    if recipe is not None:
        refuse_idle(context, "is for the recipe to say; leave one of the two out", *OF_THE_RECIPE)
    if not captions:
        refuse_idle(context, "is about the captions to train on; name a file of them", *OF_THE_CAPTIONS)
    if validation is not None:
        refuse_idle(context, "holds images out where no --validation is given; leave one of the two out", HELD_OUT)
    data = None
    if captions:
        if allow_private_urls:
            captions = [allowed(name) for name in captions]
            images, validation = (None if name is None else allowed(name) for name in (images, validation))
        data = TrainingData(
            captions,
            images,
            format,
            split,
            validation,
            allow_private=allow_private_urls,
            validation_share=validation_share,
        )
    stage = Stage(
        steps=steps,
        epochs=epochs,
        batch=batch_size,
        accumulate=accumulate,
        losses={"itc": itc, "itc_cross": itc_cross, "itm": itm, "mlm": mlm},
        rates=Rates(
            learning_rate=learning_rate,
            cross_multiplier=cross_multiplier,
            head_multiplier=head_multiplier,
            warmup=warmup,
            decay=decay,
            weight_decay=weight_decay,
            clip=clip,
        ),
        matching=Matching(negatives=negatives, given_share=given_share),
        masking=Masking(rate=mask_rate),
        augmentation=Augmentation(crop=(crop, STAGE.augmentation.crop[1]), flip=flip),
        freeze=tuple(freeze or STAGE.freeze),
        dropout=dropout,
    )
    options = Recipe(
        seed=seed,
        text_length=text_length,
        validate_every=validate_every,
        keep=keep,
        save_dtype=save_dtype,
        checkpoint_layers=checkpoint_layers,
        stages=(stage,),
    )
    from bt_cli.inference.device import choose_device, keep_freed_memory, set_threads
    from bt_cli.training.distributed import Ranks
    from bt_cli.training.preparation import StartingPoint, prepare_run

    set_threads(threads)
    keep_freed_memory()
    skipped = SkipRemarks()
    ranks, place = Ranks.join(choose_device(device))
    try:
        chosen = _choose_recipe(recipe, options, from_scratch, _training_precision(dtype, place))
        # BT_MODEL says what to take where nothing is named; a network to train from nothing is named.
        checkpoint = None if chosen.network is not None and model_is_default else model
        start = StartingPoint(checkpoint, image_size, every_loss=recipe is not None)
        on_skip = None if strict else skipped.add
        settled, prepared = prepare_run(chosen, data, start, out, place, ranks, workers=workers, on_skip=on_skip)
        if ranks.first:
            _say_rate(chosen, prepared)
        _train(settled, prepared, skipped, as_json)
    finally:
        ranks.leave()


def _training_precision(dtype: str, device: torch.device) -> str:
    from bt_cli.packed.precision import choose_precision

    precision = choose_precision(dtype, device)
    if precision == "int8":
        raise Misuse("training computes in bfloat16 or float32, not in int8")
    return precision


def _choose_recipe(named: str | None, options: Recipe, from_scratch: Path | None, precision: str) -> Recipe:
    """The recipe that was named, else the one that the options make. Raises NotFound, BadConfig."""
    if named is not None:
        return Recipe.read(named)
    network = None
    if from_scratch is not None:
        missing = "no such file; --from-scratch needs a config.json"
        network = read_json_object(from_scratch, BadConfig, missing=missing, limit=SETTINGS)
    return replace(options, dtype=precision, network=network).checked("options")


def _say_rate(asked: Recipe, run: Run) -> None:
    """Which learning rate was taken, where none was given."""
    if any(stage.rates.learning_rate is None for stage in asked.stages):
        width = run.network.config.hidden_size
        taken = suited_learning_rate(width)
        remark(f"learning rate {taken:.3g}, as suits a network of width {width}; --learning-rate sets another")


def _train(recipe: Recipe, run: Run, skipped: SkipRemarks, as_json: bool) -> None:
    from bt_cli.training.trainer import Trainer

    trainer = Trainer(recipe, run)
    if not run.ranks.first:
        trainer.train()
        return
    done = trainer.position.step
    if done:
        remark(f"going on after step {done} of {trainer.recipe.steps}")
    with progress("training") as tick:
        outcome = trainer.train(_reporter(as_json, tick, trainer.recipe.steps))
    skipped.close("captions and images")
    _close(outcome, run.out, skipped.count, as_json)


def _reporter(as_json: bool, tick: Callable[[int, int], None], steps: int) -> Callable[[Report], None]:
    """Where a person watches, a bar; into a file or a pipe, a line now and then; with --json, every logged step."""
    said = time.monotonic()

    def report(at: Report) -> None:
        nonlocal said
        tick(at.images, at.images_in_all)
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
    if outcome.combinations is not None:
        each = ", ".join(f"{name} {100 * found['recall']:.1f} %" for name, found in outcome.combinations.items())
        advice = "leave --rerank out, or it" if outcome.combine == "itc" else "--rerank"
        order = f"{advice} ranks by {outcome.combine} unless --combine says otherwise"
        remark(f"mean recall of the held-out part by {each}; {order}")
    remark(f"{outcome.steps} steps, {outcome.images} images in {outcome.seconds:.0f} s{left_out}{kept}")
    write_line(str(out))
