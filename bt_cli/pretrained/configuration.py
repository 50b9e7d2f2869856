"""The documented configuration classes: the network's own configuration, made, read and written the documented way.

`BridgeTowerConfig(hidden_size=1024, text_config={...})` takes every documented argument by keyword, keeps what it does
not know as an attribute, and is a `bt_cli.bridgetower.configuration.BridgeTowerConfig`: a network is built from it as
it is. One difference from the port is meant: what no network can be built from is refused at once, by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bt_cli.bridgetower import configuration as network
from bt_cli.pretrained.pretrained_config import PretrainedConfig


@dataclass(init=False, repr=False, eq=False)
class BridgeTowerVisionConfig(PretrainedConfig, network.BridgeTowerVisionConfig):
    """The CLIP vision transformer of a BridgeTower.

    Arguments, all by keyword: hidden_size 768 (a multiple of 64, the width of a head), num_hidden_layers 12,
    num_channels 3, patch_size 16, image_size 288 (either may be [height, width], in pixels), initializer_factor 1,
    layer_norm_eps 1e-5, stop_gradient False, share_layernorm True, remove_last_layer False.
    """

    model_type: ClassVar[str] = "bridgetower_vision_model"
    base_config_key: ClassVar[str] = "vision_config"

    def __post_init__(self) -> None:
        network.BridgeTowerVisionConfig.__post_init__(self)


@dataclass(init=False, repr=False, eq=False)
class BridgeTowerTextConfig(PretrainedConfig, network.BridgeTowerTextConfig):
    """The RoBERTa text transformer of a BridgeTower.

    Arguments, all by keyword: vocab_size 50265, hidden_size 768, num_hidden_layers 12, num_attention_heads 12,
    intermediate_size 3072, hidden_act "gelu" (also "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish",
    "quick_gelu"), hidden_dropout_prob 0.1, attention_probs_dropout_prob 0.1, max_position_embeddings 514,
    type_vocab_size 1, initializer_factor 1, layer_norm_eps 1e-5, pad_token_id 1, bos_token_id 0, eos_token_id 2,
    use_cache True (without effect: nothing is generated), and three of which the tower knows one value alone:
    position_embedding_type "absolute", is_decoder False, add_cross_attention False.
    """

    model_type: ClassVar[str] = "bridgetower_text_model"
    base_config_key: ClassVar[str] = "text_config"

    use_cache: bool = field(default=True, kw_only=True)
    is_decoder: bool = field(default=False, kw_only=True)
    add_cross_attention: bool = field(default=False, kw_only=True)
    position_embedding_type: str = field(default="absolute", kw_only=True)

    def __post_init__(self) -> None:
        network.BridgeTowerTextConfig.__post_init__(self)
        self._want_flags(("use_cache", "is_decoder", "add_cross_attention"))
        self._want_choice("position_embedding_type", ("absolute",))
        for name in ("is_decoder", "add_cross_attention"):
            if getattr(self, name):
                self._refuse(name, "false: the text tower is an encoder")


@dataclass(init=False, repr=False, eq=False)
class BridgeTowerConfig(PretrainedConfig, network.BridgeTowerConfig):
    """A whole BridgeTower.

    Arguments, all by keyword: share_cross_modal_transformer_layers True, hidden_act "gelu", hidden_size 768,
    initializer_factor 1, layer_norm_eps 1e-5, share_link_tower_layers False, link_tower_type "add" (also "scaled_add",
    "interpolate"), num_attention_heads 12, num_hidden_layers 6 (at most the depth of either tower),
    tie_word_embeddings False, init_layernorm_from_vision_encoder False, text_config and vision_config (an object of
    the class, or a dictionary of its arguments; None is the defaults).

    Also known: contrastive_hidden_size (width of the ITC embeddings, None without that head) and
    logit_scale_init_value 2.6592, which the port keeps as attributes without a default; and the four fields for
    checkpoints that differ from the port, see `bt_cli.bridgetower.configuration.BridgeTowerConfig`.
    """

    model_type: ClassVar[str] = "bridgetower"
    sub_configs: ClassVar[dict[str, type[Any]]] = {
        "text_config": BridgeTowerTextConfig,
        "vision_config": BridgeTowerVisionConfig,
    }

    text_config: BridgeTowerTextConfig = field(default_factory=BridgeTowerTextConfig)
    vision_config: BridgeTowerVisionConfig = field(default_factory=BridgeTowerVisionConfig)

    def __post_init__(self) -> None:
        network.BridgeTowerConfig.__post_init__(self)

    @classmethod
    def _by_current_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._by_current_names(network.with_fields_in_place(values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BridgeTowerConfig:
        """`from_json_file` by the name that the network's configuration has for it."""
        return cls.from_json_file(path)
