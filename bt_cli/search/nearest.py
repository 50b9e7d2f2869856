"""The first stage: the index's images or captions whose embeddings lie nearest to the query's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bt_cli.search.candidates import Hit

if TYPE_CHECKING:
    import numpy as np

    from bt_cli.search.photo_filter import PhotoFilter, Photos
    from bt_cli.store.index_set import KeptSet
    from bt_cli.store.kept_table import KeptTable

LOG = logging.getLogger("bt_cli")

DEPTH = 128
"""Fewest answers asked of the index. An approximate index looks around more the more it is asked for, so a small `k`
must not be asked for as such: its answer would not be the beginning of a larger one's."""


class VectorSearch(Protocol):
    """What is asked of an index: cosines, best first; -1 where an approximate index found no more."""

    def __len__(self) -> int: ...

    def search(
        self, vectors: np.ndarray, k: int, *, ids: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...


class ImageSearch(VectorSearch, Protocol):
    """An index of images: :class:`bt_cli.store.index_folder.IndexFolder`."""

    def paths(self, ids: np.ndarray) -> list[str]: ...

    def matching(self, glob: str) -> np.ndarray: ...

    @property
    def photos(self) -> Photos: ...

    @property
    def kept(self) -> KeptTable | KeptSet: ...


class CaptionSearch(VectorSearch, Protocol):
    """An index of captions, each belonging to an image or (-1) to none."""

    def texts(self, ids: np.ndarray) -> list[str]: ...

    def image_ids(self, ids: np.ndarray) -> np.ndarray: ...


class Wanted(NamedTuple):
    """The images that may be answers.

    Attributes:
        ids: (m,) int64, ascending; None for all.
        unknown: How many others were left out since nothing is known of what is asked of them.
    """

    ids: np.ndarray | None
    unknown: int = 0


def wanted_images(index: ImageSearch, globs: Sequence[str] = (), photos: PhotoFilter | None = None) -> Wanted:
    """The images that globs (see `matching_images`) and a filter leave."""
    ids = matching_images(index, globs)
    if photos is None:
        return Wanted(ids)
    import numpy as np

    fits, unknown = photos.images(index.photos)
    if ids is None:
        return Wanted(np.flatnonzero(fits), int(unknown.sum()))
    return Wanted(ids[fits[ids]], int(unknown[ids].sum()))


def search_images(
    index: ImageSearch, embedding: np.ndarray, k: int, *, ids: np.ndarray | None = None, min_score: float | None = None
) -> list[Hit]:
    """The `k` images nearest to `embedding` `(d,) float32`, ties by id.

    Args:
        index: Where to look.
        embedding: The query, of norm 1.
        k: Most answers; fewer come where fewer images fit.
        ids: Only these images. Applied before the best are taken.
        min_score: Only images whose cosine is at least this.
    """
    return image_hits(index, *nearest(index, embedding, k, ids=ids, min_score=min_score))


def image_hits(index: ImageSearch, scores: np.ndarray, ids: np.ndarray) -> list[Hit]:
    """The images `ids` with their cosines, as answers."""
    found = zip(ids.tolist(), index.paths(ids), scores.tolist(), strict=True)
    return [Hit(rank, id, path, itc, itc=itc) for rank, (id, path, itc) in enumerate(found, 1)]


def search_captions(
    captions: CaptionSearch,
    images: ImageSearch,
    embedding: np.ndarray,
    k: int,
    *,
    ids: np.ndarray | None = None,
    min_score: float | None = None,
) -> list[Hit]:
    """The `k` captions nearest to `embedding`, ties by id; `ids` are images, whose captions alone are looked at."""
    ids = captions_of(captions, ids)
    return caption_hits(captions, images, *nearest(captions, embedding, k, ids=ids, min_score=min_score))


def captions_of(captions: CaptionSearch, images: np.ndarray | None) -> np.ndarray | None:
    """Ids `(m,) int64`, ascending, of the captions of images, or None for all."""
    if images is None:
        return None
    import numpy as np

    owners = captions.image_ids(np.arange(len(captions)))
    return np.flatnonzero(np.isin(owners, images))


def caption_hits(captions: CaptionSearch, images: ImageSearch, scores: np.ndarray, ids: np.ndarray) -> list[Hit]:
    """The captions `ids` with their cosines, as answers."""
    import numpy as np

    owners = captions.image_ids(ids)
    known = owners >= 0
    paths: list[str | None] = [None] * len(ids)
    for place, path in zip(np.flatnonzero(known).tolist(), images.paths(owners[known]), strict=True):
        paths[place] = path
    found = zip(ids.tolist(), paths, captions.texts(ids), scores.tolist(), strict=True)
    return [Hit(rank, id, path, itc, itc=itc, caption=text) for rank, (id, path, text, itc) in enumerate(found, 1)]


def with_facts(images: ImageSearch, captions: CaptionSearch | None, hits: Sequence[Hit]) -> list[Hit]:
    """The answers with how their images were taken and what was carried along; `captions` where they are captions."""
    import numpy as np

    ids = np.array([hit.id for hit in hits], np.int64)
    if captions is not None and len(ids):
        ids = captions.image_ids(ids)
    known = np.flatnonzero(ids >= 0).tolist()
    facts = dict(zip(known, images.photos.facts(ids[known]), strict=True)) if known else {}
    kept = dict(zip(known, images.kept.of(ids[known]), strict=True)) if known and images.kept.names else {}
    return [replace(hit, facts=facts.get(place), kept=kept.get(place)) for place, hit in enumerate(hits)]


def matching_images(index: ImageSearch, globs: Sequence[str]) -> np.ndarray | None:
    """Ids `(m,) int64`, ascending, of the images that the globs leave, or None where there are no globs.

    As with ripgrep, a glob that begins with `!` takes images away; where all do, they take away from everything. Such a
    glob means a folder, too, with all that is in it: `!@eaDir`. One that changes nothing is remarked on.
    """
    if not globs:
        return None
    import numpy as np

    wanted = [glob for glob in globs if not glob.startswith("!")]
    kept = np.zeros(len(index), dtype=bool)
    kept[:] = not wanted
    for glob in wanted:
        found = index.matching(glob)
        if len(found) == len(index):
            LOG.warning("--glob %s: every image of the index matches", glob)
        elif not len(found) and len(wanted) > 1:  # one alone leaves no answer, and that is said there
            LOG.warning("--glob %s: no image of the index matches", glob)
        kept[found] = True
    for glob in globs:
        if glob.startswith("!"):
            taken = np.zeros(len(index), dtype=bool)
            for spelling in (glob[1:], glob[1:].rstrip("/") + "/"):
                taken[index.matching(spelling)] = True
            if not (kept & taken).any():
                LOG.warning("--glob %s: takes nothing away", glob)
            kept &= ~taken
    return np.flatnonzero(kept)


def nearest(
    index: VectorSearch, embedding: np.ndarray, k: int, *, ids: np.ndarray | None = None, min_score: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` of the index: `(cosines (k') float32 descending, ids (k') int64)`, ties by id.

    An index breaks ties as it likes, also at the cut, so it is asked for more until what lies behind the cut is truly
    worse.
    """
    return nearest_each(index, embedding[None], k, ids=ids, min_score=min_score)[0]


def nearest_each(
    index: VectorSearch,
    embeddings: np.ndarray,
    k: int,
    *,
    ids: np.ndarray | None = None,
    min_score: float | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`nearest` of each of `embeddings` `(q, d) float32`, looked for together."""
    import numpy as np

    available = len(index) if ids is None else len(ids)
    wanted = min(k, available)
    if wanted == 0:
        return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in embeddings]
    best: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(embeddings)
    left = np.arange(len(embeddings))
    depth = min(available, max(DEPTH, wanted + 1))
    while len(left):
        open_ended = []
        for query, scores, found in zip(left, *index.search(embeddings[left], depth, ids=ids), strict=True):
            real = found >= 0
            scores, found = scores[real], found[real]
            complete = depth == available or len(found) < depth
            if complete or scores[-1] < scores[wanted - 1]:
                best[query] = _ordered(scores, found, wanted, min_score)
            else:
                open_ended.append(query)
        left = np.array(open_ended, np.int64)
        depth = min(available, depth * 4)
    return best


def _ordered(
    scores: np.ndarray, found: np.ndarray, wanted: int, min_score: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The best `wanted` of what was found, ties by id."""
    import numpy as np

    if min_score is not None:
        good = scores >= min_score
        scores, found = scores[good], found[good]
    order = np.lexsort((found, -scores))[:wanted]
    return scores[order], found[order]
