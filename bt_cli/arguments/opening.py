"""How every command opens the checkpoints that its options name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.files.shown_path import shown_path
from bt_cli.search.models import SearchModels

if TYPE_CHECKING:
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.index_set import IndexSet


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


def named_indexes(named: list[Path] | None) -> Sequence[Path | str | None]:
    """The index folders of `--index`, else those of BT_INDEX: one, or several with `os.pathsep` between them, as in
    PATH; [None] where neither names any."""
    if named:
        return named
    # Read here: an option that may be given several times would take a name with a space in it for two.
    value = os.environ.get("BT_INDEX")
    if not value or os.path.exists(value):
        return [value]
    return [name for name in value.split(os.pathsep) if name] or [value]


def each_once(folders: list[Path]) -> list[Path]:
    """The folders without those that are one of them under another name: each image would come twice. They are told."""
    kept: dict[str, Path] = {}
    for folder in folders:
        first = kept.setdefault(os.path.realpath(folder), folder)
        if first is not folder:
            remark(f"{shown_path(folder)}: the same index as {shown_path(first)}, taken once")
    return list(kept.values())


def open_indexes(named: list[Path] | None) -> IndexFolder | IndexSet:
    """The index of `--index`, or several as one; where none is named, the nearest.

    Raises:
        NoIndex, BrokenIndex: One is not there, or damaged.
        IndexMismatch: Two were made by different checkpoints.
    """
    from bt_cli.store.index_folder import IndexFolder

    folders = each_once([IndexFolder.locate(folder) for folder in named_indexes(named)])
    if len(folders) == 1:
        return IndexFolder.open(folders[0])
    from bt_cli.store.index_set import IndexSet

    return IndexSet.open(folders)
