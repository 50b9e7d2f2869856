"""The configurations that are compared: small ones that each turn one thing, and the published shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 160


@dataclass(frozen=True)
class Variant:
    """A configuration and what to feed it.

    `config` is a config.json. `image` is (height, width) of the pixels given, None for the checkpoint's own size;
    `lengths` the number of real tokens of each text, padded to the longest. `beyond_port` names outputs that the port
    can't compute, which are compared with the literal computation instead; `port_changes` goes into the port's config
    where it would crash on a field that changes nothing. `dtype` is how weights are stored.
    """

    name: str
    config: dict[str, Any]
    image: tuple[int, int] | None = None
    lengths: tuple[int, ...] = (9, 5, 12)
    beyond_port: frozenset[str] = frozenset()
    port_changes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    official: bool = False

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the pixels that are fed."""
        size = self.config["vision_config"]["image_size"]
        return self.image or (size, size)


ALL = frozenset(
    {"text_features", "image_features", "pooler_output", "itm_logits", "mlm_logits"}
    | {"text_embeds", "image_embeds", "cross_embeds"}
)
IMAGE_EMBEDS = frozenset({"image_embeds"})


def small(**changes: Any) -> dict[str, Any]:
    """A small config.json: 3 cross layers over towers of 4; `changes` to sections are merged into them."""
    values: dict[str, Any] = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "contrastive_hidden_size": 24,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "intermediate_size": 96,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 40,
        },
        "vision_config": {"hidden_size": 64, "num_hidden_layers": 4, "patch_size": 16, "image_size": 64},
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return values


SMALL = [
    Variant("plain", small()),
    Variant("scaled_add", small(link_tower_type="scaled_add")),
    Variant("interpolate", small(link_tower_type="interpolate")),
    Variant("shared links", small(share_link_tower_layers=True), beyond_port=ALL),
    Variant(
        "shared links, interpolate", small(share_link_tower_layers=True, link_tower_type="interpolate"), beyond_port=ALL
    ),
    Variant("own transforms", small(share_cross_modal_transformer_layers=False), beyond_port=IMAGE_EMBEDS),
    Variant("own layernorms", small(vision_config={"share_layernorm": False})),
    Variant(
        "own layernorms, from vision",
        small(vision_config={"share_layernorm": False}, init_layernorm_from_vision_encoder=True),
        port_changes={"init_layernorm_from_vision_encoder": False},
    ),
    Variant("remove_last_layer", small(vision_config={"num_hidden_layers": 5, "remove_last_layer": True})),
    Variant("deeper vision tower", small(vision_config={"num_hidden_layers": 6})),
    Variant("wider vision tower", small(vision_config={"hidden_size": 128}), beyond_port=IMAGE_EMBEDS),
    Variant("one cross layer", small(num_hidden_layers=1)),
    Variant("larger pictures", small(), image=(96, 96)),
    Variant("oblong pictures", small(), image=(48, 112)),
    Variant("patches of 14, rest cut off", small(vision_config={"patch_size": 14, "image_size": 70}), image=(75, 100)),
    Variant("one text, nothing padded", small(), lengths=(11,)),
    Variant(
        "other epsilons and activations",
        small(
            hidden_act="relu",
            layer_norm_eps=1e-3,
            text_config={"hidden_act": "gelu_new", "layer_norm_eps": 1e-4, "type_vocab_size": 2},
            vision_config={"layer_norm_eps": 1e-6},
        ),
    ),
    Variant("stored as float16", small(), dtype="float16"),
    Variant("stored as bfloat16", small(), dtype="bfloat16"),
]

_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "contrastive_hidden_size": 512,
    "logit_scale_init_value": 2.6592,
    "text_config": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
    },
    "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 16, "image_size": 288},
}

_LARGE: dict[str, Any] = {
    **_BASE,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "text_config": {
        **_BASE["text_config"],
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "intermediate_size": 4096,
    },
    "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 294},
}

OFFICIAL = [
    Variant("bridgetower-base", _BASE, lengths=(9, 30), official=True),
    Variant("bridgetower-large", _LARGE, lengths=(12,), official=True),
]
"""The published shapes with every head at once (no published checkpoint has them all); everything else is default."""
