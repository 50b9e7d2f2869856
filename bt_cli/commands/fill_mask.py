"""`bt fill-mask`: the best words for each `<mask>` of a text, looking at an image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bt_cli.arguments.opening import open_models
from bt_cli.arguments.options import AllowPrivateUrls, Device, Dtype, Json, Model, Quiet, Server
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.mask_table import show_words
from bt_cli.errors import NoMask
from bt_cli.search.query import validate_text
from bt_cli.search.scoring import word_records
from bt_cli.sources.web_address import allowed


def run(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text with <mask> where words are wanted.")],
    image: Annotated[
        str, typer.Option("--image", metavar="FILE", help="The image, or its URL, that the text is about.")
    ],
    k: Annotated[
        int, typer.Option("-k", "--top", "--top-k", metavar="N", min=1, help="How many words for each mask.")
    ] = 5,
    heatmap: Annotated[
        Path | None,
        typer.Option("--heatmap", metavar="FILE", help="Write where each mask's best word was looked for, as a PNG."),
    ] = None,
    allow_private_urls: AllowPrivateUrls = False,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    server: Server = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fill each <mask> of a text with the words that fit an image best.

    bt fill-mask "a <mask> looking out of the window" --image photo.jpg
    """
    from bt_cli.inference.masked_words import MASK

    validate_text(text, "the text")
    if MASK not in text:
        raise NoMask(f"no {MASK} in the text; write it where a word is wanted, as in 'a {MASK} on a table'")
    started = time.perf_counter()
    if allow_private_urls:
        image = allowed(image)
    filler: Any
    if server is not None:
        from bt_cli.api.client import Client, refuse_local_choices

        refuse_local_choices(model=model, device=device, dtype=dtype)
        client = Client(server)
        words, sentence, masks, filler = client.fill_mask(image, text, k)
        if heatmap is not None:
            from bt_cli.files.atomic_write import write_whole

            write_whole(heatmap, client.heat_map(image, text))
    else:
        with open_models(model, device=device, dtype=dtype) as models:
            filler = models.mask_filler()
        masks = filler.fill_mask(image, text, k)
        words, sentence = word_records(image, text, masks)
        if heatmap is not None:
            from bt_cli.pages.heat_map import write_heat_map

            explained, maps = filler.explain_masks(image, text)
            write_heat_map(heatmap, image, filler.image_processor, explained, maps, overall=None)
    if as_json:
        for word in words:
            write_object(word)
    else:
        show_words(sentence, masks)
    closing_line(f"{count(len(masks), 'mask')} filled", seconds=time.perf_counter() - started, model=filler)
