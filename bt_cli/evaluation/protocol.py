"""The published retrieval protocol: contrastive scores of everything, then matching scores of the candidates.

The contrastive stage (ITC) compares embeddings and fuses nothing. The matching stage (ITM) reads pairs: the k best
captions of each image and the k best images of each caption (k = 128 for Flickr30K, 256 for COCO in the paper), or
every pair. An unread pair counts -100. Each image and each different caption passes its tower once as long as the
bridge features that the candidates wait for fit the budget; beyond it, once more when its turn comes.

Memory: embeddings (images + captions) x d x 4 bytes; bridge features up to the budget, and beyond it one group of
    images and the texts of one fusion; 28 bytes a pair for candidates, none for every pair, whose logits are mapped
    from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from bt_cli.checkpoints.combination import COMBINATIONS
from bt_cli.errors import BtError, EmptyFolder, Misuse, UnreadableImage
from bt_cli.evaluation.gallery import Gallery
from bt_cli.evaluation.image_groups import ImageGroups
from bt_cli.evaluation.pair_plan import PairPlan
from bt_cli.evaluation.resume import ResumableArrays
from bt_cli.evaluation.scores import ContrastiveScores, MatchingScores
from bt_cli.files.shown_path import shown_path
from bt_cli.inference.cache import TextCache
from bt_cli.metrics.recall import KS, best_own_ranks, metrics_of
from bt_cli.preprocessing.image_file import open_image

if TYPE_CHECKING:
    from bt_cli.bridgetower.states import ImageStates, TextStates

Tick = Callable[[int, int], None]
Stage = Callable[[str, str], AbstractContextManager[Tick]]
"""Opens a stage of a long run: (what is done, its unit) -> the callback that hears of progress."""

OnError = Callable[[int, UnreadableImage], None]
OnSkip = Callable[[str, UnreadableImage], None]

GROUP_IMAGES = 64
GROUP_TEXTS = 256
FUSED_PAIRS = 512
"""Pairs a fusion call: all that an interrupted run loses; enough to share what an image or a text has of its own."""
BUDGET = 4 << 30


class EvaluatedModel(Protocol):
    """What the protocol asks of a model; `bt_cli.inference.model.Model` has it."""

    def encode_images(self, images: Sequence[str], *, on_error: OnError | None = None) -> NDArray[np.float32]: ...
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
    def image_states(
        self, images: Sequence[str], *, embeds: bool = False, on_error: OnError | None = None
    ) -> ImageStates: ...
    def text_states(self, texts: Sequence[str]) -> TextStates: ...
    def itm_logits(self, images: ImageStates, texts: TextStates, pairs: NDArray[np.int64]) -> NDArray[np.float32]: ...


class TwoSidedScores(Protocol):
    """Scores from both sides."""

    def image_rows(self, start: int, stop: int) -> NDArray[np.float32]: ...
    def caption_rows(self, start: int, stop: int) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        gallery: What was evaluated: without the images that couldn't be read.
        itc: Metrics of the contrastive stage (see `recall.metrics_of`); None where there was none.
        itm: Metrics after the matching stage; None where it was not asked for.
        pairs: How many pairs the matching head read.
        scores: Those of the last stage.
        contrastive: Those of the contrastive stage; None where there was none.
    """

    gallery: Gallery
    itc: dict[str, float] | None
    itm: dict[str, float] | None
    pairs: int
    scores: TwoSidedScores
    contrastive: ContrastiveScores | None = None


