"""From a name to a model's tensors: which folder, which of its tensors, in what dtype, on which device."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.checkpoints.checkpoint_folder import checkpoint_folder
from bt_cli.checkpoints.hub_layout import OPTIONAL, PREFIX, TIED, canonical_name
from bt_cli.checkpoints.named_tensors import NamedTensors
from bt_cli.checkpoints.weight_loading import WEIGHT_DTYPES
from bt_cli.errors import BadInput, CheckpointMismatch, NoDevice
from bt_cli.pretrained.initialisation import initialise
from bt_cli.weight_files.tensor_files import TensorFiles

logger = logging.getLogger("bt_cli")

_HEADS = ("itm_score.", "mlm_score.", "itc_", "logit_scale")
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LISTED = 6  # a message names this many tensors, then counts


@dataclass
class WeightSource:
    """A checkpoint's folder, and its tensors by canonical name."""

    name: str
    folder: Path
    tensors: NamedTensors

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as: the first one's dtype."""
        first = next(iter(self.tensors.names))
        return _DTYPES.get(self.tensors.entry(first).dtype, torch.float32)

    def complete(self, config: BridgeTowerConfig) -> None:
        """Set what a configuration may lack and the tensors tell: the width of the ITC embeddings."""
        head = "itc_text_head.fc.weight"
        if config.contrastive_hidden_size is None and head in self.tensors.names:
            config.contrastive_hidden_size = self.tensors.entry(head).shape[0]


@dataclass
class LoadingReport:
    """What fitted and what did not, by the model's own names."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """In the port's terms."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unexpected),
            "mismatched_keys": set(self.mismatched),
            "error_msgs": [],
        }


def where_from(name: str | os.PathLike[str], **where: Any) -> WeightSource:
    """Open the checkpoint `name`; `where` as `checkpoint_folder` takes it. Its headers are read, no weights."""
    folder = checkpoint_folder(name, **where)
    return WeightSource(os.fspath(name), folder, NamedTensors(TensorFiles.in_folder(folder)))


def device_of(device_map: Any) -> torch.device:
    """The one device that `device_map` names: None is the CPU, "auto" the accelerator where there is one.

    Raises:
        BadInput: A map that would split the model.
        NoDevice: A device that isn't there.
    """
    if isinstance(device_map, Mapping):
        places = set(device_map.values())
        if len(places) != 1:
            raise BadInput("device_map has to name one device: the model is not split; pass a device or 'auto'")
        device_map = places.pop()
    if device_map is None:
        return torch.device("cpu")
    if isinstance(device_map, str) and device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(device_map)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise NoDevice(f"device_map {device_map!r}: {str(error).splitlines()[0]}; use 'auto' or 'cpu'") from None
    return device


def read_weights(
    model: nn.Module,
    config: BridgeTowerConfig,
    source: WeightSource,
    dtype: torch.dtype,
    device: torch.device,
    instead: Mapping[str, Tensor] | None,
    ignore_mismatched_sizes: bool,
    called: str,
) -> LoadingReport:
    """Fill a model on the meta device; heads that are missing are drawn anew and warned of.

    Raises CheckpointMismatch for other tensors that are missing, and for those of another shape.
    """
    prefix = "" if hasattr(model, "bridgetower") else PREFIX
    names = {prefix + name: parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
    given = None if instead is None else {canonical_name(name) or name: value for name, value in instead.items()}
    shapes = (
        {name: tuple(source.tensors.entry(name).shape) for name in source.tensors.names}
        if given is None
        else {name: tuple(value.shape) for name, value in given.items()}
    )
    report = LoadingReport(unexpected=sorted(set(shapes) - set(names)))
    filled: dict[str, Tensor] = {}
    tied = TIED if config.tie_word_embeddings else {}
    drawn = set()
    for name, parameter in names.items():
        target = torch.empty(parameter.shape, dtype=dtype, device=device)
        stored = tied[name] if name in tied and name not in shapes else name
        if stored not in shapes:
            report.missing.append(name)
            drawn.add(name)
        elif shapes[stored] != tuple(parameter.shape):
            report.mismatched.append((name, shapes[stored], tuple(parameter.shape)))
            drawn.add(name)
        elif given is not None:
            target.copy_(given[stored])
        else:
            _refuse_quantised(source, stored)
            source.tensors.read_into(stored, target)
        filled[name.removeprefix(prefix)] = target
    _refuse_misfits(source, report, ignore_mismatched_sizes)
    model.load_state_dict(filled, strict=True, assign=True)
    _draw(model, config, {name.removeprefix(prefix) for name in drawn})
    _warn(source, report, called)
    return report


def _draw(model: nn.Module, config: BridgeTowerConfig, names: set[str]) -> None:
    """Draw these parameters as a new model has them, the others untouched."""
    if not names:
        return
    kept = {name: each.detach().clone() for name, each in model.named_parameters() if name not in names}
    initialise(model, config)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name in kept:
                each.copy_(kept[name])
            elif name == "logit_scale":
                each.fill_(config.logit_scale_init_value)
            elif name.endswith(("scaled_factor", "beta")):
                each.fill_(1.0 if name.endswith("scaled_factor") else 0.5)


def _refuse_misfits(source: WeightSource, report: LoadingReport, ignore_mismatched_sizes: bool) -> None:
    body = [name for name in report.missing if not name.startswith((*_HEADS, *OPTIONAL))]
    complaints = [f"missing: {_some(body)}"] if body else []
    if report.mismatched and not ignore_mismatched_sizes:
        wrong = [f"{name} is {list(had)} instead of {list(wants)}" for name, had, wants in report.mismatched]
        complaints.append(f"mis-shaped: {_some(wrong)}")
    if complaints:
        raise CheckpointMismatch(f"{source.name} does not fit its configuration: {'; '.join(complaints)}")


def _refuse_quantised(source: WeightSource, name: str) -> None:
    kind = source.tensors.entry(name).dtype
    if kind not in WEIGHT_DTYPES:
        raise CheckpointMismatch(
            f"{source.name} is quantised, which bt can't read: {name} ({kind}); take its weights in "
            f"{', '.join(WEIGHT_DTYPES)}"
        )


def _warn(source: WeightSource, report: LoadingReport, called: str) -> None:
    new = [name for name in report.missing if not name.startswith(OPTIONAL)]
    new += [name for name, *_ in report.mismatched]
    if new:
        logger.warning("%s has no %s; %s draws them anew, to be trained", source.name, _some(new), called)


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
