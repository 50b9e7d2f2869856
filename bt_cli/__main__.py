"""Where `bt` and `python -m bt_cli` begin: an interrupt has its exit code even while the program is loading."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def start() -> int:
    """Run the command line and return its exit code."""
    # numpy's products here are small or wait for memory: its threads would take longer to start, and on a busy machine
    # to meet, than they save. torch, which does the large products, keeps its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from bt_cli.commands.app import main

        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    # What is left is the interpreter's own end, in which libraries still run code of theirs: an interrupt then ends the
    # process at once, as the signal does, and not with their traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if code == INTERRUPTED:
        # An interrupt that met a string being run (as dataclasses do on import) leaves a mark, by which the interpreter
        # ends itself with the signal whatever the exit code. Running a string to its end removes it.
        exec("")
    return code


if __name__ == "__main__":
    sys.exit(start())
