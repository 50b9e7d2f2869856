"""A checkpoint ready to work: images and texts in, arrays out.

Torch is imported when work first needs it: a few texts are embedded without (see `text_encoder.py`), which takes less
than that import.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.errors import MissingHead, Misuse, UnreadableImage
from bt_cli.inference.engine import Engine
from bt_cli.inference.light_texts import LightTexts
from bt_cli.inference.truncation import warn_of_truncation

if TYPE_CHECKING:
    import torch

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.bridgetower.states import ImageStates, TextStates
    from bt_cli.inference.cache import ImageCache
    from bt_cli.inference.explain import Explanation
    from bt_cli.inference.lazy_network import LazyNetwork
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer
    from bt_cli.store.bridge_cache import BridgeCache

Progress = Callable[[int, int], None]
OnError = Callable[[int, UnreadableImage], None]

IMAGES_PER_BATCH = {"cpu": 8, "cuda": 64, "mps": 16}
"""Images decoded and handed to the vision tower at a time; a CPU takes them in slices, see docs/performance.md."""


def load(
    name: str | Path | Checkpoint,
    *,
    device: str = "auto",
    dtype: str = "auto",
    heads: Collection[str] | None = None,
    towers: Collection[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Model:
    """Open a checkpoint for work.

    `name` is "tiny", a hub name, a folder in hub layout or an opened Checkpoint. `device` is "auto", "cpu", "cuda",
    "cuda:N" or "mps"; `dtype` "auto", "float32", "bfloat16" or "int8" (see `choose_precision`). Weights are read when
    work first needs them, and only those; `heads` ("itc", "itm", "mlm") announce what will be needed, `towers` ("text",
    "vision", "cross") are read now. `threads` sets torch's, for the whole process. `progress` hears a download.

    Raises UnknownModel, NotFound, Offline, DownloadFailed, BadConfig, CheckpointMismatch, MissingHead or NoDevice.
    """
    if threads is not None:
        from bt_cli.inference.device import set_threads

        set_threads(threads)
    checkpoint = name if isinstance(name, Checkpoint) else Checkpoint.open(name, progress=progress)
    model = Model(checkpoint, device=device, dtype=dtype, heads=heads)
    if heads is not None:
        checkpoint.require(heads)
    if towers is not None:
        model.parts.need(towers, heads or ())
    return model


class Model:
    """`load` makes it; `close`, or leaving a `with` block, ends its threads and frees its memory.

    Images come as any iterable of paths, Pillow images, uint8 arrays or image files' bytes, texts as any iterable of
    strings. In a child of `os.fork` a model goes on working, on one thread.

    `checkpoint` is what it was made of, `device` a torch.device, `precision` "float32", "bfloat16" or "int8".
    Results are float32 arrays. In float32 they do not depend on the batch size or on what else is in a call (within
    1e-5); in bfloat16 and int8 what else is there moves an ITM logit by no more than that precision's own rounding.

    Where device and dtype are left to bt (or are "cpu" and "float32"), texts that come first are embedded without
    torch, in float32 on the CPU; `engine` says what did the last work.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        heads: Collection[str] | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.exact_decoding = False
        self.bridge_cache: BridgeCache | None = None
        self._asked = device, dtype
        self._planned = heads
        self._making = threading.Lock()
        self._parts: LazyNetwork | None = None
        self._light: LightTexts | None = None
        if device in ("auto", "cpu") and dtype in ("auto", "float32"):
            self._light = LightTexts(checkpoint)
        else:
            self.parts  # what this machine can't do is said now  # noqa: B018

    @property
    def parts(self) -> LazyNetwork:
        """The network as far as it is loaded; from here on everything is torch's."""
        with self._making:
            if self._parts is None:
                from bt_cli.inference.device import choose_device, keep_freed_memory
                from bt_cli.inference.lazy_network import LazyNetwork
                from bt_cli.packed.precision import choose_precision

                device, dtype = self._asked
                place = choose_device(device)
                precision = choose_precision(dtype, place)
                if place.type == "cpu":
                    keep_freed_memory()
                self._parts = LazyNetwork(self.checkpoint, precision, place, self._planned)
            return self._parts

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.parts.device

    @property
    def precision(self) -> str:
        """What the network computes in: "float32", "bfloat16" or "int8"."""
        return self.parts.precision

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's hidden states."""
        return self.parts.dtype

    @functools.cached_property
    def batch_size(self) -> int:
        """Images decoded and handed to the vision tower at a time."""
        return max(IMAGES_PER_BATCH.get(self.device.type, 8), 4 * self.parts.pool.size)

    @property
    def engine(self) -> Engine:
        """What did the last work: the network, or what stands in for it while there are but a few texts."""
        if self._parts is None and self._light is not None and self._light.used:
            return Engine("cpu", "float32")
        return Engine(str(self.device), self.precision)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the network's threads, sync the bridge cache, and let go of the weights and of images seen before.

        No other thread may be at work with the model. Work that comes later reads the weights again.
        """
        if self._parts is not None:
            self._parts.close()
        if "_memory" in self.__dict__:
            self._memory.clear()
        self.__dict__.pop("_reference", None)
        if self.bridge_cache is not None:
            self.bridge_cache.close()

    @property
    def network(self) -> BridgeTower:
        """The whole network, a `torch.nn.Module` for inference; `Checkpoint.network` gives one that can be trained."""
        return self.parts.whole()

    @functools.cached_property
    def image_processor(self) -> ImageProcessor:
        """How images become pixels."""
        return self.checkpoint.image_processor()

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """How texts become ids."""
        return self.checkpoint.tokenizer()

    @property
    def dimension(self) -> int:
        """Length of an embedding. Raises MissingHead for a checkpoint without ITC head."""
        self.checkpoint.require({"itc"})
        dimension = self.checkpoint.embedding_dim
        assert dimension is not None
        return dimension

    def keep_in_memory(self, limit: float) -> None:
        """Keep bridge features of images seen before in at most `limit` bytes of memory; 256 MiB if never called.

        What is kept now is let go. Raises Misuse for a limit that is infinite, not a number or negative.
        """
        from bt_cli.inference.cache import ImageCache

        self._memory = ImageCache.in_memory(limit)

    def use_bridge_cache(self, folder: str | Path, *, limit: float | None = None) -> BridgeCache:
        """Look images' bridge features up in `folder` from now on; with `limit` bytes, also keep there those made.

        What another checkpoint, preprocessing or precision made is never used. Close the returned cache to sync it, or
        the model. Raises Misuse for a limit that is infinite, not a number or negative.
        """
        from bt_cli.store.bridge_cache import BridgeCache

        made_by = {
            "checkpoint": self.checkpoint.fingerprint,
            "images": self.image_processor.fingerprint(),
            "exact": self.exact_decoding,
            "precision": self.precision,
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        self.bridge_cache = BridgeCache(Path(folder), made_by, limit=limit)
        return self.bridge_cache

    def encode_images(
        self,
        images: Iterable[Any],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> NDArray[np.float32]:
        """ITC embeddings (n, d) float32, rows of norm 1, of paths, Pillow images, uint8 arrays or image files' bytes.

        Images are drawn as they are needed: a generator may give more than memory holds, and `progress` then hears of
        those so far. `workers` decode beside the network. An image that can't be read raises UnreadableImage, or is
        told to `on_error(position, error)` and its row is NaN. Raises MissingHead for a checkpoint without ITC head.
        """
        from bt_cli.inference.encoding import Counted, scattered

        counted = Counted(_several(images))
        parts = self._image_parts(counted, False, True, batch_size, workers, progress, on_error)
        return scattered(parts, lambda: counted.count, self.dimension)

    def encode_pixels(
        self, pixel_values: NDArray[np.float32], files: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """ITC embeddings (n, d) float32 of images that went through `image_processor`: (n, 3, H, W) float32.

        `files` are the images' paths: where a bridge cache is being filled, their features come out of the same pass.
        """
        keeps = files is not None and self.bridge_cache is not None and self.bridge_cache.limit is not None
        states = self.pixel_states(pixel_values, bridges=keeps, embeds=True)
        assert states.embeds is not None
        if keeps:
            self._keep_bridges(files, states)
        return states.embeds.cpu().numpy()

    def _keep_bridges(self, files: Sequence[str] | None, states: ImageStates) -> None:
        if files is None or self.bridge_cache is None or self.bridge_cache.limit is None:
            return
        from bt_cli.inference.cache import ImageCache

        ImageCache(ImageCache.in_memory(0), self.bridge_cache, self.device, self.dtype).keep(
            files, states.need_bridges()
        )

    def pixel_states(
        self, pixel_values: NDArray[np.float32], *, bridges: bool = True, embeds: bool = False
    ) -> ImageStates:
        """Bridge features, ITC embeddings or both of (n, 3, H, W) float32, in one pass through the vision tower."""
        from bt_cli.inference.encoding import to_device

        return self.parts.encode_pixels(to_device(pixel_values, self.device), bridges=bridges, embeds=embeds)

    def encode_texts(self, texts: Iterable[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """ITC embeddings (n, d) float32, rows of norm 1. The vision tower is not touched.

        A text beyond the model's positions loses its end, with a warning. Raises MissingHead as `encode_images` does.
        """
        texts = _texts(texts)
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        if self._light is not None and self._parts is None:
            tokens = self.tokenizer.encode(texts)
            if self._light.can_take(tokens):
                warn_of_truncation(texts, tokens, self.tokenizer)
                self._light.encode(tokens, rows, progress)
                return rows
        done = 0
        for positions, states in self._text_parts(texts, False, True):
            assert states.embeds is not None
            rows[positions] = states.embeds.cpu().numpy()
            done += len(positions)
            if progress is not None:
                progress(done, len(texts))
        return rows

    def expect_texts(self, texts: Sequence[str]) -> None:
        """Say that `texts` will be embedded in several calls, so that the same engine embeds all of them."""
        if self._light is not None and self._parts is None and not self._light.expect(texts):
            self.parts  # noqa: B018

    def encode_pairs(
        self,
        images: Sequence[Any],
        texts: Sequence[str],
        *,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> NDArray[np.float32]:
        """One embedding of each image together with its text: (n, d) float32, rows of norm 1.

        Row i joins `images[i]` and `texts[i]`, by the ITC head on the pooled pair. Texts and images find such rows by
        their own embeddings. What stands in several pairs is encoded once; images that can't be read as in
        `encode_images`. Raises MissingHead for a checkpoint without that head, Misuse for lists of unequal length.
        """
        import torch

        from bt_cli.inference.cache import TextCache
        from bt_cli.inference.joint import aligned, distinct, embed_blocks, require_joint_head

        images, texts = _images(images), _texts(texts)
        rows = np.full((aligned(images, texts), self.dimension), np.nan, dtype=np.float32)
        require_joint_head(self.checkpoint)
        network = self.parts.need(("text", "vision", "cross"), {"itc"})
        (first, by_image), (first_text, by_text) = distinct(images), distinct(texts)
        cache = TextCache([texts[place] for place in first_text], self.text_states)
        tell = None if on_error is None else _to_each_pair(on_error, by_image)
        parts = self._image_parts([images[place] for place in first], True, False, None, None, None, tell)
        with torch.inference_mode():
            embed_blocks(network, parts, cache, by_image, by_text, rows, progress)
        return rows

    def encode_captioned(
        self,
        pixel_values: NDArray[np.float32],
        captions: Sequence[Sequence[str]],
        files: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """One embedding of each image with all its captions: (n, d) float32, rows of norm 1.

        Takes images that went through `image_processor`, (n, 3, H, W) float32, and the captions of each. Several make
        the mean of their pairs' embeddings, brought to norm 1 again; none, the embedding of the image alone. `files` as
        in `encode_pixels`. Raises MissingHead for a checkpoint without cross-modal ITC head.
        """
        from bt_cli.inference.cache import TextCache
        from bt_cli.inference.joint import embed_captioned, require_joint_head

        require_joint_head(self.checkpoint)
        network = self.parts.need(("text", "vision", "cross"), {"itc"})
        if not len(pixel_values):
            return np.empty((0, self.dimension), np.float32)
        states = self.pixel_states(pixel_values, embeds=True)
        self._keep_bridges(files, states)
        texts = list(dict.fromkeys(text for own in captions for text in own))
        return embed_captioned(network, states, TextCache(texts, self.text_states), captions)

    def rank(
        self,
        query: str,
        images: Sequence[Any],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """`images` in the order in which they match the query, best first, as cross-encoders rank documents.

        Each entry has `corpus_id` (the image's place in `images`) and `score` (the ITM match logit), with
        `return_documents` also `document`, the image as it was given. `top_k` keeps the best alone; equal scores stand
        by id. Raises as `score` does.
        """
        from bt_cli.inference.joint import ranked

        if top_k is not None and top_k < 1:
            raise Misuse(f"top_k is {top_k}, but has to be at least 1")
        images = _images(images)
        scores = self.score(images, [query], progress=progress)[:, 0] if len(images) else np.empty(0, np.float32)
        return ranked(scores, images if return_documents else None, top_k)

    def image_states(
        self,
        images: Iterable[Any],
        *,
        embeds: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> ImageStates:
        """Bridge features (L, n, P, h) of images, with `embeds` the ITC embeddings too; options as `encode_images`."""
        from bt_cli.inference.encoding import gathered

        images = _images(images)
        if not len(images):
            raise Misuse("no image to encode")
        embeds = embeds and "itc" in self.checkpoint.heads
        parts = self._image_parts(images, True, embeds, batch_size, workers, progress, on_error)
        return gathered(parts, len(images))

    def text_states(self, texts: Iterable[str], *, embeds: bool = False) -> TextStates:
        """Bridge features (L, n, T, h) of texts, padded to the longest, with `embeds` the ITC embeddings too."""
        from bt_cli.inference.encoding import texts_in_order

        texts = _texts(texts)
        if not texts:
            raise Misuse("no text to encode")
        return texts_in_order(list(self._text_parts(texts, True, embeds and "itc" in self.checkpoint.heads)))

    def itm_logits(self, images: ImageStates, texts: TextStates, pairs: Any) -> NDArray[np.float32]:
        """Match logits (p, 2) float32 of `pairs` (p, 2) of (image row, text row) among encoded images and texts."""
        import torch

        from bt_cli.inference.matching import checked_pairs, pair_logits

        network = self.parts.need(("text", "vision", "cross"), {"itm"})
        rows = checked_pairs(pairs, len(images), len(texts))
        if not len(rows):
            return np.empty((0, 2), dtype=np.float32)
        with torch.inference_mode():
            return pair_logits(network, images, texts, rows[:, 0], rows[:, 1])

    def itm(
        self,
        images: Iterable[Any],
        texts: Iterable[str],
        pairs: Any = None,
        *,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> NDArray[np.float32]:
        """ITM logits: (n, m, 2) float32, or (p, 2) for `pairs` (p, 2) of (image row, text row); column 1 is "match".

        Each image and each text is encoded once, memory stays bounded. `progress` counts pairs. Raises MissingHead
        for a checkpoint without ITM head; images that can't be read as in `encode_images`.
        """
        return self._match(images, texts, pairs, False, progress, on_error)[0]

    def score(
        self, images: Iterable[Any], texts: Iterable[str], pairs: Any = None, *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """ITM match logits (n, m) float32 of every image with every text, or (p,) for `pairs`; see `itm`."""
        return self.itm(images, texts, pairs, progress=progress)[..., 1]

    def compare(
        self,
        images: Iterable[Any],
        texts: Iterable[str],
        pairs: Any = None,
        *,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """(ITM logits as `itm` gives them, ITC cosines (n, m) or (p,)) in one encoding; None for a missing head.

        Raises MissingHead for a checkpoint with neither.
        """
        heads = self.checkpoint.heads
        if "itm" in heads:
            itm, itc = self._match(images, texts, pairs, "itc" in heads, progress, on_error)
            return itm, itc
        if "itc" not in heads:
            raise MissingHead(f"{self.checkpoint.name} has neither an ITC nor an ITM head, so it can't compare")
        left = self.encode_images(images, progress=progress, on_error=on_error)
        return None, _cosines(left, self.encode_texts(texts), pairs)

    def fill_mask(self, image: Any, text: str, k: int = 5) -> list[list[tuple[str, int, float]]]:
        """For each `<mask>` in `text` the `k` likeliest (token, id, probability), best first.

        Tokens stand as they decode, with their leading space. Raises NoMask, MissingHead or UnreadableImage.
        """
        import torch

        from bt_cli.inference.masked_words import fill_masks

        network = self.parts.need(("text", "vision", "cross"), {"mlm"})
        states = self.image_states([image])
        with torch.inference_mode():
            return fill_masks(network, states, text, self.tokenizer, k, self.device)

    def explain(self, image: Any, text: str) -> Explanation:
        """Where the image spoke for its match with the text: (words, maps (words, rows, columns) float32).

        Computed in float32 by the reference network, as the fast one keeps no attention. See `inference/explain.py`.
        Raises MissingHead for a checkpoint without ITM head, or UnreadableImage.
        """
        from bt_cli.inference.explain import explain_match

        self.checkpoint.require({"itm"})
        return explain_match(self._reference, self._pixels(image), text, self.tokenizer)

    def explain_masks(self, image: Any, text: str) -> Explanation:
        """Where the network looked for each `<mask>`'s likeliest word: (words, maps (masks, rows, columns) float32).

        As `explain`; raises NoMask, MissingHead for a checkpoint without MLM head, or UnreadableImage.
        """
        from bt_cli.inference.explain import explain_masks

        self.checkpoint.require({"mlm"})
        return explain_masks(self._reference, self._pixels(image), text, self.tokenizer)

    @functools.cached_property
    def _reference(self) -> BridgeTower:
        return self.checkpoint.network(self.checkpoint.heads & {"itm", "mlm"}, device=self.device)

    def _pixels(self, image: Any) -> torch.Tensor:
        from bt_cli.inference.encoding import to_device

        return to_device(self.image_processor(image, exact=self.exact_decoding)[None], self.device)

    def _match(
        self,
        images: Iterable[Any],
        texts: Iterable[str],
        pairs: Any,
        embeds: bool,
        progress: Progress | None,
        on_error: OnError | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        import torch

        from bt_cli.inference.cache import TextCache
        from bt_cli.inference.matching import Matches, all_pairs, candidates_of, checked_pairs, match_blocks

        images, texts = _images(images), _texts(texts)
        count, others = len(images), len(texts)
        network = self.parts.need(("text", "vision", "cross"), {"itm", "itc"} if embeds else {"itm"})
        rows = all_pairs(count, others) if pairs is None else checked_pairs(pairs, count, others)
        wanted = candidates_of(rows, count)
        matches = Matches.empty(len(rows), count, others, self.dimension if embeds else None)
        cache = TextCache(texts, functools.partial(self.text_states, embeds=embeds))
        tell = None if on_error is None else lambda position, error: on_error(wanted[position], error)
        parts = self._image_parts([images[row] for row in wanted], True, embeds, None, None, None, tell)
        placed = (([wanted[position] for position in positions], states) for positions, states in parts)
        with torch.inference_mode():
            match_blocks(network, placed, cache, rows, matches, progress)
        itc = None
        if matches.image_embeds is not None and matches.text_embeds is not None:
            itc = _cosines(matches.image_embeds, matches.text_embeds, None if pairs is None else rows)
        return matches.logits if pairs is not None else matches.logits.reshape(count, others, 2), itc

    @functools.cached_property
    def _memory(self) -> Any:
        from bt_cli.inference.cache import ImageCache

        return ImageCache.in_memory()

    def _image_cache(self) -> ImageCache:
        from bt_cli.inference.cache import ImageCache

        return ImageCache(self._memory, self.bridge_cache, self.device, self.dtype)

    def _image_parts(
        self,
        images: Any,
        bridges: bool,
        embeds: bool,
        batch_size: int | None,
        workers: int | None,
        progress: Progress | None,
        on_error: OnError | None,
    ) -> Iterator[tuple[list[int], ImageStates]]:
        from bt_cli.inference.encoding import encode_in_batches
        from bt_cli.inference.lazy_network import image_needs

        self.parts.need(*image_needs(bridges, embeds))  # a missing head is said before the first image is read

        def make(
            images: Iterable[Any], on_error: OnError | None, progress: Progress | None = None
        ) -> Iterator[tuple[list[int], ImageStates]]:
            return encode_in_batches(
                images,
                self.image_processor,
                functools.partial(self.parts.encode_pixels, bridges=bridges, embeds=embeds),
                self.device,
                batch_size=batch_size or self.batch_size,
                workers=workers,
                exact=self.exact_decoding,
                progress=progress,
                on_error=on_error,
            )

        if bridges and not embeds and progress is None:
            return self._image_cache().parts(images, make, batch_size=self.batch_size, on_error=on_error)
        return make(images, on_error, progress)

    def _text_parts(self, texts: list[str], bridges: bool, embeds: bool) -> Iterator[tuple[list[int], TextStates]]:
        import torch

        from bt_cli.inference.encoding import token_batches

        towers = {"text", "vision", "cross"} if bridges else {"text"}
        network = self.parts.need(towers, {"itc"} if embeds else set())
        for positions, ids, mask in token_batches(texts, self.tokenizer, self.device):
            with torch.inference_mode():
                yield positions, network.encode_texts(ids, mask, bridges=bridges, embeds=embeds)


def _to_each_pair(on_error: OnError, by_image: NDArray[np.int64]) -> OnError:
    """Tells `on_error` of an image that can't be read once for each pair it stands in."""

    def tell(image: int, error: UnreadableImage) -> None:
        for pair in np.flatnonzero(by_image == image).tolist():
            on_error(pair, error)

    return tell


def _several(images: Any) -> Iterable[Any]:
    """`images` as it came, which may be an array (n, H, W, 3) too; an array (H, W, 3) is one image and no list."""
    from PIL import Image

    of_one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    shape: tuple[int, ...] = images.shape if isinstance(images, np.ndarray) else ()
    one = isinstance(images, of_one) or len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if one:
        raise Misuse("images have to be a list, not one image; write [image]")
    several: Iterable[Any] = images
    try:
        iter(several)
    except TypeError:
        raise Misuse(f"images have to be a list, not {type(images).__name__}") from None
    return several


def _images(images: Any) -> Sequence[Any]:
    """All of them at once, for work that comes back to an image."""
    _several(images)
    indexed: Sequence[Any] = images
    return indexed if isinstance(images, (Sequence, np.ndarray)) else list(images)


def _texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise Misuse("texts have to be a list of strings, not one string; write [text]")
    if not isinstance(texts, Iterable):
        raise Misuse(f"texts have to be a list of strings, not {type(texts).__name__}")
    return list(texts)


def _cosines(images: NDArray[np.float32], texts: NDArray[np.float32], pairs: Any) -> NDArray[np.float32]:
    if pairs is None:
        return images @ texts.T
    from bt_cli.inference.matching import checked_pairs

    rows = checked_pairs(pairs, len(images), len(texts))
    return np.einsum("pd,pd->p", images[rows[:, 0]], texts[rows[:, 1]])
