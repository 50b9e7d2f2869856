"""`bt`: the list of commands, and the one place where an exception becomes a line on stderr and an exit code.

A command's module is imported when that command is used, so `bt --help` costs no more than typer itself and one
command's imports never slow another. A module holds a function `run` or, for a command with commands of its own, a
Typer `app`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from bt_cli.arguments.given_values import with_checked_values
from bt_cli.arguments.help_words import in_plain_words
from bt_cli.arguments.output_files import with_files_apart
from bt_cli.display import remarks
from bt_cli.errors import BtError
from bt_cli.version import __version__

COMMANDS = {
    "index": "Encode new and changed images, drop vanished ones.",
    "search": "Find images or captions by text, by image, or by both.",
    "rerank": "Put images in the order in which they match a text.",
    "score": "How well each image and text match.",
    "fill-mask": "The best words for each <mask> of a text, looking at an image.",
    "label": "Which of some labels fits each image.",
    "duplicates": "Images that the index holds more than once, and which to keep.",
    "show": "What the index knows of an image; writes the image out.",
    "encode": "Embeddings of images or captions as a table, without an index.",
    "export": "An index for LanceDB, Qdrant, webdataset or NumPy.",
    "eval": "Recall, RSUM, median rank and MRR on captioned images.",
    "train": "Fine-tune a checkpoint on captioned images.",
    "models": "List, describe, download and convert checkpoints.",
    "serve": "A page and APIs over an index, on this machine.",
    "mcp": "Tools for assistants over stdio: search, rerank, score, show.",
    "info": "What the index holds and which checkpoint made it.",
}
"""Every command and its line in `bt --help`, in the order in which they are shown."""

INTERRUPTED = 130
LONGEST_LINE = 400
"""Characters of an error's line; of what is longer the middle is left out."""


def load_command(name: str) -> Any:
    """Import one command's module and return its click command."""
    module = importlib.import_module("bt_cli.commands." + name.replace("-", "_"))
    command = getattr(module, "app", None)
    if command is None:
        command = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)
        command.command(name=name)(module.run)
    loaded = typer.main.get_command(command)
    loaded.name = name
    return with_files_apart(with_checked_values(in_plain_words(loaded)))


class LazyGroup(typer.core.TyperGroup):
    """A group whose commands are stand-ins (a name and a line of help) until one of them is called."""

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = {
            name: typer.core.TyperCommand(name, help=text, rich_markup_mode=None) for name, text in COMMANDS.items()
        }
        super().__init__(**settings)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name and command is not None else command, rest


CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(name="bt", cls=LazyGroup, rich_markup_mode=None, context_settings=CONTEXT)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bt {__version__}")
        raise typer.Exit


@app.callback()
def bt(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find images by text and text by image with BridgeTower, at the shell.

    Start with `bt index FOLDER`, then `bt search "a red car"`.
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run bt with `args` (default: the process's own) and return its exit code.

    0 done, 1 failed, 2 misused, 130 interrupted.
    """
    _open_what_is_closed()
    remarks.set_quiet(False)
    remarks.listen()
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        code = _invoke(arguments or ["--help"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        return _explain(error)


def _open_what_is_closed() -> None:
    """Stand in for a stdout or stderr that the caller closed (`>&-`): what would go there is not wanted."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (for the whole process)


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="bt", standalone_mode=False)
    except SystemExit as stop:  # shell completion, and typer's own answer to a closed pipe
        closed_pipe = isinstance(stop.__context__, BrokenPipeError)
        result = _reader_left() if closed_pipe else stop.code
    if result == INTERRUPTED:
        return _interrupted()
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """Say what went wrong in one line and return the exit code that belongs to it."""
    if remarks.debugging():
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BtError):
        remarks.complain(shortened(str(error) or type(error).__name__))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return _interrupted()
    if hasattr(error, "format_message"):  # a usage error of click, which typer either needs or carries within itself
        return _explain_usage(error)
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        remarks.complain(shortened(f"{named}{error.strerror}"))
        return 1
    if isinstance(error, MemoryError):
        remarks.complain("out of memory; a smaller --batch-size or a smaller checkpoint needs less")
        return 1
    message = "; ".join(str(error).split("\n"))
    remarks.complain(shortened(f"unexpected {type(error).__name__}: {message} (BT_DEBUG=1 shows where)"))
    return 1


def shortened(message: str) -> str:
    """At most LONGEST_LINE characters: the beginning, which names the file, and the end, which has the way out."""
    if len(message) <= LONGEST_LINE:
        return message
    mark = " ... "
    beginning = (LONGEST_LINE - len(mark)) // 2
    return message[:beginning] + mark + message[beginning + len(mark) - LONGEST_LINE :]


def _explain_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "bt"
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help(), err=True)
    else:
        message = error.format_message().rstrip(".")
        if message.startswith("Got unexpected extra argument"):
            message += "; a text of several words needs quotes"
        remarks.complain(shortened(f"{message[:1].lower()}{message[1:]} (see {path} --help)"))
    return int(getattr(error, "exit_code", 2))


def _interrupted() -> int:
    remarks.remark("interrupted")
    return INTERRUPTED


def _reader_left() -> int:
    """Whoever read our stdout has seen enough (`| head`): end quietly, with nothing left to flush into the pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
