"""A path as one safe line of text: for messages, never for opening."""

from __future__ import annotations

import os


def shown_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""The path in printable characters: `\n` for a newline, `\xe9` for a byte that is no UTF-8.

    A terminal or a log can take the result as it stands, whatever the file is called; ordinary names, spaces and any
    script included, come back as they are.
    """
    text = os.fsdecode(os.fspath(path))
    return "".join(_shown_character(character) for character in text)


def _shown_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: one raw byte of a name that isn't UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(character)[1:-1]
