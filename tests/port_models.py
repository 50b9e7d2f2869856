"""The port's classes beside ours on one random checkpoint, in each of the hub's layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

CLASSES = (
    "BridgeTowerModel",
    "BridgeTowerForContrastiveLearning",
    "BridgeTowerForMaskedLM",
    "BridgeTowerForImageAndTextRetrieval",
)
LAYOUTS = ("safetensors", "safetensors shards", "bin", "bin shards")
EMBEDDINGS, LOGITS = 1e-5, 1e-4
"""How far ours may be from the port."""


def in_layout(folder: Path, layout: str, target: Path) -> Path:
    """A copy of a checkpoint folder with its weights in another of the hub's layouts."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("model.safetensors"))
    tensors = load_file(folder / "model.safetensors")
    kind = "bin" if layout.startswith("bin") else "safetensors"
    stem = "pytorch_model" if kind == "bin" else "model"
    names = sorted(tensors)
    parts = [names[::2], names[1::2]] if layout.endswith("shards") else [names]
    files = [f"{stem}.{kind}"] if len(parts) == 1 else [f"{stem}-{n + 1:05d}-of-00002.{kind}" for n in range(2)]
    for file, part in zip(files, parts, strict=True):
        content = {name: tensors[name] for name in part}
        if kind == "bin":
            torch.save(content, target / file)
        else:
            from safetensors.torch import save_file

            save_file(content, target / file, {"format": "pt"})
    if len(parts) > 1:
        where = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        index = {"metadata": {"total_size": 0}, "weight_map": where}
        (target / f"{stem}.{kind}.index.json").write_text(json.dumps(index), "utf-8")
    return target


def ours(name: str):
    import bt_cli

    return getattr(bt_cli, name)


def port(name: str, folder: Path):
    """The port's model of a folder, in eval mode, its progress and reports silenced."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return getattr(transformers, name).from_pretrained(folder).eval()


def batch(pairs: int = 3, tokens: int = 9, size: int = 64, seed: int = 0) -> dict[str, torch.Tensor]:
    """Pairs of random pixels and ids, the second text shorter than the others and padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 200, (pairs, tokens), generator=generator)
    if pairs > 1:
        ids[1, tokens - 3 :] = 1
    pixels = torch.randn(pairs, 3, size, size, generator=generator)
    return {"input_ids": ids, "attention_mask": ids.ne(1).long(), "pixel_values": pixels}
