"""`bt search`: images or captions by text, by image, or by both."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.opening import open_indexes, open_models
from bt_cli.arguments.options import (
    AllowPrivateUrls,
    Combination,
    Device,
    Dtype,
    Indexes,
    Json,
    Model,
    Paths,
    Quiet,
    Reranker,
    Server,
    Strict,
)
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object, write_paths
from bt_cli.display.hit_table import show_hits
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.display.skipped import say_not_shown
from bt_cli.errors import Misuse
from bt_cli.search.candidates import Hit
from bt_cli.search.photo_filter import PhotoFilter
from bt_cli.search.query import Query, image_term
from bt_cli.search.query_image import STDIN, ImageWords
from bt_cli.search.two_stage import CANDIDATES, Answer, Request, search

if TYPE_CHECKING:
    from bt_cli.search.many import ManyTexts

SHOWN = 10
"""Answers, where -k does not say how many."""


class To(StrEnum):
    """What a search returns."""

    images = "images"
    captions = "captions"


def run(
    text: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="What to look for: words, or an image (a file, - for stdin, or a URL)."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", "--top", "--top-k", metavar="N", min=1, help="How many answers.", show_default="10"),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="Look for what is like this image; 2:FILE weighs 2. Repeatable."),
    ] = None,
    to: Annotated[To, typer.Option("--to", help="What to return.")] = To.images,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add", "-a", metavar="TEXT|FILE", help="Add a text or an image to the query; 2:TEXT weighs 2. Repeatable."
        ),
    ] = None,
    subtract: Annotated[
        list[str] | None,
        typer.Option(
            "--subtract", "-s", metavar="TEXT|FILE", help="Take a text or an image away from the query. Repeatable."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", metavar="FILE", help="Look for every text of a file, one a line or id<TAB>text; as a TREC run."
        ),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let the ITM head read the best candidates and put them in order.")
    ] = False,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates", metavar="N", min=1, help="How many --rerank reads, whatever -k is.", show_default="100"
        ),
    ] = None,
    combine: Annotated[
        Combination | None,
        typer.Option(
            "--combine",
            help="Order what --rerank reads by the match logit, by logit plus cosine, or by the cosine.",
            show_default="as the checkpoint says, else itm",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score", metavar="X", help="Least score of an answer: cosine, or with --rerank the match logit."
        ),
    ] = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(
            "--glob", "-g", metavar="GLOB", help="Only images whose path matches; !GLOB: all others. Repeatable."
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="TIME", help="Only images taken from then on: 2024, 2024-06, 2024-06-03T14:05."
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TIME", help="Only images taken before then: 2024-09-15 leaves it out."),
    ] = None,
    near: Annotated[
        str | None,
        typer.Option("--near", metavar="LAT,LON,RADIUS", help="Only images taken around a place: 48.2,16.37,20km."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera", metavar="NAME", help="Only images of this camera: a part of its name, or a glob. Repeatable."
        ),
    ] = None,
    allow_private_urls: AllowPrivateUrls = False,
    paths: Paths = False,
    nul: Annotated[
        bool, typer.Option("-0", "--null", help="As --paths, each path ended by a NUL, for xargs -0.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the answers as a page with images, in one file."),
    ] = None,
    open_it: Annotated[
        bool, typer.Option("--open", help="Open the page of --html in the browser; without one, the best image.")
    ] = False,
    unique: Annotated[
        bool, typer.Option("--unique", help="Leave out near twins (cosine 0.98 or more) of better answers.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the images in the terminal.")] = False,
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    index: Indexes = None,
    server: Server = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the images (or captions) of the index that are nearest to a query.

    The query is a text, an image (--image), or both, with more texts added and taken away by weight. With --rerank the
    ITM head reads the best --candidates together with the text: it sees who does what and where, which the first stage
    can't.
    """
    if as_json and (paths or nul):
        raise Misuse("--json and --paths exclude each other")
    photos = PhotoFilter.build(after, before, near, camera)
    if to is To.captions and (paths or nul):
        raise Misuse("--paths prints images; for captions use --json")
    if candidates is not None and not rerank:
        raise Misuse("--candidates belongs to --rerank")
    if combine is not None and not rerank:
        raise Misuse("--combine belongs to --rerank")
    if preview and (as_json or paths or nul):
        raise Misuse("--preview shows images to people; leave it out with --json and --paths")
    if server is not None:
        from bt_cli.api.client import Client, refuse_local_choices

        refuse_local_choices(model=model, reranker=reranker, index=index, device=device, dtype=dtype)
    if preview:
        from bt_cli.pages.preview import require_preview

        require_preview()
    if queries is not None:
        if text is not None or image is not None or add or subtract:
            raise Misuse("--queries brings its own texts; leave QUERY, --image, --add and --subtract out")
        if rerank:
            raise Misuse("--queries only finds; bt rerank --run RUN --queries FILE reranks the run that it writes")
        if paths or nul:
            raise Misuse("answers to several queries are written as a TREC run or with --json, not as paths")
        if to is To.captions and not as_json:
            raise Misuse("a TREC run names images; for captions use --json")
        from bt_cli.datasets.trec import read_texts
        from bt_cli.search.many import ManyTexts

        if html is not None or preview or open_it:
            raise Misuse("--html, --open and --preview show the answers to one query; leave out --queries")
        asked = ManyTexts(
            read_texts(queries), k or SHOWN, to is To.captions, tuple(glob or ()), min_score, photos, facts=as_json
        )
        _search_queries(asked, model, device, dtype, index, server, as_json)
        return
    if unique and (to is To.captions or server is not None):
        raise Misuse("--unique folds images of an index that is here; leave out --to captions and --server")
    started = time.perf_counter()
    request = Request(
        _query(text, image or [], add or [], subtract or [], allow_private_urls),
        k or SHOWN,
        to is To.captions,
        tuple(glob or ()),
        min_score,
        (candidates or CANDIDATES) if rerank else None,
        strict,
        None if combine is None else combine.value,
        allow_private_urls,
        unique,
        photos,
        facts=as_json,
    )
    request.check()
    if server is not None and html is not None:
        from bt_cli.pages.search_page import write_search_page

        answer, background = Client(server).search_for_page(request)
        say_not_shown(write_search_page(html, request, answer, background))
    elif server is not None:
        answer = Client(server).search(request)
    else:
        with (
            open_indexes(index) as folder,
            open_models(model, reranker, device=device, dtype=dtype) as models,
            progress("reranking", "pair") as ticked,
        ):
            answer = search(folder, request, models, progress=ticked)
            if html is not None:
                from bt_cli.pages.search_page import background_of, write_search_page

                say_not_shown(write_search_page(html, request, answer, background_of(folder, request, answer)))
    _remark_on_number(request, answer, asked=k is not None)
    shown = preview and _preview(answer.hits)
    if not shown:
        show_answer(
            answer.hits, paths=paths, nul=nul, as_json=as_json, captions=request.to_captions, by=answer.checkpoint
        )
    _close(request, answer, time.perf_counter() - started)
    if open_it:
        _open(html, answer.hits)


