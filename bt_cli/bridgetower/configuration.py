"""What a BridgeTower is made of: the hub's config.json as three dataclasses.

Every field of the port's `BridgeTowerConfig`, `BridgeTowerTextConfig` and `BridgeTowerVisionConfig` that shapes the
network or its training is a typed field here. Everything else that a file holds is kept in `extra` and written back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.json_object import SETTINGS, read_json_object

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "quick_gelu")
LINK_TOWER_TYPES = ("add", "scaled_add", "interpolate")
ITC_IMAGE_PATHS = ("bridged", "tower")

# Far beyond any BridgeTower; what lies above would end in torch's overflow, or in building layers for ever.
LARGEST_SIDE = 16_384
_MOST, _MOST_LAYERS, _MOST_CHANNELS = 10_000_000, 1_000, 1_000


@dataclass
class ConfigSection:
    """One JSON object of the configuration: known fields, legacy names for them, and the rest kept as it came."""

    legacy: ClassVar[Mapping[str, str]] = {}
    where: ClassVar[str] = ""

    extra: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], /) -> Any:
        """Read a JSON object; legacy names are translated, unknown ones kept in `extra`. Raises BadConfig."""
        known = {item.name for item in fields(cls)} - {"extra"}
        arguments: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in values.items():
            name = cls.legacy.get(name, name)
            if name in known:
                arguments[name] = value
            else:
                extra[name] = value
        return cls(**arguments, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: unknown fields first as they came, then the known ones."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {**self.extra, **{name: value for name, value in known.items() if value is not None}}

    def _refuse(self, name: str, wanted: str) -> None:
        value = getattr(self, name)
        raise BadConfig(f"config.json: {self.where}{name} is {value!r}, but has to be {wanted}")

    def _want_counts(self, names: Iterable[str], least: int = 1, most: int = _MOST) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                self._refuse(name, f"a whole number of at least {least}")
            if value > most:
                self._refuse(name, f"at most {most:,}")

    def _want_numbers(self, names: Iterable[str], low: float, high: float) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                self._refuse(name, f"a number from {low:g} to {high:g}")

    def _want_flags(self, names: Iterable[str]) -> None:
        for name in names:
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "true or false")

    def _want_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, "one of " + ", ".join(choices))

    def _want_heads(self) -> None:
        heads, width = getattr(self, "num_attention_heads"), getattr(self, "hidden_size")  # noqa: B009
        if width % heads:
            self._refuse("num_attention_heads", f"a divisor of hidden_size {width}")


def size_pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """`288` or `[288, 384]` as (height, width)."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _is_size(value: Any) -> bool:
    sides = [value] if isinstance(value, int) else list(value) if isinstance(value, (list, tuple)) else []
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= LARGEST_SIDE for side in sides)
    return whole and len(sides) in (1, 2) and not (len(sides) == 1 and not isinstance(value, int))


