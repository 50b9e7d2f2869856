"""Encoding shard by shard, for `bt encode images -o DIR/` and `bt index --engine`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bt_cli.display.closing_line import closing_line, count, duration
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.remarks import remark
from bt_cli.errors import Misuse

if TYPE_CHECKING:
    from bt_cli.cluster.encode import ShardsSummary
    from bt_cli.cluster.engine import Engine
    from bt_cli.cluster.shard import ShardTask
    from bt_cli.cluster.worker import Outcome
    from bt_cli.indexing.encoder import ModelEncoder


KEPT_REMARKS = 3
"""Lines about columns to keep that are shown; the others are counted."""


class EngineName(StrEnum):
    """What runs the workers."""

    processes = "processes"
    ray = "ray"


EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        help="Encode shard by shard, a table each: by processes of this machine, or on a Ray cluster.",
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST",
        help="With --engine ray: a cluster that runs. Default: one of this machine, for this run.",
        show_default=False,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        metavar="N",
        min=1,
        help="Workers that encode shards at a time.",
        show_default="one a GPU, else one for 4 cores",
    ),
]


class EngineChoice(NamedTuple):
    """`--engine`, `--address` and `--processes`."""

    name: EngineName | None
    address: str | None
    processes: int | None

    @property
    def is_made(self) -> bool:
        """Whether any of the options was given."""
        return any(option is not None for option in self)

    def engine(self) -> Engine:
        """The engine that the options name. Raises Misuse for an address where there is no cluster to be at one."""
        if self.name is EngineName.ray:
            from bt_cli.cluster.ray_actors import RayActors

            return RayActors(self.processes, self.address)
        if self.address is not None:
            raise Misuse("--address names a Ray cluster; add --engine ray")
        from bt_cli.cluster.process_pool import ProcessPool

        return ProcessPool(self.processes)


def encode_into_parts(
    sources: Sequence[str],
    folder: str | Path,
    encoder: ModelEncoder,
    *,
    engine: EngineChoice,
    exclude: Sequence[str] | None = None,
    default_excludes: bool | None = None,
    keep: Sequence[str] = (),
    share: str | None = None,
    store_dtype: str = "float16",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    allow_private: bool = False,
    as_json: bool = False,
) -> tuple[ShardsSummary, list[str]]:
    """Bring the parts of shards up to date, telling of each, and close with a line; also the parts that are whole.

    Raises:
        NotFound, Misuse: As `shard_tasks` and `every_nth`, and for an engine that can't be had.
        NoEngine, BtError: A worker can't begin.
    """
    from bt_cli.cluster.encode import encode_shards
    from bt_cli.cluster.shard import every_nth, require_kept, shard_tasks
    from bt_cli.cluster.worker import WorkerSettings, installed_extras
    from bt_cli.datasets.exclusion import Exclusion

    exclusion = Exclusion(tuple(exclude or ()), default_excludes is not False)
    chosen = engine.engine()
    exclusion.check()
    tasks = shard_tasks(sources, folder, exclusion, allow_private=allow_private)
    tasks = every_nth(tasks, share) if share is not None else tasks
    require_kept(tasks, keep, exclusion)
    settings = WorkerSettings(
        folder=os.getcwd(),
        checkpoint=encoder.model.checkpoint.name,
        identity=encoder.identity,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        decoders=workers,
        threads=threads,
        store_dtype=store_dtype,
        exclusion=exclusion,
        keep=tuple(keep),
        allow_private=allow_private,
        extras=installed_extras(),
        stores=_stores(tasks),
    )

    def tell(task: ShardTask, outcome: Outcome | None) -> None:
        if as_json:
            write_object(_record(task, outcome))

    try:
        with progress("encoding") as ticked:
            summary = encode_shards(tasks, settings, chosen, progress=ticked, on_shard=tell)
    except KeyboardInterrupt:
        remark("the parts that are done are whole; the same command goes on from there")
        raise
    _close(summary, folder)
    done = [*(task for task, _ in summary.encoded), *summary.unchanged]
    return summary, [task.part for task in tasks if task in set(done)]


def _stores(tasks: Sequence[ShardTask]) -> tuple[str, ...]:
    """An address in each kind of store that these shards and their parts are in."""
    from bt_cli.sources.web_address import is_in_store

    places = [place for task in tasks for place in (task.source, task.part) if is_in_store(place)]
    return tuple({place.partition("://")[0].lower(): place for place in places}.values())


def _record(task: ShardTask, outcome: Outcome | None) -> dict[str, Any]:
    state = "unchanged" if outcome is None else "failed" if outcome.reason is not None else "encoded"
    return {
        "shard": task.source,
        "state": state,
        "part": None if state == "failed" else task.part,
        "images": outcome.images if outcome else 0,
        "skipped": len(outcome.failures) if outcome else 0,
        "incomplete": len(outcome.incomplete) if outcome else 0,
        "passed_over": dict(outcome.passed_over.suffixes.most_common()) if outcome else {},
        "excluded": outcome.passed_over.excluded if outcome else 0,
        "seconds": round(outcome.seconds, 3) if outcome else 0.0,
        "reason": outcome.reason if outcome else None,
    }


def _close(summary: ShardsSummary, folder: str | Path) -> None:
    from bt_cli.datasets.passed_over import PassedOver

    passed_over = PassedOver()
    for _, outcome in summary.encoded:
        passed_over.suffixes.update(outcome.passed_over.suffixes)
        passed_over.unread.update(outcome.passed_over.unread)
        passed_over.excluded += outcome.passed_over.excluded
    said = [line for _, outcome in summary.encoded for line in outcome.remarks]
    for line in said[:KEPT_REMARKS]:
        remark(line)
    if len(said) > KEPT_REMARKS:
        remark(f"--keep: {len(said) - KEPT_REMARKS:,} more remarks of this kind, of other shards")
    done = f"{count(summary.images, 'image')} of {count(len(summary.encoded), 'shard')} in {folder}"
    if summary.unchanged:
        done += f", {len(summary.unchanged):,} unchanged"
    if summary.failed:
        done += f", {len(summary.failed):,} failed"
    if summary.again:
        done += f", {summary.again:,} given out again"
    if summary.workers:
        done += f", by {count(summary.workers, 'worker')} that began after {duration(summary.start_seconds)}"
    closing_line(
        done,
        seconds=summary.seconds,
        images=summary.images,
        working=max(summary.seconds - summary.start_seconds, 1e-9),
        skipped=[reason for _, outcome in summary.encoded for _, reason in outcome.failures],
        incomplete=[line for _, outcome in summary.encoded for line in outcome.incomplete],
        passed_over=passed_over.lines(),
    )
