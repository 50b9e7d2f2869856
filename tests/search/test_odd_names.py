"""A thousand odd file names through caption file, index, search and rerank and back: the same image each time, or one
sentence that says which files it may be."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.captions.captions import read_captions
from bt_cli.display.data_lines import object_line
from bt_cli.errors import NotFound
from bt_cli.indexing.build import build_index
from bt_cli.search.candidates import Candidate, Hit, from_bytes
from bt_cli.store.index_folder import IndexFolder

COUNT = 1000
PARTS = [
    *(
        "a",
        "B",
        "b",
        "\u00e9",
        "e\u0301",
        "\u00df",
        "\u0130",
        "\u732b",
        "\U0001f600",
        " ",
        "  ",
        "'",
        '"',
        '""',
        ",",
        ";",
    ),
    *(
        "|",
        "\t",
        "\n",
        "\r",
        "\u2028",
        "\u202e",
        "\u2066",
        "\\",
        "#0",
        "%",
        "{",
        "[",
        "]",
        "-",
        "~",
        "\udce9",
        "\udcff",
    ),
]


def odd_names(seed: int) -> list[str]:
    """Different names below up to two folders; equal ones in another form or case are among them."""
    chance = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < COUNT:
        name = "".join(chance.choices(PARTS, k=chance.randint(1, 7))) + chance.choice([".jpg", ".JPG", ".png"])
        folder = "/".join(f"f{part}" for part in chance.choices(PARTS, k=chance.randint(0, 2)))
        forms = [name, name.swapcase(), *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
        for form in forms if chance.random() < 0.2 else forms[:1]:
            path = f"{folder}/{form}".lstrip("/")
            if not any(part.startswith(".") for part in path.split("/")):
                names[path] = None
    return list(names)[:COUNT]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder of files whose content says which they are."""
    folder = tmp_path_factory.mktemp("odd") / "images"
    contents = {}
    for number, name in enumerate(odd_names(7)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents[name] = f"image {number}".encode()
        path.write_bytes(contents[name])
    return folder, contents


def as_json_lines(names: list[str]) -> bytes:
    return b"".join(object_line({"image": name, "caption": f"caption {n}"}) for n, name in enumerate(names))


def as_escaped_map(names: list[str]) -> bytes:
    return json.dumps({name: f"caption {n}" for n, name in enumerate(names)}).encode()


def as_table(names: list[str]) -> bytes:
    out = io.StringIO(newline="")
    rows = [(name, f"caption {n}") for n, name in enumerate(names)]
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("image", "caption"), *rows])
    return out.getvalue().encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("form", [as_json_lines, as_escaped_map, as_table])
def test_a_caption_file_means_the_same_image_or_says_why_not(album, tmp_path: Path, form) -> None:
    folder, contents = album
    file = tmp_path / "captions"
    file.write_bytes(form(list(contents)))
    missing: list[NotFound] = []
    found = read_captions(file, images=folder, on_missing=missing.append)
    meant = {f"caption {n}": name for n, name in enumerate(contents)}
    told = set(meant) - {item.text for item in found.items}
    wrong = {item.text for item in found.items if Path(item.image or "").read_bytes() != contents[meant[item.text]]}
    assert len(missing) == len(told)
    assert all("\n" not in str(error) for error in missing)
    # A table's quoted cells have one kind of line break, so a carriage return in a name is lost, and nothing else is.
    lost = {text for text, name in meant.items() if "\r" in name} if form is as_table else set()
    assert told | wrong <= lost


def test_index_search_and_rerank_give_the_same_image_back(album, tmp_path: Path, monkeypatch) -> None:
    folder, contents = album
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "captions.jsonl"
    file.write_bytes(as_json_lines(list(contents)))
    encoder = FakeEncoder(64)
    captions = read_captions(file).items
    build_index(".bt", [str(folder)], encoder, captions=[(str(folder.parent / "x"), captions)])
    with IndexFolder.open(Path(".bt")) as index:
        assert len(index) == COUNT
        vectors = np.stack([embedding_of(content) for content in contents.values()])
        _, ids = index.search(vectors, 1)
        paths = index.paths(ids[:, 0])
        owners: Any = index.captions.image_ids(range(COUNT)) if index.captions is not None else []
        described = index.paths(owners)
    assert [Path(path).read_bytes() for path in paths] == list(contents.values())
    # The table of captions may keep its own order; each text still belongs to its image.
    assert [Path(path).read_bytes() for path in described] == list(contents.values())
    hits = [Hit(rank, rank, path, 0.5, 0.5) for rank, path in enumerate(paths, 1)]
    by_json = from_bytes(b"".join(object_line(hit.record()) for hit in hits))
    by_nul = from_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths), nul=True)
    for candidates in (by_json, by_nul):
        assert [Candidate(candidate.path) for candidate in candidates] == [Candidate(path) for path in paths]
