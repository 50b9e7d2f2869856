"""Draws docs/result.png, the picture in the README: one query, the contrastive order above the reranked one.

    python docs/result_picture.py [QUERY]

It runs `bt search --json` with the bundled checkpoint on sample_data, twice, and shows what came back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
QUERY = "a green dragon below a unicorn"
SIDE, GAP, SHOWN = 168, 14, 5
PAPER, INK, FAINT, MARK = (250, 249, 246), (32, 33, 36), (120, 122, 126), (30, 120, 80)


def bt(*arguments: str) -> list[dict]:
    """The JSON lines that a bt command prints."""
    done = subprocess.run([sys.executable, "-m", "bt_cli", *arguments], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def draw_row(sheet: Image.Image, top: int, title: str, hits: list[dict], key: str) -> None:
    """One order: a title, the pictures from best to worst, the score under each."""
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, top), title, font=ImageFont.load_default(19), fill=INK)
    for column, hit in enumerate(hits):
        left, high = GAP + column * (SIDE + GAP), top + 32
        with Image.open(hit["path"]) as picture:
            sheet.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, high))
        label = f"{hit['rank']}.  {key} {hit[key]:.3f}"
        pen.text((left, high + SIDE + 6), label, font=ImageFont.load_default(15), fill=MARK if column == 0 else FAINT)


def main() -> None:
    """Index, search twice, draw."""
    query = sys.argv[1] if len(sys.argv) > 1 else QUERY
    with tempfile.TemporaryDirectory() as folder:
        common = ("--index", folder + "/index", "--json", "--quiet")
        bt("index", str(ROOT / "sample_data" / "images"), "--model", "tiny", *common)
        first = bt("search", query, "-k", str(SHOWN), *common)
        second = bt("search", query, "-k", str(SHOWN), "--rerank", *common)
    height = 78 + 2 * (SIDE + 78)
    sheet = Image.new("RGB", (GAP + SHOWN * (SIDE + GAP), height), PAPER)
    ImageDraw.Draw(sheet).text((GAP, 18), f'bt search "{query}"', font=ImageFont.load_default(26), fill=INK)
    draw_row(sheet, 72, "by embedding (ITC)", first, "itc")
    draw_row(sheet, 72 + SIDE + 78, "--rerank: read together with the query (ITM)", second, "itm_prob")
    sheet.save(ROOT / "docs" / "result.png", optimize=True)


if __name__ == "__main__":
    main()