def run_protocol(
    gallery: Gallery,
    retriever: EvaluatedModel | None,
    reranker: EvaluatedModel | None = None,
    *,
    candidates: int | None = None,
    combine: str = "itm",
    budget: int = BUDGET,
    resumable: ResumableArrays | None = None,
    stage: Stage | None = None,
    on_skip: OnSkip | None = None,
) -> Evaluation:
    """Evaluate a gallery.

    Args:
        retriever: A model with an ITC head; None where every pair is to be read and nothing else.
        reranker: A model with an ITM head, the retriever itself or another; None for the contrastive stage alone.
        candidates: k, at least 10 (the largest K of the metrics); None reads every pair.
        combine: "itm" ranks by the raw match logit, as BridgeTower's paper; "itm+itc" adds the cosine, as BLIP; "itc"
            leaves the candidates in the order of their cosines, and no pair is read.
        budget: Bytes of bridge features to keep in memory, once for images and once for texts.
        resumable: Where results are kept so that an interrupted run can go on; the caller says when it is finished.
        stage: Opens a progress display.
        on_skip: Hears of each image that can't be read; it is left out with its captions. Without it that is an error.

    Raises:
        Misuse: `candidates` below 10, or a combination that can't be computed.
        UnreadableImage: Without `on_skip`.
        EmptyFolder: No captioned image is left.
        BtError: A score is not a number.
    """
    _check(retriever, reranker, candidates, combine)
    resumable = resumable or ResumableArrays()
    stage = stage or _silent
    groups = _image_groups(reranker, gallery, budget) if reranker else None
    contrastive, itc = None, None
    if retriever is None:
        broken = _unreadable(gallery, stage)
    else:
        captions = _embed_captions(retriever, gallery, resumable, stage)
        images = resumable.array("images", (len(gallery.paths), captions.shape[1]))
        broken = _embed_images(retriever, gallery, images, groups if reranker is retriever else None, resumable, stage)
        contrastive = ContrastiveScores(*_kept(gallery, broken, images, captions))
    if broken:
        gallery = _leave_out(gallery, broken, on_skip)
        groups = _image_groups(reranker, gallery, budget) if reranker else None
    if not gallery.captions:
        first = str(broken[min(broken)]) if broken else "there is no image"
        raise EmptyFolder(f"no captioned image can be read, so there is nothing to evaluate; first: {first}")
    if contrastive is not None:
        itc = _metrics(gallery, contrastive)
    if reranker is None or groups is None:
        assert contrastive is not None
        return Evaluation(gallery, itc, None, 0, contrastive, contrastive)
    plan = _plan(gallery, contrastive, candidates)
    name = f"itm-{plan.fingerprint}"
    logits = resumable.array(name, (len(plan),))

    def proven(places: NDArray[np.int64]) -> None:
        resumable.prove(name, places)

    if combine == "itc":
        logits = np.zeros(len(plan), np.float32)
    else:
        _read_pairs(reranker, gallery, plan, logits, groups, budget, stage, proven)
    matching = MatchingScores(plan, logits, None if combine == "itm" else contrastive)
    read = 0 if combine == "itc" else len(plan)
    return Evaluation(gallery, itc, _metrics(gallery, matching), read, matching, contrastive)


def _check(
    retriever: EvaluatedModel | None, reranker: EvaluatedModel | None, candidates: int | None, combine: str
) -> None:
    if combine not in COMBINATIONS:
        raise Misuse(f"scores combine as {', '.join(COMBINATIONS)}, not {combine!r}")
    if candidates is not None and candidates < KS[-1]:
        raise Misuse(f"{candidates} candidates are too few for R@{KS[-1]}: at least {KS[-1]} are needed")
    if retriever is None and (candidates is not None or combine != "itm"):
        raise Misuse("candidates and a combination with the cosine need a model with an ITC head")
    if retriever is None and reranker is None:
        raise Misuse("there is no model to evaluate")


def _embed_captions(
    model: EvaluatedModel, gallery: Gallery, resumable: ResumableArrays, stage: Stage
) -> NDArray[np.float32]:
    """(captions, d): each different text is encoded once."""
    texts = gallery.texts
    rows = resumable.array("texts", (len(texts), model.encode_texts(texts[:1]).shape[1]))
    with stage("encoding captions", "caption") as tick:
        for start in range(0, len(texts), GROUP_TEXTS):
            block = slice(start, start + GROUP_TEXTS)
            if np.isnan(rows[block]).any():
                rows[block] = model.encode_texts(texts[block])
                resumable.prove("texts", range(start * rows.shape[1], rows[: block.stop].size))
            tick(min(start + GROUP_TEXTS, len(texts)), len(texts))
    return rows[gallery.text_of]


