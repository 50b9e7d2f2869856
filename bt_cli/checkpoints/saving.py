"""Writing a checkpoint in the hub's layout: `transformers` loads it to the same outputs, bt to the same bits."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.checkpoints.hub_layout import HubLayout, heads_in
from bt_cli.errors import Misuse, Unwritable
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path
from bt_cli.files.unfinished import locked_folder, sweep_parts
from bt_cli.weight_files.safetensors_file import DTYPE_CODES, TensorEntry, write_safetensors
from bt_cli.weight_files.tensor_files import SAFETENSORS, SAFETENSORS_INDEX, WEIGHTS

if TYPE_CHECKING:
    import torch

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer

SHARD_BYTES = 5_000_000_000
"""Files above this are split, as the hub asks for."""

# What `transformers` builds when it is asked for no class in particular; the first head that is there decides.
_ARCHITECTURES = {
    "itc_cross": "BridgeTowerForContrastiveLearning",
    "itm": "BridgeTowerForImageAndTextRetrieval",
    "mlm": "BridgeTowerForMaskedLM",
}


@dataclass(frozen=True)
class HubTensor:
    """A tensor under its name on the hub, with the way to get at it: made only when it is written."""

    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]


def save_checkpoint(
    network: BridgeTower,
    folder: str | os.PathLike[str],
    *,
    image_processor: ImageProcessor | None = None,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `network`, with the processors that belong to it, to `folder` in the hub's layout.

    All weights are stored as `dtype` (default float32). A new folder appears whole or not at all; in one that exists,
    the checkpoint's files are replaced one by one, each whole, and other files stay. Raises Unwritable, and Misuse
    for a network that is packed for inference.
    """
    import torch

    write_checkpoint(
        folder,
        network.config,
        hub_tensors(network),
        dtype=dtype or torch.float32,
        preprocessing=None if image_processor is None else image_processor.to_dict(),
        save_tokenizer=None if tokenizer is None else tokenizer.save,
        shard_bytes=shard_bytes,
    )


def hub_tensors(network: BridgeTower) -> dict[str, HubTensor]:
    """The network's parameters under the hub's names and in its shapes, in the network's order."""
    import torch

    _refuse_packed(network)
    layout = HubLayout(network.config)
    found: dict[str, HubTensor] = {}
    halves: dict[str, list[torch.Tensor]] = {}
    for name, parameter in network.named_parameters():
        for piece in layout.pieces(name, tuple(parameter.shape)):
            rows = parameter.detach() if piece.rows is None else parameter.detach()[slice(*piece.rows)]
            if piece.hub_rows is None:
                found[piece.hub_name] = HubTensor(piece.hub_shape, partial(rows.reshape, piece.hub_shape))
            else:  # text's token type comes before the images' in the network's order as it does in the tensor
                parts = halves.setdefault(piece.hub_name, [])
                parts.append(rows)
                found[piece.hub_name] = HubTensor(piece.hub_shape, partial(torch.cat, parts))
    return found


def _refuse_packed(network: BridgeTower) -> None:
    """A network packed for inference has given its weights away; what is left of it must not pass for a checkpoint."""
    from bt_cli.checkpoints.meta_network import meta_network

    heads = {
        "itm": network.itm_head,
        "mlm": network.mlm_head,
        "itc": network.logit_scale,
        "itc_cross": network.itc_cross_head,
    }
    towers = {"text": network.text_tower, "vision": network.vision_tower, "cross": network.cross_modal}
    whole = meta_network(
        network.config, *({name for name, part in parts.items() if part is not None} for parts in (heads, towers))
    )
    missing = sorted({name for name, _ in whole.named_parameters()} - {name for name, _ in network.named_parameters()})
    if missing:
        raise Misuse(
            f"a network without {missing[0]} can't be saved: it is packed for inference; save Checkpoint.network()"
        )


def write_checkpoint(
    folder: str | os.PathLike[str],
    config: BridgeTowerConfig,
    tensors: Mapping[str, HubTensor],
    *,
    dtype: torch.dtype,
    preprocessing: Mapping[str, Any] | None = None,
    save_tokenizer: Callable[[Path], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a checkpoint from tensors under the hub's names; see `save_checkpoint`. `progress` hears bytes."""
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise Unwritable(f"{shown_path(folder)} is a file; name a folder for the checkpoint, a new one or an old one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder.parent, folder.name[:100])
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    stored = str(dtype).removeprefix("torch.")
    try:
        with locked_folder(aside):
            _write_weights(aside, tensors, stored, shard_bytes, progress)
            if preprocessing is not None:
                write_whole(aside / "preprocessor_config.json", json.dumps(preprocessing, indent=2) + "\n")
            if save_tokenizer is not None:
                save_tokenizer(aside)
            write_whole(aside / "config.json", _config_json(config, heads_in(tensors), stored))
            _move_into_place(aside, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_weights(
    folder: Path,
    tensors: Mapping[str, HubTensor],
    dtype: str,
    shard_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    entries = {name: TensorEntry(tensor.shape, DTYPE_CODES[dtype]) for name, tensor in tensors.items()}
    shards = _shards(entries, shard_bytes)
    total = sum(entry.nbytes for entry in entries.values())
    done = 0

    def each(names: list[str]) -> Iterator[torch.Tensor]:
        nonlocal done
        for name in names:
            yield tensors[name].make()
            done += entries[name].nbytes
            if progress is not None:
                progress(done, total)

    files: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = SAFETENSORS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        shard = {name: entries[name] for name in names}
        write_safetensors(folder / file, shard, each(names), {"format": "pt"})
        files.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": files}
        write_whole(folder / SAFETENSORS_INDEX, json.dumps(index, indent=2) + "\n")


def _shards(entries: Mapping[str, TensorEntry], shard_bytes: int) -> list[list[str]]:
    """The names in their order, cut where the next tensor would make a file larger than `shard_bytes`."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, entry in entries.items():
        if shards[-1] and size + entry.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += entry.nbytes
    return shards


def _config_json(config: BridgeTowerConfig, heads: set[str], dtype: str) -> str:
    values = config.to_diff_dict()
    architecture = next((name for head, name in _ARCHITECTURES.items() if head in heads), "BridgeTowerModel")
    values["architectures"] = [architecture]
    values["dtype"] = dtype
    values.pop("torch_dtype", None)  # the name by which older files know `dtype`
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _move_into_place(aside: Path, folder: Path) -> None:
    """The finished files take their place: all at once where `folder` is new or empty, else config.json last."""
    os.chmod(aside, 0o777 & ~_umask(aside))
    if not folder.exists() or not any(folder.iterdir()):
        if folder.is_symlink() or folder.is_dir():
            os.rmdir(folder.resolve())
        os.rename(aside, folder.resolve())
        return
    written = {path.name for path in aside.iterdir()}
    for name in sorted(written - {"config.json"}):
        os.replace(aside / name, folder / name)
    for path in list(folder.iterdir()):  # weights of what lay here before must not be taken for ours
        is_shard = path.name.startswith(("model-", "pytorch_model-")) and path.suffix in (".safetensors", ".bin")
        if (is_shard or path.name in WEIGHTS) and path.name not in written:
            path.unlink()
    os.replace(aside / "config.json", folder / "config.json")


def _umask(folder: Path) -> int:
    """The bits that a new file lacks; a folder made for temporary use is closed to others, a checkpoint need not be."""
    return 0o777 & ~((folder / "config.json").stat().st_mode | 0o111)


def _unwritable(folder: Path, error: OSError) -> Unwritable:
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return Unwritable(f"{shown_path(folder)}: can't write the checkpoint: {reason}")
