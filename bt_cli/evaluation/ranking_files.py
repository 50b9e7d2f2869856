"""The outcome of an evaluation as TREC files: runs, qrels and queries for each direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bt_cli.datasets.trec import PathLike, encode_id, write_qrels, write_queries, write_run
from bt_cli.evaluation.gallery import Gallery
from bt_cli.evaluation.pair_plan import best_positions
from bt_cli.evaluation.protocol import Evaluation
from bt_cli.metrics.recall import ScoreRows

BLOCK = 256


def write_image_run(path: PathLike, outcome: Evaluation, *, depth: int, tag: str) -> None:
    """Text to image: for each caption the `depth` best images."""
    gallery = outcome.gallery
    write_run(path, _rankings(gallery.caption_ids, gallery.image_ids, outcome.scores.caption_rows, depth), tag=tag)


def write_caption_run(path: PathLike, outcome: Evaluation, *, depth: int, tag: str) -> None:
    """Image to text: for each image that has captions the `depth` best captions."""
    gallery = outcome.gallery
    rankings = _rankings(gallery.image_ids, gallery.caption_ids, outcome.scores.image_rows, depth)
    asked = {encode_id(gallery.image_ids[image]) for image in gallery.own_captions}
    write_run(path, (ranking for ranking in rankings if ranking[0] in asked), tag=tag)


def write_image_qrels(path: PathLike, gallery: Gallery) -> None:
    """Text to image: each caption's own image."""
    images = [encode_id(name) for name in gallery.image_ids]
    own = zip(gallery.caption_ids, gallery.owner, strict=True)
    write_qrels(path, {encode_id(caption): {images[image]: 1} for caption, image in own})


def write_caption_qrels(path: PathLike, gallery: Gallery) -> None:
    """Image to text: each image's own captions."""
    captions = [encode_id(name) for name in gallery.caption_ids]
    own = sorted(gallery.own_captions.items())
    write_qrels(path, {encode_id(gallery.image_ids[i]): {captions[c]: 1 for c in found} for i, found in own})


def write_caption_queries(path: PathLike, gallery: Gallery) -> None:
    """Each caption's id and text, as `bt rerank --run RUN --queries FILE` takes them."""
    captions = zip(gallery.caption_ids, gallery.captions, strict=True)
    write_queries(path, {encode_id(name): text for name, text in captions})


def _rankings(
    queries: Sequence[str], documents: Sequence[str], rows: ScoreRows, depth: int
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    names = [encode_id(name) for name in documents]
    for start in range(0, len(queries), BLOCK):
        scores = rows(start, min(start + BLOCK, len(queries)))
        for query, row in zip(queries[start:], scores, strict=False):
            yield encode_id(query), [(names[place], float(row[place])) for place in best_positions(row, depth)]
