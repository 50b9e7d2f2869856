"""One variant compared: made with the port, loaded by bt from two formats, saved by bt and loaded by the port."""

from __future__ import annotations

import copy
import gc
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import bt_cli
from benchmarks.parity.faults import FAULTS
from benchmarks.parity.literal import Literal
from benchmarks.parity.port import PortModel, load_port, port_outputs
from benchmarks.parity.variants import ALL, Variant
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.checkpoints.saving import save_checkpoint

LIMITS = {
    "text_features": 1e-4,
    "image_features": 1e-4,
    "pooler_output": 1e-4,
    "itm_logits": 1e-4,
    "mlm_logits": 1e-4,
    "text_embeds": 1e-5,
    "image_embeds": 1e-5,
    "cross_embeds": 1e-5,
}
"""The largest absolute difference allowed in float32, by output."""

HEADS = {
    "none": ("text_features", "image_features", "pooler_output"),
    "ITM": ("itm_logits",),
    "MLM": ("mlm_logits",),
    "ITC": ("text_embeds", "image_embeds", "cross_embeds"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: `way` is the file that bt read, or what else it did."""

    variant: str
    head: str
    way: str
    against: str
    difference: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether every output of the head is within the limit; NaN is not."""
        return self.difference <= self.limit


def compare(variant: Variant, folder: Path, *, fault: str | None = None, seed: int = 0) -> Iterator[Row]:
    """Every row of one variant. `folder` holds the checkpoints meanwhile; `fault` is planted in what bt reads."""
    inputs = make_inputs(variant, seed)
    tensors, expected, against = _expected(variant, inputs, seed)
    for way in ("safetensors", "pytorch_model.bin"):
        path = folder / "made"
        _write(path, tensors, variant, way, fault)
        ours = _outputs(bt_cli.load(path, device="cpu", dtype="float32").network, inputs)
        yield from _rows(variant, way, against, ours, expected, inputs)
        if way == "safetensors":
            shutil.rmtree(path)
    del tensors, ours
    # What `load` gives is packed for inference; this is the network as training sees it, and as it is saved.
    network = Checkpoint.open(path).network()
    yield from _rows(variant, "for training", against, _outputs(network, inputs), expected, inputs)
    shutil.rmtree(path)
    if variant.beyond_port != ALL and fault is None:
        save_checkpoint(network, folder / "saved")
        del network
        gc.collect()
        back = port_outputs(load_port(folder / "saved", variant), inputs, variant.beyond_port)
        shutil.rmtree(folder / "saved")
        compared = {name: expected[name] for name in back}
        yield from _rows(variant, "saved by bt", dict.fromkeys(back, "port"), back, compared, inputs)


def _outputs(network: BridgeTower, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    with torch.inference_mode():
        return vars(network(inputs["pixel_values"], inputs["input_ids"], inputs["attention_mask"]))


def make_inputs(variant: Variant, seed: int) -> dict[str, torch.Tensor]:
    """Random pixels and ids: `<s>` first, `</s>` last, padded at the end."""
    generator = torch.Generator().manual_seed(seed + 1)
    text = variant.config["text_config"]
    longest = max(variant.lengths)
    ids = torch.randint(4, text["vocab_size"], (len(variant.lengths), longest), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(variant.lengths):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = 0, 2, 1
        mask[row, :length] = 1
    pixels = torch.randn(len(variant.lengths), 3, *variant.image_size, generator=generator)
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask}


def _expected(
    variant: Variant, inputs: dict[str, torch.Tensor], seed: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, str]]:
    """The checkpoint's tensors, the outputs to expect, and what each comes from: "port" or "literal"."""
    dtype = getattr(torch, variant.dtype)
    if variant.beyond_port == ALL:
        tensors = _unrunnable_tensors(variant, seed)
        expected: dict[str, Any] = {}
    else:
        port = PortModel(variant, seed)
        for tensor in port.tensors().values():  # what a lower precision loses is lost before anything is computed
            tensor.copy_(tensor.to(dtype).float())
        tensors = port.tensors()
        expected = port.outputs(inputs, variant.beyond_port)
    against = dict.fromkeys(expected, "port")
    if variant.beyond_port:
        literal = Literal(variant.config, tensors).outputs(inputs)
        for name in set(LIMITS) - set(expected):
            expected[name], against[name] = literal[name], "literal"
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}, expected, against


def _unrunnable_tensors(variant: Variant, seed: int) -> dict[str, torch.Tensor]:
    """Tensors for a configuration on which the port crashes: it can still be built, so names and shapes are its own."""
    return PortModel(variant, seed).tensors()


def _write(path: Path, tensors: dict[str, torch.Tensor], variant: Variant, way: str, fault: str | None) -> None:
    config = copy.deepcopy(variant.config)
    tensors = dict(tensors)
    if fault is not None:
        FAULTS[fault](tensors, config)
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    if way == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    else:
        torch.save(tensors, path / "pytorch_model.bin")


def _rows(
    variant: Variant,
    way: str,
    against: dict[str, str],
    ours: dict[str, Any],
    expected: dict[str, torch.Tensor],
    inputs: dict[str, torch.Tensor],
) -> Iterator[Row]:
    real = inputs["attention_mask"].bool()
    for head, names in HEADS.items():
        named = [name for name in names if name in expected]
        if not named:
            continue
        differences = {name: _difference(name, ours[name], expected[name], real) for name in named}
        worst = max(named, key=lambda name: _order(differences[name] / LIMITS[name]))
        source = "/".join(sorted({against[name] for name in named}))
        yield Row(variant.name, head, way, source, differences[worst], LIMITS[worst])


def _difference(name: str, ours: torch.Tensor, expected: torch.Tensor, real: torch.Tensor) -> float:
    """The largest absolute difference; rows of padded tokens mean nothing and are left out."""
    if name in ("text_features", "mlm_logits"):
        ours, expected = ours[real], expected[real]
    return (ours.float() - expected.float()).abs().max().item()


def _order(value: float) -> float:
    """NaN counts as worse than anything."""
    return float("inf") if value != value else value
