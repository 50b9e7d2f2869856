"""Names: what each of the network's parameters is called in the hub's files, and which rows of it lie there.

The network packs what is multiplied together: queries, keys and values are one product here and three tensors on the
hub; the two token types are one tensor on the hub and live in two modules here. Everything else is a matter of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bt_cli.bridgetower.configuration import BridgeTowerConfig

WRAPPERS = ("_orig_mod.", "module.")
"""What `torch.compile` and (Distributed)DataParallel put before the names of the modules that they wrap."""

PREFIX = "bridgetower."
"""Before the names of everything but the heads; files of the bare network come with it and without."""

TEXT = "text_model"
VISION = "vision_model.visual"

# A module of ours, and the hub's module, or modules whose rows follow one another in ours. {n} is a layer's number.
_BODY: dict[str, str | tuple[str, ...]] = {
    "text_tower.word_embeddings": f"{TEXT}.embeddings.word_embeddings",
    "text_tower.position_embeddings": f"{TEXT}.embeddings.position_embeddings",
    "text_tower.token_type_embeddings": f"{TEXT}.embeddings.token_type_embeddings",
    "text_tower.norm": f"{TEXT}.embeddings.LayerNorm",
    "text_tower.layers.{n}.attention.qkv": tuple(
        f"{TEXT}.encoder.layer.{{n}}.attention.self.{part}" for part in ("query", "key", "value")
    ),
    "text_tower.layers.{n}.attention.out": f"{TEXT}.encoder.layer.{{n}}.attention.output.dense",
    "text_tower.layers.{n}.attention.norm": f"{TEXT}.encoder.layer.{{n}}.attention.output.LayerNorm",
    "text_tower.layers.{n}.feed_forward.up": f"{TEXT}.encoder.layer.{{n}}.intermediate.dense",
    "text_tower.layers.{n}.feed_forward.down": f"{TEXT}.encoder.layer.{{n}}.output.dense",
    "text_tower.layers.{n}.feed_forward.norm": f"{TEXT}.encoder.layer.{{n}}.output.LayerNorm",
    "text_tower.pooler": f"{TEXT}.pooler.dense",
    "vision_tower.patch_embedding": f"{VISION}.embeddings.patch_embedding",
    "vision_tower.norm_pre": f"{VISION}.ln_pre",
    "vision_tower.norm_post": f"{VISION}.ln_post",
    "vision_tower.separate_norms.{n}": f"{VISION}.ln_separate.{{n}}",
    "vision_tower.blocks.{n}.norm_1": f"{VISION}.transformer.resblocks.{{n}}.ln_1",
    "vision_tower.blocks.{n}.norm_2": f"{VISION}.transformer.resblocks.{{n}}.ln_2",
    "vision_tower.blocks.{n}.out": f"{VISION}.transformer.resblocks.{{n}}.attn.out_proj",
    "vision_tower.blocks.{n}.up": f"{VISION}.transformer.resblocks.{{n}}.mlp.c_fc",
    "vision_tower.blocks.{n}.down": f"{VISION}.transformer.resblocks.{{n}}.mlp.c_proj",
}

# Each of these exists once for text and once for images, under the same names but for that word.
_BOTH_STREAMS: dict[str, str | tuple[str, ...]] = {
    "cross_modal.{s}_norm": "cross_modal_{s}_layernorm",
    "cross_modal.{s}_pooler": "cross_modal_{s}_pooler.dense",
    "cross_modal.{s}_layers.{n}.self_attention.qkv": tuple(
        f"cross_modal_{{s}}_layers.{{n}}.attention.self.{part}" for part in ("query", "key", "value")
    ),
    "cross_modal.{s}_layers.{n}.self_attention.out": "cross_modal_{s}_layers.{n}.attention.output.dense",
    "cross_modal.{s}_layers.{n}.self_attention.norm": "cross_modal_{s}_layers.{n}.attention.output.LayerNorm",
    "cross_modal.{s}_layers.{n}.cross_attention.query": "cross_modal_{s}_layers.{n}.crossattention.self.query",
    "cross_modal.{s}_layers.{n}.cross_attention.key_value": tuple(
        f"cross_modal_{{s}}_layers.{{n}}.crossattention.self.{part}" for part in ("key", "value")
    ),
    "cross_modal.{s}_layers.{n}.cross_attention.out": "cross_modal_{s}_layers.{n}.crossattention.output.dense",
    "cross_modal.{s}_layers.{n}.cross_attention.norm": "cross_modal_{s}_layers.{n}.crossattention.output.LayerNorm",
    "cross_modal.{s}_layers.{n}.feed_forward.up": "cross_modal_{s}_layers.{n}.intermediate.dense",
    "cross_modal.{s}_layers.{n}.feed_forward.down": "cross_modal_{s}_layers.{n}.output.dense",
    "cross_modal.{s}_layers.{n}.feed_forward.norm": "cross_modal_{s}_layers.{n}.output.LayerNorm",
}

_HEADS: dict[str, str] = {
    "itm_head.fc": "itm_score.fc",
    "mlm_head.dense": "mlm_score.transform.dense",
    "mlm_head.norm": "mlm_score.transform.LayerNorm",
    "mlm_head.decoder": "mlm_score.decoder",
    "itc_text_head.fc": "itc_text_head.fc",
    "itc_image_head.fc": "itc_image_head.fc",
    "itc_cross_head.fc": "itc_cross_modal_head.fc",
}

# Parameters that are no module's weight or bias.
_SINGLE: dict[str, str | tuple[str, ...]] = {
    "vision_tower.class_embedding": f"{PREFIX}{VISION}.embeddings.class_embedding",
    "vision_tower.position_embedding": f"{PREFIX}{VISION}.embeddings.position_embedding.weight",
    "vision_tower.blocks.{n}.qkv.weight": f"{PREFIX}{VISION}.transformer.resblocks.{{n}}.attn.in_proj_weight",
    "vision_tower.blocks.{n}.qkv.bias": f"{PREFIX}{VISION}.transformer.resblocks.{{n}}.attn.in_proj_bias",
    "text_bridge.token_type": f"{PREFIX}token_type_embeddings.weight",
    "image_bridge.token_type": f"{PREFIX}token_type_embeddings.weight",
    "mlm_head.bias": "mlm_score.bias",
    "logit_scale": "logit_scale",
}

# A head and the tensor that tells that a checkpoint has it.
HEAD_SIGNS = {
    "itm": "itm_score.fc.weight",
    "mlm": "mlm_score.transform.dense.weight",
    "itc": "itc_text_head.fc.weight",
    "itc_cross": "itc_cross_modal_head.fc.weight",
}

# Carried by every file and used by nothing: a file without them is as good.
OPTIONAL = (f"{PREFIX}{TEXT}.pooler.dense.", f"{PREFIX}{VISION}.ln_separate.", "logit_scale")

TIED = {"mlm_score.decoder.weight": f"{PREFIX}{TEXT}.embeddings.word_embeddings.weight"}
"""Where `tie_word_embeddings` is true the port leaves the first out of the file."""

_OURS = (TEXT + ".", "vision_model.", "token_type_embeddings.", "cross_modal_")
_OUR_HEADS = ("itm_score.fc.", "mlm_score.", "itc_text_head.fc.", "itc_image_head.fc.", "itc_cross_modal_head.fc.")


@dataclass(frozen=True)
class Piece:
    """A hub tensor, or some rows of it, that is some rows of one of our parameters.

    `rows` (start, stop) counts in our parameter, `hub_rows` in the hub's tensor; None is all of it. `hub_shape` is
    that of the whole hub tensor.
    """

    hub_name: str
    hub_shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    hub_rows: tuple[int, int] | None = None

    @property
    def optional(self) -> bool:
        return self.hub_name.startswith(OPTIONAL)


class HubLayout:
    """The two-way table of names for one configuration."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        self.config = config
        self._templates = _templates(config)

    def pieces(self, name: str, shape: tuple[int, ...]) -> list[Piece]:
        """Where the parameter `name` of the network, of this shape, lies on the hub; rows in ascending order."""
        number = re.search(r"\.(\d+)\.", name)
        template = name if number is None else name[: number.start(1)] + "{n}" + name[number.end(1) :]
        hub = self._templates[template]
        hub_names = [
            part.replace("{n}", number[1] if number else "") for part in ((hub,) if isinstance(hub, str) else hub)
        ]
        if name.endswith(".token_type"):
            types = self.config.token_types
            hub_rows = (0, 1) if name.startswith("text") else (1, types)
            return [Piece(hub_names[0], (types, *shape[1:]), hub_rows=hub_rows)]
        if name == "vision_tower.patch_embedding.weight":
            return [
                Piece(
                    hub_names[0], (shape[0], self.config.vision_config.num_channels, *self.config.vision_config.patch)
                )
            ]
        if len(hub_names) == 1:
            return [Piece(hub_names[0], tuple(shape))]
        rows = shape[0] // len(hub_names)
        return [
            Piece(hub_name, (rows, *shape[1:]), rows=(place * rows, (place + 1) * rows))
            for place, hub_name in enumerate(hub_names)
        ]

    def plan(self, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, list[Piece]]:
        """`pieces` of every parameter of a network, by its name and shape."""
        return {name: self.pieces(name, shape) for name, shape in parameters.items()}


