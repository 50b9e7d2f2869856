"""The port in `transformers`: a random checkpoint made with it, and every output that it can compute."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.parity.variants import Variant

HEAD_CLASSES = {
    "itm": transformers.BridgeTowerForImageAndTextRetrieval,
    "mlm": transformers.BridgeTowerForMaskedLM,
    "itc": transformers.BridgeTowerForContrastiveLearning,
}


class PortModel:
    """One body of the port under all three heads."""

    def __init__(self, variant: Variant, seed: int) -> None:
        config = port_config(variant)
        with without_initial_values():
            self.body = transformers.BridgeTowerModel(config)
        self.heads = {name: _head_on(self.body, made_by, config) for name, made_by in HEAD_CLASSES.items()}
        randomise(self.tensors(), seed)
        for model in (self.body, *self.heads.values()):
            model.eval()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter under the name it has in a file that holds them all."""
        named = {f"bridgetower.{name}": parameter.data for name, parameter in self.body.named_parameters()}
        for model in self.heads.values():
            for name, parameter in model.named_parameters():
                named.setdefault(name, parameter.data)
        return named

    def outputs(self, inputs: dict[str, torch.Tensor], leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Every output but those in `leave_out`, float32."""
        return port_outputs(self.heads, inputs, leave_out)


def port_outputs(
    heads: dict[str, nn.Module], inputs: dict[str, torch.Tensor], leave_out: frozenset[str]
) -> dict[str, Any]:
    """The outputs of the port's three models, by the names that our network gives them."""
    found: dict[str, Any] = {}
    feed = {**inputs, "interpolate_pos_encoding": True}
    with torch.no_grad():
        body = heads["itm"].bridgetower(**feed)
        found["text_features"], found["image_features"] = body.text_features, body.image_features
        found["pooler_output"] = body.pooler_output
        found["itm_logits"] = heads["itm"].itm_score(body.pooler_output)
        found["mlm_logits"] = heads["mlm"].mlm_score(body.text_features)
        if not leave_out & {"text_embeds", "image_embeds", "cross_embeds"}:
            contrastive = heads["itc"](**feed)
            for name in ("text_embeds", "image_embeds", "cross_embeds"):
                found[name] = getattr(contrastive, name)
    return {name: value for name, value in found.items() if name not in leave_out}


def load_port(folder: Path, variant: Variant) -> dict[str, nn.Module]:
    """The port's three models as `from_pretrained` reads them from a folder, with the whole of the report checked."""
    config = port_config(variant)
    models: dict[str, nn.Module] = {}
    for name, made_by in HEAD_CLASSES.items():
        model, report = made_by.from_pretrained(folder, config=config, output_loading_info=True, dtype=torch.float32)
        if report["missing_keys"] or report["mismatched_keys"]:
            some = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[:3]
            raise AssertionError(f"{made_by.__name__} does not find {', '.join(some)} in {folder}")
        if models:  # the body is the same: keep one
            model.bridgetower = models["itm"].bridgetower
            gc.collect()
        models[name] = model.eval()
    return models


def port_config(variant: Variant) -> Any:
    """The variant's configuration as the port has it."""
    return transformers.BridgeTowerConfig(**{**json.loads(json.dumps(variant.config)), **variant.port_changes})


def randomise(tensors: dict[str, torch.Tensor], seed: int) -> None:
    """Draw every tensor so that it matters: norms near 1, biases and token types far from 0, products that keep scale.

    What training starts from (zeros, ones) would hide a bias that is dropped or a norm that is skipped.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name == "logit_scale":
            continue
        is_norm = "LayerNorm" in name or "layernorm" in name or ".ln_" in name
        is_product = tensor.dim() >= 2 and ("embedding" not in name or "patch_embedding" in name)
        if is_product:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=generator)
        elif tensor.dim() == 0:
            tensor.fill_(0.3 + 0.5 * float(torch.rand((), generator=generator)))
        else:
            tensor.normal_(0.0, 0.3, generator=generator)
            if is_norm and name.endswith("weight"):
                tensor.add_(1.0)


@contextmanager
def without_initial_values() -> Iterator[None]:
    """Models made within have memory but no initial values: they are drawn anew anyway."""
    from transformers import initialization

    with initialization.no_init_weights():
        yield


def _head_on(body: nn.Module, made_by: Any, config: Any) -> nn.Module:
    """A model of the port with this body: only its head takes memory of its own."""
    with torch.device("meta"), without_initial_values():
        model = made_by(config)
    model.bridgetower = body
    for name, part in model.named_children():
        if name != "bridgetower":
            part.to_empty(device="cpu")
    if hasattr(model, "logit_scale"):
        model.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
    return model
