"""Captions in JSON: lines of objects, lists, maps from image to captions, COCO's and Karpathy's documents.

Each reader yields what it reads, and for an entry that can't be read the error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bt_cli.captions.caption import Caption
from bt_cli.captions.caption_columns import Columns
from bt_cli.captions.caption_tables import Entry, captions_or_error, unreadable
from bt_cli.captions.caption_text import lines
from bt_cli.errors import UnreadableCaptions
from bt_cli.files.shown_path import shown_path

JSON_START = re.compile(r'\s*(\{\s*("|\})|\[\s*(\{|\]))')
TEXT_LIST_START = re.compile(r'\s*\[\s*"')
DOCUMENT_KEYS = re.compile(r'"(images|annotations|sentences)"\s*:')


def json_format(text: str, filled: list[str]) -> str | None:
    """Which JSON format a text has; None if it is no JSON. `filled` are its lines that are not blank."""
    if JSON_START.match(text):
        return _kind(text, filled)
    if TEXT_LIST_START.match(text) and _is_list(text):
        return "json"
    return None


def _is_list(text: str) -> bool:
    try:
        return isinstance(_json(text), list)
    except ValueError:
        return False


def _kind(text: str, filled: list[str]) -> str:
    first = filled[0]
    try:
        row = _json(first)
    except ValueError:
        row = None
    if isinstance(row, dict) and (len(filled) > 1 or not ("annotations" in row or isinstance(row.get("images"), list))):
        return "map" if len(filled) == 1 and _is_map(row) else "jsonl"
    if row is None and _is_object_line(first):
        return "jsonl"  # its first line is broken, and will be named
    if text.lstrip().startswith("["):
        return "json"
    keys = set(DOCUMENT_KEYS.findall(text))
    if not keys:
        return "map"
    return "coco" if "annotations" in keys and "sentences" not in keys else "karpathy"


def _is_map(row: dict[str, Any]) -> bool:
    """Whether an object's keys are images and no names of columns."""
    return bool(row) and not Columns.of(row).role and all(isinstance(each, (str, list, dict)) for each in row.values())


def _is_object_line(line: str) -> bool:
    """Whether a line has the outline of a whole JSON object although it is none."""
    return len(line.strip()) > 2 and line.strip().startswith("{") and line.strip().endswith("}")


def _json(text: str, join: bool = False) -> Any:
    """What a JSON text holds; ValueError for whatever Python's reader can't take, with a line of reason. With `join` a
    key that an object has twice holds both values."""
    try:
        return json.loads(text, object_pairs_hook=_joined if join else None)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # Python limits the digits that it reads as one number
        raise ValueError("a whole number of thousands of digits; write it as a text, in quotes") from None


