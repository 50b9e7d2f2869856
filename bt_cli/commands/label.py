"""`bt label`: which of some labels fits each image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import AllowPrivateUrls, Device, Dtype, Json, Model, Quiet, Strict
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.skipped import say_not_shown
from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.search.candidates import from_arguments
from bt_cli.sources.web_address import allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

TEMPLATE = "a photo of a {}"
OTHERS = 2
"""Labels behind the best that the table shows."""


def run(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images, folders or tar files of them.")],
    labels: Annotated[
        str,
        typer.Option("--labels", metavar="A,B,...|FILE", help="The labels, divided by commas, or a file, one a line."),
    ],
    template: Annotated[
        str, typer.Option("--template", metavar="TEXT", help="The sentence that a label stands in, for {}.")
    ] = TEMPLATE,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let the ITM head read every image with every label: slower, closer.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="X.parquet", help="Write the probabilities of all labels as Parquet."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the labels as a page with images, in one file.")
    ] = None,
    allow_private_urls: AllowPrivateUrls = False,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which label fits each image, and how probably among these labels.

    bt label photos/ --labels "cat,dog,car"

    The shares of an image sum to 1 over the labels given: they compare labels, and one of them comes first even where
    none fits.
    """
    from bt_cli.search.labelling import by_embedding, by_match, in_template, read_labels

    if output is not None and output.suffix.lower() not in (".parquet", ".pq"):
        raise Misuse(f"{output}: the table is Parquet; name it .parquet")
    started = time.perf_counter()
    named = read_labels(labels)
    sentences = in_template(template, named)
    if allow_private_urls:
        paths = [candidate.allowed().path or "" for candidate in from_arguments([allowed(image) for image in images])]
    else:
        paths = [candidate.path or "" for candidate in from_arguments(images)]
    failures: dict[int, str] = {}

    def note(place: int, error: UnreadableImage) -> None:
        failures[place] = str(error)

    with open_models(model, model, device=device, dtype=dtype) as models, progress("labelling") as ticked:
        chosen = models.reranker() if rerank else models.retriever()
        loaded = time.perf_counter()
        work = by_match if rerank else by_embedding
        shares = work(chosen, paths, sentences, on_error=None if strict else note, progress=ticked)
    read = [place for place in range(len(paths)) if place not in failures]
    if not read:
        raise UnreadableImage(f"{failures[min(failures)]} (and no other image can be read)")
    kept, shares = [paths[place] for place in read], shares[read]
    if output is not None:
        _write(output, kept, named, shares)
    if html is not None:
        from bt_cli.pages.label_page import write_label_page

        say_not_shown(write_label_page(html, kept, named, shares, chosen.checkpoint.name))
    if as_json:
        for path, row in zip(kept, shares, strict=True):
            write_object(_record(path, named, row))
    else:
        _show(kept, named, shares)
    closing_line(
        f"{count(len(kept), 'image')} labelled with {count(len(named), 'label')} by {chosen.checkpoint.name}",
        seconds=time.perf_counter() - started,
        images=len(kept),
        working=time.perf_counter() - loaded,
        model=chosen,
        skipped=[failures[place] for place in sorted(failures)],
    )


def _record(path: str, labels: Sequence[str], row: NDArray[np.float32]) -> dict[str, object]:
    best = int(row.argmax())
    shares = {label: round(float(share), 7) for label, share in zip(labels, row, strict=True)}
    return {"path": path, "label": labels[best], "probability": round(float(row[best]), 7), "probabilities": shares}


def _show(paths: Sequence[str], labels: Sequence[str], shares: NDArray[np.float32]) -> None:
    from bt_cli.display.hit_table import percent
    from bt_cli.display.table import Column, Rows, show

    rows = Rows(
        [Column("label"), Column("share", right=True), Column("", bar=True), Column("next"), Column("image", path=True)]
    )
    for path, row in zip(paths, shares, strict=True):
        order = (-row).argsort(kind="stable")
        best = int(order[0])
        others = ", ".join(f"{labels[place]} {percent(float(row[place]))}" for place in order[1 : 1 + OTHERS].tolist())
        rows.add(labels[best], percent(float(row[best])), float(row[best]), others, path)
    show(rows)


def _write(place: Path, paths: Sequence[str], labels: Sequence[str], shares: NDArray[np.float32]) -> None:
    """One row an image: path, its best label with its probability, and those of all labels, by name in the metadata."""
    import json

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet

    from bt_cli.embeddings.embedding_table import path_columns
    from bt_cli.files.atomic_write import open_whole

    texts, raw = path_columns(list(paths))
    best = shares.argmax(1)
    flat = pa.array(np.ascontiguousarray(shares).reshape(-1))
    columns = {
        "path": texts,
        "path_bytes": pa.array(raw, pa.binary()),
        "label": [labels[place] for place in best.tolist()],
        "probability": shares[np.arange(len(shares)), best],
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, shares.shape[1]),
    }
    table = pa.table(columns, metadata={"bt.labels": json.dumps(list(labels), ensure_ascii=False)})
    with open_whole(str(place)) as file:
        pyarrow.parquet.write_table(table, file)
