"""`bt encode`: embeddings of images, captions or pairs of them as a table, Parquet or NumPy, without an index."""

from __future__ import annotations

import time
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
    Json,
    Keep,
    Model,
    Quiet,
    Strict,
    Threads,
    Workers,
)
from bt_cli.commands.encode_shards import Address, EngineChoice, EngineOption, Processes, encode_into_parts
from bt_cli.commands.index import StoreDtype, index_record
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.errors import Misuse, UnreadableCaptions
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.web_address import allowed, is_in_store

if TYPE_CHECKING:
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.indexing.summary import IndexSummary

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Embeddings of images, captions or pairs as Parquet or NumPy, without an index.",
)

SUFFIXES = ("", ".parquet", ".pq", ".npy")
STDOUT = Path("/dev/stdout")


def table_file(value: str) -> Path:
    """Where the table goes; `-` is stdout. A name that promises another format is refused, unless a pipe bears it."""
    if value == "-":
        return STDOUT
    path = Path(value)
    if path.suffix.lower() not in SUFFIXES and not (path.exists() and not path.is_file()):
        raise typer.BadParameter(f"{value!r}: the table is Parquet or NumPy; name it .parquet or .npy, or - for stdout")
    return path


Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="X.parquet",
        parser=table_file,
        help="The table to write: .parquet, or .npy with its rows in .rows.jsonl; - is stdout.",
    ),
]


def table_or_folder(value: str) -> str:
    """Where one table goes, as `table_file`, or a folder for a table a shard: one that is there, or ends in a slash."""
    if is_in_store(value) and not value.endswith("/"):
        raise typer.BadParameter(f"{value!r}: a store takes parts, a table a shard; name a folder there: {value}/")
    if not value.endswith("/") and not Path(value).is_dir():
        table_file(value)
    return value


TableOrFolder = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="X.parquet|DIR/",
        parser=table_or_folder,
        help="The table to write: .parquet, or .npy with its rows in .rows.jsonl; - is stdout; DIR/ takes one a shard.",
    ),
]
Stored = Annotated[StoreDtype, typer.Option("--store-dtype", help="Precision of the stored embeddings.")]


