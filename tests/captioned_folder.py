"""A folder of coloured images with captions that tell them apart, and a recipe that learns them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (250, 250, 250)}
SIDE = 64


def captioned_folder(folder: Path) -> Path:
    """Twelve images, each of two colours side by side; one caption each, and as `negative` the one of the mirror."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for left, left_colour in COLOURS.items():
        for right, right_colour in COLOURS.items():
            if left == right:
                continue
            image = Image.new("RGB", (SIDE, SIDE), left_colour)
            image.paste(right_colour, (SIDE // 2, 0, SIDE, SIDE))
            name = f"{left}-{right}.png"
            image.save(folder / name)
            rows.append((name, f"{left} then {right}", f"{right} then {left}"))
    with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "caption", "negative"), *rows])
    return folder / "captions.csv"


def small_network() -> dict[str, Any]:
    """config.json of a network that one core trains at hundreds of images a second."""
    return {
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "contrastive_hidden_size": 32,
        "text_config": {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
            "max_position_embeddings": 34,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        },
        "vision_config": {"hidden_size": 64, "num_hidden_layers": 2, "patch_size": 32, "image_size": 64},
    }


def small_recipe(**changes: Any) -> dict[str, Any]:
    """Two stages on captions, float32, with dropout; a state after every step."""
    stage = {
        "batch": 4,
        "rates": {"learning_rate": 1e-3, "cross_multiplier": 1.0, "head_multiplier": 1.0, "warmup": 2, "decay": 0.5},
        "matching": {"negatives": 1, "given_share": 0.5},
    }
    first = {**stage, "name": "first", "steps": 5, "losses": {"itc": 1.0}}
    losses = {"itc": 1.0, "itc_cross": 0.1, "itm": 1.0, "mlm": 1.0}
    second = {**stage, "name": "second", "steps": 7, "accumulate": 2, "losses": losses}
    values = {"seed": 3, "dtype": "float32", "text_length": 16, "network": small_network(), "state_seconds": 0.0}
    return {**values, "keep": "last", "stages": [first, second], **changes}
