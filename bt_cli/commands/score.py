"""`bt score`: how well images and texts match, pair by pair."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bt_cli.arguments.caption_file import read_caption_file
from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import AllowPrivateUrls, Device, Dtype, Json, Model, Quiet, Server, Strict
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.pair_table import show_pairs
from bt_cli.display.progress import progress
from bt_cli.errors import Misuse
from bt_cli.search.candidates import from_arguments
from bt_cli.search.query import validate_text
from bt_cli.search.scoring import every_pair, pairs_of, score
from bt_cli.sources.web_address import allowed


def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE TEXT...",
            help="An image, a folder of them or a URL, then texts. With --image, texts alone.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="An image, or a folder of them; repeat it for images x texts."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", metavar="FILE", help="Pairs of image and text: CSV, TSV, JSONL, Parquet ..., or a folder."
        ),
    ] = None,
    image_folder: Annotated[
        str | None, typer.Option("--images", metavar="DIR", help="Where the images of --pairs are.")
    ] = None,
    heatmap: Annotated[
        Path | None,
        typer.Option("--heatmap", metavar="FILE", help="Write where each word counted in the image, as a PNG."),
    ] = None,
    allow_private_urls: AllowPrivateUrls = False,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    server: Server = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how well each image and text match.

    Match is the probability that the ITM head gives; itc, where the checkpoint has that head, the cosine of the two
    embeddings.
    """
    started = time.perf_counter()
    if allow_private_urls:
        words, image = [allowed(word) for word in words or []], [allowed(path) for path in image or []]
    wanted = _pairs(words or [], image or [], pairs, image_folder, strict)
    if allow_private_urls:
        wanted = [(allowed(path), text) for path, text in wanted]
    if heatmap is not None and len(wanted) != 1:
        raise Misuse(f"--heatmap explains one image with one text, and these are {len(wanted)} pairs")
    reranker: Any
    if server is not None:
        from bt_cli.api.client import Client, refuse_local_choices
        from bt_cli.api.remote_pairs import RemotePairs

        refuse_local_choices(model=model, device=device, dtype=dtype)
        remote = RemotePairs(Client(server))
        with progress("scoring", "pair") as ticked:
            scores = remote.score(wanted, strict=strict, progress=ticked)
        reranker, working = remote.engine, remote.reading
    else:
        with open_models(model, model, device=device, dtype=dtype) as models, progress("scoring", "pair") as ticked:
            reranker = models.reranker()
            loaded = time.perf_counter()
            scores = score(reranker, wanted, strict=strict, progress=ticked)
        working = time.perf_counter() - loaded
    if heatmap is not None:
        [(path, text)] = wanted
        if server is not None:
            from bt_cli.files.atomic_write import write_whole

            write_whole(heatmap, remote.client.heat_map(path, text))
        else:
            from bt_cli.pages.heat_map import write_heat_map

            write_heat_map(heatmap, path, reranker.image_processor, *reranker.explain(path, text))
    if as_json:
        for pair in scores.pairs:
            write_object(pair.record())
    else:
        show_pairs(scores.pairs)
    closing_line(
        f"{count(len(scores.pairs), 'pair')} of {count(scores.images, 'image')} scored",
        seconds=time.perf_counter() - started,
        images=scores.images,
        working=working,
        model=reranker,
        skipped=scores.skipped,
    )


def _pairs(
    words: list[str], images: list[str], file: str | None, folder: str | None, strict: bool
) -> list[tuple[str, str]]:
    """What is to be scored, from whichever way it was given."""
    if file is not None:
        if words or images:
            raise Misuse("--pairs brings its own images and texts: give no others")
        return pairs_of(read_caption_file(file, images=folder, strict=strict))
    if folder is not None:
        raise Misuse("--images belongs to --pairs")
    texts = words if images else words[1:]
    if not texts:
        raise Misuse(
            "nothing to score: bt score IMAGE TEXT..., bt score --image FILE... TEXT..., or bt score --pairs FILE"
        )
    for text in texts:
        validate_text(text, "a text")
    return every_pair([candidate.path or "" for candidate in from_arguments(images or words[:1])], texts)