@app.command("images")
def images(
    roots: Annotated[
        list[str], typer.Argument(metavar="DIR|SHARD", help="Folders, files, tar shards, URLs and lists of them.")
    ],
    output: TableOrFolder,
    exclude: Exclude = None,
    default_excludes: DefaultExcludes = None,
    keep: Keep = None,
    allow_private_urls: AllowPrivateUrls = False,
    store_dtype: Stored = StoreDtype.float16,
    shards: Annotated[
        str | None,
        typer.Option("--shards", metavar="I/N", help="Encode shards only: the I-th of N equal shares of the list."),
    ] = None,
    engine: EngineOption = None,
    address: Address = None,
    processes: Processes = None,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    threads: Threads = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one row an image: path, size, mtime, content hash, width, height, what --keep names, embedding.

    Into a folder (-o DIR/), each tar file or folder that is named becomes a table of its own, called after it: whole or
    absent, and left alone the next time unless it changed.
    """
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.kept.names import kept_names

    chosen = EngineChoice(engine, address, processes)
    names = kept_names(keep or ())
    into_folder = shards is not None or chosen.is_made or output.endswith("/") or Path(output).is_dir()
    started = time.perf_counter()
    if into_folder:
        _require_folder(output, strict)
        with open_models(model, device=device, dtype=dtype, threads=threads) as models:
            parts, _ = encode_into_parts(
                roots,
                output if is_in_store(output) else Path(output),
                ModelEncoder(models.retriever()),
                engine=chosen,
                share=shards,
                exclude=exclude,
                default_excludes=default_excludes,
                keep=names,
                store_dtype=store_dtype.value,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                workers=workers,
                threads=threads,
                allow_private=allow_private_urls,
                as_json=as_json,
            )
            parts.require_all()
        return
    from bt_cli.indexing.table import encode_image_table

    target = table_file(output)
    _require_one_output(target, as_json)
    with open_models(model, device=device, dtype=dtype, threads=threads) as models, progress("encoding") as ticked:
        encoder = ModelEncoder(models.retriever(), batch_size=batch_size, workers=workers)
        summary = encode_image_table(
            roots,
            str(target),
            encoder,
            dtype=store_dtype.value,
            strict=strict,
            exclude=exclude or (),
            default_excludes=default_excludes is not False,
            keep=names,
            allow_private=allow_private_urls,
            progress=ticked,
        )
    summary.seconds = time.perf_counter() - started
    _finish(summary, encoder, "image", as_json)


def _require_folder(output: str, strict: bool) -> None:
    if output == "-" or (Path(output).suffix.lower() in SUFFIXES[1:] and not output.endswith("/")):
        raise Misuse(f"-o {output}: shards become a table each; name a folder, as in -o parts/")
    if strict:
        raise Misuse("--strict ends a run with the first image that can't be read; leave it out with shards")


@app.command("captions")
def captions(
    file: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Caption file of any format, folder with captions, or tar and Parquet files of images with captions.",
        ),
    ],
    output: Output,
    format: CaptionFormat = None,
    split: CaptionSplit = None,
    allow_private_urls: AllowPrivateUrls = False,
    store_dtype: Stored = StoreDtype.float16,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one row a caption: caption, image, caption id, embedding."""
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.indexing.table import encode_caption_table

    _require_one_output(output, as_json)
    started = time.perf_counter()
    if allow_private_urls:
        file = [allowed(name) for name in file]
    read = read_caption_file(file, format=format, split=split, strict=strict, alone=True)
    with (
        open_models(model, device=device, dtype=dtype, threads=threads) as models,
        progress("encoding", "caption") as ticked,
    ):
        encoder = ModelEncoder(models.retriever())
        encoder.model.expect_texts([caption.text for caption in read.items])
        summary = encode_caption_table(read.items, str(output), encoder, dtype=store_dtype.value, progress=ticked)
    summary.skipped += read.skipped
    summary.seconds = time.perf_counter() - started
    _finish(summary, encoder, "caption", as_json)


@app.command("pairs")
def pairs(
    file: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Caption file that names an image for each caption, or tar and Parquet files of images with captions.",
        ),
    ],
    output: Output,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="DIR", help="Folder that the images' names are meant in; else the file's own."
        ),
    ] = None,
    format: CaptionFormat = None,
    split: CaptionSplit = None,
    allow_private_urls: AllowPrivateUrls = False,
    store_dtype: Stored = StoreDtype.float16,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one row a pair: caption, image, caption id, and one embedding of both, which a text finds."""
    _require_one_output(output, as_json)
    from bt_cli.captions.captions import image_places
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.indexing.table import encode_pair_table

    if allow_private_urls:
        file = [allowed(name) for name in file]
        images = None if images is None else allowed(images)
    places = image_places(file) if images is None else images
    started = time.perf_counter()
    captions = read_caption_file(
        file,
        format=format,
        split=split,
        images=places,
        elsewhere=images is None,
        allow_private=allow_private_urls,
        strict=strict,
    )
    items = captions.items
    alone = sum(item.image is None for item in items)
    if alone == len(items):
        raise UnreadableCaptions(f"{shown_path(captions.path)}: no caption names an image, so there are no pairs")
    if alone:
        remark(f"{shown_path(captions.path)}: {count(alone, 'caption')} without an image left out")
    with (
        open_models(model, device=device, dtype=dtype, threads=threads) as models,
        progress("encoding", "pair") as ticked,
    ):
        encoder = ModelEncoder(models.retriever())
        summary = encode_pair_table(
            items, str(output), encoder, dtype=store_dtype.value, strict=strict, progress=ticked
        )
    summary.skipped += captions.skipped + alone
    summary.seconds = time.perf_counter() - started
    _finish(summary, encoder, "pair", as_json)


def _require_one_output(output: Path, as_json: bool) -> None:
    if output == STDOUT and as_json:
        raise Misuse("-o - and --json both write to stdout; name a file for the table")


def _finish(summary: IndexSummary, encoder: ModelEncoder, noun: str, as_json: bool) -> None:
    if as_json:
        write_object(index_record(summary))
    closing_line(
        f"{count(summary.encoded, noun)} in {summary.index}",
        seconds=summary.seconds,
        images=summary.encoded if noun == "image" else None,
        model=encoder.model.engine,
        skipped=[message for _, message in summary.failures],
        incomplete=summary.incomplete,
        passed_over=summary.passed_over.lines(),
    )
