"""Changes to the bytes of a file, and to the values of a JSON file, drawn by a seeded generator."""

from __future__ import annotations

import json
import random
from typing import Any

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 65_536, 2**31 - 1, 2**31, 2**63, 10**12, 10**30, 10**400, -(2**63), 0.5, -0.0)
HOSTILE: tuple[Any, ...] = (
    *NUMBERS,
    1e308,
    float("inf"),
    float("nan"),
    None,
    True,
    False,
    "",
    "x",
    "../../etc/passwd",
    "a\nb",
    "\ud800",
    "y" * 5000,
    [],
    {},
    [1, 2],
    [[[[]]]],
    {"a": {"b": 1}},
    ["x"] * 3,
)
"""Values that a field of a checkpoint's JSON does not expect."""


def one_place(content: bytes, chance: random.Random, *, bit: bool) -> bytes:
    """The content with one bit flipped, or one byte made another."""
    changed = bytearray(content)
    place = chance.randrange(len(changed))
    changed[place] ^= 1 << chance.randrange(8) if bit else chance.randrange(1, 256)
    return bytes(changed)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content after one to four changes of the kinds that files suffer or are forged with."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        _change(changed, chance)
    return bytes(changed)


def _change(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    length = min(chance.choice((1, 2, 4, 16, 200, 5000)), len(content) - place)
    kind = chance.randrange(9)
    if kind <= 1:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 2:
        content[place] = chance.randrange(256)
    elif kind == 3:
        del content[place:]
    elif kind == 4:
        del content[place : place + length]
    elif kind == 5:
        content[place:place] = chance.randbytes(length)
    elif kind == 6:
        content[place : place + length] = bytes(length)
    elif kind == 7:
        content[place:place] = content[place : place + length] * chance.choice((1, 3, 40))
    else:
        number = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 1 << 40, (1 << 63) - 1))
        width = chance.choice((2, 4, 8))
        order = chance.choice(("little", "big"))
        content[place : place + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)


def mutated_json(content: bytes, chance: random.Random) -> bytes:
    """A JSON object with one value made another, one key dropped, or one added twice or deep."""
    values = json.loads(content)
    holder, key = _some_place(values, chance)
    kind = chance.randrange(6)
    if kind == 0 and holder:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice(("", "__class__", "extra", "k" * 3000))] = chance.choice(HOSTILE)
    elif kind == 2:
        return b'{"a":' * 3000 + json.dumps(values).encode() + b"}" * 3000
    elif holder:
        holder[key] = chance.choice(HOSTILE)
    return json.dumps(values).encode("utf-8")


def _some_place(values: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container within `values`, and a key of it."""
    while True:
        keys: list[Any] = list(values) if isinstance(values, dict) else list(range(len(values)))
        if not keys:
            return values, None
        key = chance.choice(keys)
        if isinstance(values[key], (dict, list)) and chance.random() < 0.8:
            values = values[key]
        else:
            return values, key