def canonical_name(name: str) -> str | None:
    """The name with the prefix that the hub's files have or lack; None for what no network of ours has a place for.

    What wrappers (:data:`WRAPPERS`) put before it, or before a wrapped part of the network, is taken off.
    """
    bare = _unwrapped(name).removeprefix(PREFIX)
    if bare.endswith(("position_ids", "token_type_ids")):
        return None
    if bare.startswith(_OURS):
        return PREFIX + bare
    return bare if bare.startswith(_OUR_HEADS) or bare == "logit_scale" else None


def _unwrapped(name: str) -> str:
    """`module._orig_mod.bridgetower._orig_mod.text_model.x` is `bridgetower.text_model.x`.

    No part of the network is called as a wrapper is, so one may stand before any part, in any order.
    """
    for wrapper in WRAPPERS:
        if wrapper in name:
            name = re.sub(rf"(^|\.){re.escape(wrapper)}", r"\1", name)
    return name


def heads_in(names: Iterable[str]) -> set[str]:
    """Which heads a set of canonical names makes up."""
    present = set(names)
    heads = {head for head, sign in HEAD_SIGNS.items() if sign in present}
    if "itc_image_head.fc.weight" not in present or "itc" not in heads:
        heads -= {"itc", "itc_cross"}
    return heads