def _search_queries(
    asked: ManyTexts,
    model: str | None,
    device: str,
    dtype: str,
    index: list[Path] | None,
    server: str | None,
    as_json: bool,
) -> None:
    from bt_cli.commands.search_queries import write_answers
    from bt_cli.search.many import ManyAnswers

    started = time.perf_counter()
    if server is not None:
        from bt_cli.api.client import Client

        write_answers(Client(server).search_many(asked), asked, started=started, as_json=as_json)
        return
    with (
        open_models(model, device=device, dtype=dtype) as models,
        open_indexes(index) as folder,
    ):
        write_answers(ManyAnswers(folder, asked, models), asked, started=started, as_json=as_json)


def _query(text: str | None, images: list[str], add: list[str], subtract: list[str], allow_private_urls: bool) -> Query:
    """What is searched for; stdin, which can be read once, stands for one image at most."""
    if [*images, *add, *subtract, text].count(STDIN) > 1:
        raise Misuse("- stands for the one image on stdin; it can't be given twice")
    words = ImageWords(allow_private_urls)
    return Query.build(
        text,
        images=[image_term(image, words.read) for image in images],
        add=add,
        subtract=subtract,
        recognise=words.recognise,
    )


def show_answer(
    hits: list[Hit], *, paths: bool, nul: bool, as_json: bool, captions: bool = False, by: str = ""
) -> None:
    """Write hits on stdout in the form that was asked for; on a terminal the table says by which checkpoint."""
    if as_json:
        for hit in hits:
            write_object(hit.record())
    elif paths or nul:
        found = [hit.path for hit in hits if hit.path is not None]
        torn = sum("\n" in path for path in found)
        if torn and not nul:
            remark(f"{count(torn, 'path')} with a line break among these; -0 keeps them whole")
        write_paths(found, nul=nul)
    else:
        show_hits(hits, captions=captions, by=by)


