"""Checkpoints of random weights, small and whole: config, weights, image settings and a tokenizer of single bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.checkpoints.meta_network import meta_network
from bt_cli.checkpoints.saving import hub_tensors, save_checkpoint
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.preprocessing.tokenizer import Tokenizer

VOCABULARY = 4 + 256 + 1
HEADS = ("itm", "mlm", "itc", "itc_cross")


def small_config(**changes: Any) -> BridgeTowerConfig:
    """A configuration of about half a million parameters; `text_config` and `vision_config` are merged into it."""
    values: dict[str, Any] = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "contrastive_hidden_size": 32,
        "text_config": {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "intermediate_size": 128,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 66,
        },
        "vision_config": {"hidden_size": 64, "num_hidden_layers": 3, "patch_size": 16, "image_size": 64},
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return BridgeTowerConfig.from_dict(values)


def random_network(config: BridgeTowerConfig, heads: tuple[str, ...] = HEADS, seed: int = 0) -> BridgeTower:
    """A network in which every parameter, norms and biases included, is random and matters to the result."""
    generator = torch.Generator().manual_seed(seed)
    network = BridgeTower(config, heads=heads)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
        if network.logit_scale is not None:
            network.logit_scale.fill_(config.logit_scale_init_value)
    return network.eval()


def write_tokenizer_files(folder: Path) -> None:
    """vocab.json and merges.txt of a byte-level BPE without merges: one id a byte, RoBERTa's special tokens around."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "<mask>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")


def random_checkpoint(
    folder: Path, *, heads: tuple[str, ...] = HEADS, seed: int = 0, dtype: torch.dtype | None = None, **changes: Any
) -> Path:
    """Write a whole checkpoint with these heads to `folder`; `changes` go into `small_config`. Returns the folder."""
    config = small_config(**changes)
    files = folder.with_name(folder.name + ".tokenizer")
    write_tokenizer_files(files)
    save_checkpoint(
        random_network(config, heads, seed),
        folder,
        image_processor=ImageProcessor.from_dict({"size": min(config.vision_config.image)}),
        tokenizer=Tokenizer.from_files(vocab=files / "vocab.json", merges=files / "merges.txt"),
        dtype=dtype,
    )
    return folder


def sparse_checkpoint(folder: Path, config_folder: Path, heads: tuple[str, ...]) -> Path:
    """A checkpoint of a published configuration with these heads, its weights a hole of zeros: no disk, no time.

    config.json and preprocessor_config.json are copied from `config_folder`. Returns the folder.
    """
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((config_folder / name).read_bytes())
    config = BridgeTowerConfig.read(folder)
    tensors = hub_tensors(meta_network(config, heads))
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        size = 4 * math.prod(tensor.shape)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + end)
    return folder
