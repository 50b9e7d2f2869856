"""From what a user calls a checkpoint to the folder it lies in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bt_cli.errors import NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.hub.download import find_on_hub
from bt_cli.hub.hub_errors import unknown_model
from bt_cli.hub.model_names import BUNDLED, is_hub_name, looks_like_path


def resolve(
    name: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of the checkpoint `name`: bundled, a folder, or a hub name in the cache or downloaded into it.

    Raises `NotFound` for a path that leads nowhere, `UnknownModel` for a name that nothing bears, and what downloading
    raises.
    """
    if name in BUNDLED:
        return bundled_folder(name)
    if not name:
        raise NotFound("the checkpoint's name is empty; `bt models list` shows names that work")
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise NotFound(f"{shown_path(path)} is a file; {_way_out(path)}")
    if looks_like_path(name):
        raise NotFound(f"no checkpoint folder {shown_path(name)}")
    if not is_hub_name(name):
        raise unknown_model(name, f"no checkpoint is called {shown_path(name)}")
    return find_on_hub(name, revision=revision, token=token, progress=progress)


def bundled_folder(name: str) -> Path:
    """Where a bundled checkpoint lies within the package."""
    folder = Path(__file__).parent / name
    if not (folder / "config.json").is_file():
        raise NotFound(f"the bundled checkpoint {name} is missing from this installation; install bt again")
    return folder


def _way_out(path: Path) -> str:
    if path.suffix in (".ckpt", ".pt", ".pth"):
        return f"make a checkpoint folder of it with `bt models convert {shown_path(path)} OUT`"
    return f"name its folder instead: {shown_path(path.parent)}"
