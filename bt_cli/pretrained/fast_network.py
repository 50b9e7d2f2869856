"""The packed network beside a model: made from its weights when they are first used without change, and kept in step.

A model of this room has its parameters under the hub's names, for hooks, adapters and optimisers. Where none of these
is at work, results come from the packed network (see `bt_cli.packed`), which holds the weights a second time, laid out
for speed. This file says when it may stand in, and notices when the weights are no longer those that it was made of.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.cross_modal import Fusion, Wanted
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.checkpoints.hub_layout import HubLayout
from bt_cli.checkpoints.meta_network import meta_network
from bt_cli.packed.network import pack_network
from bt_cli.packed.slice_pool import SlicePool
from bt_cli.pretrained.batch_input import BatchInput

IMAGES_AT_ONCE = 4
"""Images in a slice of work: more spill the processor's caches and share no more."""
KNOWN_BYTES = 256 << 20
"""Encoded images that are kept for the next call: 36 of the base model's."""
_SAMPLED = 16
"""Numbers of each parameter that are looked at for changes which torch does not count (those made through `.data`)."""
_PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)


@dataclass
class Encoded:
    """What one pass of the packed network gave: both sides' embeddings where asked for, and their fusion."""

    fusion: Fusion
    text_embeds: Tensor | None
    image_embeds: Tensor | None


class FastNetwork:
    """The packed network of one model, or none yet. Copies and pickles of a model start with none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._network: BridgeTower | None = None
        self._weights: WeightState | None = None
        self._seen: WeightState | None = None
        self._pool = SlicePool(torch.device("cpu"))
        self._images = KnownImages()

    def __reduce__(self) -> tuple[type[FastNetwork], tuple[()]]:
        return FastNetwork, ()

    def drop(self) -> None:
        """Give the memory back; the next call that may use it makes it anew."""
        with self._lock:
            self._forget()
            self._seen = None

    def _forget(self) -> None:
        self._network = self._weights = None
        self._images = KnownImages()

    def network_for(
        self, config: BridgeTowerConfig, parameters: dict[str, nn.Parameter], heads: Collection[str]
    ) -> BridgeTower | None:
        """The packed network for these parameters, by the hub's names; None where there is to be none yet.

        It is made at the first call, and after a change of weights at the second call that finds them unchanged: a
        training loop that looks at one batch after each step would pay for packing and never profit.
        """
        state = WeightState.of(parameters)
        if state is None:
            return None
        with self._lock:
            if self._network is not None and state == self._weights:
                return self._network
            settled = self._seen is None or state == self._seen
            self._seen = state
            self._forget()
            if settled:
                self._network = _packed(config, parameters, heads, state.dtype, self._pool)
                self._weights = state
            return self._network

    def encode(self, network: BridgeTower, batch: BatchInput, wanted: Wanted, embeds: bool) -> Encoded:
        """Run a batch of pairs. Texts and images that are there twice are encoded once."""
        assert batch.pixel_values is not None
        with torch.inference_mode():
            texts, by_text = self._texts(network, batch, embeds)
            images, by_image = self._images_of(network, batch.pixel_values, embeds)
            fusion = network.fuse(images, texts, (by_image, by_text), wanted=wanted)
            text_embeds = None if texts.embeds is None else texts.embeds[by_text]
            image_embeds = None if images.embeds is None else images.embeds[by_image]
        return Encoded(fusion, text_embeds, image_embeds)

    def _texts(self, network: BridgeTower, batch: BatchInput, embeds: bool) -> tuple[TextStates, Tensor]:
        ids, keep = batch.input_ids, batch.keep
        rows = ids if keep is None else torch.cat([ids, keep.to(ids.dtype)], dim=1)
        first, inverse = _distinct([row.numpy().tobytes() for row in rows])
        states = network.encode_texts(ids[first], None if keep is None else keep[first], bridges=True, embeds=embeds)
        return states, inverse

    def _images_of(self, network: BridgeTower, pixels: Tensor, embeds: bool) -> tuple[ImageStates, Tensor]:
        pixels = pixels.detach()
        found = self._images.lookup(pixels)
        first, inverse = _distinct([each.number for each in found])
        distinct = [found[place] for place in first.tolist()]
        unknown = [image for image in distinct if image.states is None]
        if unknown:
            at_once = self._pool.share(len(unknown), IMAGES_AT_ONCE)
            slices = torch.stack([image.pixels for image in unknown]).split(at_once)
            parts = self._pool.map(lambda part: network.encode_images(part, bridges=True, embeds=embeds), slices)
            states = ImageStates.cat(parts)
            for place, image in enumerate(unknown):
                image.states = states.select(torch.tensor([place]))
            self._images.keep(unknown)
            if len(unknown) == len(distinct):
                return states, inverse
        return ImageStates.cat([image.states for image in distinct if image.states is not None]), inverse


@dataclass(eq=False)
class KnownImage:
    """An image's pixels (C, H, W) and, once it is encoded, its states; `number` tells it from all others."""

    number: int
    pixels: Tensor
    states: ImageStates | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = [self.pixels]
        if self.states is not None:
            held += [part for part in (self.states.bridges, self.states.embeds) if part is not None]
        return sum(part.numel() * part.element_size() for part in held)


