"""The small files of a checkpoint (config, image settings, tokenizer) without its weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bt_cli.checkpoints.resolve import resolve
from bt_cli.errors import NotFound, Offline, UnknownModel
from bt_cli.files.shown_path import shown_path
from bt_cli.hub.download import endpoint, in_our_words, is_offline
from bt_cli.hub.hub_cache import CONFIG, IMAGE_SETTINGS, TOKENIZER_FILES, cache_folder, snapshot_folder
from bt_cli.hub.model_names import BUNDLED, is_hub_name

TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
SETTINGS_FILES = (CONFIG, *IMAGE_SETTINGS, *TOKENIZER_FILES, *TOKENIZER_SETTINGS)
"""Everything but weights that a checkpoint in the hub's layout may hold."""
WHERE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
"""The keywords of every `from_pretrained` that say where the checkpoint lies."""


def settings_folder(
    name: str | os.PathLike[str],
    needed: Sequence[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> Path:
    """The folder that has the small files of the checkpoint `name`; weights are never fetched.

    Args:
        name: A bundled name, a folder, or a hub name. What the cache has of a hub name is taken as it is, without
            asking the hub whether it changed.
        needed: File names of which one at least has to be there (`config.json`; either name of the image settings).
        revision: Branch, tag or commit on the hub; None is `main`.
        token: The hub's token; None and True stand for the stored one, False for none.
        cache_dir: Another cache folder than the hub's own.
        local_files_only: Never ask the hub.
        force_download: Ask the hub even where the cache has the files.
        subfolder: The folder inside the checkpoint that holds the files.

    Raises:
        NotFound: A folder that is not there, or has none of the needed files.
        UnknownModel: No checkpoint of that name, or it has none of the needed files.
        Offline: The hub is needed and can't be or mustn't be asked.
        DownloadFailed: The hub refused.
    """
    name = os.fspath(name)
    if not is_hub_name(name) or name in BUNDLED or Path(name).is_dir():
        folder = resolve(name) / subfolder
        if not _has(folder, needed):
            raise NotFound(f"{shown_path(folder)}: no {' or '.join(needed)} in it; name a checkpoint's folder")
        return folder
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    snapshot = snapshot_folder(name, revision, cache)
    if not force_download and snapshot is not None and _has(snapshot / subfolder, needed):
        return snapshot / subfolder
    if local_files_only or is_offline():
        because = "local_files_only" if local_files_only else "HF_HUB_OFFLINE"
        where = cache or cache_folder()
        raise Offline(f"{name}: no {' or '.join(needed)} in the cache ({where}), and {because} forbids fetching it")
    return _fetched(name, needed, revision, token, cache, force_download, subfolder)


def _fetched(
    name: str,
    needed: Sequence[str],
    revision: str | None,
    token: str | bool | None,
    cache: Path | None,
    force: bool,
    subfolder: str,
) -> Path:
    """Brings every small file that the hub lists into the cache."""
    with in_our_words(name, revision):
        from huggingface_hub import HfApi, hf_hub_download

        prefix = f"{subfolder.strip('/')}/" if subfolder else ""
        info = HfApi(endpoint=endpoint(), token=token).model_info(name, revision=revision, timeout=10)
        listed = {file.rfilename for file in info.siblings or []}
        if not any(prefix + file in listed for file in needed):
            raise UnknownModel(f"{name} on the hub has no {' or '.join(prefix + file for file in needed)}")
        path = ""
        for file in SETTINGS_FILES:
            if prefix + file in listed:
                path = hf_hub_download(
                    name,
                    prefix + file,
                    revision=revision,
                    token=token,
                    endpoint=endpoint(),
                    cache_dir=cache or cache_folder(),
                    force_download=force,
                )
        return Path(path).parent


def _has(folder: Path, needed: Sequence[str]) -> bool:
    return any((folder / file).is_file() for file in needed)
