"""README.md of a checkpoint: what the hub shows of it, and the metadata by which it is found."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.files.atomic_write import write_whole
from bt_cli.hub.model_names import BUNDLED, is_hub_name

README = "README.md"
WRITTEN_HERE = "<!-- Written by bt, which writes it anew when it saves here again, until this line is taken out. -->"

# A head, the class that a program loads, and what it is good for; the first that is there names the pipeline.
_USES = {
    "itc": ("BridgeTowerForContrastiveLearning", "embeds images, texts and pairs of them for search"),
    "itm": ("BridgeTowerForImageAndTextRetrieval", "says of an image and a text whether they match"),
    "mlm": ("BridgeTowerForMaskedLM", "fills masked words of a text by its image"),
}
_PIPELINES = {"itc": "feature-extraction", "itm": "zero-shot-image-classification", "mlm": "fill-mask"}


def model_card(
    config: BridgeTowerConfig,
    heads: Collection[str],
    *,
    base_model: str = "",
    datasets: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    license: str = "mit",
    data: str = "",
) -> str:
    """The text: metadata as the hub reads it (https://huggingface.co/docs/hub/model-cards), then what the model is.

    Args:
        config: The model's configuration.
        heads: "itc", "itm", "mlm": those that it has.
        base_model: The checkpoint that it was trained on from; only a hub name goes into the metadata.
        datasets: Hub names of what it was trained on.
        metrics: What was measured, by name.
        data: What it was trained on, in words: the end of the sentence "Trained on ...".
        license: The weights' licence, by the hub's name for it; BridgeTower's own is MIT.
    """
    have = [head for head in _USES if head in heads]
    pipeline = next((_PIPELINES[head] for head in have), "feature-extraction")
    lines = ["---", f"license: {license}", "library_name: bridgetower", f"pipeline_tag: {pipeline}"]
    if is_hub_name(base_model):
        lines.append(f"base_model: {base_model}")
    lines += _listed("datasets", datasets) + _listed("metrics", list(metrics or ()))
    lines += [*_listed("tags", ["bridgetower", "vision-language", *have]), "language:", "- en", "---", ""]
    named = is_hub_name(base_model) or base_model in BUNDLED  # a folder's name says nothing elsewhere
    lines += ["# BridgeTower" + (f", from {base_model}" if named else ""), ""]
    vision, text = config.vision_config, config.text_config
    size = " x ".join(map(str, vision.image))
    lines += [
        f"A BridgeTower of width {config.hidden_size}: a vision tower of {vision.depth} layers for images of {size} "
        f"pixels, a text tower of {text.num_hidden_layers} layers for up to {text.max_tokens} tokens, and "
        f"{config.num_hidden_layers} cross-modal layers that join them.",
        "",
    ]
    lines += [f"- `{name}` {use}." for name, use in (_USES[head] for head in have)]
    if data:
        lines += ["", f"Trained on {data}."]
    if metrics:
        lines += [
            "",
            "| measure | value |",
            "|---|---|",
            *(f"| {name} | {value:g} |" for name, value in metrics.items()),
        ]
    called = _USES[have[0]][0] if have else "BridgeTowerModel"
    lines += [
        "",
        "```python",
        f"from bt_cli import {called}",
        "",
        f'model = {called}.from_pretrained("PATH OR NAME OF THIS CHECKPOINT")',
        "```",
    ]
    return "\n".join(line.rstrip() for line in [*lines, "", WRITTEN_HERE]) + "\n"


def write_card(
    folder: Path,
    config: BridgeTowerConfig,
    heads: Collection[str],
    *,
    base_model: str = "",
    metrics: Mapping[str, float] | None = None,
    data: str = "",
) -> None:
    """Write `model_card` to the folder. A README.md that a person wrote, or made theirs, stays as it is.

    Raises Unwritable.
    """
    path = folder / README
    if not path.exists() or WRITTEN_HERE in path.read_text("utf-8", "replace"):
        write_whole(path, model_card(config, heads, base_model=base_model, metrics=metrics, data=data))


def _listed(name: str, values: Sequence[str]) -> list[str]:
    """A YAML list; every entry is quoted, as JSON quotes it, since `1` and `no` would be no texts."""
    return [f"{name}:", *(f"- {json.dumps(value, ensure_ascii=False)}" for value in values)] if values else []
