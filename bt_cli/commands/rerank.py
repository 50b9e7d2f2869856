"""`bt rerank`: images in the order in which the ITM head finds that they match a text."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import (
    COMPUTED_THERE,
    AllowPrivateUrls,
    Device,
    Dtype,
    Index,
    Json,
    Model,
    Paths,
    Quiet,
    Reranker,
    Server,
    Strict,
    refuse_idle,
)
from bt_cli.commands.rerank_trec import RunFiles, rerank_trec
from bt_cli.commands.search import SHOWN, show_answer
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.errors import Misuse, NoIndex
from bt_cli.search.candidates import Candidate, from_arguments, from_bytes
from bt_cli.search.models import SearchModels
from bt_cli.search.query import Query
from bt_cli.search.rerank import rerank_images
from bt_cli.search.two_stage import CANDIDATES, Answer, Request, search
from bt_cli.sources.web_address import allowed

if TYPE_CHECKING:
    from bt_cli.api.remote_pairs import RemotePairs

NOTHING_FED = "no image on stdin; where the index is meant, give it nothing to read: < /dev/null"


def run(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="QUERY", help="The text that images are to match.")] = None,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE", help="Images, folders of them, URLs; - stands for stdin.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", "--top", "--top-k", metavar="N", min=1, help="How many answers. Default: all given, 10 of the index."
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            metavar="N",
            min=1,
            help="How many of the index (default 100) or of each query of a run are read.",
        ),
    ] = None,
    trec_run: Annotated[
        Path | None, typer.Option("--run", metavar="FILE", help="Rerank a TREC run; needs --queries.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", metavar="FILE", help="The run's queries: id, tab, text.")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Where the run's documents are.")
    ] = None,
    run_out: Annotated[
        Path | None, typer.Option("--run-out", metavar="FILE", help="Write the reranked run here, not on stdout.")
    ] = None,
    paths: Paths = False,
    nul: Annotated[
        bool, typer.Option("-0", "--null", help="Paths on stdin are ended by NULs; with --paths those printed, too.")
    ] = False,
    allow_private_urls: AllowPrivateUrls = False,
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    index: Index = None,
    server: Server = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put images in the order in which they match a text.

    The images are those given; else those on stdin, where it is a pipe or a file (paths, one a line, or the lines of
    bt search --json); else the best candidates of the index. With --run, all queries of a TREC run in one go.
    """
    if as_json and paths:
        raise Misuse("--json and --paths exclude each other")
    if server is not None:
        refuse_idle(context, COMPUTED_THERE, "device", "dtype")
    started = time.perf_counter()
    chosen = {"model": model, "reranker": reranker, "index": index}
    with (
        open_models(model, reranker, device=device, dtype=dtype) as models,
        progress("reranking", "pair") as ticked,
    ):
        if trec_run is not None or queries is not None:
            if text is not None or trec_run is None or queries is None:
                raise Misuse("a TREC run takes its texts from a file: bt rerank --run RUN --queries TSV")
            if paths or nul:
                raise Misuse("a reranked run is written as a TREC run or with --json, not as paths")
            refuse_idle(context, "names images to read, which a run does itself; leave it out with --run", "index")
            if run_out is not None and as_json:
                raise Misuse("--run-out writes the run into a file, --json shows it on stdout; give one of them")
            files = RunFiles(trec_run, queries, image_folder, run_out)
            reader = models.reranker if server is None else functools.partial(_remote, server, chosen)
            rerank_trec(
                reader,
                files,
                candidates=candidates,
                k=k,
                strict=strict,
                allow_private=allow_private_urls,
                as_json=as_json,
                progress=ticked,
            )
            return
        if image_folder is not None or run_out is not None:
            raise Misuse("--images and --run-out belong to --run")
        query = Query.build(text)
        given = _given(images or [], nul, allow_private_urls)
        if given is not None:
            refuse_idle(context, "counts images of the index or of a run; those given are all read", "candidates")
        if images and images != ["-"]:
            refuse_idle(context, "is not asked where images are given; leave it out", "index")
        if not paths and (given is None or (images and images != ["-"])):
            refuse_idle(context, "is about paths on stdin, or with --paths about those printed", "nul")
        if server is not None:
            answer = _ask_server(_remote(server, chosen), query, given, k, candidates, strict)
        elif given is not None:
            models = _at_index(models, given, index)
            answer = _rerank_given(models, query, given, k, strict, ticked)
        else:
            request = Request(
                query,
                k or SHOWN,
                candidates=candidates or CANDIDATES,
                strict=strict,
                allow_private_urls=allow_private_urls,
            )
            from bt_cli.store.index_folder import IndexFolder

            with IndexFolder.open(IndexFolder.locate(index)) as folder:
                answer = search(folder, request, models, progress=ticked)
    show_answer(answer.hits, paths=paths, nul=nul and paths, as_json=as_json)
    if answer.engine is None:
        return
    closing_line(
        f"{count(answer.read, 'image')} reranked",
        seconds=time.perf_counter() - started,
        images=answer.read,
        working=answer.reading,
        model=answer.engine,
        skipped=answer.skipped,
    )


