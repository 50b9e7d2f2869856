"""`bt index`: make an index of image folders, or bring it up to date."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.caption_file import read_caption_file
from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import (
    AllowPrivateUrls,
    BatchSize,
    CaptionFormat,
    CaptionSplit,
    DefaultExcludes,
    Device,
    Dtype,
    Exclude,
    Index,
    Json,
    Keep,
    Model,
    Quiet,
    Reranker,
    Strict,
    Threads,
    Workers,
    bytes_of_gib,
    from_environment,
    refuse_idle,
)
from bt_cli.commands.encode_shards import Address, EngineChoice, EngineOption, Processes
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark

if TYPE_CHECKING:
    from bt_cli.captions.captions import CaptionSet
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.indexing.summary import IndexSummary
    from bt_cli.search.models import SearchModels


NOTHING_ENCODED = "has no place beside --tables, which takes what is encoded already; leave it out"
ENCODING = (
    "default_excludes",
    "allow_private_urls",
    "engine",
    "address",
    "processes",
    "device",
    "dtype",
    "batch_size",
    "workers",
    "threads",
    "strict",
)
"""Options about looking through folders and encoding that are off or by a rule of their own unless they are typed."""


class StoreDtype(StrEnum):
    """In what precision embeddings are kept."""

    float16 = "float16"
    float32 = "float32"


def run(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Folders, files, URLs and lists of them. None: look through those of the index again.",
            show_default=False,
        ),
    ] = None,
    exclude: Exclude = None,
    default_excludes: DefaultExcludes = None,
    keep: Keep = None,
    allow_private_urls: AllowPrivateUrls = False,
    captions: Annotated[
        list[str] | None,
        typer.Option(
            "--captions",
            metavar="FILE",
            help="Captions to search for, too: a file of any format, a folder, tar or Parquet files. Repeatable.",
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="Embed each image together with its captions in FILE, and leave out images without one. Repeatable.",
        ),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="With --pairs: take images without a caption, too, embedded alone.")
    ] = False,
    format: CaptionFormat = None,
    split: CaptionSplit = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--tables",
            metavar="DIR",
            help="Make the index of Parquet tables that bt encode images wrote, encoding nothing. Repeatable.",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="FOLDER", help="Drop a folder from the index, there or not. Repeatable."),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Encode everything again, with any checkpoint; forget folders not named.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Hash every image and every byte of the index: finds changes that left no trace."
        ),
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Write the index as one piece, which other programs open as one table.")
    ] = False,
    store_dtype: Annotated[
        StoreDtype | None,
        typer.Option("--store-dtype", help="Precision of the stored embeddings.", show_default="float16"),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            metavar="STRING",
            help="A FAISS index factory string, exact, or auto.",
            show_default="auto: exact, for large indexes HNSW or IVF",
        ),
    ] = None,
    bridge_cache: Annotated[
        float | None,
        typer.Option(
            "--bridge-cache",
            metavar="GIB",
            min=0.001,
            help="Keep what reranking needs of each image, in at most so many GiB, so that it only has to fuse.",
        ),
    ] = None,
    engine: EngineOption = None,
    address: Address = None,
    processes: Processes = None,
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    threads: Threads = None,
    index: Index = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode new and changed images, drop vanished ones, and make them searchable.

    Run again to update: unchanged files are not opened, moved ones keep their embedding, and a run that was interrupted
    goes on where it stopped. Folders add up: an index may be made of several. What --exclude and --keep say is
    remembered, until another takes its place (--exclude '' leaves out nothing, --keep '' carries nothing along).
    """
    from bt_cli.indexing.build import build_index
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.kept.names import kept_names
    from bt_cli.store.index_folder import index_place

    started = time.perf_counter()
    names = None if keep is None else kept_names(keep)
    limit = None if bridge_cache is None else bytes_of_gib("--bridge-cache", bridge_cache)
    place = index_place(index)
    if not captions and not pairs:
        refuse_idle(context, "is about a file of captions; add --captions FILE or --pairs FILE", "format", "split")
    if bridge_cache is None:
        refuse_idle(context, "chooses what --bridge-cache keeps for; leave it out without", "reranker")
    if tables:
        refuse_idle(context, NOTHING_ENCODED, *ENCODING)
        from bt_cli.commands.index_tables import close_tables, index_tables_command

        others = {
            "IMAGES": images,
            "--captions": captions,
            "--pairs": pairs,
            "--mixed": mixed,
            "--forget": forget,
            "--verify": verify,
            "--exclude": exclude,
            "--keep": keep,
            "--store-dtype": store_dtype,
            "--bridge-cache": bridge_cache,
            "--model": None if from_environment(context, "model") else model,
        }
        summary = index_tables_command(place.folder, tables, others, rebuild=rebuild, compact=compact, factory=factory)
        if as_json:
            write_object(index_record(summary))
        close_tables(summary)
        return
    stored = None if store_dtype is None else store_dtype.value
    chosen = EngineChoice(engine, address, processes)
    if chosen.is_made:
        from bt_cli.commands.index_tables import close_tables, index_by_engine

        refused = {
            "--captions": captions,
            "--pairs": pairs,
            "--mixed": mixed,
            "--forget": forget,
            "--verify": verify,
            "--bridge-cache": bridge_cache,
            "--strict": strict,
        }
        with open_models(model or place.checkpoint, device=device, dtype=dtype, threads=threads) as models:
            shards, summary = index_by_engine(
                place.folder,
                images or [],
                ModelEncoder(models.retriever()),
                refused,
                engine=chosen,
                exclude=exclude,
                default_excludes=default_excludes,
                keep=names,
                rebuild=rebuild,
                compact=compact,
                factory=factory,
                store_dtype=stored or "float16",
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                workers=workers,
                threads=threads,
                allow_private=allow_private_urls,
            )
        if as_json:
            write_object(index_record(summary))
        close_tables(summary)
        shards.require_all()
        return

    def read_all(files: list[str] | None) -> list[tuple[str, CaptionSet]]:
        from bt_cli.captions.captions import caption_files

        return [
            (file, read_caption_file(file, format=format, split=split, strict=strict, alone=True))
            for file in caption_files(files or [])  # one that is named twice would double every caption
        ]

    read, joined = read_all(captions), read_all(pairs)
    checkpoint = model or place.checkpoint
    with (
        open_models(checkpoint, reranker, device=device, dtype=dtype, threads=threads) as models,
        progress("encoding") as ticked,
    ):
        encoder = ModelEncoder(
            models.retriever(also_reranks=bridge_cache is not None), batch_size=batch_size, workers=workers
        )
        # Without one the index could be made, and never be searched by words.
        encoder.model.checkpoint.tokenizer()
        if limit is not None and models.reranker() is encoder.model:
            encoder.model.use_bridge_cache(place.folder / "bridges", limit=limit)
        try:
            summary = build_index(
                place.folder,
                images or [],
                encoder,
                captions=[(file, found.items) for file, found in read] or None,
                pairs=[(file, found.items) for file, found in joined] or None,
                mixed=mixed,
                forget=forget or [],
                rebuild=rebuild,
                verify=verify,
                compact=compact,
                strict=strict,
                store_dtype=stored,
                factory=factory,
                exclude=exclude or None,
                default_excludes=default_excludes,
                keep=names,
                allow_private=allow_private_urls,
                progress=ticked,
            )
        except KeyboardInterrupt:
            remark("what was encoded is kept; the same command goes on from there")
            raise
    summary.seconds = time.perf_counter() - started
    if as_json:
        write_object(index_record(summary) | {"captions_skipped": sum(found.skipped for _, found in [*read, *joined])})
    _close(summary, encoder)
    if limit is not None:
        _keep_bridges(models, place.folder, limit)


