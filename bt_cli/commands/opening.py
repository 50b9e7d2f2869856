"""How every command opens the checkpoints that its options name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bt_cli.display.progress import progress
from bt_cli.search.models import SearchModels


@contextmanager
def open_models(
    model: str | None,
    reranker: str | None = None,
    *,
    device: str,
    dtype: str,
    threads: int | None = None,
) -> Iterator[SearchModels]:
    """The models of `--model`, `--reranker`, `--device`, `--dtype` and `--threads`, each opened when it is asked for.

    A checkpoint that has to be downloaded within the block shows its bar.
    """
    with progress("downloading", "byte") as fetched:
        yield SearchModels(model, reranker, device=device, dtype=dtype, threads=threads, progress=fetched)
