"""Workers as processes of this machine, one a GPU, or each with a share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from bt_cli.cluster.engine import CORES_A_WORKER
from bt_cli.cluster.shard import ShardTask
from bt_cli.cluster.worker import Outcome, Worker, WorkerSettings
from bt_cli.errors import BtError
from bt_cli.files.processors import processor_count

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess


LAST_SECONDS = 3.0
"""What a worker is given to end."""


@dataclass
class _Process:
    process: SpawnProcess
    pipe: Connection
    task: ShardTask | None = None


class ProcessPool:
    """An `Engine` of processes.

    Args:
        size: How many; None: one a GPU, else one for each `CORES_A_WORKER` cores.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        self.processes: list[_Process] = []

    def start(self, settings: WorkerSettings) -> int:
        """See `Engine`."""
        gpus = _gpus() if settings.device in ("auto", "cuda") else 0
        cores = processor_count()
        size = self.size or gpus or max(1, -(-cores // CORES_A_WORKER))
        share = max(1, cores // size)
        self._gpus = gpus
        self._settings = replace(settings, threads=settings.threads or share, decoders=settings.decoders or share)
        self.processes = [self._spawn(number) for number in range(size)]
        for process in self.processes:
            try:
                error = process.pipe.recv()
            except EOFError:
                error = BtError("a worker process ended before it began; is the memory too small for so many?")
            if error is not None:
                raise error
        return size

    def submit(self, worker: int, task: ShardTask) -> None:
        """See `Engine`."""
        process = self.processes[worker]
        process.task = task
        with contextlib.suppress(OSError):  # it has died: `wait` finds that
            process.pipe.send(task)

    def wait(self) -> Sequence[tuple[int, Outcome]]:
        """See `Engine`."""
        busy = {process.pipe: number for number, process in enumerate(self.processes) if process.task is not None}
        done: list[tuple[int, Outcome]] = []
        while not done:
            for pipe in wait(list(busy)):
                number = busy[pipe]  # type: ignore[index]
                try:
                    answer = self.processes[number].pipe.recv()
                except (EOFError, OSError):
                    done.append((number, self._died(number)))
                    continue
                if isinstance(answer, Outcome):
                    done.append((number, answer))
                elif answer is not None:  # what a worker that was started anew lacks
                    done.append((number, Outcome(reason=str(answer))))
                    self.processes[number].process.kill()
        for number, _ in done:
            self.processes[number].task = None
        return done

    def close(self) -> None:
        """See `Engine`."""
        for process in self.processes:
            process.process.terminate()  # takes its unfinished file away
        for process in self.processes:
            process.process.join(LAST_SECONDS)
            process.process.kill()
            process.process.join()
            process.pipe.close()
        self.processes = []

    def _died(self, number: int) -> Outcome:
        dead = self.processes[number]
        dead.process.join()
        dead.pipe.close()
        code, pid = dead.process.exitcode or 0, dead.process.pid
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self.processes[number] = self._spawn(number)
        source = dead.task.source if dead.task else ""
        return Outcome(reason=f"{source}: worker process {pid} ended {how}", process=pid or 0)

    def _spawn(self, number: int) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        gpu = number % self._gpus if self._gpus else None
        process = context.Process(
            target=_work, args=(theirs, self._settings, gpu), name=f"bt-worker-{number}", daemon=True
        )
        # Inherited: Ctrl-C at the terminal reaches this process alone, which then ends the workers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Process(process, ours)


def _work(pipe: Connection, settings: WorkerSettings, gpu: int | None) -> None:
    """The life of a worker process: it ends with the one that started it, whatever that one's end."""
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker = Worker(settings)
    except BtError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(worker.encode(task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
