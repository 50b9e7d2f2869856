"""`bt search --preview`: thumbnails in the terminal, through textual-image: kitty's protocol, sixel, or half blocks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.preprocessing.image_file import open_image
from bt_cli.sources.web_address import address_of

if TYPE_CHECKING:
    from bt_cli.search.candidates import Hit

ROWS = 10
"""Lines of the terminal that a picture is high, at most."""
SIDE = 640


def require_preview() -> None:
    """Refuse where pictures can't be shown, before anything is searched. Raises Misuse."""
    if importlib.util.find_spec("textual_image") is None:
        raise Misuse("--preview needs textual-image: pip install 'bridgetower[preview]'")


def show_preview(hits: Sequence[Hit], *, console: Any = None, renderable: Any = None) -> list[str]:
    """Print each hit on the terminal: rank, score and path (a link where the terminal knows links), then the picture.

    Args:
        hits: Best first.
        console: rich's console; None: one on stdout.
        renderable: What shows a picture; None: the best that the terminal can, which it is asked for.

    Returns:
        What could not be shown, each with its reason.
    """
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    if renderable is None:
        from textual_image.renderable import Image as renderable
    console = console or Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    skipped = []
    for hit in hits:
        line = Text(f"{hit.rank:>3}  ")
        line.append(_score(hit), style="bold")
        if hit.path is not None:
            line.append("  ")
            line.append(shown_path(hit.path), Style(link=address_of(hit.path)))
        if hit.caption is not None:
            line.append(f"  {shown_path(hit.caption)}")
        console.print(line, soft_wrap=True)
        if hit.path is not None:
            try:
                picture = open_image(hit.path, draft=SIDE)
            except UnreadableImage as error:
                skipped.append(str(error))
                continue
            picture.thumbnail((SIDE, SIDE))
            console.print(renderable(picture, width="auto", height=ROWS))
    return skipped


def _score(hit: Hit) -> str:
    return f"{hit.score:.4f}" if hit.itm_prob is None else f"{100 * hit.itm_prob:.1f} %"
