"""A whole checkpoint's folder, found as `from_pretrained` is told: another cache, a subfolder, no network."""

from __future__ import annotations

import os
from pathlib import Path

from bt_cli.checkpoints.resolve import resolve
from bt_cli.checkpoints.settings_files import settings_folder
from bt_cli.errors import NotFound, Offline, UnknownModel
from bt_cli.files.shown_path import shown_path
from bt_cli.hub.download import endpoint, in_our_words, is_offline
from bt_cli.hub.hub_cache import CONFIG, cache_folder, has_weights, snapshot_folder
from bt_cli.hub.model_names import BUNDLED, is_hub_name
from bt_cli.weight_files.tensor_files import choose_weights, shard_names


def checkpoint_folder(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> Path:
    """The folder of the checkpoint `name` with its config and weights; arguments and errors as `settings_folder`."""
    name = os.fspath(name)
    if not is_hub_name(name) or name in BUNDLED or Path(name).is_dir():
        folder = resolve(name) / subfolder
        if not folder.is_dir():
            raise NotFound(f"no checkpoint folder {shown_path(folder)}")
        return folder
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    snapshot = snapshot_folder(name, revision, cache)
    if not force_download and snapshot is not None and has_weights(snapshot / subfolder):
        return snapshot / subfolder
    if local_files_only or is_offline():
        because = "local_files_only" if local_files_only else "HF_HUB_OFFLINE"
        raise Offline(
            f"{name}: no config and weights in the cache ({cache or cache_folder()}), and {because} forbids it"
        )
    plain = cache is None and not subfolder and not force_download
    if plain and not isinstance(token, bool):
        return resolve(name, revision=revision, token=token)
    return _fetched(name, revision, token, cache, force_download, subfolder)


def _fetched(
    name: str, revision: str | None, token: str | bool | None, cache: Path | None, force: bool, subfolder: str
) -> Path:
    """Settings and weights by the hub's own client, which knows any cache folder."""
    where = {"revision": revision, "token": token, "cache_dir": cache or cache_folder(), "force_download": force}
    folder = settings_folder(name, (CONFIG,), subfolder=subfolder, **where)  # type: ignore[arg-type]
    with in_our_words(name, revision):
        from huggingface_hub import HfApi, hf_hub_download

        prefix = f"{subfolder.strip('/')}/" if subfolder else ""
        info = HfApi(endpoint=endpoint(), token=token).model_info(name, revision=revision, timeout=10)
        listed = {
            each.rfilename.removeprefix(prefix) for each in info.siblings or [] if each.rfilename.startswith(prefix)
        }
        weights = choose_weights(listed)
        if weights is None:
            raise UnknownModel(
                f"{name} on the hub has no weights (safetensors or pytorch_model.bin) in {prefix or 'it'}"
            )
        fetch = [weights]
        for file in fetch:
            hf_hub_download(name, prefix + file, endpoint=endpoint(), **where)  # type: ignore[arg-type]
            if file.endswith(".json"):
                fetch += shard_names(folder / file)
    return folder
