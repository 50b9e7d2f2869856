"""A recipe: everything that decides a training run, as data. `bt train --recipe FILE` reads one, options make one.

A recipe is a list of stages; a curriculum is nothing but a recipe with several. Every number that shapes the weights
stands here, so the file that is kept beside the weights says how they were made.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from bt_cli.errors import BadConfig
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.files.shown_path import shown_path

LOSSES = ("itc", "itc_cross", "itm", "mlm")
"""`itc`: image-text cross-entropies; `itc_cross`: the two with the fused embedding (the rest of the port's ITC
loss)."""

FREEZABLE = ("text", "vision")
SOURCES = ("captions", "scenes")
LONGEST_TEXT = 1 << 16
"""More than any network has positions for; texts are cut to the network's own in any case."""

PUBLISHED_RATE, PUBLISHED_WIDTH, LARGEST_SUITED_RATE = 1e-5, 768, 1e-3

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Rates:
    """AdamW and its schedule. The defaults are the published recipe."""

    learning_rate: float | None = None
    """Of the towers; None = as suits the network's width, see :func:`suited_learning_rate`."""
    cross_multiplier: float = 5.0
    head_multiplier: float = 5.0
    warmup: float = 0.1
    """Share of the stage's steps (below 1) or number of steps over which the rate rises from nothing."""
    decay: float = 1.0
    """Share of the stage's steps at its end over which the rate falls linearly to nothing."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    clip: float = 0.0
    """Largest norm of the whole gradient; 0 = any."""

    def at(self, step: int, steps: int) -> float:
        """The towers' learning rate at `step` (from 0) of a stage of `steps`; the rate has to be settled."""
        if self.learning_rate is None:
            raise ValueError("the learning rate is not settled yet: Recipe.for_width() does it")
        warmup = self.warmup if self.warmup >= 1 else self.warmup * steps
        ascent = (step + 1) / warmup if warmup else 1.0
        descent = (steps - step) / (self.decay * steps) if self.decay else 1.0
        return self.learning_rate * min(1.0, ascent, descent)


@dataclass(frozen=True)
class Matching:
    """Which wrong pairs the ITM head is shown."""

    negatives: int = 2
    """Wrong pairs for each true one."""
    given_share: float = 0.5
    """Share of the wrong pairs that take one of the image's given wrong captions, where it has any."""
    hardness: float = 14.3
    """What ITC similarities are multiplied by before hard pairs are drawn with softmax; 0 = any wrong pair alike. The
    default is 1 / 0.07, the published starting temperature."""
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Weights of the kinds of given caption; empty = each caption alike."""


@dataclass(frozen=True)
class Masking:
    """Which tokens the MLM head has to guess."""

    rate: float = 0.15
    share: float = 1.0
    """Share of the batch's captions that are masked at all; fewer are quicker."""
    focus: float = 0.0
    """Share of the captions whose masks fall on `words` alone."""
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image before the image processor sees it. Images of a generated source come augmented."""

    crop: tuple[float, float] = (1.0, 1.0)
    """Range of the share of the image's area that a random crop keeps; (1, 1) = no crop."""
    flip: bool = False
    """Mirror half of the images; off, because it makes "left" and "right" untrue."""


