"""Images among a query's words: a file that is one, `-` for stdin, or a web address that the user named."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

from bt_cli.files.shown_path import shown_path

LOG = logging.getLogger("bt_cli")
STDIN = "-"


@dataclass(frozen=True)
class ImageWords:
    """Reads images that a command's words name.

    Attributes:
        allow_private: Web addresses of this machine's own networks are fetched, too.
    """

    allow_private: bool = False

    def recognise(self, word: str) -> Any:
        """What encoding takes (a path or a Pillow image) where a word names an image; None where it is a text.

        A word that is the name of a file is an image only where the file's content is one. It is remarked on, since
        someone may have meant the words.
        """
        if word == STDIN or self._is_url(word):
            LOG.info("searching by the image %s", "on stdin" if word == STDIN else f"at {shown_path(word)}")
            return self.read(word)
        if os.path.isfile(word):
            from bt_cli.preprocessing.image_file import is_image_file

            if is_image_file(word):
                LOG.info("searching by the image in the file %s, not for these words", shown_path(word))
                return word
        return None

    def read(self, word: str) -> Any:
        """What encoding takes for a word that is said to be an image; a path is opened when it is encoded.

        Raises:
            UnreadableImage: What comes from stdin or the web is none.
        """
        if word != STDIN and (not self._is_url(word) or os.path.exists(word)):
            return word
        from bt_cli.preprocessing.image_file import open_image, read_stream

        if word == STDIN:
            data = b"" if sys.stdin is None else read_stream(sys.stdin.buffer, "the image on stdin")
            return open_image(data, name="the image on stdin")
        from bt_cli.sources.remote_image import remote_bytes

        return open_image(remote_bytes(word, allow_private=self.allow_private), name=shown_path(word))

    @staticmethod
    def _is_url(word: str) -> bool:
        from bt_cli.sources.web_address import is_url

        return is_url(word)
