"""A checkpoint's network, loaded tower by tower as the work asks for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bt_cli.bridgetower.network import PARTS, BridgeTower
from bt_cli.bridgetower.states import ImageStates
from bt_cli.packed.network import pack_network
from bt_cli.packed.precision import activation_dtype
from bt_cli.packed.slice_pool import SlicePool

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint

_GRAFTED = ("text_tower", "vision_tower", "image_bridge", "itc_text_head", "itc_image_head", "logit_scale")


_IMAGES_AT_ONCE = 4
"""Images in a slice of CPU work: more spill the caches and share no more."""


def image_needs(bridges: bool, embeds: bool) -> tuple[set[str], set[str]]:
    """The towers and heads that encoding images takes."""
    return {"text", "vision", "cross"} if bridges else {"vision"}, {"itc"} if embeds else set()


class LazyNetwork:
    """Reads and packs only the parts that were needed so far; `planned` heads will be needed later.

    Threads may share one: a part is read once, and what another thread works with stays as it was.
    """

    def __init__(
        self, checkpoint: Checkpoint, precision: str, device: torch.device, planned: Collection[str] | None
    ) -> None:
        self.checkpoint, self.precision, self.device = checkpoint, precision, device
        self.dtype = activation_dtype(precision, device)
        self.pool = SlicePool(device)
        self.planned = set() if planned is None else set(planned)
        self.towers: set[str] = set()
        self.heads: set[str] = set()
        self._network: BridgeTower | None = None
        self._loading = threading.Lock()

    def need(self, towers: Collection[str], heads: Collection[str] = ()) -> BridgeTower:
        """The network with at least these towers ("text", "vision", "cross") and heads.

        Raises MissingHead where the checkpoint lacks one of the heads.
        """
        self.checkpoint.require(heads)
        with self._loading:
            return self._with_parts(towers, heads)

    def _with_parts(self, towers: Collection[str], heads: Collection[str]) -> BridgeTower:
        missing_towers, missing_heads = set(towers) - self.towers, set(heads) - self.heads
        if self._network is not None and not missing_towers and not missing_heads:
            return self._network
        if self.planned & {"itm", "mlm"} or "cross" in self.towers | missing_towers or missing_heads & {"itm", "mlm"}:
            wanted = self.heads | missing_heads | self.planned
            self._network, self.towers, self.heads = None, set(), set()  # its memory goes before the whole is read
            return self._keep(self._load(set(PARTS), wanted), set(PARTS), wanted)
        wanted_towers, wanted_heads = self.towers | missing_towers, self.heads | missing_heads
        if self._network is None or missing_heads:
            return self._keep(self._load(wanted_towers, wanted_heads), wanted_towers, wanted_heads)
        self._graft(self._network, missing_towers)
        return self._keep(self._network, wanted_towers, wanted_heads)

    def close(self) -> None:
        """End the threads and let go of the weights; what is needed later is read again."""
        with self._loading:
            self._network, self.towers, self.heads = None, set(), set()
        self.pool.close()

    def whole(self) -> BridgeTower:
        """The network with everything that the checkpoint has."""
        return self.need(PARTS, self.checkpoint.heads - {"itc_cross"})

    def encode_pixels(self, pixels: Tensor, *, bridges: bool, embeds: bool) -> ImageStates:
        """Bridge features, ITC embeddings or both of pixels (n, 3, H, W) float32 on the device, in slices."""
        network = self.need(*image_needs(bridges, embeds))
        parts = self.pool.map(
            lambda part: network.encode_images(part, bridges=bridges, embeds=embeds), self.slices(pixels)
        )
        return parts[0] if len(parts) == 1 else ImageStates.cat(parts)

    def slices(self, pixels: Tensor) -> Sequence[Tensor]:
        """Pixels (n, 3, H, W) as they go through the network side by side; whole on an accelerator."""
        on_cpu = self.device.type == "cpu"
        return pixels.split(self.pool.share(len(pixels), _IMAGES_AT_ONCE)) if on_cpu else [pixels]

    def _load(self, towers: set[str], heads: set[str]) -> BridgeTower:
        named = heads | ({"itc_cross"} & self.checkpoint.heads if heads >= {"itc"} and towers >= {"cross"} else set())
        network = self.checkpoint.network(heads=named, towers=towers, dtype=self.dtype, device=self.device)
        return pack_network(network, self.precision, self.device, self.pool)

    def _keep(self, network: BridgeTower, towers: set[str], heads: set[str]) -> BridgeTower:
        """Say only now that these parts are there: reading them may have failed."""
        self._network, self.towers, self.heads = network, set(towers), set(heads)
        return network

    def _graft(self, network: BridgeTower, towers: set[str]) -> None:
        """Set a tower that stands alone (no cross-modal encoder is loaded) beside those that are there."""
        added = self._load(towers, self.heads)
        for name in _GRAFTED:
            if getattr(network, name) is None:
                setattr(network, name, getattr(added, name))
