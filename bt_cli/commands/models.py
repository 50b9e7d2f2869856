"""`bt models`: which checkpoints there are, what one can do, fetching one, making one of an original Lightning file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bt_cli.arguments.completion import checkpoints
from bt_cli.arguments.options import Json, Quiet
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.errors import BadTokenizer, BtError, Misuse

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.preprocessing.tokenizer import Tokenizer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, describe, download and convert checkpoints.",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|PATH", autocompletion=checkpoints, help="tiny, a hub name, or a folder in hub layout."
    ),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="REV", help="Branch, tag or commit on the hub.", show_default="main"),
]

ROBERTA = "the tokenizer.json, or vocab.json and merges.txt, of roberta-base"


@app.command("list")
def list_checkpoints(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the names that --model takes.

    Bundled with bt, cached on this machine, and the authors' own on the hub; with their size on disk, or of their
    weights on the hub, and what each is for. A folder in hub layout works too.
    """
    from bt_cli.display.table import Column, Rows, show

    found = known_checkpoints()
    if as_json:
        for row in found:
            write_object(row)
        return
    columns = [Column("name", whole=True), Column("where", whole=True), Column("size", right=True), Column("for")]
    table = Rows(columns)
    for row in found:
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e9:.2f} GB"
        table.add(row["name"], row["where"], size, row["note"])
    show(table)


def known_checkpoints() -> list[dict[str, Any]]:
    """Name, where it is ("bundled", "cached" on this machine, "hub"), bytes (on disk, or of the weights on the hub) and
    what it is for, of each checkpoint; the bundled first, then those on this machine."""
    from bt_cli.checkpoints.resolve import resolve
    from bt_cli.hub.hub_cache import bytes_on_disk, cached_names, cached_snapshot
    from bt_cli.hub.model_names import BUNDLED, BUNDLED_USE, OFFICIAL, PARAMETERS

    rows: list[dict[str, Any]] = []
    for name in BUNDLED:
        rows.append({"name": name, "where": "bundled", "bytes": bytes_on_disk(resolve(name)), "note": BUNDLED_USE})
    cached = cached_names()
    for name in cached:
        snapshot = cached_snapshot(name)
        size = None if snapshot is None else bytes_on_disk(snapshot)
        rows.append({"name": name, "where": "cached", "bytes": size, "note": OFFICIAL.get(name, "")})
    for name, note in OFFICIAL.items():
        if name not in cached:
            rows.append({"name": name, "where": "hub", "bytes": 4 * PARAMETERS[name], "note": note})
    return rows