class KnownImages:
    """The images encoded last, found again by their pixels, every one of which is compared."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, KnownImage] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def lookup(self, pixels: Tensor) -> list[KnownImage]:
        """For each of (B, C, H, W) the image with these pixels, new where no other has them."""
        with self._lock:
            by_sum: dict[tuple[float, ...], list[KnownImage]] = {}
            for image in self._kept.values():
                by_sum.setdefault(_signature(image.pixels[None])[0], []).append(image)
            found = []
            for row, signature in zip(pixels, _signature(pixels), strict=True):
                alike = by_sum.setdefault(signature, [])
                known = next((each for each in alike if _same(each.pixels, row)), None)
                image = known or KnownImage(self._count, row)
                if known is None:
                    self._count += 1
                    alike.append(image)
                elif image.number in self._kept:
                    self._kept.move_to_end(image.number)
                found.append(image)
            return found

    def keep(self, images: list[KnownImage]) -> None:
        """Keep these, now encoded, and let the oldest go beyond `KNOWN_BYTES`."""
        with self._lock:
            for image in images:
                image.pixels = image.pixels.clone()  # the caller's tensor may be written over
                self._kept[image.number] = image
            total = sum(image.nbytes for image in self._kept.values())
            while self._kept and total > KNOWN_BYTES:
                _, oldest = self._kept.popitem(last=False)
                total -= oldest.nbytes


def _signature(pixels: Tensor) -> list[tuple[float, ...]]:
    """Something of each image (B, C, H, W) that is equal where the images are, and cheap."""
    some = pixels.flatten(1)[:, :: max(1, pixels[0].numel() // 64)]
    return [(*pixels.shape[1:], *row) for row in some.tolist()]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _distinct(keys: list[object]) -> tuple[Tensor, Tensor]:
    """The positions of the first of each kind, and for each key which of these it is."""
    numbers: dict[object, int] = {}
    inverse = [numbers.setdefault(key, len(numbers)) for key in keys]
    first = [inverse.index(number) for number in range(len(numbers))]
    return torch.tensor(first), torch.tensor(inverse)


@dataclass(eq=False)
class WeightState:
    """What tells whether parameters are still what they were: where they lie, how often torch has seen them written,
    and some numbers of each, since a write through `.data` is not counted."""

    places: tuple[tuple[int, int, torch.Size], ...]
    sample: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, parameters: dict[str, nn.Parameter]) -> WeightState | None:
        """None where the packed network can't be made of them: not on the CPU, of several dtypes, no plain tensors."""
        values = list(parameters.values())
        dtype = values[0].dtype
        plain = dtype in _PRECISIONS and all(
            type(each) is nn.Parameter and each.dtype == dtype and each.device.type == "cpu" and not each.is_inference()
            for each in values
        )
        if not plain:
            return None
        places = tuple((each.data_ptr(), each._version, each.shape) for each in values)
        with torch.no_grad():
            sample = torch.cat([_few(each) for each in values])
        return cls(places, sample, dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeightState) or self.places != other.places or self.dtype != other.dtype:
            return False
        return torch.equal(self.sample, other.sample)


def _few(parameter: Tensor) -> Tensor:
    count = parameter.numel()
    flat = parameter.detach().reshape(-1) if parameter.is_contiguous() else parameter.detach()[..., 0].reshape(-1)
    return flat[:: max(1, count // _SAMPLED)]


def _packed(
    config: BridgeTowerConfig,
    parameters: dict[str, nn.Parameter],
    heads: Collection[str],
    dtype: torch.dtype,
    pool: SlicePool,
) -> BridgeTower:
    network = meta_network(config, heads)
    layout = HubLayout(config)
    filled: dict[str, Tensor] = {}
    for name, empty in network.named_parameters():
        parts = []
        for piece in layout.pieces(name, tuple(empty.shape)):
            whole = parameters[piece.hub_name].detach()
            parts.append(whole if piece.hub_rows is None else whole[slice(*piece.hub_rows)])
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        filled[name] = joined.reshape(empty.shape)
    network.load_state_dict(filled, strict=True, assign=True)
    return pack_network(network, _PRECISIONS[dtype], torch.device("cpu"), pool)


def structure_of(model: nn.Module) -> tuple[type, ...]:
    """The classes of all modules in order: what an adapter, a parametrisation or a replaced layer changes."""
    return tuple(map(type, model.modules()))


def is_ordinary(model: nn.Module, structure: tuple[type, ...]) -> bool:
    """Whether a call of `model` would run its modules as built: all in eval mode, none watched or replaced."""
    if any(getattr(torch_module, name) for name in _GLOBAL_HOOKS):
        return False
    count = 0
    for module in model.modules():
        inner = module is not model
        if count >= len(structure) or type(module) is not structure[count] or module.training:
            return False
        attributes = module.__dict__
        if inner and ("forward" in attributes or any(attributes[name] for name in _HOOKS)):
            return False
        count += 1
    return count == len(structure)


def in_ordinary_context(tensors: Collection[Tensor | None]) -> bool:
    """Whether nothing watches or transforms what torch does: no compiler, tracer, autocast or functional transform."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
        return False
    if _get_current_dispatch_mode() is not None or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(each is None or (type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu") for each in tensors)
