"""`bt eval --html`: an evaluation as a page: metrics, curves, spreads, and the worst failures in pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.errors import UnreadableImage
from bt_cli.evaluation.scores import UNSCORED
from bt_cli.files.atomic_write import write_whole
from bt_cli.metrics.recall import best_own_ranks, recall_at
from bt_cli.pages.chart import Series, histogram, line_chart
from bt_cli.pages.page import page, text
from bt_cli.pages.picture import picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_cli.evaluation.protocol import Evaluation, TwoSidedScores

DEPTH = 50
"""Places of a recall curve."""
WORST = 12
SIDE = 360
BLOCK = 256
KEPT = 200_000
"""Scores of pairs that don't match that a histogram is drawn from, evenly taken."""
SHARES = {f"{way}@{k}": f"{way.upper()}@{k}" for way in ("tr", "ir") for k in (1, 5, 10)} | {
    "rsum": "RSUM",
    "tr_mrr": "TR MRR",
    "ir_mrr": "IR MRR",
}
RANKS = {"tr_median_rank": "TR median rank", "ir_median_rank": "IR median rank"}


@dataclass(frozen=True)
class Stage:
    """A stage's name, its metrics and scores, and the ranks: of each captioned image's best caption, of each caption's
    image."""

    name: str
    metrics: Mapping[str, float]
    scores: TwoSidedScores
    image_ranks: NDArray[np.int64]
    caption_ranks: NDArray[np.int64]


def write_report(place: Path, outcome: Evaluation, remarks: Sequence[str]) -> list[str]:
    """Write the page to `place`; gives what could not be shown, each with its reason.

    Raises:
        Unwritable: `place` can't be written.
    """
    stages = _stages(outcome)
    skipped: list[str] = []
    gallery = outcome.gallery
    said = [f"{len(gallery.paths):,} images", f"{len(gallery.captions):,} captions", *remarks]
    body = (
        '<header><p class="mark">bt</p><h1>Evaluation</h1>'
        f'<p class="remarks">{" · ".join(text(each) for each in said)}</p></header>\n<main class="report">'
        f'<section aria-labelledby="metrics"><h2 id="metrics">Metrics</h2><p class="hint">TR: from an image to its '
        "captions; IR: from a caption to its image. Percent; ranks as they are.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="metrics">{_table(stages)}</div></section>'
        f'<section aria-labelledby="curves"><h2 id="curves">Recall by place</h2><div class="charts">{_curves(stages)}'
        "</div></section>"
        f'<section aria-labelledby="spreads"><h2 id="spreads">Scores of pairs that match, and of others</h2>'
        f'<div class="charts">{_spreads(outcome, stages)}</div></section>'
        f'<section aria-labelledby="worst"><h2 id="worst">The worst failures</h2>'
        f"{_failures(outcome, stages[-1], skipped)}"
        "</section></main>"
    )
    write_whole(place, page("Evaluation · bt", body))
    return skipped


def _stages(outcome: Evaluation) -> list[Stage]:
    own = {caption: [image] for caption, image in enumerate(outcome.gallery.owner)}
    found = []
    for name, metrics, scores in (
        ("by embedding (ITC)", outcome.itc, outcome.contrastive),
        ("after reranking (ITM)", outcome.itm, outcome.scores),
    ):
        if metrics is not None and scores is not None:
            image_ranks = best_own_ranks(scores.image_rows, outcome.gallery.own_captions)
            found.append(Stage(name, metrics, scores, image_ranks, best_own_ranks(scores.caption_rows, own)))
    return found


def _table(stages: Sequence[Stage]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in (*SHARES.values(), *RANKS.values()))
    rows = ""
    for stage in stages:
        cells = [f"{100 * stage.metrics[name]:.1f}" for name in SHARES] + [f"{stage.metrics[name]:g}" for name in RANKS]
        rows += f'<tr><th scope="row">{text(stage.name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    return f'<table><thead><tr><th scope="col">stage</th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _curves(stages: Sequence[Stage]) -> str:
    charts = []
    for title, ranks in (
        ("Text to image: own image among the first k", [stage.caption_ranks for stage in stages]),
        ("Image to text: an own caption among the first k", [stage.image_ranks for stage in stages]),
    ):
        depth = min(DEPTH, max(10, max(int(each.max()) for each in ranks)))
        # The last stage is what counts: it is drawn strongest, so it comes first.
        series = [
            Series(stage.name, [recall_at(each, k) for k in range(1, depth + 1)])
            for stage, each in reversed(list(zip(stages, ranks, strict=True)))
        ]
        charts.append(line_chart(title, "k", series))
    return "".join(charts)


