"""How well a model retrieves on captioned images, in one call: what `bt eval` measures, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_cli.captions.captions import CaptionSet, PathLikes, list_of, read_captions
from bt_cli.evaluation.gallery import Gallery
from bt_cli.evaluation.protocol import Evaluation, OnSkip, run_protocol

if TYPE_CHECKING:
    from bt_cli.inference.model import Model


def evaluate(
    captions: PathLikes | CaptionSet,
    model: Model | str,
    *,
    images: PathLikes | None = None,
    reranker: Model | str | None = None,
    candidates: int | None = None,
    exhaustive: bool = False,
    combine: str = "itm",
    split: str | None = None,
    on_skip: OnSkip | None = None,
) -> Evaluation:
    """Measure image-to-text (TR) and text-to-image (IR) retrieval by the published protocol.

    Args:
        captions: A caption file of any format, shards or Parquet files with images and captions, or what
            `read_captions` gave.
        model: The model that embeds, or its name.
        images: The folder of the images, or shards of them; None takes the captions' own, and
            those at the addresses that they name.
        reranker: The model whose ITM head reads pairs; None takes `model` where pairs are to be read.
        candidates: Let the ITM head read so many of the best candidates of each image and caption (at least 10).
        exhaustive: Let it read every pair instead.
        combine: "itm" ranks by the match logit, as BridgeTower's paper; "itm+itc" adds the cosine, as BLIP.
        split: Of a Karpathy JSON: only its captions.
        on_skip: Hears (path, error) of each image that can't be read, which is left out; without it that is an error.

    Returns:
        An `Evaluation`: `itc` and `itm` are dictionaries of `tr@1`, `tr@5`, `tr@10`, `ir@1`, ... as fractions, `rsum`,
        median ranks and mean reciprocal ranks; `itm` is None where no pair was read. `pairs` counts those read.

    Raises:
        Misuse: Fewer than 10 candidates, or both ways of reading pairs.
        MissingHead: The model has no ITC head, or the one that reads pairs no ITM head.
        UnreadableCaptions, NotFound, UnreadableImage, EmptyFolder: As the files are.

    Example:
        >>> outcome = bt_cli.evaluate("captions.csv", "tiny", images="photos", candidates=50)
        >>> outcome.itc["ir@1"], outcome.itm["ir@1"]
    """
    from bt_cli.errors import Misuse

    if exhaustive and candidates is not None:
        raise Misuse("candidates and exhaustive exclude each other: every pair is read, or the best")
    read = captions if isinstance(captions, CaptionSet) else read_captions(captions, split=split)
    gallery = Gallery.of(read, *(read.places if images is None else list_of(images)), elsewhere=images is None)
    retriever = _opened(model)
    reranking = None
    if exhaustive or candidates is not None:
        reranking = retriever if reranker is None else _opened(reranker)
        reranking.checkpoint.require({"itm"})
    retriever.checkpoint.require({"itc"})
    return run_protocol(gallery, retriever, reranking, candidates=candidates, combine=combine, on_skip=on_skip)


def _opened(model: Model | str) -> Any:
    if not isinstance(model, str):
        return model
    from bt_cli.inference.model import load

    return load(model)
