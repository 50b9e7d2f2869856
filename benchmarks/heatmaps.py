"""Whether heat maps show the thing that a word names: on drawn scenes, the mass of a map within the thing's box.

    python -m benchmarks.heatmaps [--model tiny] [-n 150]

For each named thing that stands once in its picture: the map's share within the thing's box, over the box's share of
the picture. 1 is what chance gives; the last column but one is what a map wholly within the box would reach. A kind of
map for a match is chosen on some scenes and measured on others, drawn from another seed. `Model.explain` takes "patch
reads word, weighted", `Model.explain_masks` the mask's "word reads patch, weighted", whose gradient is its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.inference.model import Model
    from bt_cli.scenes import SceneBatch, SpriteSheet
    from bt_cli.scenes.scene import Placed

SIDE = 384
MIX = {"one": 0.15, "two": 0.25, "one-position": 0.1, "two-positions": 0.2, "relation": 0.2, "between": 0.1}
CHOOSING, MEASURING = 1, 2
"""Seeds of the scenes that a kind is chosen on, and of those that it is measured on."""
CHOSEN = ("match: patch reads word, weighted", "mask: word reads patch, weighted")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure heat maps on drawn scenes.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("-n", type=int, default=150, help="scenes")
    asked = parser.parse_args()

    import bt_cli
    from bt_cli.scenes import SpriteSheet

    with bt_cli.load(asked.model, dtype="float32") as model:
        sheet = SpriteSheet.load()
        choosing, measured = (measure(model, sheet, asked.n, seed) for seed in (CHOOSING, MEASURING))
        sys.stdout.write(table(choosing, measured))
    best = max((kind for kind in choosing if kind.startswith("match")), key=lambda kind: ratio(choosing[kind]))
    sys.stdout.write(f"\nChosen for a match: {best.removeprefix('match: ')}\n")
    if best != CHOSEN[0]:
        raise SystemExit("Model.explain takes another")


def measure(model: Model, sheet: SpriteSheet, n: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """By kind of map (things, 2): the mass within the box, and the box's share of the picture."""
    from bt_cli.scenes import SceneSampler

    network = model.checkpoint.network({"itm", "mlm"}, device=model.device)  # gives the maps themselves
    batch = SceneSampler(SIDE, seed, "test", MIX, sheet=sheet, synonyms=0.0, phrases=0.0, jitter=False).batch(n, step=0)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(len(batch)):
        picture = Image.fromarray(batch.pixels[number])
        for name, start, end, placed in named_things(batch, number):
            text = batch.captions[number]
            maps = maps_of(model, network, picture, text, text[:start] + "<mask>" + text[end:], name)
            for kind, map_ in maps.items():
                covered = cover(placed, sheet, *map_.shape)
                total = float(map_.sum())
                mass = float((map_ * covered).sum()) / total if total > 0 else 0.0
                found[kind].append((mass, float(covered.mean())))
    return {kind: np.array(values) for kind, values in found.items()}


def named_things(batch: SceneBatch, number: int) -> Iterator[tuple[str, int, int, Placed]]:
    """Things that a caption names and that stand once in the picture: word, where it stands in the text, thing."""
    spans = [span for span in batch.spans[number] if span.role == "object"]
    for mention, span in zip(batch.meanings[number].mentions, spans, strict=True):
        alike = [placed for placed in batch.scenes[number].objects if placed.thing == mention.thing]
        if len(alike) == 1:
            yield batch.captions[number][span.start : span.end], span.start, span.end, alike[0]


def maps_of(
    model: Model, network: BridgeTower, picture: Image.Image, text: str, masked: str, word: str
) -> dict[str, NDArray[np.float64]]:
    """Every kind of map (rows, columns) of one word in a text."""
    from bt_cli.inference.explain import weigh, word_groups

    tokenizer = model.tokenizer
    first = len(word_groups(tokenizer.encode([masked.split("<mask>")[0]]).input_ids[0].tolist(), tokenizer))
    wanted = range(first, first + len(word.split()))
    _, maps = model.explain(picture, text)
    rows, columns = maps.shape[1:]
    made = {CHOSEN[0]: maps[wanted.start : wanted.stop].sum(0)}
    made[CHOSEN[1]] = model.explain_masks(picture, masked).maps[0]
    ids = tokenizer.encode([text]).input_ids
    places = [
        place for _, group in word_groups(ids[0].tolist(), tokenizer)[wanted.start : wanted.stop] for place in group
    ]
    with torch.no_grad():
        image = network.encode_images(torch.from_numpy(model.image_processor(picture)[None]))
        states = network.encode_texts(torch.from_numpy(ids))
    image.need_bridges().requires_grad_(True)
    fusion = network.fuse(image, states, attentions=True)
    assert fusion.attentions is not None
    assert fusion.pooler_output is not None
    logits = network.itm_logits(fusion.pooler_output)[0]
    reading = [each.text_to_image for each in fusion.attentions]
    read = [each.image_to_text for each in fusion.attentions]
    plain = {
        "match: word reads patch": torch.stack([each[0].mean(0)[places, 1:].sum(0) for each in reading]).sum(0),
        "match: word reads patch, weighted": weigh(reading, logits[1] - logits[0])[places, 1:].sum(0),
        "match: patch reads word": torch.stack([each[0].mean(0)[1:, places].sum(1) for each in read]).sum(0),
    }
    return made | {kind: map_.detach().reshape(rows, columns).numpy() for kind, map_ in plain.items()}


def cover(placed: Placed, sheet: SpriteSheet, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns): how much of each patch lies within the thing's box, 0 to 1."""
    height, width = sheet.sprite(placed.thing, round(placed.size * SIDE)).shade.shape
    across = _overlap(placed.x - width / SIDE / 2, placed.x + width / SIDE / 2, columns)
    down = _overlap(placed.y - height / SIDE / 2, placed.y + height / SIDE / 2, rows)
    return down[:, None] * across[None]


def _overlap(start: float, end: float, cells: int) -> NDArray[np.float64]:
    edges = np.arange(cells + 1) / cells
    return np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) * cells


def ratio(values: NDArray[np.float64]) -> float:
    """Mass within the boxes over their area, all things together."""
    mass, area = values.T
    return float(mass.mean() / area.mean())


def table(choosing: dict[str, NDArray[np.float64]], measured: dict[str, NDArray[np.float64]]) -> str:
    """Markdown for people: of the scenes that were chosen on only the ratio, of the others more."""
    lines = [
        "| map | mass / area | median | where it was chosen | a perfect map | things |",
        "|---|---|---|---|---|---|",
    ]
    for kind, values in sorted(measured.items(), key=lambda item: -ratio(item[1])):
        mass, area = values.T
        figures = (ratio(values), np.median(mass / area), ratio(choosing[kind]), 1 / area.mean())
        lines.append(f"| {kind} | {' | '.join(f'{figure:.2f}' for figure in figures)} | {len(values)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