@dataclass
class BridgeTowerVisionConfig(ConfigSection):
    """The CLIP vision transformer: pre-LN, QuickGELU, heads of 64, feed-forward of four times the width."""

    legacy: ClassVar[Mapping[str, str]] = {
        "vit_remove_last": "remove_last_layer",
        "vit_layernorm_shared": "share_layernorm",
    }
    where: ClassVar[str] = "vision_config."

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_channels: int = 3
    patch_size: int | list[int] = 16
    image_size: int | list[int] = 288
    initializer_factor: float = 1
    layer_norm_eps: float = 1e-05
    stop_gradient: bool = False
    share_layernorm: bool = True
    remove_last_layer: bool = False

    def __post_init__(self) -> None:
        self._want_counts(("hidden_size",))
        self._want_counts(("num_hidden_layers",), most=_MOST_LAYERS)
        self._want_counts(("num_channels",), most=_MOST_CHANNELS)
        self._want_numbers(("layer_norm_eps",), 0.0, 1.0)
        self._want_numbers(("initializer_factor",), 0.0, 1e3)
        self._want_flags(("stop_gradient", "share_layernorm", "remove_last_layer"))
        for name in ("patch_size", "image_size"):
            if not _is_size(getattr(self, name)):
                self._refuse(name, f"a whole number or a pair [height, width], each at most {LARGEST_SIDE:,}")
        if self.hidden_size % 64:
            self._refuse("hidden_size", "a multiple of 64, the width of a head")
        if min(self.grid) < 1:
            self._refuse("patch_size", f"at most image_size {self.image_size}")
        if self.depth < 1:
            self._refuse("num_hidden_layers", "at least 2 when remove_last_layer is true")

    @property
    def depth(self) -> int:
        """Number of transformer blocks that exist."""
        return self.num_hidden_layers - self.remove_last_layer

    @property
    def heads(self) -> int:
        """Attention heads; CLIP fixes their width at 64."""
        return self.hidden_size // 64

    @property
    def patch(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return size_pair(self.patch_size)

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) of the input in pixels that the position table was made for."""
        return size_pair(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches at the native resolution."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def positions(self) -> int:
        """Rows of the position table: the class token and one per patch."""
        return 1 + self.grid[0] * self.grid[1]


@dataclass
class BridgeTowerTextConfig(ConfigSection):
    """The RoBERTa text transformer: post-LN, positions counted from `pad_token_id + 1`."""

    where: ClassVar[str] = "text_config."

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    initializer_factor: float = 1
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-05
    pad_token_id: int = 1
    bos_token_id: int = 0
    eos_token_id: int = 2

    def __post_init__(self) -> None:
        self._want_counts(("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "type_vocab_size"))
        self._want_counts(("num_hidden_layers",), most=_MOST_LAYERS)
        self._want_counts(("pad_token_id", "bos_token_id", "eos_token_id"), least=0)
        self._want_counts(("max_position_embeddings",), least=self.pad_token_id + 3)
        self._want_numbers(("layer_norm_eps",), 0.0, 1.0)
        self._want_numbers(("initializer_factor",), 0.0, 1e3)
        self._want_numbers(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0, 1.0)
        self._want_choice("hidden_act", ACTIVATIONS)
        self._want_heads()

    @property
    def max_tokens(self) -> int:
        """The longest text, `<s>` and `</s>` included: 512 of RoBERTa's 514 positions."""
        return self.max_position_embeddings - self.pad_token_id - 1


