"""What a run starts from: a checkpoint, or nothing but a configuration and some captions."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bt_cli.errors import BadConfig

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
LARGEST = 8192


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


def train_tokenizer(texts: Iterable[str], *, max_length: int) -> Tokenizer:
    """Learn merges until each word of the texts is one token; RoBERTa's special tokens, `<mask>` last.

    Unlike RoBERTa's it reads everything in lower case and takes the first word like any other (a space is put before
    it), because small networks have no examples to waste on "Cat" and "cat" at the start of a line.
    """
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Bpe

    from bt_cli.preprocessing.tokenizer import Tokenizer

    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    bpe = Bpe(models.BPE(unk_token=None))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(words, trainer)
    bpe.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    ids = bpe.get_vocab(with_added_tokens=True)
    ends = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
    bpe.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=True)
    return Tokenizer(bpe, max_length=max_length, source="new vocabulary")
