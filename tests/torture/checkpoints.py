"""Checkpoints with forged values, damaged files, and what is no file at all in a file's place."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from pathlib import Path

import torch
from PIL import Image
from random_checkpoint import random_checkpoint
from safetensors.torch import load_file
from torture.attempt import Lost, Outcome, command, judged
from torture.mutation import HOSTILE, mutated, mutated_json
from torture.ordeal import Ordeal, Work

JSON = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
WEIGHTS = "model.safetensors"


class Checkpoints(Ordeal):
    """A checkpoint of random weights, as safetensors and as a pickle, one of its files harmed."""

    kind = "checkpoints"
    weight = 3.0

    def prepare(self) -> None:
        self.picture = self.folder / "picture.png"
        Image.new("RGB", (80, 60), (200, 30, 40)).save(self.picture)
        random_checkpoint(self.folder / "safetensors")
        random_checkpoint(self.folder / "pickle")
        weights = self.folder / "pickle" / WEIGHTS
        torch.save(load_file(weights), self.folder / "pickle" / "pytorch_model.bin")
        weights.unlink()
        shutil.copytree(self.folder / "safetensors", self.folder / "tables")
        (self.folder / "tables" / "tokenizer.json").unlink()  # vocab.json and merges.txt are read then

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        source = self.folder / chance.choice(("safetensors", "safetensors", "pickle", "tables"))
        name = chance.choice(sorted(path.name for path in source.iterdir()))
        if source.name == "pickle" and chance.random() < 0.4:
            name = "pytorch_model.bin"
        scratch.mkdir()
        for path in source.iterdir():
            os.link(path, scratch / path.name)
        file = scratch / name
        content = file.read_bytes()
        file.unlink()
        how = harm(file, content, chance)
        return f"{source.name}/{name}: {how}", lambda: self.scored(scratch)

    def scored(self, folder: Path) -> Outcome:
        ran = command("score", self.picture, "a red square", "--model", folder, "--device", "cpu", "--json")
        outcome = judged(ran)
        if outcome.word == "right":
            for line in ran.out.splitlines():
                numbers = [value for value in json.loads(line).values() if isinstance(value, float)]
                if not numbers or not all(map(math.isfinite, numbers)):
                    raise Lost(f"scores that are no numbers: {line[:200]!r}")
        return outcome


def harm(file: Path, content: bytes, chance: random.Random) -> str:
    """Write `content`, changed, to `file`, or put something else in its place; says which."""
    kind = chance.randrange(12)
    if kind == 0:
        return in_its_place(file, chance)
    if file.name == WEIGHTS:
        file.write_bytes(forged_header(content, chance))
        return "its header"
    if file.name in JSON and kind < 8:
        file.write_bytes(mutated_json(content, chance))
        return "a value"
    if file.name == "merges.txt" and kind < 5:
        line = chance.choice((b"a\n", b"a b c\n", b"x" * 10**6 + b" y\n", b"\xff\xfe z\n", b"Q q\n" * 20_000))
        file.write_bytes(content + line)
        return "a line"
    file.write_bytes(mutated(content, chance))
    return "its bytes"


def in_its_place(file: Path, chance: random.Random, *, pipes: bool = True) -> str:
    """A pipe, a device, a folder, a link to nothing, an empty or an endless file where a plain one belongs.

    Without `pipes` where bt waits for one that is named, as every command of a shell does (`<(...)`).
    """
    kind = chance.choice((*(["pipe"] if pipes else []), "device", "folder", "link", "loop", "empty", "hole", "kernel"))
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        os.symlink("/dev/zero", file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "link":
        os.symlink("nowhere", file)
    elif kind == "loop":
        os.symlink(file.name, file)
    elif kind == "kernel":
        os.symlink("/proc/kmsg", file)
    else:
        with open(file, "wb") as made:
            made.truncate(0 if kind == "empty" else 1 << 40)
    return f"a {kind} in its place"


def forged_header(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header says something else, or is damaged; the tensors' bytes stay."""
    length = int.from_bytes(content[:8], "little")
    header, tensors = content[8 : 8 + length], content[8 + length :]
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice((0, 7, 1 << 20, 99 << 20, 1 << 40, (1 << 64) - 1)).to_bytes(8, "little") + content[8:]
    if kind == 1:
        header = mutated(header, chance)
    elif kind == 2:
        header = mutated_json(header, chance)
    else:
        values = json.loads(header)
        name = chance.choice([name for name in values if name != "__metadata__"])
        field = chance.choice(("dtype", "shape", "data_offsets"))
        forged = {
            "dtype": ["F64", "BF16", "I64", "BOOL", "F8_E4M3", "x" * 5000, 3],
            "shape": [[], [0], [1 << 40], [-1, -1], [2] * 64, [1] * 100_000, [1.5], "64", [None]],
            "data_offsets": [[0, 0], [1 << 50, 1 << 51], [-8, 8], [8, 0], [0], ["0", "8"], [0.5, 8]],
        }
        values[name][field] = chance.choice([*forged[field], *HOSTILE])
        header = json.dumps(values).encode()
    return len(header).to_bytes(8, "little") + header + tensors
