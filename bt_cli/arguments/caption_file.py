"""How every command reads the captions that its arguments name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_cli.display.remarks import remark
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
    elsewhere: bool = False,
    allow_private: bool = False,
    strict: bool,
    alone: bool = False,
) -> CaptionSet:
    """The captions of a file or folder, or of shards, as `bt_cli.read_captions` gives them.

    Those that can't be read, or whose image is not below `images`, are named and counted, or with `strict` an error.
    Where captions are wanted `alone`, without an image, a table that could only be read as plain text is remarked on:
    nothing else would tell.
    """
    from bt_cli.captions.captions import read_captions

    skipped = SkipRemarks()
    skip = None if strict else skipped.add
    captions = read_captions(
        path,
        format=format,
        split=split,
        images=images,
        elsewhere=elsewhere,
        allow_private=allow_private,
        on_missing=skip,
        on_skip=skip,
    )
    skipped.close(shown_path(captions.path))
    if alone and captions.format == "plain" and format is None and captions.path.lower().endswith((".csv", ".tsv")):
        remark(
            f"{shown_path(captions.path)}: read as plain text, a caption a line, for no header names a column of "
            "captions, as image,caption does (--format plain says that it is meant so)"
        )
    return captions
