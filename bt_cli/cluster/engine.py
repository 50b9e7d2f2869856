"""The one thing that engines differ in: where a worker runs, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bt_cli.cluster.shard import ShardTask
from bt_cli.cluster.worker import Outcome, WorkerSettings

CORES_A_WORKER = 4
"""Cores that a worker computes with where there are no GPUs: more gain little for one image stream."""


class Engine(Protocol):
    """Workers, counted from 0. `close` may be called at any time, after an exception, too."""

    def start(self, settings: WorkerSettings) -> int:
        """Start the workers, let each check what it needs, and tell how many there are.

        Raises:
            BtError: A worker lacks something, in its words.
        """

    def submit(self, worker: int, task: ShardTask) -> None:
        """Give an idle worker a task."""

    def wait(self) -> Sequence[tuple[int, Outcome]]:
        """Wait until at least one worker has done its task: (worker, what became of it).

        A worker that died is started anew, and its task's outcome says that it died.
        """

    def close(self) -> None:
        """End the workers, in the middle of a task, too: no part is left half."""
