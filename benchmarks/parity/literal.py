"""BridgeTower written down literally, from the hub's tensors and nothing else: slow, plain, and for comparison only.

It follows the paper's section 3 line by line, one pair at a time, one attention head at a time, nothing shared or
skipped. What the port can't run is held against it; where the port can, the two are held against each other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bt_cli.bridgetower.configuration import BridgeTowerConfig

ACTIVATIONS = {
    "gelu": lambda x: F.gelu(x),
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": lambda x: F.relu(x),
}


class Literal:
    """The computation over `tensors`, named as in the hub's files, every one in float32."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.config = BridgeTowerConfig.from_dict(config)
        self.tensors = {name.removeprefix("bridgetower."): tensor.float() for name, tensor in tensors.items()}

    def outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every output, pair by pair, each text without its padding; padded rows of the text come back as NaN."""
        texts = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        length = inputs["input_ids"].shape[1]
        pairs = [
            self._pair(pixels, ids[mask.bool()], length)
            for pixels, (ids, mask) in zip(inputs["pixel_values"], texts, strict=True)
        ]
        return {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}

    def _pair(self, pixels: Tensor, ids: Tensor, length: int) -> dict[str, Tensor]:
        config = self.config
        count = config.num_hidden_layers
        text_states, vision_states = self._text_tower(ids), self._vision_tower(pixels)
        types = self.tensors["token_type_embeddings.weight"]
        text = image = None
        for layer in range(count):
            text_bridge = self._transform("text", text_states[layer - count], layer) + types[0]
            image_bridge = self._transform("image", vision_states[layer - count], layer) + types[1]
            text_in = self._bridge("text", text_bridge, text, layer)
            image_in = self._bridge("image", image_bridge, image, layer)
            text = self._cross_layer("text", layer, text_in, image_in)
            image = self._cross_layer("image", layer, image_in, text_in)
        assert text is not None
        assert image is not None
        pooled = torch.cat([self._pooler("text", text), self._pooler("image", image)])
        image_bridge = self._transform("image", vision_states[-1], count - 1) + types[1]
        return {
            "text_features": _padded(text, length),
            "image_features": image,
            "pooler_output": pooled,
            "itm_logits": self._linear("itm_score.fc", pooled),
            "mlm_logits": _padded(self._words(text), length),
            "text_embeds": F.normalize(self._linear("itc_text_head.fc", text_states[-1][0]), dim=-1),
            "image_embeds": F.normalize(self._linear("itc_image_head.fc", image_bridge[0]), dim=-1),
            "cross_embeds": F.normalize(self._linear("itc_cross_modal_head.fc", pooled), dim=-1),
        }

    def _text_tower(self, ids: Tensor) -> list[Tensor]:
        """States after each layer, (T, w)."""
        text = self.config.text_config
        at = "text_model.embeddings"
        positions = torch.arange(len(ids)) + text.pad_token_id + 1
        states = self.tensors[f"{at}.word_embeddings.weight"][ids]
        states = states + self.tensors[f"{at}.position_embeddings.weight"][positions]
        states = states + self.tensors[f"{at}.token_type_embeddings.weight"][0]
        states = self._norm(f"{at}.LayerNorm", states, text.layer_norm_eps)
        found = []
        for number in range(text.num_hidden_layers):
            layer = f"text_model.encoder.layer.{number}"
            states = self._attend(f"{layer}.attention", states, states, text.layer_norm_eps)
            states = self._feed_forward(layer, states, text.layer_norm_eps)
            found.append(states)
        return found

    def _vision_tower(self, pixels: Tensor) -> list[Tensor]:
        """States after each of the blocks that run and `ln_post`, (P, w)."""
        vision = self.config.vision_config
        at = "vision_model.visual"
        kernel = self.tensors[f"{at}.embeddings.patch_embedding.weight"]
        patches = F.conv2d(pixels[None], kernel, stride=vision.patch)[0]
        rows, columns = patches.shape[1:]
        states = torch.cat([self.tensors[f"{at}.embeddings.class_embedding"][None], patches.flatten(1).T])
        states = states + self._positions(rows, columns)
        states = self._norm(f"{at}.ln_pre", states, vision.layer_norm_eps)
        found = []
        for number in range(self.config.vision_depth):
            block = f"{at}.transformer.resblocks.{number}"
            normed = self._norm(f"{block}.ln_1", states, vision.layer_norm_eps)
            packed = F.linear(
                normed, self.tensors[f"{block}.attn.in_proj_weight"], self.tensors[f"{block}.attn.in_proj_bias"]
            )
            mixed = _attention(*packed.chunk(3, dim=-1), heads=vision.heads)
            states = states + self._linear(f"{block}.attn.out_proj", mixed)
            inner = self._linear(f"{block}.mlp.c_fc", self._norm(f"{block}.ln_2", states, vision.layer_norm_eps))
            states = states + self._linear(f"{block}.mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
            found.append(self._norm(f"{at}.ln_post", states, vision.layer_norm_eps))
        return found

    def _positions(self, rows: int, columns: int) -> Tensor:
        table = self.tensors["vision_model.visual.embeddings.position_embedding.weight"]
        old = self.config.vision_config.grid
        grid = table[1:].reshape(1, *old, -1).permute(0, 3, 1, 2)
        if (rows, columns) != old:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([table[:1], grid[0].flatten(1).T])

    def _transform(self, stream: str, states: Tensor, layer: int) -> Tensor:
        shared = self.config.share_cross_modal_transformer_layers
        return self._linear(f"cross_modal_{stream}_transform" + ("" if shared else f".{layer}"), states)

    def _bridge(self, stream: str, bridge: Tensor, below: Tensor | None, layer: int) -> Tensor:
        eps = self.config.layer_norm_eps
        if below is None:
            return self._norm(f"cross_modal_{stream}_layernorm", bridge, eps)
        shared = self.config.share_link_tower_layers
        link = f"cross_modal_{stream}_link_tower" + ("" if shared else f".{layer - 1}")
        if self.config.link_tower_type == "scaled_add":
            joined = bridge * self.tensors[f"{link}.scaled_factor"] + below
        elif self.config.link_tower_type == "interpolate":
            beta = self.tensors[f"{link}.beta"]
            joined = bridge * (1 - beta) + below * beta
        else:
            joined = bridge + below
        return self._norm(f"{link}.LayerNorm", joined, eps)

    def _cross_layer(self, stream: str, layer: int, states: Tensor, other: Tensor) -> Tensor:
        at, eps = f"cross_modal_{stream}_layers.{layer}", self.config.cross_eps
        states = self._attend(f"{at}.attention", states, states, eps)
        states = self._attend(f"{at}.crossattention", states, other, eps)
        return self._feed_forward(at, states, eps)

    def _attend(self, at: str, states: Tensor, other: Tensor, eps: float) -> Tensor:
        query = self._linear(f"{at}.self.query", states)
        key, value = self._linear(f"{at}.self.key", other), self._linear(f"{at}.self.value", other)
        mixed = _attention(query, key, value, heads=self.config.text_config.num_attention_heads)
        return self._norm(f"{at}.output.LayerNorm", self._linear(f"{at}.output.dense", mixed) + states, eps)

    def _feed_forward(self, at: str, states: Tensor, eps: float) -> Tensor:
        inner = ACTIVATIONS[self.config.text_config.hidden_act](self._linear(f"{at}.intermediate.dense", states))
        return self._norm(f"{at}.output.LayerNorm", self._linear(f"{at}.output.dense", inner) + states, eps)

    def _pooler(self, stream: str, states: Tensor) -> Tensor:
        return torch.tanh(self._linear(f"cross_modal_{stream}_pooler.dense", states[0]))

    def _words(self, states: Tensor) -> Tensor:
        inner = ACTIVATIONS[self.config.hidden_act](self._linear("mlm_score.transform.dense", states))
        inner = self._norm("mlm_score.transform.LayerNorm", inner, self.config.mlm_eps)
        return F.linear(inner, self.tensors["mlm_score.decoder.weight"]) + self.tensors["mlm_score.bias"]

    def _linear(self, at: str, states: Tensor) -> Tensor:
        return F.linear(states, self.tensors[f"{at}.weight"], self.tensors[f"{at}.bias"])

    def _norm(self, at: str, states: Tensor, eps: float) -> Tensor:
        mean = states.mean(dim=-1, keepdim=True)
        spread = ((states - mean) ** 2).mean(dim=-1, keepdim=True)
        return (states - mean) / torch.sqrt(spread + eps) * self.tensors[f"{at}.weight"] + self.tensors[f"{at}.bias"]


def _attention(query: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """(Q, h), (K, h), (K, h) to (Q, h), head by head."""
    width = query.shape[-1] // heads
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        weights = torch.softmax(query[:, own] @ key[:, own].T / width**0.5, dim=-1)
        mixed.append(weights @ value[:, own])
    return torch.cat(mixed, dim=-1)


def _padded(states: Tensor, length: int) -> Tensor:
    return F.pad(states, (0, 0, 0, length - len(states)), value=float("nan"))
