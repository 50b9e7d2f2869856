"""What a checkpoint for drawn scenes can do, on scenes of object pairs that training never showed.

    python -m benchmarks.scenes [--model tiny] [-n 1000] [--json]

Recall: `n` scenes of two things, each meaning once, every scene's mirror among them (`sample_data/draw.py scenes`).
Preferences: the ITM head between a true caption and a wrong one, by what is wrong. Words: the MLM head on hidden object
and colour words, with the picture and with a grey one. Pictures are drawn at 384 pixels and go through JPEG and the
image processor, as a user's would.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from bt_cli.inference.model import Model
    from bt_cli.scenes import SceneBatch, SpriteSheet

SIDE, QUALITY, CANDIDATES, GREY = 384, 88, 50, (128, 128, 128)
MIX = {"one-position": 0.1, "two-positions": 0.2, "relation": 0.3, "between": 0.1, "count": 0.2, "many": 0.1}
ROLES = ("object", "colour")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure a checkpoint on held-out drawn scenes.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("-n", type=int, default=1000, help="scenes for recall, and as many for the rest")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()

    import bt_cli
    from bt_cli.scenes import SpriteSheet

    model, sheet = bt_cli.load(asked.model, dtype=asked.dtype), SpriteSheet.load()
    figures = {
        "recall": recall(model, sheet, asked.n),
        "preference": preferences(model, sheet, asked.n),
        "words": words(model, sheet, asked.n),
    }
    sys.stdout.write(json.dumps(figures) + "\n" if asked.json else table(figures))


def recall(model: Model, sheet: SpriteSheet, n: int) -> dict[str, dict[str, float]]:
    """TR and IR of ITC, and of ITM on the top 50 each way."""
    from bt_cli.captions.captions import read_captions
    from bt_cli.evaluation.gallery import Gallery
    from bt_cli.evaluation.protocol import run_protocol
    from sample_data.collection import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, n, "test", sheet=sheet, size=SIDE, quality=QUALITY)
        gallery = Gallery.of(read_captions(Path(folder) / "captions.csv"), Path(folder) / "images")
        outcome = run_protocol(gallery, model, model, candidates=CANDIDATES)
    assert outcome.itc is not None
    assert outcome.itm is not None
    return {"itc": outcome.itc, "itm": outcome.itm}


def held_out(sheet: SpriteSheet, n: int) -> tuple[SceneBatch, list[Image.Image]]:
    """Scenes of many families with pairs of the test split, and their pictures as JPEG leaves them."""
    from bt_cli.scenes import SceneSampler

    options: dict[str, Any] = {"synonyms": 0.0, "phrases": 0.0, "jitter": False}
    batch = SceneSampler(SIDE, 1, "test", MIX, sheet=sheet, **options).batch(n, step=0)
    return batch, [_through_jpeg(Image.fromarray(pixels)) for pixels in batch.pixels]


def preferences(model: Model, sheet: SpriteSheet, n: int) -> dict[str, dict[str, float]]:
    """Per kind of mistake: the share of pairs in which the true caption has the higher match logit, and how many."""
    batch, pictures = held_out(sheet, n)
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for picture, caption, wrong in zip(pictures, batch.captions, batch.negatives, strict=True):
        logits = model.score([picture], [caption, *(each.text for each in wrong)])[0]
        for logit, each in zip(logits[1:], wrong, strict=True):
            verdicts[each.kind].append(bool(logits[0] > logit))
    return {kind: {"share": float(np.mean(right)), "pairs": len(right)} for kind, right in sorted(verdicts.items())}


@torch.inference_mode()
def words(model: Model, sheet: SpriteSheet, n: int) -> dict[str, dict[str, float]]:
    """Per role of the hidden word: how often it comes first, with the picture and with a grey one, and how many."""
    batch, pictures = held_out(sheet, n)
    grey = model.image_states([Image.new("RGB", (SIDE, SIDE), GREY)])
    tokenizer, network = model.tokenizer, model.network
    hits: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for picture, caption, spans in zip(pictures, batch.captions, batch.spans, strict=True):
        hidden = [span for span in spans if span.role in ROLES]
        texts = [f"{caption[: span.start]}<mask>{caption[span.end :]}" for span in hidden]
        if not texts:
            continue
        tokens = tokenizer.encode([caption, *texts])
        states = network.encode_texts(torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask))
        shown = model.image_states([picture])
        guesses = []
        for image in (shown, grey):
            pairs = torch.zeros(len(texts), dtype=torch.int64), torch.arange(1, len(texts) + 1)
            features = network.fuse(image, states, pairs, wanted="text").text_features
            assert features is not None
            guesses.append(network.mlm_logits(features).argmax(-1).numpy())
        for row, span in enumerate(hidden):
            place = np.flatnonzero(tokens.input_ids[row + 1] == tokenizer.mask_id)
            if len(place) != 1 or (tokens.input_ids[row + 1] != tokens.input_ids[0]).sum() != 1:
                continue  # a name of several tokens
            right = tokens.input_ids[0, place[0]]
            hits[span.role].append((bool(guesses[0][row, place[0]] == right), bool(guesses[1][row, place[0]] == right)))
    return {
        role: {
            "picture": float(np.mean([with_it for with_it, _ in pairs])),
            "grey": float(np.mean([without for _, without in pairs])),
            "words": len(pairs),
        }
        for role, pairs in sorted(hits.items())
    }


def table(figures: dict[str, Any]) -> str:
    """Markdown for people; percent."""
    lines = ["| recall, % | TR@1 | TR@5 | TR@10 | IR@1 | IR@5 | IR@10 |", "|---|---|---|---|---|---|---|"]
    for stage, metrics in figures["recall"].items():
        cells = [f"{100 * metrics[f'{way}@{k}']:.1f}" for way in ("tr", "ir") for k in (1, 5, 10)]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    lines += ["", "| ITM prefers the true caption to | % | pairs |", "|---|---|---|"]
    for kind, each in figures["preference"].items():
        lines.append(f"| another {kind} | {100 * each['share']:.1f} | {each['pairs']} |")
    lines += ["", "| MLM, first guess right, % | with the picture | with a grey one | words |", "|---|---|---|---|"]
    for role, each in figures["words"].items():
        lines.append(f"| {role} | {100 * each['picture']:.1f} | {100 * each['grey']:.1f} | {each['words']} |")
    return "\n".join(lines) + "\n"


def _through_jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return Image.open(io.BytesIO(file.getvalue()))


if __name__ == "__main__":
    main()
