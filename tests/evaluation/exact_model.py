"""A model whose every number is known: what the protocol asks for, out of tables, with its calls counted."""

from __future__ import annotations

import numpy as np
import torch

from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.errors import UnreadableImage


class ExactModel:
    """Image paths and texts are `i3`, `t5`...; embeddings and match logits come from the tables given.

    Args:
        images, texts: Embeddings (n, d), (m, d) of norm 1.
        logits: Match logits (n, m).
        broken: Images that can't be read.
    """

    def __init__(self, images, texts, logits, broken=()):
        self.images, self.texts, self.logits = images, texts, logits
        self.broken = set(broken)
        self.encoded_images, self.encoded_texts, self.read = [], [], []

    def encode_images(self, images, *, on_error=None):
        return self.image_states(images, embeds=True, on_error=on_error).embeds.numpy()

    def image_states(self, images, *, embeds=False, on_error=None):
        self.encoded_images += images
        rows = [int(path[1:]) for path in images]
        table = np.array([self.images[row] for row in rows], np.float32)
        for position, path in enumerate(images):
            if path in self.broken:
                error = UnreadableImage(f"{path}: not an image")
                if on_error is None:
                    raise error
                on_error(position, error)
                table[position] = np.nan
        marks = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 1, 1)
        return ImageStates(marks.repeat(2, 1, 3, 4), torch.from_numpy(table) if embeds else None)

    def encode_texts(self, texts):
        return np.array([self.texts[int(text.split()[0][1:])] for text in texts], np.float32)

    def text_states(self, texts):
        self.encoded_texts += texts
        marks = torch.tensor([int(text.split()[0][1:]) for text in texts], dtype=torch.float32).reshape(1, -1, 1, 1)
        return TextStates(marks.repeat(2, 1, 2, 4))

    def itm_logits(self, images, texts, pairs):
        found = []
        for image, text in pairs:
            i, t = int(images.bridges[0, image, 0, 0]), int(texts.bridges[0, text, 0, 0])
            self.read.append((i, t))
            found.append([0.0, self.logits[i, t]])
        return np.array(found, np.float32).reshape(-1, 2)
