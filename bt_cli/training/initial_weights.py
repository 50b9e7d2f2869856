"""What a run starts from: a checkpoint, or nothing but a configuration and some captions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bt_cli.errors import BadConfig

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer


class Start(NamedTuple):
    """A network with float32 weights, what feeds it, and a name for where it came from."""

    network: BridgeTower
    tokenizer: Tokenizer
    processor: ImageProcessor
    name: str


def from_checkpoint(
    name: str, *, image_size: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Start:
    """Every head that the checkpoint has. Raises what `Checkpoint.open` raises."""
    from bt_cli.checkpoints.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(name, image_size=image_size, progress=progress)
    label = f"{checkpoint.name} ({checkpoint.fingerprint})"
    return Start(checkpoint.network(), checkpoint.tokenizer(), checkpoint.image_processor(), label)


def from_nothing(
    config: Mapping[str, Any], captions: Iterable[str], folder: Path, *, seed: int, wave_positions: float = 0.0
) -> Start:
    """A new network of this configuration, all heads. Raises BadConfig.

    The vocabulary is learnt from `captions` once and kept in `folder`, so that a resumed run reads the same ids; a
    `vocab_size` of the configuration is replaced by its size.
    """
    from bt_cli.bridgetower.configuration import BridgeTowerConfig
    from bt_cli.bridgetower.initialisation import initialise
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer
    from bt_cli.training.vocabulary import train_tokenizer

    values = copy.deepcopy(dict(config))
    text = values.setdefault("text_config", {})
    if not isinstance(text, dict):
        raise BadConfig(f"network: text_config is {text!r}, but has to be an object")
    longest = BridgeTowerConfig.from_dict(
        {**values, "text_config": {**text, "vocab_size": 1024}}
    ).text_config.max_tokens
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_folder(folder, max_length=longest)
    else:
        tokenizer = train_tokenizer(captions, max_length=longest)
        tokenizer.save(folder)
    text["vocab_size"] = tokenizer.vocab_size
    values.setdefault("contrastive_hidden_size", values.get("hidden_size", 768))
    settled = BridgeTowerConfig.from_dict(values)
    network = BridgeTower(settled)
    initialise(network, seed, wave_positions=wave_positions)
    side = min(settled.vision_config.image)
    return Start(network, tokenizer, ImageProcessor.from_dict({"size": {"shortest_edge": side}}, side), "nothing")