def _templates(config: BridgeTowerConfig) -> dict[str, str | tuple[str, ...]]:
    """Every parameter's template of ours to the hub's; shared modules have no number on the hub and number 0 here."""
    modules: dict[str, str | tuple[str, ...]] = dict(_BODY)
    for ours, hub in _BOTH_STREAMS.items():
        for stream in ("text", "image"):
            parts = (hub,) if isinstance(hub, str) else hub
            named = tuple(part.replace("{s}", stream) for part in parts)
            modules[ours.replace("{s}", stream)] = named if len(named) > 1 else named[0]
    single = dict(_SINGLE)
    transform_number = "" if config.share_cross_modal_transformer_layers else ".{n}"
    link_number = "" if config.share_link_tower_layers else ".{n}"
    for stream in ("text", "image"):
        modules[f"{stream}_bridge.transforms.{{n}}"] = f"cross_modal_{stream}_transform{transform_number}"
        link = f"cross_modal_{stream}_link_tower{link_number}"
        modules[f"cross_modal.{stream}_links.{{n}}.norm"] = f"{link}.LayerNorm"
        for scalar in ("scaled_factor", "beta"):
            single[f"cross_modal.{stream}_links.{{n}}.{scalar}"] = f"{PREFIX}{link}.{scalar}"
    table = dict(single)
    for prefix, group in ((PREFIX, modules), ("", _HEADS)):
        for ours, hub in group.items():
            for kind in ("weight", "bias"):
                named = tuple(f"{prefix}{part}.{kind}" for part in ((hub,) if isinstance(hub, str) else hub))
                table[f"{ours}.{kind}"] = named if len(named) > 1 else named[0]
    return table