def _remote(url: str, chosen: Mapping[str, object]) -> RemotePairs:
    """A server's ITM head, where nothing is named here that it has decided."""
    from bt_cli.api.client import Client, refuse_local_choices
    from bt_cli.api.remote_pairs import RemotePairs

    refuse_local_choices(**chosen)
    return RemotePairs(Client(url))


def _ask_server(
    pairs: RemotePairs,
    query: Query,
    given: list[Candidate] | None,
    k: int | None,
    candidates: int | None,
    strict: bool,
) -> Answer:
    """The same of a server: files that are here are sent to it."""
    if given is None:
        return pairs.client.search(Request(query, k or SHOWN, candidates=candidates or CANDIDATES, strict=strict))
    if not given:
        remark(NOTHING_FED)
        return Answer([], 0, 0, None)
    return pairs.rerank(query.texts[0].content, given, k, strict=strict)


def _given(images: list[str], nul: bool, allow_private_urls: bool) -> list[Candidate] | None:
    """The candidates from arguments or stdin, or None where the index is to give them."""
    if allow_private_urls:
        given = _given([allowed(image) for image in images], nul, False)
        return None if given is None else [candidate.allowed() for candidate in given]
    if images and images != ["-"]:
        if "-" in images:
            raise Misuse("- stands for all images of stdin; it can't be mixed with others")
        return from_arguments(images)
    if images or _is_fed(sys.stdin):
        return from_bytes(b"" if sys.stdin is None else sys.stdin.buffer.read(), nul=nul)
    return None


def _is_fed(stream: object) -> bool:
    """Whether someone feeds stdin: a pipe, a file or a socket, and neither a terminal nor /dev/null."""
    try:
        mode = os.fstat(stream.fileno()).st_mode  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return getattr(stream, "buffer", None) is not None and not getattr(stream, "closed", True)
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _at_index(models: SearchModels, given: list[Candidate], index: Path | None) -> SearchModels:
    """The models that read `given`: what a search found is read by the checkpoint that found it, unless the user named
    another.

    So `bt search --json | bt rerank` needs no more --model than `bt search` does.
    """
    if all(candidate.id is None for candidate in given):
        return models
    from bt_cli.store.index_folder import IndexFolder

    with contextlib.suppress(NoIndex), IndexFolder.open(IndexFolder.locate(index)) as folder:
        return models.at_index(folder)
    return models


def _rerank_given(
    models: SearchModels,
    query: Query,
    candidates: list[Candidate],
    k: int | None,
    strict: bool,
    progress: Callable[[int, int], None],
) -> Answer:
    """The order of candidates that were given; where there are none, nothing is loaded."""
    if not candidates:
        remark(NOTHING_FED)
        return Answer([], 0, 0, None)
    reranker = models.reranker()
    started = time.perf_counter()
    found = rerank_images(reranker, candidates, query.texts, strict=strict, progress=progress)
    reading = time.perf_counter() - started
    return Answer(found.hits[:k], len(candidates), len(found.hits), reranker.engine, found.skipped, reading)
