"""The hub's cache on this machine, read without the network and without importing the hub's client."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bt_cli.errors import BadConfig, BrokenCheckpoint, NotFound
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.weight_files.tensor_files import choose_weights, shard_names

CONFIG = "config.json"
IMAGE_SETTINGS = ("preprocessor_config.json", "processor_config.json")
"""Either says how images become pixels; the first goes before. `transformers` writes the second alone since 5.0."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")

_COMMIT = re.compile(r"[0-9a-f]{40}")


def cache_folder() -> Path:
    """Where the hub's client keeps downloads, by its own environment variables as they are at this moment."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = os.environ.get("HF_HOME") or str(base)
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def repo_folder(repo_id: str, cache: Path | None = None) -> Path:
    """The folder for one checkpoint in `cache` (default: the hub's own)."""
    return (cache or cache_folder()) / ("models--" + repo_id.replace("/", "--"))


def snapshot_folder(repo_id: str, revision: str | None = None, cache: Path | None = None) -> Path | None:
    """Where the cache keeps what it has of a revision (default `main`), whole or not; None where it knows none."""
    repo = repo_folder(repo_id, cache)
    revision = revision or "main"
    try:
        commit = revision if _COMMIT.fullmatch(revision) else (repo / "refs" / revision).read_text("utf-8").strip()
    except OSError:
        return None
    return repo / "snapshots" / commit


def cached_snapshot(repo_id: str, revision: str | None = None) -> Path | None:
    """The folder of a cached revision (default `main`) that has a config and all of its weights; None without one."""
    snapshot = snapshot_folder(repo_id, revision)
    return snapshot if snapshot is not None and has_weights(snapshot) else None


def has_weights(folder: Path) -> bool:
    """Whether a config and every weights file are there; a download puts each file in place only when it is whole."""
    if not (folder / CONFIG).is_file():
        return False
    weights = choose_weights([path.name for path in folder.iterdir() if path.exists()])
    if weights is None:
        return False
    if not weights.endswith(".json"):
        return True
    try:
        return all((folder / name).is_file() for name in shard_names(folder / weights))
    except BrokenCheckpoint:
        return False


def has_processors(folder: Path) -> bool:
    """Whether the image and text settings are there too; another program may have cached the weights alone."""
    names = {path.name for path in folder.iterdir() if path.exists()}
    has_images = any(name in names for name in IMAGE_SETTINGS)
    return has_images and ("tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names)


def cached_names() -> list[str]:
    """The hub names of all BridgeTower checkpoints that are whole in the cache, in alphabetical order."""
    try:
        folders = sorted(path for path in cache_folder().iterdir() if path.name.startswith("models--"))
    except OSError:
        return []
    names = [path.name.removeprefix("models--").replace("--", "/", 1) for path in folders]
    return [name for name in names if _is_bridgetower(cached_snapshot(name))]


def bytes_on_disk(folder: Path) -> int:
    """What a checkpoint's folder takes, links followed."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _is_bridgetower(snapshot: Path | None) -> bool:
    """Whether a cached config is a BridgeTower's; the official ones carry no `model_type`."""
    if snapshot is None:
        return False
    try:
        config = read_json_object(snapshot / CONFIG, BadConfig, limit=SETTINGS)
    except (BadConfig, NotFound):
        return False
    return config.get("model_type") == "bridgetower" or "link_tower_type" in config
