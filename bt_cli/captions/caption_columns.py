"""Which column of a table, or key of a JSON object, holds what: the names that people use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bt_cli.captions.caption import Caption
from bt_cli.captions.text_list import text_list

COLUMN_NAMES = {
    "caption": "caption captions text texts sentence sentences description comment raw caption_text alt alt_text "
    "prompt title",
    "image": "image image_path image_name image_file image_filename img img_path img_name filename file_name filepath "
    "file_path file path name url image_url img_url",
    "image_id": "image_id imageid img_id imgid cocoid",
    "caption_id": "caption_id captionid caption_ids cap_id sentid sentids sent_id sentence_id id",
    "split": "split partition subset set",
    "negatives": "negative negatives negative_caption negative_captions hard_negative hard_negatives neg foil foils",
}
"""What a column may be called (lower case, `_` for spaces and dashes), the surest name first. Numbered ones
(`negative_1`, `caption2`) hold further negatives and captions."""

SURE = {"caption", "captions", "sentence", "sentences", "text"}
"""Names that make a header even where they stand alone."""
WORD = re.compile(r"[\w.:/#-]*")
NUMBERED = re.compile(r"(.*?)_?\d+")


@dataclass
class Columns:
    """The columns of a table by what they hold."""

    names: list[str]
    """All of them, as they are written."""
    role: dict[str, list[str]] = field(default_factory=dict)
    """What (a key of `COLUMN_NAMES`) -> the columns that hold it."""

    @classmethod
    def of(cls, names: Iterable[str]) -> Columns:
        """Look at the names of a header."""
        columns = cls([str(name) for name in names])
        plain = {name: _plain(name) for name in columns.names}
        for role, spellings in COLUMN_NAMES.items():
            order = spellings.split()
            exact = [name for spelling in order for name in columns.names if plain[name] == spelling]
            found = exact if role == "negatives" else exact[:1]
            if role in ("negatives", "caption"):
                # Beside `caption` only `caption_2` holds another one; `text_2` may be anything.
                bases = {plain[name] for name in found} if role == "caption" and found else set(order)
                found += [name for name in columns.names if name not in exact and _base(plain[name]) in bases]
            if found:
                columns.role[role] = found
        return columns

    @property
    def has_caption(self) -> bool:
        """Whether there is a column for captions."""
        return "caption" in self.role

    @property
    def doubled(self) -> str | None:
        """A column of interest whose name another column has too, so that nobody can say which is meant."""
        plain = [_plain(name) for name in self.names]
        return next((name for name in self.used if plain.count(_plain(name)) > 1), None)

    @property
    def is_header(self) -> bool:
        """Whether this can't well be a caption itself: a sure name for the captions, or any beside an image's or
        id's."""
        names = {_plain(name) for name in self.role.get("caption", [])}
        return self.has_caption and (len(self.role) > 1 or bool(names & SURE))

    @property
    def all_known(self) -> bool:
        """Whether each one holds something of interest."""
        return len(self.used) == len(self.names)

    @property
    def all_words(self) -> bool:
        """Whether each one has a known name or one that is a single word, as no sentence with commas has."""
        used = set(self.used)
        return all(name in used or WORD.fullmatch(name.strip()) for name in self.names)

    @property
    def used(self) -> list[str]:
        """The columns that hold anything of interest."""
        wanted = {name for names in self.role.values() for name in names}
        return [name for name in self.names if name in wanted]


def captions_of_fields(columns: Columns, fields: dict[str, Any], line: int) -> list[Caption]:
    """The captions of one row or object: a field may hold one text or a list of them, also as a JSON or Python list
    within a text (see `text_list`).

    Raises:
        ValueError: There is none, or something that is no text.
    """
    texts = [text for name in columns.role.get("caption", []) for text in _texts(fields.get(name), name)]
    if not texts:
        raise ValueError("no caption")
    negatives = tuple(text for name in columns.role.get("negatives", []) for text in _texts(fields.get(name), name))
    image = _image(columns, fields)
    image_id = _value(columns, fields, "image_id") or image
    split = _value(columns, fields, "split")
    return [
        Caption(text, image, image_id, caption_id, negatives, split, line)
        for text, caption_id in zip(texts, _caption_ids(columns, fields, len(texts)), strict=True)
    ]


def _texts(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict) and isinstance(value.get("raw"), str):
        value = value["raw"]
    if isinstance(value, str):
        listed = text_list(value)
        value = [value] if listed is None else listed
        return [text.strip() for text in value if text.strip()]
    if isinstance(value, (list, tuple)):
        return [text for part in value for text in _texts(part, name)]
    raise ValueError(f"{name} is no text: {str(value)[:40]}")


def _caption_ids(columns: Columns, fields: dict[str, Any], count: int) -> list[str | None]:
    """An id for each of a row's captions: the one there is for one, as many as there are for several, else none."""
    for name in columns.role.get("caption_id", []):
        value = fields.get(name)
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = text_list(value)
        if isinstance(value, (list, tuple)):
            ids = [str(each).strip() for each in value if isinstance(each, (str, int))]
            return [*ids] if len(ids) == len(value) == count and all(ids) else [None] * count
    return [_value(columns, fields, "caption_id") if count == 1 else None] * count


def _image(columns: Columns, fields: dict[str, Any]) -> str | None:
    for name in columns.role.get("image", []):
        value = fields.get(name)
        if isinstance(value, dict):  # an image column of the hub's data sets: the file's bytes and its path
            value = value.get("path")
        if isinstance(value, str) and value.strip():
            return value
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is no file name: {str(value)[:40]}")
    return None


def _value(columns: Columns, fields: dict[str, Any], role: str) -> str | None:
    for name in columns.role.get(role, []):
        value = fields.get(name)
        if value is not None and str(value).strip():
            return str(value).strip()
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _base(plain: str) -> str:
    match = NUMBERED.fullmatch(plain)
    return match[1] if match else ""
