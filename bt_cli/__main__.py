"""Where `bt` and `python -m bt_cli` begin and end: an interrupt has its exit code even while the program is loading,
and no library's thread can take the code away when the work is done."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys

INTERRUPTED = 130


def start() -> int:
    """Run the command line and return its exit code. The process that has called it ends with that code."""
    # numpy's products here are small or wait for memory: its threads would take longer to start, and on a busy machine
    # to meet, than they save. torch, which does the large products, keeps its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    end = _End()
    try:
        from bt_cli.commands.app import main

        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    # What is left is the interpreter's own end, in which libraries still run code of theirs: an interrupt then ends the
    # process at once, as the signal does, and not with their traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end.code = code
    return code


class _End:
    """The last thing that the interpreter does before it takes itself apart: leave, with the code if there is one.

    A thread of a native library that still wants something of Python while Python goes is ended inside the library,
    and the library aborts the process: one in forty searches on a busy machine ended so, with the answer printed and
    code 134 (apache/arrow#34314, CPython before 3.14). What libraries ask to be called at exit has been called by then,
    since the first that asks is called last.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or without a reader
                stream.flush()
        os._exit(self.code)


if __name__ == "__main__":
    sys.exit(start())
