"""The options that commands share, as annotated types: `def run(model: Model = None, device: Device = "auto", ...)`.

Each has one meaning and one environment variable wherever it appears. Only typer and the standard library are imported
here, so that `--help` stays fast.
"""

from __future__ import annotations

import math
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bt_cli.arguments import completion
from bt_cli.display import remarks
from bt_cli.errors import Misuse

DTYPES = ("auto", "float32", "bfloat16", "int8")
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
"""What the shell offers; which of them this machine has would take an import of torch to know."""
DEVICE_PATTERN = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


COMPUTED_THERE = "says how this machine computes; leave it out with --server (BT_SERVER)"
"""Why `refuse_idle` refuses `--device` and `--dtype` beside a server."""


class Combination(StrEnum):
    """How the scores of a pair that the ITM head read become one."""

    itm = "itm"
    itm_itc = "itm+itc"
    itc = "itc"


def check_device(value: str) -> str:
    """Refuse a device that is none of the contract's spellings; whether the machine has it is seen on loading."""
    if not DEVICE_PATTERN.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no device: auto, cpu, cuda, cuda:N or mps")
    return value


def check_dtype(value: str) -> str:
    """Refuse a precision that bt does not know."""
    if value not in DTYPES:
        raise typer.BadParameter(f"{value!r} is no precision: {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return value


def named_folder(value: str) -> Path:
    """Refuse an empty name, which `Path` takes for the working directory and nobody means."""
    if not value:
        raise typer.BadParameter("the name is empty; leave the option out for .bt, or name a folder")
    return Path(value)


def from_environment(context: typer.Context, name: str) -> bool:
    """Whether a parameter's value is a variable's of the environment: what to take where nothing is named."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "ENVIRONMENT"


def refuse_idle(context: typer.Context, reason: str, *names: str) -> None:
    """Refuse options that would change nothing beside the others; `reason` says why, after the option's name.

    Only what was typed counts: a variable of the environment is set for all commands, and not every one needs it.

    Raises:
        Misuse: The first of the parameters `names` that was typed, by its name on the command line.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise Misuse(f"{parameter.opts[0]} {reason}")


def one_index(context: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuse a BT_INDEX of several indexes, as `bt search` and `bt serve` take it, where a command takes one."""
    several = value is not None and os.pathsep in os.fspath(value) and not value.exists()
    if several and from_environment(context, param.name or ""):
        raise typer.BadParameter(f"BT_INDEX names several indexes, and this takes one; name it with {param.opts[0]}")
    return value


def bytes_of_gib(option: str, gib: float) -> int:
    """A size in GiB as bytes. Raises Misuse for one that is infinite or not a number, which no `min` refuses."""
    if not math.isfinite(gib):
        raise Misuse(f"{option} is {gib}, but has to be a number of GiB")
    return int(gib * 2**30)


def _hear_quiet(value: bool) -> bool:
    remarks.set_quiet(value)
    return value


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        envvar="BT_MODEL",
        autocompletion=completion.checkpoints,
        help="Checkpoint: tiny (bundled), a hub name, or a folder in hub layout.",
        show_default=False,
    ),
]
Reranker = Annotated[
    str | None,
    typer.Option(
        "--reranker",
        metavar="NAME|PATH",
        envvar="BT_RERANKER",
        autocompletion=completion.checkpoints,
        help="Checkpoint with the ITM head. Default: --model if it has one, "
        "else BridgeTower/bridgetower-large-itm-mlm.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        envvar="BT_DEVICE",
        callback=check_device,
        autocompletion=completion.among(DEVICES),
        help="Where to compute.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="|".join(DTYPES),
        envvar="BT_DTYPE",
        callback=check_dtype,
        autocompletion=completion.among(DTYPES),
        help="Precision of the network.",
    ),
]
Index = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="DIR",
        envvar="BT_INDEX",
        parser=named_folder,
        callback=one_index,
        help="Index folder. Default: .bt in the working directory, else the nearest one above it.",
        show_default=False,
    ),
]
Indexes = Annotated[
    list[Path] | None,
    typer.Option(
        "--index",
        metavar="DIR",
        parser=named_folder,
        help="Index folder; repeat it to search several as one. Default: BT_INDEX, else .bt here or the nearest above.",
        show_default=False,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="BT_SERVER",
        help="Ask a running bt serve (its index, its checkpoint) instead of loading one here.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Paths = Annotated[bool, typer.Option("--paths", help="Print one path a line and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_hear_quiet, help="No remarks and no progress on stderr.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on the first file that can't be read, instead of skipping it.")
]
CaptionFormat = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Format of the captions, where it is not recognised.")
]
CaptionSplit = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Only these captions of a file that has splits: test, val..."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Leave out files and folders, in the syntax of .gitignore, as a .btignore file does. Repeatable.",
    ),
]
DefaultExcludes = Annotated[
    bool | None,
    typer.Option(
        "--default-excludes/--no-default-excludes",
        help="Leave out hidden ones, @eaDir, #recycle, node_modules and the like.",
        show_default="on",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="NAME[,NAME]",
        help="Carry these columns of the images' source along: of Parquet, lists, metadata or JSON files. Repeatable.",
    ),
]
AllowPrivateUrls = Annotated[
    bool,
    typer.Option("--allow-private-urls", "--allow-private", help="Fetch a URL of this machine or its networks, too."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Images encoded at a time.", show_default="by device"),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=0, help="Workers that decode images.", show_default="by processor"),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads of the network on the CPU.", show_default="all cores"),
]
