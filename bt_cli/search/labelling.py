"""Which of some labels fits an image: a softmax over them, by embeddings or by the match head."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bt_cli.captions.caption_text import decoded, lines, not_encoded
from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.files.bounded_read import read_bounded
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from bt_cli.inference.model import Model

PUBLISHED_SCALE = 1 / 0.07
"""What cosines are multiplied by where a checkpoint keeps no temperature: CLIP's, which BridgeTower starts from."""
MOST_LABELS = 100_000
LARGEST_FILE = 16 << 20
"""Bytes of a file of labels."""

OnError = Callable[[int, UnreadableImage], None]
Progress = Callable[[int, int], None]


def read_labels(words: str) -> list[str]:
    """Labels as an option names them: a file with one a line, else words divided by commas; each once.

    Raises:
        Misuse: Fewer than two, since any one label fits for certain; or far too many; or a file that is no text, of
            which a label that no one wrote would come.
    """
    if os.path.isfile(words):
        where = shown_path(words)
        named = _labels_of_file(words, where)
    else:
        named = [word.strip() for word in words.split(",")]
        where = "--labels"
    labels = list(dict.fromkeys(label for label in named if label))
    if len(labels) == 1 and where == "--labels" and ("/" in words or os.path.splitext(words)[1]):
        raise Misuse(f"--labels {shown_path(words)}: no such file, and as a label it would be the only one")
    if len(labels) < 2:
        raise Misuse(f"{where}: fewer than two labels, divided by commas or one a line of a file")
    if len(labels) > MOST_LABELS:
        raise Misuse(f"{where}: {len(labels):,} labels, and at most {MOST_LABELS:,} are taken")
    return labels


def _labels_of_file(path: str, where: str) -> list[str]:
    content = read_bounded(path, Misuse, LARGEST_FILE, "a label a line is needed")
    try:
        text, strays = decoded(content)
    except ValueError as error:
        reason, line = error.args
        raise Misuse(f"{where}:{line}: {reason}") from None
    for number, line in enumerate(lines(text), 1):
        stray = next((ord(character) for character in line if 0xDC80 <= ord(character) <= 0xDCFF), None)
        if strays and stray is not None:
            raise Misuse(f"{where}:{number}: {not_encoded('UTF-8', stray - 0xDC00)}")
        if "\0" in line:
            raise Misuse(f"{where}:{number}: a NUL character in the label; remove it")
    return [line.strip() for line in lines(text)]


def in_template(template: str, labels: Sequence[str]) -> list[str]:
    """The labels' sentences. Raises Misuse for a template without `{}`."""
    if "{}" not in template:
        raise Misuse(f"--template {template!r}: has no {{}} for the label")
    return [template.replace("{}", label) for label in labels]


def by_embedding(
    model: Model,
    images: Sequence[str],
    sentences: Sequence[str],
    *,
    on_error: OnError | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities (n, m) float32, rows of sum 1: a softmax over cosines times the checkpoint's temperature.

    An image that can't be read is told to `on_error`, and its row is NaN; without it that raises UnreadableImage.
    """
    texts = model.encode_texts(sentences)
    rows = model.encode_images(images, on_error=on_error, progress=progress)
    return softmax(temperature(model) * (rows @ texts.T))


def by_match(
    model: Model,
    images: Sequence[str],
    sentences: Sequence[str],
    *,
    on_error: OnError | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities (n, m) as `by_embedding`: a softmax over the log odds that the ITM head gives each pair."""
    logits = model.itm(images, sentences, on_error=on_error, progress=progress)
    return softmax(logits[..., 1] - logits[..., 0])


def temperature(model: Model) -> float:
    """What the checkpoint multiplies cosines by: e to its `logit_scale`."""
    tensors = model.checkpoint.tensors
    if "logit_scale" not in tensors.names:
        return PUBLISHED_SCALE
    import torch

    scale = torch.empty(tensors.entry("logit_scale").shape)
    tensors.read_into("logit_scale", scale)
    return float(scale.float().exp())


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis, in float64; a row with NaN is NaN."""
    wide = np.asarray(logits, np.float64)
    shares = np.exp(wide - wide.max(axis=-1, keepdims=True))
    whole: NDArray[np.float32] = (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)
    return whole