@dataclass
class BridgeTowerConfig(ConfigSection):
    """The whole network.

    `contrastive_hidden_size` is None where the file has none (no ITC head). Four fields are ours, for checkpoints that
    differ from the port (original Lightning files): `cross_layer_norm_eps` and `mlm_layer_norm_eps` (None = as the
    port), `itc_image_path` ("bridged" = through the image transform and token type, as the port; "tower" = straight
    from the vision tower's last state, as the original) and `token_types` (3 in NLVR2 checkpoints).
    """

    legacy: ClassVar[Mapping[str, str]] = {
        "init_layernorm_from_vit": "init_layernorm_from_vision_encoder",
        "vit_layernorm_init_from_vit": "init_layernorm_from_vision_encoder",
        "link_tower_shared": "share_link_tower_layers",
    }

    share_cross_modal_transformer_layers: bool = True
    hidden_act: str = "gelu"
    hidden_size: int = 768
    initializer_factor: float = 1
    layer_norm_eps: float = 1e-05
    share_link_tower_layers: bool = False
    link_tower_type: str = "add"
    num_attention_heads: int = 12
    num_hidden_layers: int = 6
    tie_word_embeddings: bool = False
    init_layernorm_from_vision_encoder: bool = False
    contrastive_hidden_size: int | None = None
    logit_scale_init_value: float = 2.6592
    cross_layer_norm_eps: float | None = None
    mlm_layer_norm_eps: float | None = None
    itc_image_path: str = "bridged"
    token_types: int = 2
    text_config: BridgeTowerTextConfig = field(default_factory=BridgeTowerTextConfig)
    vision_config: BridgeTowerVisionConfig = field(default_factory=BridgeTowerVisionConfig)

    def __post_init__(self) -> None:
        self._want_counts(("hidden_size", "num_attention_heads"))
        self._want_counts(("num_hidden_layers",), most=_MOST_LAYERS)
        self._want_counts(("token_types",), least=2)
        self._want_numbers(("layer_norm_eps",), 0.0, 1.0)
        self._want_numbers(("initializer_factor",), 0.0, 1e3)
        self._want_numbers(("logit_scale_init_value",), -20.0, 20.0)
        optional = ("cross_layer_norm_eps", "mlm_layer_norm_eps")
        self._want_numbers([name for name in optional if getattr(self, name) is not None], 0.0, 1.0)
        if self.contrastive_hidden_size is not None:
            self._want_counts(("contrastive_hidden_size",))
        self._want_flags(("share_cross_modal_transformer_layers", "share_link_tower_layers", "tie_word_embeddings"))
        self._want_flags(("init_layernorm_from_vision_encoder",))
        self._want_choice("hidden_act", ACTIVATIONS)
        self._want_choice("link_tower_type", LINK_TOWER_TYPES)
        self._want_choice("itc_image_path", ITC_IMAGE_PATHS)
        self._want_heads()
        if self.num_hidden_layers > min(self.text_config.num_hidden_layers, self.vision_config.depth):
            depths = f"{self.text_config.num_hidden_layers} text and {self.vision_config.depth} vision layers"
            self._refuse("num_hidden_layers", f"at most the depth of either tower ({depths})")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], /) -> BridgeTowerConfig:
        """Read the hub's config.json as a dict; missing sections take the base model's values. Raises BadConfig."""
        values = with_fields_in_place(values)
        text, vision = _section(values, "text_config"), _section(values, "vision_config")
        values["text_config"] = BridgeTowerTextConfig.from_dict(_without_nulls(text))
        values["vision_config"] = BridgeTowerVisionConfig.from_dict(_without_nulls(vision))
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """config.json as a dict that the port reads too; fields of ours stand only where they differ from it."""
        values = super().to_dict()
        for name, default in (("itc_image_path", "bridged"), ("token_types", 2)):
            if values[name] == default:
                del values[name]
        if self.contrastive_hidden_size is None:
            values.pop("logit_scale_init_value")
        values["text_config"] = self.text_config.to_dict()
        values["vision_config"] = self.vision_config.to_dict()
        values["model_type"] = "bridgetower"
        return values

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BridgeTowerConfig:
        """Read a config.json, or the one in a folder. Raises NotFound or BadConfig, naming the file."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        values = read_object(path)
        try:
            return cls.from_dict(values)
        except BadConfig as error:
            raise BadConfig(f"{path.parent / str(error)}") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write config.json (or into a folder), aside and renamed. Raises Unwritable."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        write_whole(path, json.dumps(self.to_diff_dict(), indent=2, sort_keys=True) + "\n")

    def to_diff_dict(self) -> dict[str, Any]:
        """What a config.json needs to hold; here that is all of `to_dict`."""
        return self.to_dict()

    @property
    def cross_heads(self) -> int:
        """Heads of the cross layers: the port takes the text section's, which needs the same width."""
        same = self.text_config.hidden_size == self.hidden_size
        return self.text_config.num_attention_heads if same else self.num_attention_heads

    @property
    def cross_eps(self) -> float:
        """LayerNorm epsilon inside the cross layers: the text section's in the port, 1e-12 in the original."""
        return self.text_config.layer_norm_eps if self.cross_layer_norm_eps is None else self.cross_layer_norm_eps

    @property
    def mlm_eps(self) -> float:
        """LayerNorm epsilon of the MLM transform."""
        return self.layer_norm_eps if self.mlm_layer_norm_eps is None else self.mlm_layer_norm_eps

    @property
    def vision_depth(self) -> int:
        """Vision blocks that are run. The port counts by the text tower and leaves deeper blocks unused."""
        return min(self.vision_config.depth, self.text_config.num_hidden_layers)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a config.json. Raises NotFound or BadConfig, naming the file."""
    missing = "no such file; a checkpoint folder needs a config.json"
    return read_json_object(path, BadConfig, missing=missing, way_out="fetch the file again", limit=SETTINGS)


def with_fields_in_place(values: Mapping[str, Any]) -> dict[str, Any]:
    """A whole configuration's values, where bridgetower-base's file keeps one of them in the wrong section."""
    name, whole = "init_layernorm_from_vit", dict(values)
    vision = whole.get("vision_config")
    if isinstance(vision, Mapping) and name in vision:
        whole["vision_config"] = {each: value for each, value in vision.items() if each != name}
        whole.setdefault(name, vision[name])
    return whole


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise BadConfig(f"config.json: {name} is {section!r}, but has to be an object")
    return dict(section)


def _without_nulls(section: dict[str, Any]) -> dict[str, Any]:
    """Explicit nulls for known numbers mean "the default" in the hub's files; unknown nulls are kept."""
    return {name: value for name, value in section.items() if value is not None or name == "classifier_dropout"}
