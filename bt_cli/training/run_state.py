"""A training run's state on disk: the float32 weights, AdamW's moments and where the run stands, in one file.

Everything random in a run is a function of its seed and step, so this is all that a resumed run needs to go on with the
same losses.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import open_whole, write_whole
from bt_cli.files.shown_path import shown_path
from bt_cli.training.optimizer import MasterWeights
from bt_cli.training.recipe import Recipe

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"


@dataclass
class Position:
    """Where a run stands: steps done, the best validation so far with its loss and step, seconds spent, images seen."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    seconds: float = 0.0
    images: int = 0
    best_loss: float | None = None

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether a validation beats the best so far: by recall, and among equals by the loss."""
        if metrics["recall"] != self.best:
            return metrics["recall"] > self.best
        return "loss" in metrics and self.best_loss is not None and metrics["loss"] < self.best_loss


def save_state(
    folder: Path, recipe: Recipe, position: Position, weights: MasterWeights, start: str, captions: str = ""
) -> None:
    """Write the state whole or not at all. Raises Unwritable.

    `start` names what the run started from, `captions` is the fingerprint of what it learns from.
    """
    from safetensors.torch import save

    about = {"recipe": recipe.to_dict(), "position": vars(position), "start": start, "captions": captions}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.state().items()}
    with open_whole(folder / STATE_FILE) as file:
        run = json.dumps(about)
        file.write(save(tensors, {"run": run, "crc32": str(_checksum(run, tensors))}))


def load_state(folder: Path, recipe: Recipe, weights: MasterWeights, start: str, captions: str = "") -> Position | None:
    """Take up the state in `folder`, None where there is none. `start` and `captions` as for :func:`save_state`.

    Stages that have not begun may have changed; other changes would make it another run. Raises BadConfig.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STATE_FILE
    if not path.is_file():
        return None
    way_out = f"choose another --out, or remove {folder} to start over"
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # States of earlier versions carry no checksum.
        if metadata.get("crc32", str(_checksum(metadata["run"], tensors))) != str(_checksum(metadata["run"], tensors)):
            raise ValueError("its checksum is not that of its content")
        about = _in_todays_words(json.loads(metadata["run"]))
        position = Position(**about["position"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadConfig(f"{path}: the run's state is damaged ({reason[:100]}); {way_out}") from None
    if about["start"] != start:
        raise BadConfig(f"{path}: this run began from {about['start']}, not from {start}; {way_out}")
    changed = _changes(Recipe.from_dict(about["recipe"]).to_dict(), recipe, position.step)
    # Other captions make another number of steps out of epochs, so they come before the stages; another seed holds
    # others back, so it comes before them. States of earlier versions don't name theirs.
    if about.get("captions", captions) != captions and (not changed or changed.startswith("stage ")):
        raise BadConfig(
            f"{path}: this run was begun with other captions, another share held out or other images missing; {way_out}"
        )
    if changed:
        raise BadConfig(f"{path}: this run was begun with another {changed}; {way_out}")
    wanted = {f"weight/{name}": tuple(master.shape) for name, master in weights.weights().items()}
    held = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name.startswith("weight/")}
    if wanted != held:
        raise BadConfig(f"{path}: the state is of another network; {way_out}")
    weights.restore(tensors)
    return position


def _checksum(run: str, tensors: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 of what a state says of its run and of every tensor's name and bytes, in the names' order."""
    total = zlib.crc32(run.encode())
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _in_todays_words(about: dict[str, Any]) -> dict[str, Any]:
    """What a state says of its run; before 0.1.0 two of the names in it were others."""
    position = about["position"]
    if "pictures" in position:
        position["images"] = position.pop("pictures")
    for stage in about["recipe"]["stages"]:
        matching = stage["matching"]
        if "handmade" in matching:
            matching["given_share"] = matching.pop("handmade")
    return about


def _changes(old: dict[str, Any], recipe: Recipe, step: int) -> str:
    """What of a recipe that has run for `step` steps differs, in words; nothing = the run can go on.

    Stages to come may differ. The present one may get another length as long as its rate has not depended on it yet.
    """
    new = recipe.to_dict()
    for key in ("seed", "dtype", "text_length", "network", "positions", "source"):
        if old[key] != new[key]:
            return key
    done = 0
    for number, stage in enumerate(old["stages"]):
        if step <= done:
            break
        wanted = new["stages"][number] if number < len(new["stages"]) else None
        taken = min(step - done, stage["steps"])
        if wanted and taken <= wanted["steps"]:
            rates = recipe.stages[number].rates
            if all(rates.at(each, stage["steps"]) == rates.at(each, wanted["steps"]) for each in range(taken)):
                wanted = {**wanted, "steps": stage["steps"]}
        if wanted != stage:
            return f"stage {number + 1} ({stage['name']})"
        done += stage["steps"]
    return ""


def restore_random(seed: int, step: int, rank: int) -> None:
    """Set torch's own generator (dropout) for one step."""
    torch.manual_seed(((seed * 1_000_003 + step) * 4_099 + rank) % (1 << 64))


class RunLog:
    """Appends to log.jsonl. A resumed run drops the lines after the step from which it goes on."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG_FILE
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, **values: Any) -> None:
        """One line; numbers are rounded to six digits."""
        rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in values.items()}
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Make sure it is on disk."""
        os.fsync(self.file.fileno())
        self.file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out.

    Raises BadConfig, with the line's number, for a log that is damaged elsewhere.
    """
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                values = json.loads(line)
                if not isinstance(values["step"], int):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                if not line.endswith("\n"):
                    return
                raise BadConfig(
                    f"{shown_path(path)}:{number}: the log is damaged; remove it, the run goes on without it"
                ) from None
            yield values
