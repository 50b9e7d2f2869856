"""Encoding shards with an engine: what is missing or changed is given out, and given again where a worker died."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bt_cli.cluster.engine import Engine
from bt_cli.cluster.shard import ShardTask, current_ones
from bt_cli.cluster.worker import Outcome, WorkerSettings
from bt_cli.errors import UnfinishedShards

ATTEMPTS = 3
NAMED = 3
"""Shards that the error names with their reasons; all of them stand in `failed`."""

Progress = Callable[[int, int], None]
OnShard = Callable[[ShardTask, Outcome | None], None]


@dataclass
class ShardsSummary:
    """What a run did.

    Attributes:
        encoded: The shards that have a part now, each with what became of its images.
        unchanged: Shards whose part was there already.
        failed: Shards that have none, each with the reason.
        again: Attempts beyond the first that were given out.
        workers: How many there were.
        start_seconds, seconds: Until the workers had begun; in all.
    """

    encoded: list[tuple[ShardTask, Outcome]] = field(default_factory=list)
    unchanged: list[ShardTask] = field(default_factory=list)
    failed: list[tuple[ShardTask, str]] = field(default_factory=list)
    again: int = 0
    workers: int = 0
    start_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def images(self) -> int:
        """Encoded in this run."""
        return sum(outcome.images for _, outcome in self.encoded)

    def require_all(self) -> None:
        """Raises UnfinishedShards where a shard has no part."""
        if self.failed:
            total = len(self.encoded) + len(self.unchanged) + len(self.failed)
            more = f"; and {len(self.failed) - NAMED:,} more" if len(self.failed) > NAMED else ""
            reasons = "; ".join(reason for _, reason in self.failed[:NAMED])
            raise UnfinishedShards(
                f"{len(self.failed):,} of {total:,} shards failed: {reasons}{more}; the others are done, and the same "
                "command tries these again"
            )


def encode_shards(
    tasks: Sequence[ShardTask],
    settings: WorkerSettings,
    engine: Engine,
    *,
    progress: Progress | None = None,
    on_shard: OnShard | None = None,
) -> ShardsSummary:
    """Bring every shard's part up to date; a part that is current is not touched.

    A shard whose worker dies, or that can't be read for a passing reason, is given out again, three times at most. One
    that is damaged itself is not: it would be so again.

    Args:
        progress: Called with (images encoded, images that there may be: guessed by the shards' bytes).
        on_shard: Called with each shard that is done with, in the order in which they are, and what became of it; None:
            its part was current.

    Raises:
        BtError: A worker lacks something that the driver has; nothing was encoded.
    """
    started = time.monotonic()
    summary = ShardsSummary()
    todo: list[ShardTask] = []
    current = current_ones(tasks, settings.identity, settings.store_dtype, settings.exclusion, settings.keep)
    for task, is_current in zip(tasks, current, strict=True):
        if is_current:
            summary.unchanged.append(task)
            if on_shard is not None:
                on_shard(task, None)
        else:
            todo.append(task)
    try:
        if todo:
            summary.workers = engine.start(settings)
            summary.start_seconds = time.monotonic() - started
            _run(todo, engine, summary, progress or (lambda done, total: None), on_shard)
    finally:
        engine.close()
    summary.seconds = time.monotonic() - started
    return summary


def _run(
    todo: list[ShardTask], engine: Engine, summary: ShardsSummary, progress: Progress, on_shard: OnShard | None
) -> None:
    waiting = deque(sorted(todo, key=lambda task: -task.size))  # a large one begun last would keep all waiting
    attempts = dict.fromkeys(todo, 0)
    idle = list(range(summary.workers))[::-1]
    at_work: dict[int, ShardTask] = {}
    guess = _Guess(todo)
    progress(0, 0)
    while waiting or at_work:
        while waiting and idle:
            worker = idle.pop()
            at_work[worker] = waiting.popleft()
            attempts[at_work[worker]] += 1
            engine.submit(worker, at_work[worker])
        for worker, outcome in engine.wait():
            task = at_work.pop(worker)
            idle.append(worker)
            if outcome.reason is not None and not outcome.final and attempts[task] < ATTEMPTS:
                summary.again += 1
                waiting.append(task)
                continue
            if outcome.reason is None:
                summary.encoded.append((task, outcome))
            else:
                summary.failed.append((task, outcome.reason))
            if on_shard is not None:
                on_shard(task, outcome)
            progress(*guess.after(task, outcome))


class _Guess:
    """How many images there may be, from the bytes of the shards that are done."""

    def __init__(self, tasks: Sequence[ShardTask]) -> None:
        self.left = sum(task.size for task in tasks)
        self.images = self.bytes = 0

    def after(self, task: ShardTask, outcome: Outcome) -> tuple[int, int]:
        self.left -= task.size
        if outcome.reason is None:
            self.images += outcome.images + len(outcome.failures)
            self.bytes += task.size
        return self.images, self.images + round(self.left * self.images / max(self.bytes, 1))
