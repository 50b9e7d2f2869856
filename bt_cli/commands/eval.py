"""`bt eval`: recall on captioned images, by embeddings alone and after the matching head has read pairs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bt_cli.arguments.caption_file import read_caption_file
from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import (
    AllowPrivateUrls,
    CaptionFormat,
    CaptionSplit,
    Combination,
    Device,
    Dtype,
    Json,
    Model,
    Quiet,
    Reranker,
    Strict,
    bytes_of_gib,
    refuse_idle,
)
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.display.skipped import SkipRemarks, say_not_shown
from bt_cli.errors import Misuse, UnreadableImage, Unwritable
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.shard_list import shard_list
from bt_cli.sources.web_address import allowed

if TYPE_CHECKING:
    from bt_cli.captions.captions import CaptionSet
    from bt_cli.evaluation.gallery import Gallery
    from bt_cli.evaluation.protocol import Evaluation
    from bt_cli.evaluation.resume import ResumableArrays
    from bt_cli.inference.model import Model as LoadedModel
    from bt_cli.search.models import SearchModels

CANDIDATES = 128
DEPTH = 1000


def _file(name: str, text: str) -> Any:
    return typer.Option(name, metavar="FILE", help=text, show_default=False)


def run(
    context: typer.Context,
    captions: Annotated[
        list[str],
        typer.Argument(
            metavar="CAPTIONS",
            help="Caption file of any format, folder with captions, or tar and Parquet files of images with captions.",
        ),
    ],
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Folder of the images that the captions name.",
            show_default="beside CAPTIONS",
        ),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let the ITM head read the best candidates of each image and caption.")
    ] = False,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            metavar="K",
            min=1,
            help="Candidates for --rerank, each way, at least 10 (papers: 128 on Flickr30K, 256 on COCO).",
            show_default=str(CANDIDATES),
        ),
    ] = None,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="Let the ITM head read every pair.")] = False,
    combine: Annotated[
        Combination | None,
        typer.Option(
            "--combine",
            help="Rank candidates by the match logit, by logit plus cosine (as BLIP does), or by the cosine.",
            show_default="as the checkpoint says, else itm",
        ),
    ] = None,
    split: CaptionSplit = None,
    format: CaptionFormat = None,
    allow_private_urls: AllowPrivateUrls = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N images and their captions.")
    ] = None,
    run_out: Annotated[Path | None, _file("--run-out", "Write the text-to-image ranking as a TREC run.")] = None,
    qrels_out: Annotated[Path | None, _file("--qrels-out", "Write which image belongs to a caption, as qrels.")] = None,
    queries_out: Annotated[
        Path | None, _file("--queries-out", "Write the captions with their ids, for bt rerank --run --queries.")
    ] = None,
    tr_run_out: Annotated[Path | None, _file("--tr-run-out", "Write the image-to-text ranking as a TREC run.")] = None,
    tr_qrels_out: Annotated[
        Path | None, _file("--tr-qrels-out", "Write which captions belong to an image, as qrels.")
    ] = None,
    run_depth: Annotated[int, typer.Option("--run-depth", metavar="N", min=1, help="Lines a query in a run.")] = DEPTH,
    html: Annotated[
        Path | None, _file("--html", "Write a report as one page: metrics, curves, spreads, failures in images.")
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", metavar="GIB", min=0, help="Memory for encoded images, and as much for texts.")
    ] = 4.0,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where the same evaluation was interrupted.")
    ] = True,
    resume_dir: Annotated[
        Path | None,
        typer.Option(
            "--resume-dir", metavar="DIR", help="Where unfinished results are kept.", show_default="~/.cache/bt/eval"
        ),
    ] = None,
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure retrieval on captioned images: R@1, R@5, R@10, RSUM, median rank and MRR, both ways.

    Image to text (TR) and text to image (IR), by ITC embeddings alone; with --rerank also after the ITM head has read
    the best candidates, as published; with --exhaustive after it has read every pair. An interrupted run goes on where
    it stopped when the same command is given again.
    """
    budget = bytes_of_gib("--memory", memory)
    reads_pairs = rerank or exhaustive
    if rerank and exhaustive:
        raise Misuse("--rerank reads candidates, --exhaustive every pair; give one of them")
    if not rerank:
        refuse_idle(context, "goes with --rerank", "candidates")
    if not reads_pairs:
        if combine is not None:
            raise Misuse(f"--combine {combine} goes with --rerank or --exhaustive")
        refuse_idle(context, "goes with --rerank or --exhaustive", "reranker")
    if run_out is None and tr_run_out is None:
        refuse_idle(context, "goes with --run-out or --tr-run-out", "run_depth")
    if not resume:
        refuse_idle(context, "keeps results to go on from, and --no-resume keeps none; leave one out", "resume_dir")
    started = time.perf_counter()
    if allow_private_urls:
        captions = [allowed(name) for name in captions]
        images = allowed(images) if images is not None else None
    read = read_caption_file(captions, format=format, split=split, allow_private=allow_private_urls, strict=strict)
    gallery = _gallery(read, images, limit, strict)
    with open_models(model, reranker, device=device, dtype=dtype) as models:
        retriever, reranking = _load(models, rerank=rerank, exhaustive=exhaustive)
    wanted = combine
    combine = combine or _kept_combination(retriever, reranking)
    if combine is not Combination.itm and retriever is None:
        raise Misuse(f"--combine {combine.value} needs an ITC head, which {model} lacks")
    k = (candidates or CANDIDATES) if rerank else None
    skipped: list[str] = []

    def skip(path: str, error: UnreadableImage) -> None:
        skipped.append(str(error))

    with _resumable(resume, resume_dir, _identity(gallery, retriever, reranking)) as resumable:
        from bt_cli.evaluation.protocol import run_protocol
        from bt_cli.inference.truncation import one_warning

        with one_warning():
            outcome = run_protocol(
                gallery,
                retriever,
                reranking,
                candidates=k,
                combine=combine.value,
                budget=budget,
                resumable=resumable,
                stage=progress,
                on_skip=None if strict else skip,
            )
        tag = _name(reranking or retriever)
        _write_files(outcome, run_depth, tag, run_out, qrels_out, queries_out, tr_run_out, tr_qrels_out)
        if html is not None:
            _write_report(html, outcome, retriever, reranking, k)
        resumable.finish()
    seconds = time.perf_counter() - started
    if as_json:
        _show_object(
            outcome, retriever, reranking, k if reads_pairs else None, combine, len(skipped), read.skipped, seconds
        )
    else:
        _show_table(outcome)
    _close(outcome, reranking or retriever, combine, k, skipped, read.skipped, seconds, kept=wanted is None)


