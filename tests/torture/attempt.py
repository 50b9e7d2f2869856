"""One try, in a process of its own: what it came to, how it ended, and what it wrote to stderr meanwhile."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forked_process import without_team

from bt_cli.commands.app import main
from bt_cli.errors import BtError

SECONDS = 30
"""After which a try counts as hanging."""
MEMORY = 3 << 30
"""Bytes of address space that a try may take beyond what its process had."""
LONGEST_LINE = 400 + len("bt: ")


class Lost(Exception):
    """Says what was lost: a wrong answer, an error without its line, more of something than was stated."""


@dataclass(frozen=True)
class Outcome:
    """`word` is `right` or `refused` (both held), or says how it was lost; `detail` is a line for the reader."""

    word: str
    detail: str = ""
    notes: tuple[str, ...] = ()
    """What else is to be counted, such as `mended without encoding`."""

    @property
    def held(self) -> bool:
        return self.word in ("right", "refused")


@dataclass(frozen=True)
class Ran:
    """A command's exit code and what it wrote."""

    code: int
    out: bytes
    err: str


def attempt(work: Callable[[], Outcome], *, seconds: int = SECONDS, memory: int = MEMORY) -> Outcome:
    """Do `work` in a forked process with a limit of time and memory.

    What it raises is an outcome, too: a `BtError` with one good line is a refusal, anything else is lost.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.dup2(said.fileno(), 2)
            _limit(seconds, memory)
            without_team()
            outcome = _outcome(work)
            os.write(writing, json.dumps([outcome.word, outcome.detail[:2000], outcome.notes]).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        status = os.waitpid(child, 0)[1]
        said.seek(0)
        lines = said.read(20_000).decode("utf-8", "replace").splitlines()
    if not answer:
        ended = os.waitstatus_to_exitcode(status)
        word = "hang" if ended == -signal.SIGALRM else f"died of signal {-ended}"
        return Outcome(word, f"after {seconds} s" if word == "hang" else " ".join(lines[-3:])[:500])
    word, detail, notes = json.loads(answer)
    outcome = Outcome(word, detail, tuple(notes))
    fault = fault_of(lines)
    return Outcome("bad stderr", fault, outcome.notes) if outcome.held and fault else outcome


def command(*arguments: str | os.PathLike[str]) -> Ran:
    """Run a command within a try: stdout and stderr are caught at the descriptors, what C libraries write included."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, streams = [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr)
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with os.fdopen(os.dup(1), "w") as sys.stdout, os.fdopen(os.dup(2), "w") as sys.stderr:
                code = main([os.fspath(argument) for argument in arguments])
        finally:
            sys.stdout, sys.stderr = streams
            for number, descriptor in enumerate(before, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        out.seek(0)
        err.seek(0)
        return Ran(code, out.read(), err.read().decode("utf-8", "replace"))


def judged(ran: Ran, expected: bytes | None = None) -> Outcome:
    """What a command came to: its answer has to be `expected`, where there is one to compare."""
    fault = fault_of(ran.err.splitlines())
    if fault:
        return Outcome("bad stderr", fault)
    if ran.code == 0:
        if expected is not None and ran.out != expected:
            return Outcome("wrong answer", f"{ran.out[:200]!r}")
        return Outcome("right")
    lines = [line for line in ran.err.splitlines() if line]
    if not lines:
        return Outcome("silent", f"exit code {ran.code} and no line")
    return Outcome("refused", lines[-1])


def refusal(error: BtError) -> Outcome:
    """A named exception that reached whoever called the library; the shell would show it shortened."""
    text = str(error)
    if "\n" in text:
        return Outcome("two lines", text)
    return Outcome("refused", f"{type(error).__name__}: {text}")


def fault_of(lines: Sequence[str]) -> str:
    """The first line of stderr that no user should see, or nothing."""
    for line in lines:
        if not line.startswith("bt: ") and line.strip():
            return f"not ours: {line[:300]}"
        if "bt: unexpected" in line or "out of memory" in line:
            return line[:300]
        if len(line) > LONGEST_LINE:
            return f"{len(line)} characters: {line[:200]}"
    return ""


def _outcome(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except Lost as error:
        return Outcome("lost", str(error))
    except BtError as error:
        return refusal(error)
    except MemoryError:
        return Outcome("memory", f"more than {MEMORY >> 30} GiB")
    except OSError as error:
        if error.strerror and error.filename:
            return Outcome("refused", f"{error.filename}: {error.strerror}")
        return Outcome("unexpected", _where(error))
    except BaseException as error:
        return Outcome("unexpected", _where(error))


def _where(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last)
    return f"{type(error).__name__}: {str(error)[:200]} ({places})"


def _limit(seconds: int, memory: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def waited(child: int, seconds: float) -> int | None:
    """The exit code of a process of ours (negative: a signal), or None, and killed, when it takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
