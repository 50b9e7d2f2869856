"""Keeping the bridge features of an index's images, so that a rerank of them only fuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from bt_cli.errors import UnreadableImage
from bt_cli.store.bridge_cache import file_key
from bt_cli.store.index_folder import BRIDGES, IndexFolder

if TYPE_CHECKING:
    from bt_cli.inference.model import Model

IMAGES_AT_A_TIME = 32


def fill_bridges(
    folder: str | os.PathLike[str], reranker: Model, limit: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[int, int]:
    """Encode the images of an index whose features the cache beside it lacks.

    Args:
        folder: The index folder.
        reranker: The model that will rerank.
        limit: Bytes that the cache may take; what is beyond is left out.
        progress: Called with (images done, images to do).

    Returns:
        How many images the cache holds, and how many bytes each takes.
    """
    cache = reranker.use_bridge_cache(os.path.join(folder, BRIDGES), limit=limit)
    try:
        with IndexFolder.open(folder) as index:
            paths = [os.path.abspath(path) for path in index.paths(range(len(index)))]
        keys = ((path, file_key(path)) for path in paths)
        wanted = [path for path, key in keys if key is not None and key not in cache]
        for first in range(0, len(wanted), IMAGES_AT_A_TIME):
            if (len(cache) + IMAGES_AT_A_TIME) * cache.block_bytes > limit:
                break  # a full cache would write over what it has just been given
            reranker.image_states(wanted[first : first + IMAGES_AT_A_TIME], on_error=_leave_out)
            if progress is not None:
                progress(min(first + IMAGES_AT_A_TIME, len(wanted)), len(wanted))
        return len(cache), cache.block_bytes
    finally:
        cache.close()


def _leave_out(position: int, error: UnreadableImage) -> None:
    """An image that went bad since it was indexed: the next `bt index` says so."""
