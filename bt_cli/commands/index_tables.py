"""`bt index --tables`: an index from tables that were encoded before, here or on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.display.closing_line import closing_line, count
from bt_cli.errors import Misuse

if TYPE_CHECKING:
    from bt_cli.cluster.encode import ShardsSummary
    from bt_cli.indexing.encoder import ModelEncoder
    from bt_cli.indexing.summary import IndexSummary


def index_tables_command(
    place: Path,
    tables: list[str],
    others: dict[str, Any],
    *,
    rebuild: bool,
    compact: bool,
    factory: str | None,
) -> IndexSummary:
    """Make or extend the index at `place`; `others` are options by name that encode or look through folders."""
    from bt_cli.indexing.from_tables import index_tables

    given = [name for name, value in others.items() if value]
    if given:
        raise Misuse(f"--tables takes what is encoded already, so {given[0]} has no place beside it; leave it out")
    return index_tables(place, tables, rebuild=rebuild, factory=factory, compact=compact)


def index_by_engine(
    place: Path,
    images: list[str],
    encoder: ModelEncoder,
    refused: dict[str, Any],
    *,
    rebuild: bool,
    compact: bool,
    factory: str | None,
    keep: list[str] | None,
    **settings: Any,
) -> tuple[ShardsSummary, IndexSummary]:
    """Encode shards into the parts that the index keeps beside its own files, and take these up; `settings` are those
    of `encode_into_parts`.

    Raises:
        UnfinishedShards: Not one shard could be encoded.
    """
    from bt_cli.commands.encode_shards import encode_into_parts
    from bt_cli.indexing.from_tables import index_tables
    from bt_cli.store.index_folder import PARTS

    given = [name for name, value in refused.items() if value]
    if given:
        raise Misuse(f"an engine encodes images alone, so {given[0]} has no place beside --engine; leave it out")
    if not images:
        raise Misuse("nothing to encode: name the shards, as in bt index 'shards/*.tar' --engine ray")
    kept = _remembered(place) if keep is None else keep
    shards, parts = encode_into_parts(images, place / PARTS, encoder, keep=kept, **settings)
    if not parts:
        shards.require_all()
    return shards, index_tables(place, parts, rebuild=rebuild, factory=factory, compact=compact, keep=kept)


def _remembered(place: Path) -> list[str]:
    """The columns that the index which is there keeps."""
    from bt_cli.errors import BtError
    from bt_cli.store.manifest import Manifest

    try:
        return Manifest.recovered(place).keep
    except BtError:
        return []  # none there, or one that the writer will refuse by name


def close_tables(summary: IndexSummary) -> None:
    """What was done, on stderr."""
    changes = [f"{number:,} {name}" for name in ("added", "updated", "unchanged") if (number := getattr(summary, name))]
    rows = summary.added + summary.updated + summary.unchanged
    closing_line(
        f"{count(rows, 'image')} in {summary.index} ({', '.join(changes) or 'none'}), none encoded",
        seconds=summary.seconds,
    )