def _spreads(outcome: Evaluation, stages: Sequence[Stage]) -> str:
    charts = []
    for stage in stages:
        own, others = _own_and_others(outcome, stage.scores)
        title, across = (
            ("Cosines of all pairs", "cosine (ITC)")
            if stage.scores is outcome.contrastive
            else ("Match scores of the pairs that were read", "match logit (ITM)")
        )
        series = [Series("matching pairs", own), Series("other pairs", others)]
        if len(own) + len(others):
            charts.append(histogram(title, across, [each for each in series if len(each.values)]))
    return "".join(charts)


def _own_and_others(outcome: Evaluation, scores: TwoSidedScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the pairs that belong together, and of others, evenly thinned; pairs never read left out.

    A caption that is said of several images belongs to all of them here.
    """
    gallery = outcome.gallery
    owners: dict[int, set[int]] = {}
    for caption, row in enumerate(gallery.text_of.tolist()):
        owners.setdefault(row, set()).add(gallery.owner[caption])
    step = max(1, len(gallery.captions) * len(gallery.paths) // KEPT)
    own, others = [], []
    for start in range(0, len(gallery.captions), BLOCK):
        rows = scores.caption_rows(start, min(start + BLOCK, len(gallery.captions)))
        mine = np.zeros(rows.shape, dtype=bool)
        for row in range(len(rows)):
            mine[row, sorted(owners[int(gallery.text_of[start + row])])] = True
        read = rows > UNSCORED
        own.append(rows[mine & read])
        # Counted on from block to block, so that the share taken is the same everywhere.
        phase = (-start * rows.shape[1]) % step
        thinned = np.zeros(rows.size, dtype=bool)
        thinned[phase::step] = True
        others.append(rows[~mine & read & thinned.reshape(rows.shape)])
    return np.concatenate(own).astype(np.float64), np.concatenate(others).astype(np.float64)


def _failures(outcome: Evaluation, stage: Stage, skipped: list[str]) -> str:
    gallery = outcome.gallery
    order = np.argsort(-stage.caption_ranks, kind="stable")
    worst = [int(caption) for caption in order[:WORST] if stage.caption_ranks[caption] > 1]
    if not worst:
        return '<p class="hint">None: every caption found its image first.</p>'
    items = []
    for caption in worst:
        own = gallery.owner[caption]
        row = stage.scores.caption_rows(caption, caption + 1)[0]
        first = int(np.argmax(row))
        items.append(
            f'<li class="failure"><h3>{text(gallery.captions[caption])}</h3><div class="pair">'
            f"{_shown(gallery.paths[own], f'Its image came as number {int(stage.caption_ranks[caption]):,}', skipped)}"
            f"{_shown(gallery.paths[first], 'This one came first', skipped)}</div></li>"
        )
    missed = int(np.count_nonzero(stage.caption_ranks > 1))
    hint = f"Captions whose image came last {text(stage.name)}; of {len(gallery.captions):,}, {missed:,} missed "
    hint += "the first place."
    return f'<p class="hint">{hint}</p><ol class="failures">{"".join(items)}</ol>'


def _shown(path: str, said: str, skipped: list[str]) -> str:
    name = os.path.basename(path)
    try:
        found = picture(path, SIDE)
    except UnreadableImage as error:
        skipped.append(str(error))
        frame = '<div class="frame missing"><span>no picture</span></div>'
    else:
        frame = (
            f'<div class="frame"><img src="{found.url}" width="{found.width}" height="{found.height}" '
            f'alt="{text(name)}"></div>'
        )
    return f"<div>{frame}<p>{text(said)}: {text(name)}</p></div>"
