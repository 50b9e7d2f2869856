"""The text tower and its ITC head in numpy, over mapped weights: a text's embedding before torch could be imported.

The same function as `bridgetower.text_tower` with `ContrastiveHead`, in float32, and only that: no bridge features, no
gradients, no accelerator. Tensors are used where the checkpoint's file lies mapped, so that a query reads each layer's
weights once, of the word table the rows of its own words, and holds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bt_cli.checkpoints.hub_layout import HubLayout
from bt_cli.embeddings.widening import widen_bfloat16, widen_float16

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint

Array = NDArray[np.float32]

FLOATS = ("F64", "F32", "F16", "BF16")
"""What a parameter may be stored as."""
_LEAST_NORM = 1e-12  # what torch's `normalize` divides by at least


class TextEncoder:
    """Embeddings of tokens by one checkpoint; holds no changing state, so threads may share it.

    `parameters` counts the numbers that every token is multiplied with: a measure of the work.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config.text_config
        self.config = config
        self._tensors = checkpoint.tensors
        self._layout = HubLayout(checkpoint.config)
        self._shapes = _shapes(checkpoint)
        self._activate = activation(config.hidden_act)
        self.parameters = sum(
            math.prod(shape) for name, shape in self._shapes.items() if len(shape) == 2 and "embeddings" not in name
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TextEncoder | None:
        """The encoder of a checkpoint; None where its tensors can't be mapped (pickles) or do not fit its config.

        What does not fit is for the whole network to refuse, which names every tensor that is missing or mis-shaped.
        """
        encoder = cls(checkpoint)
        return encoder if encoder._can_read() else None

    def encode(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Array:
        """ITC embeddings (B, d) float32, rows of norm 1, of ids (B, T) with their mask (B, T), 0 where padded."""
        keep = None if mask.all() else mask.astype(bool)
        states = self._embed(ids)
        last = self.config.num_hidden_layers - 1
        for number in range(last + 1):
            states = self._layer(f"text_tower.layers.{number}", states, keep, first_only=number == last)
        (weight,), (bias,) = self._read("itc_text_head.fc.weight"), self._read("itc_text_head.fc.bias")
        embeds = states[:, 0] @ weight.T + bias
        norms = np.sqrt(np.square(embeds).sum(axis=-1, keepdims=True))
        return np.divide(embeds, np.maximum(norms, np.float32(_LEAST_NORM)), dtype=np.float32)

    def _embed(self, ids: NDArray[np.int64]) -> Array:
        """(B, T) int64 to (B, T, w). Positions count the tokens that are not padding, from `pad_token_id + 1`."""
        real = (ids != self.config.pad_token_id).astype(np.int64)
        positions = real.cumsum(axis=1) * real + self.config.pad_token_id
        states = self._rows("text_tower.word_embeddings.weight", ids)
        states = states + self._rows("text_tower.token_type_embeddings.weight", np.zeros(1, np.int64))
        states = states + self._rows("text_tower.position_embeddings.weight", positions)
        return self._norm("text_tower.norm", states)

    def _layer(self, name: str, states: Array, keep: NDArray[np.bool_] | None, *, first_only: bool) -> Array:
        """(B, T, w) to (B, T, w), or to (B, 1, w) for `<s>` alone."""
        batch, _, width = states.shape
        heads = self.config.num_attention_heads
        asking = states[:, :1] if first_only else states
        weights, biases = self._read(f"{name}.attention.qkv.weight"), self._read(f"{name}.attention.qkv.bias")
        query, key, value = (
            _linear(rows, weight, bias).reshape(batch, -1, heads, width // heads).transpose(0, 2, 1, 3)
            for rows, weight, bias in zip((asking, states, states), weights, biases, strict=True)
        )
        scores = (query * np.float32((width // heads) ** -0.5)) @ key.transpose(0, 1, 3, 2)
        if keep is not None:
            scores[np.broadcast_to(~keep[:, None, None, :], scores.shape)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Array = np.matmul(scores, value, dtype=np.float32).transpose(0, 2, 1, 3).reshape(batch, -1, width)
        states = self._norm(f"{name}.attention.norm", self._through(f"{name}.attention.out", mixed) + asking)
        inner = self._activate(self._through(f"{name}.feed_forward.up", states))
        return self._norm(f"{name}.feed_forward.norm", self._through(f"{name}.feed_forward.down", inner) + states)

    def _through(self, name: str, states: Array) -> Array:
        (weight,), (bias,) = self._read(f"{name}.weight"), self._read(f"{name}.bias")
        return _linear(states, weight, bias)

    def _norm(self, name: str, states: Array) -> Array:
        (weight,), (bias,) = self._read(f"{name}.weight"), self._read(f"{name}.bias")
        centred = states - states.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        centred /= np.sqrt(variance + np.float32(self.config.layer_norm_eps))
        centred *= weight
        centred += bias
        return centred

    def _read(self, name: str) -> list[Array]:
        """A parameter of the network as float32: its pieces in the file, from top to bottom, where they lie."""
        pieces = self._layout.pieces(name, self._shapes[name])
        return [_widened(self._tensors.mapped(piece.hub_name), self._dtype(piece.hub_name)) for piece in pieces]

    def _rows(self, name: str, rows: NDArray[np.int64]) -> Array:
        """Rows of a table (..., w) float32; the others are not read."""
        (piece,) = self._layout.pieces(name, self._shapes[name])
        return _widened(self._tensors.mapped(piece.hub_name)[rows], self._dtype(piece.hub_name))

    def _dtype(self, hub_name: str) -> str:
        return self._tensors.entry(hub_name).dtype

    def _can_read(self) -> bool:
        for name, shape in self._shapes.items():
            for piece in self._layout.pieces(name, shape):
                if piece.hub_name not in self._tensors.names or not self._tensors.can_map(piece.hub_name):
                    return False
                entry = self._tensors.entry(piece.hub_name)
                if entry.shape != piece.hub_shape or entry.dtype not in FLOATS:
                    return False
        return True


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a config calls `name`; the configuration has refused unknown names."""
    return {
        "gelu": _gelu,
        "gelu_new": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh,
        "silu": _silu,
        "swish": _silu,
        "quick_gelu": lambda states: states * _sigmoid(np.float32(1.702) * states),
        "relu": lambda states: np.maximum(states, np.float32(0)),
    }[name]


def erf(values: Array) -> Array:
    """The error function, within 6e-7 in float32: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26."""
    size = np.abs(values)
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * size)
    series = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series *= t
        series += np.float32(coefficient)
    series *= t
    series *= np.exp(-np.square(size))
    return np.copysign(np.float32(1) - series, values)


def _gelu(states: Array) -> Array:
    return np.float32(0.5) * states * (np.float32(1) + erf(states * np.float32(math.sqrt(0.5))))


def _gelu_tanh(states: Array) -> Array:
    inner = np.float32(math.sqrt(2 / math.pi)) * (states + np.float32(0.044715) * states * np.square(states))
    return np.multiply(np.float32(0.5) * states, np.float32(1) + np.tanh(inner), dtype=np.float32)


def _silu(states: Array) -> Array:
    return states * _sigmoid(states)


def _sigmoid(states: Array) -> Array:
    """By way of tanh, which overflows for no number."""
    return np.multiply(np.float32(0.5), np.float32(1) + np.tanh(np.float32(0.5) * states), dtype=np.float32)


def _linear(states: Array, weight: Array, bias: Array) -> Array:
    """(B, T, w) times (v, w) to (B, T, v), as one product of all rows."""
    rows = states.reshape(-1, states.shape[-1]) @ weight.T
    rows += bias
    return rows.reshape(*states.shape[:-1], -1)


def _widened(stored: NDArray[np.generic], dtype: str) -> Array:
    if (
        not stored.flags.aligned
    ):  # early writers of safetensors did not see to it, and numpy multiplies those row by row
        stored = np.ascontiguousarray(stored).view(np.uint8).copy().view(stored.dtype)
    if dtype == "BF16":
        return widen_bfloat16(stored.view(np.uint16))
    if dtype == "F16":
        return widen_float16(stored.view(np.float16))
    return stored.astype(np.float32, copy=False)


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The parameters that an embedding takes, by the network's own names."""
    config = checkpoint.config.text_config
    width, inner = config.hidden_size, config.intermediate_size
    dimension = checkpoint.embedding_dim or 0
    shapes: dict[str, tuple[int, ...]] = {
        "text_tower.word_embeddings.weight": (config.vocab_size, width),
        "text_tower.position_embeddings.weight": (config.max_position_embeddings, width),
        "text_tower.token_type_embeddings.weight": (config.type_vocab_size, width),
        **_affine("text_tower.norm", (width,)),
        **_affine("itc_text_head.fc", (dimension, width)),
    }
    for number in range(config.num_hidden_layers):
        layer = f"text_tower.layers.{number}"
        shapes |= _affine(f"{layer}.attention.qkv", (3 * width, width))
        shapes |= _affine(f"{layer}.attention.out", (width, width))
        shapes |= _affine(f"{layer}.attention.norm", (width,))
        shapes |= _affine(f"{layer}.feed_forward.up", (inner, width))
        shapes |= _affine(f"{layer}.feed_forward.down", (width, inner))
        shapes |= _affine(f"{layer}.feed_forward.norm", (width,))
    return shapes


def _affine(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """A weight of this shape and its bias, one for each row."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
