"""Caption files of every format and lists of addresses, harmed: read, or refused in one line that names the place."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from torture.attempt import Lost, Outcome
from torture.checkpoints import in_its_place
from torture.mutation import mutated, mutated_json
from torture.ordeal import Ordeal, Work

from bt_cli.captions.captions import read_captions
from bt_cli.sources.url_list import is_url_list, read_url_list

LINES = [(f"folder/{number}.jpg", f"a number {number}, and more") for number in range(12)]


def caption_files() -> dict[str, bytes]:
    """The same captions in every format."""
    images = [{"id": number, "file_name": name} for number, (name, _) in enumerate(LINES)]
    annotations = [{"id": 50 + number, "image_id": number, "caption": text} for number, (_, text) in enumerate(LINES)]
    sentences = [
        {"filename": name, "imgid": number, "split": "test", "sentences": [{"raw": text, "sentid": number}]}
        for number, (name, text) in enumerate(LINES)
    ]
    table = pa.table({"image": [name for name, _ in LINES], "caption": [text for _, text in LINES]})
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    rows = [{"image": name, "caption": [text, text], "negative": text} for name, text in LINES]
    return {
        "csv": "".join(f'{a},"{b}"\n' for a, b in [("image", "caption"), *LINES]).encode(),
        "tsv": "".join(f"{a}\t{b}\n" for a, b in LINES).encode(),
        "token": "".join(f"{a}#0\t{b}\n" for a, b in LINES).encode(),
        "txt": "".join(f"{text}\n" for _, text in LINES).encode("utf-16"),
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "json": json.dumps(rows).encode(),
        "coco.json": json.dumps({"images": images, "annotations": annotations}).encode(),
        "karpathy.json": json.dumps({"dataset": "coco", "images": sentences}).encode(),
        "parquet": sink.getvalue().to_pybytes(),
        "urls.txt": "".join(f"https://example.org/{name}\n" for name, _ in LINES).encode(),
        "urls.csv": "".join(
            f"{number},https://example.org/{name}\n" for number, (name, _) in enumerate(LINES)
        ).encode(),
    }


class Captions(Ordeal):
    """Mutated caption files and lists of addresses."""

    kind = "captions"
    weight = 1.0

    def prepare(self) -> None:
        self.whole = caption_files()
        for name, content in self.whole.items():
            (self.folder / name).write_bytes(content)
            if not name.startswith("urls"):
                assert {item.text for item in read_captions(self.folder / name).items} == {text for _, text in LINES}

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        name = chance.choice(sorted(self.whole))
        content = self.whole[name]
        scratch.mkdir()
        file = scratch / name
        if number % 40 == 0:
            return f"{name}: {in_its_place(file, chance, pipes=False)}", lambda: _read(file)
        if name.endswith(".json") and chance.random() < 0.5:
            values = json.loads(content)
            file.write_bytes(mutated_json(json.dumps(values).encode(), chance))
        elif number % 40 == 1:
            file.write_bytes(content + b"x" * chance.choice((100_000, 3_000_000, 40_000_000)))
        else:
            file.write_bytes(mutated(content, chance))
        return name, lambda: _read(file)


def _read(file: Path) -> Outcome:
    if file.name.startswith("urls"):
        if is_url_list(str(file)):
            for listed in read_url_list(str(file)):
                if not (listed.url or listed.reason) or "\n" in (listed.url or ""):
                    raise Lost(f"an address of two lines, or none and no reason: {listed!r}")
        return Outcome("right")
    found = read_captions(file)
    if not all(isinstance(item.text, str) and item.text for item in found.items):
        raise Lost("a caption without text")
    return Outcome("right")