def _gallery(captions: CaptionSet, images: str | None, limit: int | None, strict: bool) -> Gallery:
    from bt_cli.evaluation.gallery import Gallery

    unclear = SkipRemarks()
    places = captions.places if images is None else shard_list(images)
    gallery = Gallery.of(captions, *places, elsewhere=images is None, on_unclear=None if strict else unclear.add)
    unclear.close(shown_path(captions.path))
    return gallery if limit is None else gallery.first(limit)


def _load(models: SearchModels, *, rerank: bool, exhaustive: bool) -> tuple[LoadedModel | None, LoadedModel | None]:
    """The model that embeds (None where every pair is read by one that can't) and the one that reads pairs."""
    embeds = not exhaustive or models.can_embed
    retriever = models.retriever(also_reranks=rerank or exhaustive) if embeds else None
    return retriever, models.reranker() if rerank or exhaustive else None


def _kept_combination(retriever: LoadedModel | None, reranking: LoadedModel | None) -> Combination:
    """The way that the checkpoint keeps as its best, where it does both; it was measured with its own cosines."""
    if reranking is None or retriever is not reranking:
        return Combination.itm
    return Combination(reranking.checkpoint.combine)


def _identity(gallery: Gallery, *models: LoadedModel | None) -> list[str]:
    """All that the results depend on, for the folder of unfinished results."""
    made_by = [
        f"{model.checkpoint.fingerprint} {model.image_processor.fingerprint()} {model.precision}"
        for model in models
        if model is not None
    ]
    return [*made_by, gallery.fingerprint]


