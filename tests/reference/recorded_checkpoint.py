"""The checkpoint from which the authors' code recorded its outputs, drawn anew bit by bit instead of stored (14 MB).

Its weights are random numbers: `torch.manual_seed(1)`, then one `torch.randn` for each tensor in the order of the file,
scaled by what the tensor is for. A_full.json holds the order, the shapes and everything else of the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

SUM_OF_ABSOLUTES = 259_266.713_262
"""Of all weights. Another processor may round the last bit otherwise; another generator would miss by hundreds."""


def write_checkpoint(description: Path, target: Path) -> None:
    """Write the Lightning file that A_full.json describes. Raises ValueError where torch draws other numbers."""
    content = json.loads(description.read_text("utf-8"))
    state = draw({name: tuple(shape) for name, shape in content["tensors"].items()})
    total = sum(tensor.double().abs().sum().item() for tensor in state.values() if tensor.is_floating_point())
    if abs(total - SUM_OF_ABSOLUTES) > 0.01:
        raise ValueError(f"torch {torch.__version__} draws other random numbers than the recording: {total}")
    torch.save({**content["checkpoint"], "state_dict": state}, target)


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The tensors of the recorded file, by their names in it."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in shapes.items():
        mean, deviation = distribution(name, shape)
        state[name] = mean + deviation * torch.randn(shape, generator=generator)
    state["temperature"] = torch.tensor(0.07)
    for table in ("word", "position"):  # the row of the padding is zero
        state[f"text_transformer.embeddings.{table}_embeddings.weight"][1] = 0
    for part in ("weight", "bias"):  # the ranking head begins as the match row of the ITM head
        state[f"itm_score.fc.{part}"][1] = state[f"rank_output.{part}"][0]
    positions = shapes["text_transformer.embeddings.position_embeddings.weight"][0]
    state["text_transformer.embeddings.position_ids"] = torch.arange(positions)[None]
    return state


def distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a tensor: scales at which every layer changes what passes through it."""
    if len(shape) < 2:
        norm = "layernorm" in name.lower() or ".ln_" in name
        return (1.0, 0.2) if norm and name.endswith("weight") else (0.0, 0.1)
    if "embedding" in name:
        return 0.0, 0.3
    return 0.0, 1.2 / math.sqrt(math.prod(shape[1:]))