def index_record(summary: IndexSummary) -> dict[str, object]:
    """The summary as `--json` prints it."""
    return {
        "added": summary.added,
        "updated": summary.updated,
        "removed": summary.removed,
        "unchanged": summary.unchanged,
        "skipped": summary.skipped,
        "seconds": round(summary.seconds, 3),
        "images_per_second": round(summary.images_per_second, 3),
        "index": summary.index,
        "encoded": summary.encoded,
        "captions": summary.captions,
        "uncaptioned": summary.uncaptioned,
        "incomplete": len(summary.incomplete),
        "passed_over": dict(summary.passed_over.suffixes.most_common()),
        "excluded": summary.passed_over.excluded,
    }


def _close(summary: IndexSummary, encoder: ModelEncoder) -> None:
    _warn_of_photographs(summary, encoder)
    rows = summary.added + summary.updated + summary.unchanged
    changes = [
        f"{number:,} {name}"
        for name in ("added", "updated", "removed", "unchanged")
        if (number := getattr(summary, name))
    ]
    done = (
        f"{count(rows, 'image')} in {summary.index} by {encoder.model.checkpoint.name} ({', '.join(changes) or 'none'})"
    )
    if summary.uncaptioned:
        remark(
            f"{count(summary.uncaptioned, 'image')} without a caption left out: the index embeds images with their "
            "captions; --mixed takes the others alone"
        )
    if summary.captions:
        done += f", {count(summary.captions, 'caption')}"
    working = summary.encoded / summary.images_per_second if summary.images_per_second else None
    closing_line(
        done,
        seconds=summary.seconds,
        images=summary.encoded,
        working=working,
        model=encoder.model if summary.encoded else None,
        slower=encoder.clock.slower if summary.encoded and encoder.clock is not None else None,
        skipped=[message for _, message in summary.failures],
        incomplete=summary.incomplete,
        passed_over=summary.passed_over.lines(),
    )


def _warn_of_photographs(summary: IndexSummary, encoder: ModelEncoder) -> None:
    """One remark where the bundled checkpoint was given images larger than any scene that it learned from."""
    from bt_cli.hub.model_names import BUNDLED, SCENE_SIDE

    if encoder.model.checkpoint.name in BUNDLED and summary.largest_side > SCENE_SIDE:
        remark(
            "tiny knows small drawn scenes and no photographs; for these bt index --rebuild --model "
            "BridgeTower/bridgetower-large-itm-mlm-itc"
        )


def _keep_bridges(models: SearchModels, folder: Path, limit: int) -> None:
    """Encode what the bridge cache lacks, for the checkpoint that will rerank."""
    from bt_cli.indexing.bridge_features import fill_bridges

    with progress("keeping features") as ticked:
        images, size = fill_bridges(folder, models.reranker(), limit, progress=ticked)
    remark(f"features of {count(images, 'image')} kept for reranking, {images * size / 2**20:,.1f} MiB")