def _embed_images(
    model: EvaluatedModel,
    gallery: Gallery,
    rows: NDArray[np.float32],
    groups: ImageGroups | None,
    resumable: ResumableArrays,
    stage: Stage,
) -> dict[int, UnreadableImage]:
    """Fills `rows` (images, d); where the same model reads pairs later, its states are kept."""
    broken: dict[int, UnreadableImage] = {}
    with stage("encoding images", "image") as tick:
        for start in range(0, len(gallery.paths), GROUP_IMAGES):
            paths = gallery.paths[start : start + GROUP_IMAGES]
            block = rows[start : start + len(paths)]

            def skip(position: int, error: UnreadableImage, start: int = start) -> None:
                broken[start + position] = error

            if np.isnan(block).any():
                if groups is not None and groups.has_room:
                    states = model.image_states(paths, embeds=True, on_error=skip)
                    if states.embeds is not None:  # None: not one of them could be read
                        block[:] = states.embeds.cpu().numpy()
                        groups.put(start // GROUP_IMAGES, states)
                else:
                    block[:] = model.encode_images(paths, on_error=skip)
                resumable.prove("images", range(start * rows.shape[1], (start + len(paths)) * rows.shape[1]))
            tick(start + len(paths), len(gallery.paths))
    return broken


def _unreadable(gallery: Gallery, stage: Stage) -> dict[int, UnreadableImage]:
    """The images that can't be read, where no contrastive stage finds them: better before the fusing than within."""
    broken = {}
    with stage("checking images", "image") as tick:
        for number, path in enumerate(gallery.paths):
            try:
                open_image(path)
            except UnreadableImage as error:
                broken[number] = error
            tick(number + 1, len(gallery.paths))
    return broken


def _kept(
    gallery: Gallery, broken: Collection[int], images: NDArray[np.float32], captions: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lost = [caption for caption, image in enumerate(gallery.owner) if image in broken]
    return np.delete(images, sorted(broken), axis=0), np.delete(captions, lost, axis=0)


def _leave_out(gallery: Gallery, broken: Mapping[int, UnreadableImage], on_skip: OnSkip | None) -> Gallery:
    for number, error in sorted(broken.items()):
        if on_skip is None:
            raise error
        on_skip(gallery.paths[number], error)
    return gallery.without(broken)


def _metrics(gallery: Gallery, scores: TwoSidedScores) -> dict[str, float]:
    own_image = {caption: [image] for caption, image in enumerate(gallery.owner)}
    tr_ranks = best_own_ranks(scores.image_rows, gallery.own_captions)
    return metrics_of(tr_ranks, best_own_ranks(scores.caption_rows, own_image))


def _plan(gallery: Gallery, contrastive: ContrastiveScores | None, candidates: int | None) -> PairPlan:
    size = len(gallery.paths), len(gallery.captions)
    if candidates is None or contrastive is None:
        return PairPlan.exhaustive(*size)
    return PairPlan.candidates(*size, contrastive.image_rows, contrastive.caption_rows, candidates)


def _read_pairs(
    model: EvaluatedModel,
    gallery: Gallery,
    plan: PairPlan,
    logits: NDArray[np.float32],
    images: ImageGroups,
    budget: int,
    stage: Stage,
    read: Callable[[NDArray[np.int64]], None],
) -> None:
    """Fills `logits` (pairs,) where they are NaN, one group of images after the other; `read` hears of their places."""
    texts = TextCache(gallery.texts, model.text_states, budget)
    done = 0
    with stage("reading pairs", "pair") as tick:
        for group in range(len(images)):
            start, stop = images.span(group)
            first, last = plan.span(start, stop)
            open_pairs = first + np.flatnonzero(np.isnan(logits[first:last]))
            done += last - first - len(open_pairs)
            tick(done, len(plan))
            if not len(open_pairs):
                continue
            states = images.take(group)
            rows = plan.images_of(first, last)[open_pairs - first] - start
            text_rows = gallery.text_of[plan.captions_of(first, last)[open_pairs - first]]
            # Pairs of one text stand together, so that a fusion call has few texts and many images.
            order = np.lexsort((rows, text_rows))
            for begin in range(0, len(order), FUSED_PAIRS):
                chosen = order[begin : begin + FUSED_PAIRS]
                values = _match(model, states, rows[chosen], texts, text_rows[chosen])
                if np.isnan(values).any():
                    raise _not_a_number(gallery, plan, int(open_pairs[chosen[np.isnan(values)][0]]))
                logits[open_pairs[chosen]] = values
                read(open_pairs[chosen])
                done += len(chosen)
                tick(done, len(plan))


def _match(
    model: EvaluatedModel,
    images: ImageStates,
    rows: NDArray[np.int64],
    texts: TextCache,
    text_rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Match logits (pairs,) of images `rows` with texts `text_rows`; a pair that stands twice is read once."""
    wanted, local = np.unique(text_rows, return_inverse=True)
    pairs, places = np.unique(np.stack([local, rows], axis=1), axis=0, return_inverse=True)
    return model.itm_logits(images, texts.take(wanted.tolist()), pairs[:, ::-1])[:, 1][places]


def _image_groups(model: EvaluatedModel, gallery: Gallery, budget: int) -> ImageGroups:
    return ImageGroups(model.image_states, gallery.paths, group_size=GROUP_IMAGES, budget=budget)


def _not_a_number(gallery: Gallery, plan: PairPlan, pair: int) -> BtError:
    image = gallery.paths[int(plan.images_of(pair, pair + 1)[0])]
    caption = gallery.captions[int(plan.captions_of(pair, pair + 1)[0])]
    return BtError(
        f"{shown_path(image)} with {caption!r}: the match logit is not a number; "
        "try --dtype float32, else the checkpoint's weights are broken"
    )


def _silent(description: str, unit: str) -> AbstractContextManager[Tick]:
    return nullcontext(lambda done, total: None)