@app.command("info")
def info(name: Name, revision: Revision = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show what a checkpoint is and can do.

    Heads, parameters, image size, preprocessing, embeddings, fingerprint and files; what it can do is read off its
    tensors. One that is not here yet is downloaded.
    """
    from bt_cli.checkpoints.checkpoint import Checkpoint

    with progress("downloading", unit="byte") as tick:
        checkpoint = Checkpoint.open(name, revision=revision, progress=tick)
    facts = describe(checkpoint)
    if as_json:
        write_object(facts)
        return
    for label, value in _lines(facts):
        typer.echo(f"{label:<14} {value}")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts of `bt models info --json`: `files` are paths with their sizes in bytes, the weights first."""
    from bt_cli.checkpoints.checkpoint import HEAD_NAMES
    from bt_cli.hub.hub_cache import CONFIG, IMAGE_SETTINGS, TOKENIZER_FILES

    described = (CONFIG, *IMAGE_SETTINGS, *TOKENIZER_FILES)
    weights = checkpoint.files.paths
    others = sorted(path for path in checkpoint.folder.iterdir() if path.is_file() and path.name in described)
    dtypes = sorted({checkpoint.tensors.entry(name).dtype for name in checkpoint.tensors.names})
    return {
        "name": checkpoint.name,
        "heads": [head for head in HEAD_NAMES if head in checkpoint.heads],
        "parameters": checkpoint.parameters,
        "image_size": checkpoint.image_size,
        "embedding_dim": checkpoint.embedding_dim,
        "fingerprint": checkpoint.fingerprint,
        "dtype": ", ".join(_DTYPES.get(dtype, dtype.lower()) for dtype in dtypes),
        "images": checkpoint.image_processor().settings.describe(),
        "text_tokens": checkpoint.config.text_config.max_tokens,
        "tokenizer": _has_tokenizer(checkpoint),
        "files": [{"path": str(path), "bytes": path.stat().st_size} for path in [*weights, *others]],
    }


@app.command("download")
def download(name: Name, revision: Revision = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Fetch a checkpoint, or bring it up to date.

    Only what bt needs comes into the hub's cache; a broken download resumes. Prints the folder.
    """
    from bt_cli.checkpoints.resolve import resolve
    from bt_cli.hub.download import download as fetch
    from bt_cli.hub.model_names import is_hub_name

    if is_hub_name(name) and not Path(name).is_dir():
        with progress("downloading", unit="byte") as tick:
            folder = fetch(name, revision=revision, progress=tick)
    else:
        folder = resolve(name)
        remark(f"{name} is on this machine already")
    if as_json:
        write_object({"name": name, "folder": str(folder)})
    else:
        typer.echo(str(folder))


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Lightning checkpoint of microsoft/BridgeTower.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the checkpoint to.")],
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", metavar="PIXELS", min=1, help="Another input size; positions are resized."),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline",
            metavar="crop|squash",
            help="How images are brought to size.",
            show_default="squash for retrieval fine-tuning, else crop",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="FOLDER", help=f"Folder with {ROBERTA}; the files carry none."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn an original Lightning file into a checkpoint.

    FILE is one that the authors' own code (microsoft/BridgeTower) wrote, such as the weights fine-tuned for
    retrieval; OUT becomes a folder that --model takes.
    """
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.checkpoints.lightning import convert as convert_file

    if pipeline not in (None, "crop", "squash"):
        raise Misuse(f"--pipeline is {pipeline}; it has to be crop or squash")
    words = _given_tokenizer(tokenizer) if tokenizer is not None else _roberta_tokenizer()
    with progress("converting", unit="byte") as tick:
        options: dict[str, Any] = {"image_size": image_size, "pipeline": pipeline, "progress": tick}
        try:
            convert_file(file, out, tokenizer=words, **options)
        except BadTokenizer:
            if tokenizer is not None:
                raise
            words = None  # nobody asked for this one: a file of another vocabulary is converted without
            convert_file(file, out, **options)
    if words is None:
        remark(f"no tokenizer at hand: put {ROBERTA} into {out}, or convert again with --tokenizer FOLDER")
    facts = describe(Checkpoint.open(str(out.absolute())))
    if as_json:
        write_object(facts)
        return
    for label, value in _lines(facts):
        typer.echo(f"{label:<14} {value}")


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts for people: one label and value a line."""
    from bt_cli.checkpoints.checkpoint import HEAD_NAMES

    dimension = facts["embedding_dim"]
    size = facts["image_size"]
    lines = [
        ("name", facts["name"]),
        ("heads", ", ".join(HEAD_NAMES[head] for head in facts["heads"]) or "none"),
        ("parameters", f"{facts['parameters']:,} ({facts['dtype']})"),
        ("image size", f"{size} x {size}" if isinstance(size, int) else " x ".join(map(str, size))),
        ("images", facts["images"]),
        ("text", f"up to {facts['text_tokens']} tokens" + ("" if facts["tokenizer"] else ", but no tokenizer here")),
        ("embedding dim", "none" if dimension is None else str(dimension)),
        ("fingerprint", facts["fingerprint"]),
    ]
    labels = ["files", *[""] * (len(facts["files"]) - 1)]
    files = zip(labels, facts["files"], strict=True)
    return lines + [(label, f"{each['path']} ({each['bytes']:,} bytes)") for label, each in files]


def _has_tokenizer(checkpoint: Checkpoint) -> bool:
    try:
        checkpoint.tokenizer()
    except BadTokenizer:
        return False
    return True


def _given_tokenizer(folder: Path) -> Tokenizer:
    from bt_cli.preprocessing.tokenizer import Tokenizer

    return Tokenizer.from_folder(folder)


def _roberta_tokenizer() -> Tokenizer | None:
    """The tokenizer that all published checkpoints share: from one of them in the cache, else from the hub."""
    from bt_cli.hub.download import fetch_tokenizer
    from bt_cli.hub.hub_cache import cached_names, cached_snapshot
    from bt_cli.hub.model_names import OFFICIAL
    from bt_cli.preprocessing.tokenizer import Tokenizer

    cached = [cached_snapshot(name) for name in cached_names() if name in OFFICIAL]
    for folder in [folder for folder in cached if folder is not None]:
        try:
            return Tokenizer.from_folder(folder)
        except BadTokenizer:
            continue
    try:
        return Tokenizer.from_folder(fetch_tokenizer("FacebookAI/roberta-base"))
    except BtError:
        return None
