"""The text half of the documented processor: RoBERTa's tokenizer with the methods that code for it calls."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.checkpoints.save_folder import made_folder, refuse_push
from bt_cli.checkpoints.settings_files import TOKENIZER_SETTINGS, settings_folder
from bt_cli.errors import Misuse
from bt_cli.hub.hub_cache import CONFIG, TOKENIZER_FILES
from bt_cli.preprocessing.tokenizer import DEFAULT_MAX_LENGTH, END, MASK, PAD, START, UNKNOWN, Tokenizer
from bt_cli.processing.batch import BatchFeature, tensor_kind
from bt_cli.processing.image_processor import read_settings

logger = logging.getLogger("bt_cli")

_PADDINGS: dict[Any, str | None] = {
    False: None,
    None: None,
    "do_not_pad": None,
    True: "longest",
    "longest": "longest",
    "max_length": "max_length",
}
_TRUNCATIONS = {True: True, "longest_first": True, "only_first": True, False: False, "do_not_truncate": False}
# What each row of a batch is filled up with; input_ids take the pad token's id.
_FILLING = {
    "attention_mask": 0,
    "token_type_ids": 0,
    "special_tokens_mask": 1,
    "labels": -100,
    "offset_mapping": (0, 0),
}


class RobertaTokenizer:
    """`tokenizer("two cats", return_tensors="pt")` gives input_ids and attention_mask; also back from ids to text.

    Thin over `bt_cli.preprocessing.tokenizer.Tokenizer`: byte-level BPE, `<s>` and `</s>` around each text, `<mask>`
    swallowing the space before it. Threads may share one.
    """

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]
    is_fast: ClassVar[bool] = True
    bos_token = cls_token = START
    eos_token = sep_token = END
    pad_token, unk_token, mask_token = PAD, UNKNOWN, MASK
    pad_token_type_id: ClassVar[int] = 0
    truncation_side: ClassVar[str] = "right"
    clean_up_tokenization_spaces: ClassVar[bool] = False

    def __init__(self, tokenizer: Tokenizer, *, name_or_path: str = "", padding_side: str = "right") -> None:
        """Takes over a tokenizer; its `max_length` becomes `model_max_length`."""
        self._tokenizer = tokenizer
        self.model_max_length = tokenizer.max_length
        self.name_or_path = name_or_path
        self.padding_side = padding_side

    # -- text to ids ---------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchFeature:
        """A text, or a list of texts, to ids.

        Args:
            text: One text gives flat lists where no tensors are asked for; else everything is (n, T).
            add_special_tokens: Whether `<s>` and `</s>` go around each text.
            padding: True or "longest" fills up to the longest text, "max_length" to `max_length`; False leaves rows as
                they are, and one tensor of unequal rows is refused.
            truncation: True cuts texts to `max_length`, keeping `</s>`; None does where `max_length` is given without
                padding. A text left longer than the model takes is remarked on, unless `verbose` is off.
            max_length: Tokens, special ones counted; None is `model_max_length`.
            pad_to_multiple_of: Padded rows become a multiple of this long.
            padding_side: "right" or "left"; None is the tokenizer's own.
            return_tensors: "pt", "np", or None for lists.
            return_attention_mask: False leaves it out.
            return_token_type_ids: True adds them; all are 0.
            return_special_tokens_mask: Adds 1 where a token is `<s>`, `</s>` or padding.
            return_offsets_mapping: Adds each token's (start, end) in its text, in characters.
            return_length: Adds how many tokens each row has, padding counted.

        Raises:
            Misuse: No string or list of strings, an option that can't be, or unequal rows for one tensor.
        """
        single = isinstance(text, str)
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, (list, tuple)):
            raise Misuse(f"text is a string or a list of strings, not {type(text).__name__}")
        kind = tensor_kind(return_tensors)
        found = self._tokenizer.encodings(texts, special=add_special_tokens, offsets=return_offsets_mapping)
        columns: dict[str, list[Any]] = {"input_ids": [list(each.ids) for each in found]}
        if return_token_type_ids:
            columns["token_type_ids"] = [[0] * len(each.ids) for each in found]
        if return_attention_mask is not False:
            columns["attention_mask"] = [[1] * len(each.ids) for each in found]
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [list(each.special_tokens_mask) for each in found]
        if return_offsets_mapping:
            columns["offset_mapping"] = [list(each.offsets) for each in found]
        limit = self._limit(truncation, max_length, padding)
        longest = max((len(each.ids) for each in found), default=0)
        if limit is not None and longest > limit:
            columns = {name: [_cut(row, limit, add_special_tokens) for row in rows] for name, rows in columns.items()}
        elif longest > self.model_max_length and verbose:
            logger.warning(
                "a text has %d tokens and the model takes %d: pass truncation=True", longest, self.model_max_length
            )
        columns = self._padded(columns, padding, max_length, pad_to_multiple_of, padding_side)
        lengths = {"length": [len(row) for row in columns["input_ids"]]} if return_length else {}
        if single and kind is None:
            columns = {name: rows[0] for name, rows in columns.items()}
        return BatchFeature({**columns, **lengths}, kind)

    def encode(self, text: str, *, return_tensors: str | None = None, **options: Any) -> Any:
        """The `input_ids` of a call alone."""
        return self(text, return_tensors=return_tensors, **options)["input_ids"]

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[str]:
        """A text's tokens in the vocabulary's spelling (`Ġ` is a space)."""
        return list(self._tokenizer.encodings([text], special=add_special_tokens)[0].tokens)

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str | None = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchFeature:
        """What calls gave without padding (a list of mappings, or one of lists) as one padded batch.

        One mapping of flat lists stays flat, but for tensors. A row may have `labels`, filled up with -100.
        Raises Misuse where there are no `input_ids`.
        """
        if not isinstance(encoded_inputs, Mapping):
            rows = list(encoded_inputs)
            encoded_inputs = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        if "input_ids" not in encoded_inputs:
            raise Misuse("pad() needs input_ids in each of its inputs")
        columns = {name: _plain(rows) for name, rows in encoded_inputs.items()}
        single = bool(columns["input_ids"]) and not isinstance(columns["input_ids"][0], list)
        if single:
            columns = {name: [row] for name, row in columns.items()}
        if return_attention_mask is not False and "attention_mask" not in columns:
            columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]
        filled = {name: rows for name, rows in columns.items() if name == "input_ids" or name in _FILLING}
        padded = self._padded(filled, padding, max_length, pad_to_multiple_of, padding_side)
        kind = tensor_kind(return_tensors)
        made = {**columns, **padded}
        return BatchFeature({name: rows[0] for name, rows in made.items()} if single and kind is None else made, kind)

    def _limit(self, truncation: bool | str | None, max_length: int | None, padding: bool | str | None) -> int | None:
        if truncation is None:
            truncation = max_length is not None and _PADDINGS.get(padding) is None
        if truncation not in _TRUNCATIONS:
            raise Misuse(f"truncation is {truncation!r:.100}; True or False is needed: texts lose their end")
        if not _TRUNCATIONS[truncation]:
            return None
        limit = self.model_max_length if max_length is None else max_length
        if limit < 3:
            raise Misuse(f"max_length is {limit}; at least 3 tokens are needed, two of them <s> and </s>")
        return limit

    def _padded(
        self,
        columns: Mapping[str, list[Any]],
        padding: bool | str | None,
        max_length: int | None,
        multiple: int | None,
        side: str | None,
    ) -> dict[str, list[Any]]:
        if padding not in _PADDINGS:
            raise Misuse(f'padding is {padding!r:.100}; True, "longest", "max_length" or False is needed')
        side = side or self.padding_side
        if side not in ("left", "right"):
            raise Misuse(f'padding_side is {side!r:.100}; "left" or "right" is needed')
        way = _PADDINGS[padding]
        if way is None:
            return dict(columns)
        length = max(map(len, columns["input_ids"]), default=0)
        if way == "max_length":
            length = self.model_max_length if max_length is None else max_length
        length = -(-length // (multiple or 1)) * (multiple or 1)
        filling = {**_FILLING, "input_ids": self.pad_token_id}
        return {name: [_filled(row, filling[name], length, side) for row in rows] for name, rows in columns.items()}

    # -- ids to text ---------------------------------------------------------------------------------------------

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Ids (a number, a list, an array or a tensor) to text; rows of them to a list of texts.

        `clean_up_tokenization_spaces` changes nothing, as in the port: byte-level BPE gives the text back as it was.
        """
        ids = _plain(token_ids)
        if not isinstance(ids, list):
            ids = [ids]
        if any(isinstance(each, list) for each in ids):
            return [self.decode(row, skip_special_tokens) for row in ids]
        return self._tokenizer.decode(ids, special=not skip_special_tokens)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """Rows of ids to a list of texts; a flat list of ids is one row."""
        texts = self.decode(sequences, skip_special_tokens, **options)
        return texts if isinstance(texts, list) else [texts]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Ids to tokens in the vocabulary's spelling; one id to one token. Raises Misuse for an unknown id."""
        ids = _plain(ids)
        if not isinstance(ids, list):
            return self._tokenizer.id_to_token(ids)
        left_out = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._tokenizer.id_to_token(each) for each in ids if each not in left_out]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """Tokens in the vocabulary's spelling to ids; those it lacks become `unk_token_id`."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self._tokenizer.token_to_id(tokens)
        return self.unk_token_id if found is None else found

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Tokens in the vocabulary's spelling to the text that they stand for."""
        return self._tokenizer.decode(self.convert_tokens_to_ids(tokens), special=True)

    def get_special_tokens_mask(self, token_ids_0: Any, *_: Any, already_has_special_tokens: bool = False) -> list[int]:
        """1 for each special token, 0 for others; `<s>` and `</s>` are added around where they aren't there yet."""
        special = set(self.all_special_ids)
        inner = [int(each in special) for each in _plain(token_ids_0)]
        return inner if already_has_special_tokens else [1, *inner, 1]

    # -- the vocabulary ------------------------------------------------------------------------------------------

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        return self._tokenizer.vocabulary()

    @property
    def vocab(self) -> dict[str, int]:
        """`get_vocab` as an attribute."""
        return self.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens beside those of the merges, which are the special ones, by ascending id."""
        return {self._tokenizer.id_to_token(each): each for each in self._tokenizer.special_ids()}

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """`get_added_vocab` as an attribute."""
        return self.get_added_vocab()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens `<s>` and `</s>` add to a text; to a `pair` of them, four."""
        return 4 if pair else 2

    @property
    def max_len_single_sentence(self) -> int:
        """Most tokens of a text, special ones not counted."""
        return self.model_max_length - 2

    def __len__(self) -> int:
        return len(self._tokenizer.vocabulary())

    @property
    def vocab_size(self) -> int:
        """The least size of a word embedding that serves all ids."""
        return self._tokenizer.vocab_size

    @property
    def bos_token_id(self) -> int:
        """The id of `<s>`."""
        return self._tokenizer.start_id

    @property
    def eos_token_id(self) -> int:
        """The id of `</s>`."""
        return self._tokenizer.end_id

    cls_token_id, sep_token_id = bos_token_id, eos_token_id

    @property
    def pad_token_id(self) -> int:
        """The id of `<pad>`."""
        return self._tokenizer.pad_id

    @property
    def unk_token_id(self) -> int | None:
        """The id of `<unk>`."""
        return self._tokenizer.token_to_id(UNKNOWN)

    @property
    def mask_token_id(self) -> int | None:
        """The id of `<mask>`, None in a vocabulary without it."""
        return self._tokenizer.mask_id

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of all special tokens: `<s>`, `</s>`, `<unk>`, `<pad>`, `<mask>`, then others, ascending."""
        roles = [self.bos_token_id, self.eos_token_id, self.unk_token_id, self.pad_token_id, self.mask_token_id]
        ids = self._tokenizer.special_ids()
        named = [each for each in roles if each in ids]
        return [*dict.fromkeys(named), *(each for each in ids if each not in named)]

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens in the order of `all_special_ids`."""
        return [self._tokenizer.id_to_token(each) for each in self.all_special_ids]

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """What each special token is for."""
        roles = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
        return {role: getattr(self, role) for role in roles}

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
    ) -> RobertaTokenizer:
        """The tokenizer of a checkpoint: from tokenizer.json, else vocab.json and merges.txt.

        The arguments say where it lies, as those of `BridgeTowerConfig.from_pretrained`; `options` are
        `model_max_length` and `padding_side`. The length is else that of config.json's positions, or of
        tokenizer_config.json, or 512.

        Raises:
            BadTokenizer: The files are broken or missing.
            NotFound: No such folder.
            UnknownModel: No checkpoint of that name.
            Offline: The hub is needed and can't be asked.
            DownloadFailed: The hub refused.
        """
        folder = settings_folder(
            pretrained_model_name_or_path,
            TOKENIZER_FILES,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            revision=revision,
            subfolder=subfolder,
        )
        length = options.get("model_max_length") or _max_length(folder)
        return cls(
            Tokenizer.from_folder(folder, max_length=length),
            name_or_path=os.fspath(pretrained_model_name_or_path),
            padding_side=options.get("padding_side") or "right",
        )

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> tuple[str, ...]:
        """Write tokenizer.json, vocab.json, merges.txt and tokenizer_config.json; their paths.

        Raises:
            Unwritable: The folder can't be written.
            Misuse: `push_to_hub`.
        """
        refuse_push(push_to_hub)
        folder = made_folder(save_directory)
        self._tokenizer.save(folder)
        return tuple(str(folder / name) for name in (TOKENIZER_SETTINGS[0], *TOKENIZER_FILES))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"


def _max_length(folder: Path) -> int:
    if (folder / CONFIG).is_file():
        return BridgeTowerConfig.read(folder).text_config.max_tokens
    if (folder / TOKENIZER_SETTINGS[0]).is_file():
        length = read_settings(folder / TOKENIZER_SETTINGS[0]).get("model_max_length")
        if isinstance(length, int) and 3 <= length < 1_000_000:  # without a limit the port writes 10 ** 30
            return length
    return DEFAULT_MAX_LENGTH


def _plain(values: Any) -> Any:
    """Tensors and arrays, alone or in a list, as numbers and lists of them."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_plain(each) for each in values] if isinstance(values, (list, tuple)) else values


def _cut(row: list[Any], limit: int, special: bool) -> list[Any]:
    """A row's beginning; with special tokens its last entry, that of `</s>`, stays."""
    if len(row) <= limit:
        return row
    return [*row[: limit - 1], row[-1]] if special else row[:limit]


def _filled(row: list[Any], filling: Any, length: int, side: str) -> list[Any]:
    more = [filling] * (length - len(row))
    return [*row, *more] if side == "right" else [*more, *row]