@dataclass(frozen=True)
class Stage:
    """One leg of the curriculum."""

    name: str = "fine-tune"
    steps: int = 0
    """Optimizer steps; 0 = `epochs` passes over the captions."""
    epochs: float = 0.0
    batch: int = 32
    """Captioned images, shared out among the processes of a data parallel run."""
    accumulate: int = 1
    """Batches summed into one step; ITC and hard negatives see one of them at a time."""
    losses: Mapping[str, float] = field(default_factory=lambda: {"itc": 1.0, "itm": 1.0, "mlm": 1.0})
    rates: Rates = field(default_factory=Rates)
    matching: Matching = field(default_factory=Matching)
    masking: Masking = field(default_factory=Masking)
    augmentation: Augmentation = field(default_factory=Augmentation)
    freeze: tuple[str, ...] = ()
    dropout: float | None = None
    """None = as the checkpoint's config says."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for the generated source, where there is one."""

    def weight(self, loss: str) -> float:
        """The loss's factor; 0 = it is not computed."""
        return float(self.losses.get(loss, 0.0))


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    name: str = "fine-tune"
    note: str = ""
    seed: int = 0
    dtype: str = "bfloat16"
    """What the network computes in; the weights that are trained stay float32."""
    text_length: int = 50
    """Tokens of a caption that are read, `<s>` and `</s>` included."""
    network: Mapping[str, Any] | None = None
    """config.json of a network to train from nothing; None = start from a checkpoint."""
    positions: float = 0.0
    """From nothing: amplitude of the sine-cosine image positions at the start; 0 = random ones."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """{"kind": "captions"} or {"kind": "scenes", "size": ..., ...}"""
    validate_every: int = 0
    """Steps between looks at the validation set; 0 = at the end of each stage."""
    validation_items: int = 1000
    keep: str = "best"
    """Which weights are left in the output folder: those of the best mean recall ("best") or of the end ("last")."""
    save_dtype: str = "float32"
    """How the weights are stored in the output folder: float32, bfloat16 or float16."""
    checkpoint_layers: bool = False
    """Recompute each layer's activations in the backward pass: about a third slower, far less memory."""
    log_every: int = 1
    state_seconds: float = 60.0
    """Time between two states on disk: the most that a kill can cost."""
    stages: tuple[Stage, ...] = (Stage(),)

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[int, int]:
        """(number of the stage, step within it) of a step counted over the whole run."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise IndexError(step)

    def for_width(self, width: int) -> Recipe:
        """The same with every learning rate that is left open as it suits a network of this width."""
        suited = suited_learning_rate(width)
        return dataclasses.replace(
            self,
            stages=tuple(
                dataclasses.replace(stage, rates=dataclasses.replace(stage.rates, learning_rate=suited))
                if stage.rates.learning_rate is None
                else stage
                for stage in self.stages
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def checked(self, where: str) -> Recipe:
        """The same, if all that it says is possible. Raises BadConfig, which begins with `where`."""
        return Recipe.from_dict(self.to_dict(), where)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Read what :meth:`to_dict` gave, or a file's content; what is left out keeps its default. Raises BadConfig."""
        recipe = _build(cls, values, where)
        _check(recipe, where)
        return recipe

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a JSON file, or one of the recipes that come with bt by its name. Raises NotFound, BadConfig."""
        bundled = Path(__file__).parent / "recipes" / f"{path}.json"
        path = bundled if bundled.is_file() and not Path(path).exists() else Path(path)
        missing = "no such recipe, neither a file nor one of bt's own (tiny)"
        return cls.from_dict(read_json_object(path, BadConfig, missing=missing, limit=SETTINGS), shown_path(path))


def suited_learning_rate(width: int) -> float:
    """The towers' learning rate where none is given, for a network of this width.

    The published rate is 1e-5 for widths of 768 and more. Below, the rate grows as the number of weights in a layer
    falls, with the square of the width; 128 comes to 3.6e-4, where `tiny` learnt most of 1e-5, 1e-4,
    3.6e-4 and 1e-3 (docs/training.md).
    """
    return min(LARGEST_SUITED_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_WIDTH / width) ** 2)


FINE_TUNING = Recipe(stages=(Stage(epochs=10.0),))
"""What `bt train` does where nothing else is said: one stage, ten times over the captions. Its options' defaults are
read here."""


def _build(kind: type[Kind], values: Any, where: str) -> Kind:
    """A dataclass from a JSON object; unknown keys and wrong types are named."""
    if not isinstance(values, Mapping):
        raise BadConfig(f"{where}: is {values!r}, but has to be an object")
    hints = get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise BadConfig(f"{where}: unknown key {key!r}; it takes {', '.join(sorted(known))}")
    return kind(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    text = str(hint)
    if "tuple[Stage" in text or hint == tuple[Stage, ...]:
        if not isinstance(value, list) or not value:
            raise BadConfig(f"{where}: has to be a list of stages")
        return tuple(_build(Stage, item, f"{where} {number}") for number, item in enumerate(value, 1))
    if value is None and "None" in text:
        return None
    if get_origin(hint) is tuple:
        return _convert_list(get_args(hint), value, where)
    wanted: tuple[type, ...]
    if hint is bool:
        wanted, word = (bool,), "true or false"
    elif hint is int:
        wanted, word = (int,), "a whole number"
    elif hint is float or text.startswith("float"):
        wanted, word = (int, float), "a number"
    elif hint is str:
        wanted, word = (str,), "a text"
    else:
        wanted, word = (Mapping,), "an object"
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise BadConfig(f"{where} is {value!r}, but has to be {word}")
    if wanted == (int, float):
        if not is_number(value):
            raise BadConfig(f"{where} is {value}, but has to be a finite number")
        return float(value)
    return value


def _convert_list(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadConfig(f"{where} is {value!r}, but has to be a list")
    if Ellipsis not in hints and len(value) != len(hints):
        raise BadConfig(f"{where} is {list(value)}, but has to be a list of {len(hints)}")
    return tuple(_convert(hints[0], item, f"{where}: item {number}") for number, item in enumerate(value, 1))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether this is a finite number that fits a float; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _refuse(where: str, what: str, wanted: str) -> NoReturn:
    raise BadConfig(f"{where}: {what}, but has to be {wanted}")


def _check(recipe: Recipe, where: str) -> None:
    if recipe.dtype not in ("float32", "bfloat16"):
        _refuse(where, f"dtype is {recipe.dtype!r}", "float32 or bfloat16")
    if recipe.save_dtype not in ("float32", "bfloat16", "float16"):
        _refuse(where, f"save_dtype is {recipe.save_dtype!r}", "float32, bfloat16 or float16")
    if recipe.keep not in ("best", "last"):
        _refuse(where, f"keep is {recipe.keep!r}", "best or last")
    kind = recipe.source.get("kind", "captions")
    if kind not in SOURCES:
        _refuse(where, f"source: kind is {kind!r}", " or ".join(SOURCES))
    _check_ranges(
        where,
        ("seed", recipe.seed, 0, (1 << 63) - 1),
        ("text_length", recipe.text_length, 3, LONGEST_TEXT),
        ("positions", recipe.positions, 0, math.inf),
        ("validate_every", recipe.validate_every, 0, math.inf),
        ("validation_items", recipe.validation_items, 1, math.inf),
        ("log_every", recipe.log_every, 1, math.inf),
        ("state_seconds", recipe.state_seconds, 0, math.inf),
    )
    for number, stage in enumerate(recipe.stages, 1):
        _check_stage(stage, f"{where}: stage {number} ({stage.name})")


def _check_ranges(where: str, *ranges: tuple[str, float, float, float]) -> None:
    for name, value, low, high in ranges:
        if not low <= value <= high:
            _refuse(where, f"{name} is {value}", f"at least {low}" if high == math.inf else f"from {low} to {high}")


def _check_stage(stage: Stage, where: str) -> None:
    _check_losses(stage, where)
    for tower in stage.freeze:
        if tower not in FREEZABLE:
            _refuse(where, f"freeze names {tower!r}", "text or vision")
    for kind, weight in stage.matching.kinds.items():
        if not is_number(weight) or weight < 0:
            _refuse(where, f"matching: weight of kind {kind!r} is {weight!r}", "a number of at least 0")
    rates = stage.rates
    _check_ranges(
        where,
        ("batch", stage.batch, 2, 1 << 20),
        ("accumulate", stage.accumulate, 1, 1 << 20),
        ("steps", stage.steps, 0, 1 << 40),
        ("epochs", stage.epochs, 0, 1e9),
        ("negatives", stage.matching.negatives, 1, 64),
        ("given_share", stage.matching.given_share, 0, 1),
        ("hardness", stage.matching.hardness, 0, 1000),
        ("masking rate", stage.masking.rate, 0, 1),
        ("masking share", stage.masking.share, 0, 1),
        ("masking focus", stage.masking.focus, 0, 1),
        ("learning_rate", rates.learning_rate or 0.0, 0, 10),
        ("cross_multiplier", rates.cross_multiplier, 0, 1e6),
        ("head_multiplier", rates.head_multiplier, 0, 1e6),
        ("decay", rates.decay, 0, 1),
        ("warmup", rates.warmup, 0, 1 << 40),
        ("weight_decay", rates.weight_decay, 0, 1000),
        ("clip", rates.clip, 0, math.inf),
        ("dropout", stage.dropout or 0.0, 0, 0.95),
    )
    if not all(0 <= beta < 1 for beta in rates.betas):
        _refuse(where, f"betas are {list(rates.betas)}", "two numbers from 0 to below 1")
    if not rates.epsilon > 0:
        _refuse(where, f"epsilon is {rates.epsilon}", "above 0")
    least, most = stage.augmentation.crop
    if not 0 < least <= most <= 1:
        _refuse(where, f"crop is {[least, most]}", "two shares of the area, such as [0.5, 1.0]")
    if not stage.steps and not stage.epochs:
        _refuse(where, "neither steps nor epochs are given", "one of them")


def _check_losses(stage: Stage, where: str) -> None:
    for loss, weight in stage.losses.items():
        if loss not in LOSSES:
            _refuse(where, f"loss {loss!r}", "one of " + ", ".join(LOSSES))
        if not is_number(weight) or weight < 0:
            _refuse(where, f"weight of {loss} is {weight!r}", "a number of at least 0")
    if not any(stage.losses.values()):
        _refuse(where, "no loss has a weight", "at least one above 0")
    if stage.weight("itc_cross") and not stage.weight("itm"):
        _refuse(where, "itc_cross stands without itm", "together with itm, whose true pairs it uses")
