"""The documented processor: images and texts to what a model's `forward` takes."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from bt_cli.checkpoints.save_folder import made_folder, refuse_push
from bt_cli.checkpoints.settings_files import WHERE
from bt_cli.errors import Misuse
from bt_cli.files.atomic_write import write_whole
from bt_cli.hub.hub_cache import IMAGE_SETTINGS
from bt_cli.preprocessing.tokenizer import Tokenizer
from bt_cli.processing.batch import BatchFeature
from bt_cli.processing.image_processor import DEFAULTS, WITHOUT_EFFECT, BridgeTowerImageProcessor
from bt_cli.processing.tokenizer import RobertaTokenizer

logger = logging.getLogger("bt_cli")

_IMAGE_OPTIONS = {*DEFAULTS, *WITHOUT_EFFECT}
_TEXT_OPTIONS = set(inspect.signature(RobertaTokenizer.__call__).parameters) - {"self", "text"}
_TOKENIZER_OPTIONS = {"model_max_length", "padding_side"}
# Options of the port's that would change the result and are not taken.
_REFUSED = {
    "videos": "BridgeTower sees single images",
    "audio": "BridgeTower hears nothing",
    "text_pair": "BridgeTower reads one text",
    "text_target": "BridgeTower reads one text",
    "text_pair_target": "BridgeTower reads one text",
    "is_split_into_words": "pass whole texts",
    "return_overflowing_tokens": "split long texts before the call",
    "stride": "split long texts before the call",
}
# How code for the port chooses among its implementations; here there is one.
_NO_CHOICE = {"use_fast", "backend", "trust_remote_code", "return_unused_kwargs"}


class BridgeTowerProcessor:
    """An image processor and a tokenizer as one.

    `processor(image, "two cats", return_tensors="pt").to(model.device)` gives input_ids, attention_mask,
    pixel_values and pixel_mask, which `model(**batch)` takes.
    """

    attributes: ClassVar[list[str]] = ["image_processor", "tokenizer"]
    image_processor: Any
    tokenizer: Any

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        """Takes a `BridgeTowerImageProcessor` and a `RobertaTokenizer`, or what behaves as they do.

        Raises:
            Misuse: One is missing or they are the wrong way round.
        """
        if isinstance(tokenizer, Tokenizer):
            tokenizer = RobertaTokenizer(tokenizer)
        parts = (("image_processor", image_processor, "preprocess"), ("tokenizer", tokenizer, "decode"))
        for name, part, method in parts:
            if not hasattr(part, method):
                order = "BridgeTowerProcessor(image_processor, tokenizer)"
                raise Misuse(f"{name} is {type(part).__name__}, which has no {method}(); it is {order}")
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @property
    def model_input_names(self) -> list[str]:
        """What a call may give: pixel_values, pixel_mask, input_ids, attention_mask."""
        return [*self.image_processor.model_input_names, *self.tokenizer.model_input_names]

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """Images, texts, or as many of one as of the other.

        Args:
            images: As `BridgeTowerImageProcessor` takes them. A text here and images in `text`, the order of older
                code, are put right.
            text: A string or a list of strings.
            options: Those of the image processor and of the tokenizer, by name; `return_tensors` goes to both.
                `images_kwargs`, `text_kwargs` and `common_kwargs` are mappings of the same for one side, or both. An
                unknown one is remarked on and has no effect.

        Raises:
            Misuse: Neither images nor a text, or options that can't be.
            UnreadableImage: A path, bytes or an array that is no image.
            BadConfig: An impossible value of an image option, by name.
        """
        if _is_image(text) and not _is_image(images):
            images, text = text, images
        if images is None and text is None:
            raise Misuse("the processor needs images, text, or both")
        for_images, for_text = self._sorted(options)
        found: dict[str, Any] = {}
        if text is not None:
            found.update(self.tokenizer(text, **for_text))
        if images is not None:
            found.update(self.image_processor(images, **for_images))
        return BatchFeature(found)

    def _sorted(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options for the images and those for the text."""
        sides: list[dict[str, Any]] = []
        nested = ("images_kwargs", "text_kwargs", "common_kwargs")
        for name, value in {**options, **(options.get("text_kwargs") or {})}.items():
            if name in _REFUSED and value:
                raise Misuse(f"{name} is not taken: {_REFUSED[name]}")
        for known, own in ((_IMAGE_OPTIONS, nested[0]), (_TEXT_OPTIONS, nested[1])):
            flat = {name: value for name, value in options.items() if name in known}
            mine = dict(options.get(own) or {})
            twice = sorted(flat.keys() & mine.keys())
            if twice:
                raise Misuse(f"{twice[0]} is given twice: in {own} and by itself")
            common = {name: value for name, value in (options.get(nested[2]) or {}).items() if name in known}
            sides.append({**common, **flat, **mine})
        for name in options:
            if name not in {*_IMAGE_OPTIONS, *_TEXT_OPTIONS, *nested, *_REFUSED}:
                logger.warning("the processor has no option %r; it has no effect", name)
        return sides[0], sides[1]

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """`tokenizer.decode`: ids to text, special tokens in it unless `skip_special_tokens=True`."""
        return self.tokenizer.decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """`tokenizer.batch_decode`: rows of ids to texts."""
        texts: list[str] = self.tokenizer.batch_decode(*args, **kwargs)
        return texts

    # -- files and the hub ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str = "",
        **options: Any,
    ) -> BridgeTowerProcessor:
        """The processor of a checkpoint: a bundled name, a hub name or a folder. Weights are not fetched.

        The arguments say where it lies, as those of `BridgeTowerConfig.from_pretrained`; `options` go over what the
        files say: the image processor's, `model_max_length` and `padding_side`. An unknown one is remarked on.

        Raises:
            NotFound: No such folder.
            UnknownModel: No checkpoint of that name.
            Offline: The hub is needed and can't be asked.
            DownloadFailed: The hub refused.
            BadConfig: The image settings are broken or have an impossible value.
            BadTokenizer: The tokenizer's files are broken or missing.
        """
        given = (cache_dir, force_download, local_files_only, token, revision, subfolder)
        where: dict[str, Any] = dict(zip(WHERE, given, strict=True))
        for name in options.keys() - _IMAGE_OPTIONS - _TOKENIZER_OPTIONS - _NO_CHOICE:
            logger.warning("the processor has no option %r; it has no effect", name)
        for_images = {name: value for name, value in options.items() if name in _IMAGE_OPTIONS}
        for_text = {name: value for name, value in options.items() if name in _TOKENIZER_OPTIONS}
        images = BridgeTowerImageProcessor.from_pretrained(pretrained_model_name_or_path, **where, **for_images)
        tokenizer = RobertaTokenizer.from_pretrained(pretrained_model_name_or_path, **where, **for_text)
        return cls(images, tokenizer)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write the image settings and the tokenizer's files into a folder, which `transformers` reads; their paths.

        The settings stand in processor_config.json, and once more in preprocessor_config.json for readers that know
        only that.

        Raises:
            Unwritable: The folder can't be written.
            Misuse: `push_to_hub`.
        """
        refuse_push(push_to_hub)
        folder = made_folder(save_directory)
        texts = self.tokenizer.save_pretrained(folder)
        self.image_processor.to_json_file(folder / IMAGE_SETTINGS[0])
        self.to_json_file(folder / IMAGE_SETTINGS[1])
        return [*texts, *(str(folder / name) for name in IMAGE_SETTINGS)]

    def to_dict(self) -> dict[str, Any]:
        """What processor_config.json holds; the tokenizer has files of its own."""
        return {"image_processor": self.image_processor.to_dict(), "processor_class": type(self).__name__}

    def to_json_string(self) -> str:
        """`to_dict` as JSON text, ended by a new line."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write `to_json_string` to a file, aside and renamed. Raises Unwritable."""
        write_whole(Path(json_file_path), self.to_json_string())

    def __repr__(self) -> str:
        return f"{type(self).__name__}:\n- image_processor: {self.image_processor!r}- tokenizer: {self.tokenizer!r}"


def _is_image(value: Any) -> bool:
    """Whether a value is, or holds, what can't be a text: only a path given as a string could be either."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_image, value))
    kinds = (Image.Image, bytes, os.PathLike)
    return isinstance(value, kinds) or (hasattr(value, "__array__") and not isinstance(value, str))
