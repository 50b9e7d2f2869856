"""Workers as actors of a Ray cluster: Ray decides where each runs and starts it anew where its process dies."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bt_cli.cluster.engine import CORES_A_WORKER
from bt_cli.cluster.shard import ShardTask
from bt_cli.cluster.worker import Outcome, Worker, WorkerSettings
from bt_cli.errors import BtError, NoEngine

LOG = logging.getLogger("bt_cli")
PORT = 6379
RETRIES = 2
"""Times that Ray gives a task again whose worker died: three attempts in all."""
CONNECT_SECONDS = 10.0
START_SECONDS = 60.0
"""How long further workers are waited for when the first is ready: a busy cluster may have no room for all."""


class RayActors:
    """An `Engine` of Ray actors.

    Args:
        size: How many; None: one a GPU of the cluster, else one for each `CORES_A_WORKER` cores of each node.
        address: `auto`, a host or `host:port` of a cluster that runs; None: one that begins and ends with this process.
    """

    def __init__(self, size: int | None = None, address: str | None = None) -> None:
        self.size = size
        self.address = address
        self.actors: list[Any] = []
        self.running: dict[Any, tuple[int, ShardTask]] = {}
        self._ray: Any = None

    def start(self, settings: WorkerSettings) -> int:
        """See `Engine`. Raises NoEngine where Ray is not installed, or no cluster answers."""
        ray = self._connect()
        resources, cores = ray.cluster_resources(), self._cores_of_nodes()
        gpus = int(resources.get("GPU", 0)) if settings.device in ("auto", "cuda") else 0
        share = max(1, min([CORES_A_WORKER, *cores]))
        size = self.size or gpus or sum(number // share for number in cores) or 1
        if self.size and not gpus:
            share = max(1, min(sum(cores) // self.size, *cores))
        settings = replace(settings, threads=settings.threads or share, decoders=settings.decoders or share)
        remote = ray.remote(Worker).options(
            num_cpus=share, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=RETRIES
        )
        actors = [remote.remote(settings) for _ in range(size)]
        self.actors = actors
        self.actors = self._ready(actors)
        return len(self.actors)

    def submit(self, worker: int, task: ShardTask) -> None:
        """See `Engine`."""
        self.running[self.actors[worker].encode.remote(task)] = worker, task

    def wait(self) -> Sequence[tuple[int, Outcome]]:
        """See `Engine`."""
        ready, _ = self._ray.wait(list(self.running), num_returns=1)
        done = []
        for reference in ready:
            worker, task = self.running.pop(reference)
            try:
                done.append((worker, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                reason = f"{task.source}: its worker ended {1 + RETRIES} times: {_first_line(error)}"
                done.append((worker, Outcome(reason=reason, final=True)))
        return done

    def close(self) -> None:
        """See `Engine`; a cluster that this process did not begin goes on."""
        if self._ray is not None:
            for actor in self.actors:
                with contextlib.suppress(Exception):
                    self._ray.kill(actor)
            self._ray.shutdown()
        self.actors, self.running, self._ray = [], {}, None

    def _connect(self) -> Any:
        # Ray asks for leave to send statistics of its use; bt sends nothing that nobody asked for.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # It also writes to stdout that a worker has died, among the data, whatever `log_to_driver` says; this is its
        # documented way to have lines left out.
        os.environ.update({"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"})
        try:
            import ray
        except ImportError as error:
            raise NoEngine("--engine ray needs Ray: pip install 'bridgetower[ray]'") from error
        self._ray = ray
        address = self.address
        if address is not None and address != "auto" and ":" not in address:
            address = f"{address}:{PORT}"
        try:
            _require_listener(address)
            # A cluster of one's own takes no address from the surroundings.
            ray.init(
                address="local" if address is None else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                include_dashboard=False if address is None else None,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            place = self.address or "this machine"
            raise NoEngine(f"no Ray cluster at {place}: {_first_line(error)}; ray start --head begins one") from error
        return ray

    def _cores_of_nodes(self) -> list[int]:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [max(1, int(node.get("CPU", 0))) for node in nodes if node.get("CPU", 0) >= 1] or [1]

    def _ready(self, actors: list[Any]) -> list[Any]:
        """The workers that have begun; those that the cluster has no room for are let go.

        Raises:
            BtError: What the first of them lacks.
            NoEngine: None begins.
        """
        waiting = {actor.check.remote(): actor for actor in actors}
        ready: list[Any] = []
        until = time.monotonic() + 5 * START_SECONDS
        while waiting and time.monotonic() < until:
            begun, _ = self._ray.wait(list(waiting), num_returns=1, timeout=max(0.1, until - time.monotonic()))
            for reference in begun:
                actor = waiting.pop(reference)
                lacks = self._lack(reference)
                if lacks is not None:
                    raise lacks
                if not ready:
                    until = time.monotonic() + START_SECONDS
                ready.append(actor)
        if not ready:
            raise NoEngine("the Ray cluster started no worker: see ray status for what it has room for")
        if waiting:
            LOG.warning("the Ray cluster has room for %d of %d workers now", len(ready), len(actors))
            for actor in waiting.values():
                self._ray.kill(actor)
        return ready

    def _lack(self, reference: Any) -> BtError | None:
        """What a worker that could not begin said of why, or None: it has begun."""
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, BtError):
                return NoEngine(f"a Ray worker can't begin: {cause}")
            text = str(error)
            if "No module named" in text:
                return NoEngine("a Ray worker can't import bt_cli: install bridgetower on every node of the cluster")
            told = [line for line in text.splitlines() if line.startswith("bt_cli.errors.")]
            return NoEngine(f"a Ray worker can't begin: {told[-1].partition(': ')[2] if told else _first_line(error)}")
        return None


def _require_listener(address: str | None) -> None:
    """Raises OSError where nothing listens at a `host:port`: Ray itself would end the process, after half a minute."""
    if address is not None and address != "auto" and "://" not in address:
        host, _, port = address.rpartition(":")
        try:
            number = int(port)
        except ValueError:
            raise OSError(f"{port!r} is no port") from None
        with socket.create_connection((host.strip("[]"), number), timeout=CONNECT_SECONDS):
            pass


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
