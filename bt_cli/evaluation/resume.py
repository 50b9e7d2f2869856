"""Results of a long run, on disk as they come, so that the same run started again goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bt_cli.errors import BtError, IndexBusy, Unwritable
from bt_cli.files.atomic_write import open_whole
from bt_cli.files.lock import WriterLock
from bt_cli.files.shown_path import shown_path

FILL = 1 << 20
"""How many values are written at a time when an array is made."""


class ResumableArrays(contextlib.AbstractContextManager["ResumableArrays"]):
    """A folder of arrays that outlive the process, or, without a folder, arrays in memory.

    The folder's name is a hash of everything that the results depend on, so a run never meets another run's results. A
    value that is still missing is NaN. The arrays are memory-mapped: they take disk, not memory, and what was written
    when the process was killed is there.

    `keep_root`: the folder above is somebody's own, and stays when it is left empty.
    """

    def __init__(self, root: Path | None = None, *identity: str, keep_root: bool = False) -> None:
        self.keep_root = keep_root
        self.folder = root / hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32] if root else None
        self._lock: WriterLock | None = None

    def __enter__(self) -> ResumableArrays:
        """Take the folder for this process alone.

        Raises:
            Unwritable: The folder can't be made.
            BtError: Another process is at the same run.
        """
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unwritable(f"{shown_path(self.folder)}: can't be made: {error.strerror or error}") from error
            self._lock = WriterLock(self.folder)
            try:
                self._lock.__enter__()
            except IndexBusy:
                raise BtError(
                    f"{shown_path(self.folder)}: another process is at this evaluation; wait for it, or --no-resume"
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None

    @property
    def has_results(self) -> bool:
        """Whether an interrupted run left results behind."""
        return self.folder is not None and any(self.folder.glob("*.f32"))

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The array of that name: as an interrupted run left it, else new and full of NaN. float32.

        Raises:
            Unwritable: The folder can't be written, or the disk has no room for the whole array.
        """
        if self.folder is None or 0 in shape:
            return np.full(shape, np.nan, np.float32)
        path = self.folder / f"{name}.f32"
        size = int(np.prod(shape))
        try:
            if not path.is_file() or path.stat().st_size != 4 * size:
                _fill(path, size)
            return np.memmap(path, np.float32, "r+", shape=shape)
        except OSError as error:
            raise Unwritable(f"{shown_path(path)}: can't be written: {error.strerror or error}") from error

    def finish(self) -> None:
        """The run is over: remove what it kept."""
        if self.folder is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self.keep_root:
            with contextlib.suppress(OSError):
                os.rmdir(self.folder.parent)


def _fill(path: Path, size: int) -> None:
    """Writes NaN throughout: the room is taken now, not when a page of the map can't be written any more."""
    with open_whole(path) as file:
        for start in range(0, size, FILL):
            file.write(np.full(min(FILL, size - start), np.nan, np.float32).tobytes())