def _resumable(resume: bool, folder: Path | None, identity: list[str]) -> ResumableArrays:
    from bt_cli.evaluation.resume import ResumableArrays

    if not resume:
        return ResumableArrays()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bt" / "eval"
    keep_root = folder is not None and folder.exists()
    try:
        (folder or cache).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder is not None:
            raise Unwritable(f"--resume-dir {folder}: {error.strerror or error}") from error
        remark(f"{cache} can't be made ({error.strerror or error}), so this run can't be resumed")
        return ResumableArrays()
    resumable = ResumableArrays(folder or cache, *identity, keep_root=keep_root)
    if resumable.has_results:
        remark("going on where this evaluation was interrupted")
    return resumable


def _write_files(
    outcome: Evaluation,
    depth: int,
    tag: str,
    run_out: Path | None,
    qrels_out: Path | None,
    queries_out: Path | None,
    tr_run_out: Path | None,
    tr_qrels_out: Path | None,
) -> None:
    from bt_cli.evaluation import ranking_files

    if run_out is not None:
        ranking_files.write_image_run(run_out, outcome, depth=depth, tag=tag)
    if tr_run_out is not None:
        ranking_files.write_caption_run(tr_run_out, outcome, depth=depth, tag=tag)
    if qrels_out is not None:
        ranking_files.write_image_qrels(qrels_out, outcome.gallery)
    if tr_qrels_out is not None:
        ranking_files.write_caption_qrels(tr_qrels_out, outcome.gallery)
    if queries_out is not None:
        ranking_files.write_caption_queries(queries_out, outcome.gallery)


def _write_report(
    place: Path,
    outcome: Evaluation,
    retriever: LoadedModel | None,
    reranking: LoadedModel | None,
    candidates: int | None,
) -> None:
    from bt_cli.pages.report import write_report

    said = [] if retriever is None else [f"embedded by {retriever.checkpoint.name}"]
    if reranking is not None:
        which = "every pair" if candidates is None else f"the best {candidates} each way"
        said.append(f"{which} read by {reranking.checkpoint.name}")
    say_not_shown(write_report(place, outcome, said))


def _show_object(
    outcome: Evaluation,
    retriever: LoadedModel | None,
    reranking: LoadedModel | None,
    candidates: int | None,
    combine: Combination,
    skipped: int,
    captions_skipped: int,
    seconds: float,
) -> None:
    from bt_cli.display.data_lines import write_object

    used = reranking or retriever
    assert used is not None
    record: dict[str, Any] = {"images": len(outcome.gallery.paths), "captions": len(outcome.gallery.captions)}
    record["model"] = None if retriever is None else retriever.checkpoint.name
    record["reranker"] = None if reranking is None else reranking.checkpoint.name
    record |= {"candidates": candidates, "combine": combine.value, "pairs": outcome.pairs, "skipped": skipped}
    record["captions_skipped"] = captions_skipped
    record |= {"device": str(used.device), "precision": used.precision, "seconds": round(seconds, 3)}
    write_object(record | {"itc": outcome.itc, "itm": outcome.itm})


def _show_table(outcome: Evaluation) -> None:
    from bt_cli.display.metrics_table import metrics_table
    from bt_cli.display.table import show

    stages = {"ITC": outcome.itc, "ITM": outcome.itm}
    show(metrics_table({name: metrics for name, metrics in stages.items() if metrics is not None}))


def _close(
    outcome: Evaluation,
    model: LoadedModel | None,
    combine: Combination,
    candidates: int | None,
    skipped: list[str],
    captions_skipped: int,
    seconds: float,
    *,
    kept: bool,
) -> None:
    from bt_cli.display.closing_line import closing_line, count

    gallery = outcome.gallery
    done = f"{count(len(gallery.paths), 'image')} and {count(len(gallery.captions), 'caption')}"
    if outcome.itm is not None:
        which = "all" if candidates is None else f"the best {candidates} each way"
        done += f", {count(outcome.pairs, 'pair')} ({which}) ranked by {combine.value}"
        if kept and combine is not Combination.itm:
            done += ", as the checkpoint keeps as its best"
    if captions_skipped:
        done += f" ({count(captions_skipped, 'caption')} skipped)"
    closing_line(f"{done}: evaluated", seconds=seconds, model=model, skipped=skipped)


def _name(model: LoadedModel | None) -> str:
    """The run's tag: the checkpoint's name without white space."""
    assert model is not None
    return "-".join(model.checkpoint.name.split()) or "bt"
