"""Where `save_pretrained` writes."""

from __future__ import annotations

import os
from pathlib import Path

from bt_cli.errors import Misuse, Unwritable
from bt_cli.files.shown_path import shown_path


def made_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder, made with its parents where it is not there. Raises Unwritable."""
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(f"{shown_path(path)}: no folder can be made there: {error.strerror or error}") from error
    return path


def refuse_push(push_to_hub: bool) -> None:
    """Raises Misuse where saving was to upload, too: nothing is sent to a network unless the user runs its client."""
    if push_to_hub:
        raise Misuse("push_to_hub is left to the hub's client: save the folder, then `hf upload OWNER/NAME FOLDER`")