def _preview(hits: list[Hit]) -> bool:
    """Show the images, and say whether there was a terminal to show them in."""
    if not sys.stdout.isatty():
        remark("--preview needs a terminal; here is the table")
        return False
    from bt_cli.pages.preview import show_preview

    say_not_shown(show_preview(hits))
    return True


def _open(html: Path | None, hits: list[Hit]) -> None:
    from bt_cli.pages.viewer import open_file

    best = html or next((hit.path for hit in hits if hit.path is not None), None)
    if best is None:
        remark("nothing was found, so there is nothing to open")
    else:
        open_file(best)


def _remark_on_number(request: Request, answer: Answer, *, asked: bool) -> None:
    """Say why there are no answers, or fewer than were asked for."""
    noun = "caption" if request.to_captions else "image"
    if request.candidates is not None and request.k > request.candidates < answer.searched:
        remark(
            f"-k {request.k} is more than the {request.candidates} candidates that were read; --candidates N reads more"
        )
    elif not answer.hits and request.photos is not None:
        globs = "".join(f" --glob {glob}" for glob in request.globs)
        remark(f"no {noun} fits {request.photos}{globs}" + _floor(request))
    elif not answer.hits and request.globs:
        remark(f"no {noun} matches --glob {' --glob '.join(request.globs)}" + _floor(request))
    elif not answer.hits and request.min_score is not None:
        remark(f"no {noun} reaches --min-score {request.min_score:g}")
    elif asked and request.k > answer.searched:
        remark(f"the index holds {count(answer.searched, noun)}, fewer than -k {request.k}")


def _floor(request: Request) -> str:
    return "" if request.min_score is None else f" and reaches --min-score {request.min_score:g}"


def _close(request: Request, answer: Answer, seconds: float) -> None:
    noun = "caption" if request.to_captions else "image"
    done = f"{len(answer.hits)} of {count(answer.searched, noun)}"
    if answer.unknown and request.photos is not None:
        done += f" ({request.photos.left_out(answer.unknown)})"
    if answer.read:
        done += f", {answer.read:,} reranked"
        if answer.combine != "itm":
            done += f" by {answer.combine}" + ("" if request.combine else ", as the checkpoint keeps as its best")
    if answer.folded:
        done += f", {count(answer.folded, 'twin')} folded"
    if answer.checkpoint:
        done += f", by {answer.checkpoint}" if answer.read else f" by {answer.checkpoint}"
    closing_line(
        done,
        seconds=seconds,
        images=0 if request.to_captions else answer.read,
        working=answer.reading,
        model=answer.engine,
        skipped=answer.skipped,
    )