def _joined(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with every value: Python keeps the last of equal keys, and drops the captions of the others."""
    joined: dict[str, Any] = {}
    for key, value in pairs:
        if key in joined:
            value = [part for each in (joined[key], value) for part in (each if isinstance(each, list) else [each])]
        joined[key] = value
    return joined


def json_lines(text: str, path: str) -> Iterator[Entry]:
    """One JSON object a line."""
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        try:
            fields = _json(line)
        except ValueError as error:
            yield unreadable(path, number, f"no JSON: {getattr(error, 'msg', error)}")
            continue
        if isinstance(fields, dict):
            yield from captions_or_error(Columns.of(fields), fields, path, number)
        else:
            yield unreadable(path, number, "no JSON object")


def document(text: str, path: str, format: str) -> Iterator[Entry]:
    """One JSON document: `coco`, `karpathy`, `json` (a list) or `map`.

    Raises:
        UnreadableCaptions: It is no JSON, or has not the outline of its format.
    """
    try:
        values = _json(text, join=format == "map")
    except json.JSONDecodeError as error:
        raise unreadable(path, len(lines(text[: error.pos] + "x")), f"no JSON: {error.msg}") from None
    except ValueError as error:
        raise UnreadableCaptions(f"{shown_path(path)}: no JSON: {error}") from None
    yield from {"coco": _coco, "karpathy": _karpathy, "json": _list, "map": _map}[format](values, path)


def _list(values: Any, path: str) -> Iterator[Entry]:
    if not isinstance(values, list):
        raise UnreadableCaptions(f"{shown_path(path)}: no JSON list of objects or texts")
    for number, fields in enumerate(values, 1):
        if isinstance(fields, str) and fields.strip():
            yield Caption(fields.strip(), line=number)
        elif isinstance(fields, dict):
            yield from captions_or_error(Columns.of(fields), fields, path, number, "json")
        else:
            yield unreadable(path, number, "no caption" if isinstance(fields, str) else "no JSON object", "json")


def _map(values: Any, path: str) -> Iterator[Entry]:
    """Image -> text, list of texts, or an object like a line of `jsonl`."""
    if not isinstance(values, dict):
        raise UnreadableCaptions(f"{shown_path(path)}: no JSON object of images and their captions")
    for number, (image, value) in enumerate(values.items(), 1):
        fields = {**value, "image": image} if isinstance(value, dict) else {"image": image, "caption": value}
        if image.strip():
            yield from captions_or_error(Columns.of(fields), fields, path, number, "map")
        else:
            yield unreadable(path, number, "no image", "map")


def _coco(values: Any, path: str) -> Iterator[Entry]:
    images = values.get("images", []) if isinstance(values, dict) else None
    annotations = values.get("annotations") if isinstance(values, dict) else None
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UnreadableCaptions(f"{shown_path(path)}: no COCO captions: 'images' and 'annotations' are to be lists")
    described = [image for image in images if isinstance(image, dict) and isinstance(image.get("id"), (int, str))]
    names: dict[int | str, Any] = {}
    claimed: set[int | str] = set()
    for image in described:
        if names.setdefault(image["id"], image.get("file_name")) != image.get("file_name"):
            claimed.add(image["id"])
    for number, annotation in enumerate(annotations, 1):
        fields = annotation if isinstance(annotation, dict) else {}
        caption, image_id = fields.get("caption"), fields.get("image_id")
        if not isinstance(caption, str) or not caption.strip():
            yield unreadable(path, number, "no caption", "coco")
        elif not isinstance(image_id, (int, str)) or not isinstance(names.get(image_id), str):
            yield unreadable(path, number, f"its image {image_id!r} is not among the images", "coco")
        elif image_id in claimed:
            yield unreadable(path, number, f"two images have the id {image_id!r}", "coco")
        else:
            yield Caption(caption.strip(), names[image_id], str(image_id), _text(fields.get("id")), line=number)


def _karpathy(values: Any, path: str) -> Iterator[Entry]:
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list):
        raise UnreadableCaptions(f"{shown_path(path)}: neither COCO's nor Karpathy's JSON: it has no list 'images'")
    for number, image in enumerate(images, 1):
        if not isinstance(image, dict) or not isinstance(image.get("filename", image.get("file_name")), str):
            yield unreadable(path, number, "no filename", "karpathy")
        elif not isinstance(image.get("sentences"), list):
            yield unreadable(path, number, "no list of sentences", "karpathy")
        else:
            yield from _sentences(image, path, number)


def _sentences(image: dict[str, Any], path: str, number: int) -> Iterator[Entry]:
    name = image.get("filename", image.get("file_name"))
    folder = image.get("filepath")
    name = f"{folder}/{name}" if isinstance(folder, str) and folder else name
    image_id = _text(image.get("imgid", image.get("cocoid"))) or name
    split = _text(image.get("split"))
    for sentence in image["sentences"]:
        raw = sentence.get("raw") if isinstance(sentence, dict) else None
        if isinstance(raw, str) and raw.strip():
            yield Caption(raw.strip(), name, image_id, _text(sentence.get("sentid")), split=split, line=number)
        else:
            yield unreadable(path, number, "a sentence without its raw text", "karpathy")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
