"""What the models' `forward` gives: mappings that are tuples and have attributes, under the port's names."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree

Layers = tuple[Tensor, ...]


class ModelOutput(OrderedDict[str, Any]):
    """Named results in a fixed order; what was not computed is None as an attribute and no entry of the mapping.

    `output.logits`, `output["logits"]`, `output[0]` and `output[:2]` all work; iterating gives the names, as for any
    mapping, and `to_tuple` the values.
    """

    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **values: Any) -> None:
        """By name; one mapping of names to values is taken as well, which copying and unpickling do."""
        super().__init__()
        given = {**dict(args[0] if args else {}), **values}
        unknown = sorted(set(given) - set(self.names))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}; it has {', '.join(self.names)}")
        for name in self.names:
            if given.get(name) is not None:
                self[name] = given[name]

    def __init_subclass__(cls) -> None:
        cls.names = tuple(name for name in cls.__annotations__ if name != "names")
        for name in cls.names:  # annotations stand for readers; the values lie in the mapping
            if name in cls.__dict__:
                delattr(cls, name)
        _pytree.register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output)),
            lambda values, context: cls(**dict(zip(context or [], values, strict=True))),
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
        )

    def __getattr__(self, name: str) -> Any:
        if name in type(self).names:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).names:
            super().__setattr__(name, value)
        elif value is None:
            self.pop(name, None)
        else:
            self[name] = value

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that were computed, in order."""
        return tuple(self.values())


class BridgeTowerModelOutput(ModelOutput):
    """Of B pairs: `text_features` (B, T, h), `image_features` (B, P, h), `pooler_output` (B, 2h).

    Where asked for, `hidden_states`: three tuples, the text tower's states (B, T, w), first the embedded ids; the
    vision tower's (P, B, w), first the embedded patches; and (text, image) after each cross-modal layer. `attentions`:
    for each cross-modal layer the self-attention of (text (B, heads, T, T), image (B, heads, P, P)).
    """

    text_features: Tensor | None
    image_features: Tensor | None
    pooler_output: Tensor | None
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class BridgeTowerContrastiveOutput(ModelOutput):
    """Of B pairs: `text_embeds`, `image_embeds` and `cross_embeds` (B, d) of norm 1, `logits` (B, 3, d) the three
    stacked, and `loss`, a number, where it was asked for. `hidden_states` and `attentions` as `BridgeTowerModelOutput`.
    """

    loss: Tensor | None
    logits: Tensor | None
    text_embeds: Tensor | None
    image_embeds: Tensor | None
    cross_embeds: Tensor | None
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class MaskedLMOutput(ModelOutput):
    """Of B pairs: `logits` (B, T, V) over the vocabulary, `loss` where labels were given; the rest as
    `BridgeTowerModelOutput`."""

    loss: Tensor | None
    logits: Tensor | None
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class SequenceClassifierOutput(ModelOutput):
    """Of B pairs: `logits` (B, 2), column 1 says that image and text match; `loss` where labels were given; the rest as
    `BridgeTowerModelOutput`."""

    loss: Tensor | None
    logits: Tensor | None
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None
