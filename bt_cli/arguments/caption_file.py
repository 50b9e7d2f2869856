"""How every command reads the captions that its arguments name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_cli.display.skipped import SkipRemarks
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from bt_cli.captions.captions import CaptionSet, PathLikes


def read_caption_file(
    path: PathLikes,
    *,
    format: str | None = None,
    split: str | None = None,
    images: PathLikes | None = None,
    allow_private: bool = False,
    strict: bool,
) -> CaptionSet:
    """The captions of a file or folder, or of shards, as `bt_cli.read_captions` gives them.

    Those that can't be read, or whose image is not below `images`, are named and counted, or with `strict` an error.
    """
    from bt_cli.captions.captions import read_captions

    skipped = SkipRemarks()
    skip = None if strict else skipped.add
    captions = read_captions(
        path, format=format, split=split, images=images, allow_private=allow_private, on_missing=skip, on_skip=skip
    )
    skipped.close(shown_path(captions.path))
    return captions
