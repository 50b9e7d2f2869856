"""A gallery: pictures in an order, with what is known of each, and how a second stage moved them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bt_cli.errors import UnreadableImage
from bt_cli.pages.moves import Move, moves_drawn
from bt_cli.pages.page import page, text
from bt_cli.pages.picture import Picture, link, picture

LARGE, SMALL, MANY = 800, 400, 40
"""Pixels of a picture's longer side; the smaller where a page holds more than MANY."""


@dataclass(frozen=True)
class Card:
    """One picture of a gallery.

    Attributes:
        path: The image file; None for a caption whose image is not known.
        heading: What stands over the facts: a caption, else the file's name.
        share: 0 to 1, drawn as a bar, with `figure` beside it.
        figure: The score that decides, as it is read: `94.5 %`.
        facts: More, by name: `cosine` `0.7975`.
        captions: Texts that belong to the picture.
        before: Its place before the second stage, from 1; None where there was none.
        read: Gives the picture, its longer side at most so many pixels; None: it is read from `path`.
    """

    path: str | None
    heading: str
    share: float
    figure: str
    facts: Mapping[str, str] = field(default_factory=dict)
    captions: Sequence[str] = ()
    before: int | None = None
    read: Callable[[int], Picture] | None = None


@dataclass(frozen=True)
class Gallery:
    """A finished page, and the files that could not be shown, each with its reason."""

    html: str
    skipped: list[str]


def gallery(title: str, remarks: Sequence[str], cards: Sequence[Card], *, place: Path | None = None) -> Gallery:
    """The page of `cards` in their order.

    Args:
        title: What was looked for.
        remarks: What was done, a sentence each.
        cards: Best first.
        place: Where the page will lie, for its links to the files.
    """
    side = LARGE if len(cards) <= MANY else SMALL
    skipped: list[str] = []
    pictures = [_picture(card, side, skipped) for card in cards]
    items = [_item(rank, card, shown, place) for rank, (card, shown) in enumerate(zip(cards, pictures, strict=True), 1)]
    moves = _moves(cards)
    body = (
        f'<header><p class="mark">bt</p><h1>{text(title)}</h1>'
        f'<p class="remarks">{" · ".join(text(remark) for remark in remarks)}</p></header>\n'
        f'<div class="{"columns" if moves else "column"}"><main aria-label="Results">'
        + (f'<ol class="cards">{"".join(items)}</ol>' if items else '<p class="none">Nothing was found.</p>')
        + f"</main>\n{moves}</div>\n{_LIGHTBOX if items else ''}"
    )
    return Gallery(page(f"{title} · bt", body, script=True), skipped)


def _picture(card: Card, side: int, skipped: list[str]) -> Picture | None:
    if card.path is None:
        return None
    try:
        return picture(card.path, side) if card.read is None else card.read(side)
    except UnreadableImage as error:
        skipped.append(str(error))
        return None


def _item(rank: int, card: Card, shown: Picture | None, place: Path | None) -> str:
    alt = text(f"{rank}. {card.heading}")
    if shown is None:
        frame = '<div class="frame missing"><span>no picture</span></div>'
    else:
        assert card.path is not None
        frame = (
            f'<a class="frame" href="{text(link(card.path, place))}" data-card="{rank}" aria-label="Enlarge {alt}">'
            f'<img src="{shown.url}" width="{shown.width}" height="{shown.height}" alt="{alt}"></a>'
        )
    move = "" if card.before is None else _moved(rank, card.before)
    facts = "".join(f"<span>{text(name)} <b>{text(value)}</b></span>" for name, value in card.facts.items())
    captions = "".join(f"<p>{text(caption)}</p>" for caption in card.captions)
    folder = "" if card.path is None else f'<p class="path">{_breakable(card.path)}</p>'
    heading = "" if card.path is not None and card.path.endswith(card.heading) else f"<h2>{text(card.heading)}</h2>"
    return (
        f'<li class="card" id="r{rank}">{frame}<div class="words">'
        f'<p class="line"><span class="rank">{rank}</span><b>{text(card.figure)}</b>{move}</p>'
        f'{_bar(card.share)}{heading}{captions}{folder}<p class="facts">{facts}</p></div></li>'
    )


def _bar(share: float) -> str:
    """A bar as SVG: a style attribute is what the page's policy forbids."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return (
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="4"/><rect class="fill" width="{width}" height="4"/></svg>'
    )


def _moved(rank: int, before: int) -> str:
    if rank == before:
        return f'<span class="move same">stays at {before}</span>'
    way, sign = ("up", "▲") if rank < before else ("down", "▼")
    return f'<span class="move {way}"><span aria-hidden="true">{sign}</span> {way} from {before}</span>'


def _moves(cards: Sequence[Card]) -> str:
    if not any(card.before is not None for card in cards):
        return ""
    moves = [Move(rank, card.before, card.heading) for rank, card in enumerate(cards, 1) if card.before is not None]
    return (
        '<aside aria-labelledby="moves"><h2 id="moves">What reranking moved</h2>'
        '<p class="hint">Left: the place by embedding. Right: the place after the matching head has read image '
        f"and text together.</p>{moves_drawn(moves)}</aside>"
    )


def _breakable(path: str) -> str:
    """A path that may break behind its slashes."""
    return text(path).replace("/", "/<wbr>")


_LIGHTBOX = (
    '<dialog id="large" aria-labelledby="large-words"><div class="stage"><img alt=""></div>'
    '<div class="bottom"><p id="large-words"></p><p class="buttons">'
    '<button type="button" data-go="-1">Previous</button><button type="button" data-go="1">Next</button>'
    '<a class="button" href="#">Open the file</a>'
    '<button type="button" data-close>Close</button></p></div></dialog>'
)
