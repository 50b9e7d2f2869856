"""Data sets of the hub by their names, `hf-dataset:owner/name:train`: which files hold them.

`datasets` finds the files, as it would to load them; none is loaded by it. Each is then a file like any other, by its
address in the repository (`hf://datasets/owner/name/...`), so that what is in it keeps its name in the next run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from bt_cli.errors import DownloadFailed, Misuse, NotFound

PREFIX = "hf-dataset:"
CONTAINERS = (".parquet", ".arrow", ".tar", ".tar.gz", ".tgz")
_NAME = re.compile(
    r"hf-dataset:(?P<repository>[^/@:]+/[^/@:]+)(?:/(?P<config>[^@:]+))?(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?"
)
_ADDRESS = re.compile(r"hf://datasets/[^/@]+/[^/@]+@[0-9a-f]{40}/(.+)", re.DOTALL)


class DataSetName(NamedTuple):
    """What a name says."""

    repository: str
    """`owner/name`."""
    config: str | None
    """Which of the repository's data sets; None: its only or its default one."""
    revision: str | None
    """A branch, tag or commit; None: the main branch as it is."""
    split: str | None
    """Which of its splits, several joined by `+`; None: all."""


def is_data_set_name(text: str) -> bool:
    """Whether a text is the name of a data set on the hub."""
    return text.startswith(PREFIX)


def parsed(text: str) -> DataSetName:
    """The parts of `hf-dataset:owner/name[/CONFIG][@REVISION][:SPLIT]`. Raises Misuse for any other text."""
    found = _NAME.fullmatch(text)
    if found is None:
        raise Misuse(f"{text}: a data set's name is written {PREFIX}OWNER/NAME[/CONFIG][@REVISION][:SPLIT]")
    return DataSetName(*found.group("repository", "config", "revision", "split"))


def data_set_files(text: str) -> list[str]:
    """The addresses of the files of a data set, split after split, in their order.

    Raises:
        Misuse: `datasets` is not installed; it is no such name; there is no such config or split; the files are of a
            kind that holds no images.
        NotFound: There is no such data set or revision, or it has no files.
        DownloadFailed: The hub can't be asked.
    """
    name = parsed(text)
    splits = _found(text, name)
    wanted = list(splits) if name.split is None else name.split.split("+")
    for split in wanted:
        if split not in splits:
            raise Misuse(f"{text}: no split {split!r}; it has {', '.join(splits)}")
    files = [_address(file, name) for split in wanted for file in splits[split]]
    held = [file for file in files if file.lower().endswith(CONTAINERS)]
    if not held:
        kinds = ", ".join(sorted({os.path.splitext(file)[1] or "no suffix" for file in files}))
        raise Misuse(
            f"{text}: its files ({kinds}) are no Parquet, Arrow or tar files; hf://datasets/{name.repository} gives "
            "single images"
        )
    return held


def _found(text: str, name: DataSetName) -> dict[str, list[str]]:
    try:
        from datasets import load_dataset_builder
    except ImportError as error:
        raise Misuse(f"{PREFIX} needs datasets: pip install 'bridgetower[hub]' ({error})") from error
    try:
        with _in_silence():
            builder = load_dataset_builder(name.repository, name.config, revision=name.revision)
    except FileNotFoundError as error:
        raise NotFound(f"{text}: {_one_line(error)}") from error
    except ValueError as error:
        raise Misuse(f"{text}: {_one_line(error)}") from error
    except Exception as error:  # the hub's client and its transport have exceptions of their own
        raise DownloadFailed(f"{text}: {_one_line(error)}") from error
    return {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}


def _address(file: str, name: DataSetName) -> str:
    """The address of a file by the revision that was named; the library writes the commit that this is today."""
    found = _ADDRESS.fullmatch(file)
    if found is None:
        return file
    revision = "" if name.revision is None else f"@{quote(name.revision, safe='')}"
    return f"hf://datasets/{name.repository}{revision}/{found[1]}"


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Without the remarks and progress of libraries."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            enable_progress_bars()
