"""Indexes with a bit, a byte or a whole file that is not what was written: read, verified, mended by `bt index`."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from indexing.fake_encoder import FakeEncoder, embedding_of
from PIL import Image
from torture.attempt import Lost, Outcome, command, judged, refusal
from torture.mutation import one_place
from torture.ordeal import Ordeal, Work

from bt_cli.captions.captions import Caption
from bt_cli.errors import BtError
from bt_cli.indexing.build import build_index
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import GENERATED, Manifest
from bt_cli.store.piece import damages

SMALL, LARGE = 30, 2300
"""Images of an index of one piece, and of one with two, one of them with deleted rows and lists."""
SIDE = 2
FACTORY = "IVF8,Flat"
ANSWERS = 20


class PictureEncoder(FakeEncoder):
    """Says how large the pictures are that `pictures_in` makes."""

    def _batch(self, numbers: range, paths: Any, captions: Any = None) -> Any:
        batch = super()._batch(numbers, paths, captions)
        batch.widths = [SIDE] * len(batch.numbers)
        batch.heights = [SIDE] * len(batch.numbers)
        return batch


def pictures_in(folder: Path, count: int, word: int) -> list[Path]:
    """Real, tiny and all different pictures, three folders of them; those of another `word` have the same sizes."""
    made = []
    for number in range(count):
        file = folder / f"{number % 3}" / f"{number:04d}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, number // 256, word)
        Image.new("RGB", (SIDE, SIDE), colour).save(file)
        os.utime(file, ns=(10**18 + number, 10**18 + number))
        made.append(file)
    return made


@dataclass
class WholeIndex:
    """An index that is as it was written, its answers, and what it holds; copies of it are harmed."""

    folder: Path
    parts: dict[str, Any]
    content: dict[str, list[Any]]

    @classmethod
    def of(cls, folder: Path) -> WholeIndex:
        return cls(folder, dict(parts_of(folder)), content_of(folder))

    @classmethod
    def small(cls, home: Path, word: int) -> WholeIndex:
        photos = pictures_in(home / "photos", SMALL, word)
        captions = [
            Caption(f"{word} {number}", image=str(file.relative_to(home / "photos")), caption_id=f"c{number}")
            for number, file in enumerate(photos[:12])
        ]
        build_index(home / ".bt", [home / "photos"], PictureEncoder(), captions=[("c.csv", captions)])
        return cls.of(home / ".bt")

    @classmethod
    def large(cls, home: Path, word: int) -> WholeIndex:
        photos = pictures_in(home / "photos", LARGE, word)
        for file in photos[:40]:
            file.rename(home / file.name)
        encoder = PictureEncoder(512)
        build_index(home / ".bt", [home / "photos"], encoder, factory=FACTORY, store_dtype="float32")
        for file in photos[100:130]:
            file.unlink()
        for file in photos[:40]:
            (home / file.name).rename(file)
        build_index(home / ".bt", [home / "photos"], encoder)
        return cls.of(home / ".bt")

    def copy(self, target: Path, harmed: str) -> Path:
        """A copy whose other files are the same ones by hard links; returns the file that may be written to."""
        target.mkdir()
        for path in self.folder.iterdir():
            if path.name == "lock" or path.name == harmed:
                shutil.copy2(path, target / path.name)
            elif path.is_symlink():
                os.symlink(os.readlink(path), target / path.name)
            elif path.is_file():
                os.link(path, target / path.name)
        return target / harmed

    def files(self) -> list[str]:
        """Names of what may be harmed."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_file() and not path.is_symlink())


def parts_of(folder: Path) -> Iterator[tuple[str, Any]]:
    """All that can be asked of an index, one question after another; a question may raise, the next is still asked."""
    with IndexFolder.open(folder) as index:
        queries = np.stack([embedding_of(b"query %d" % number) for number in range(3)])
        every = range(len(index))
        questions = {
            "images": lambda: found(index.search(queries, ANSWERS)),
            "some images": lambda: found(index.search(queries, ANSWERS, ids=np.arange(0, len(index), 7))),
            "vectors": lambda: index.vectors_of(np.arange(len(index))).tobytes(),
            "paths": lambda: [index.stored_path(number) for number in every],
            "glob": lambda: index.matching("000*.bmp").tolist(),
            "table": lambda: index.table(),
        }
        captions = index.captions
        if captions is not None:
            numbers = range(len(captions))
            questions |= {
                "captions": lambda: found(captions.search(queries, ANSWERS)),
                "texts": lambda: captions.texts(numbers),
                "owners": lambda: captions.image_ids(numbers).tolist(),
                "caption table": lambda: pa.concat_tables(captions.batches()),
            }
        for name, ask in questions.items():
            try:
                yield name, ask()
            except BtError as error:
                yield name, error


def content_of(folder: Path) -> dict[str, list[Any]]:
    """What an index holds and finds exactly, whatever the order of its rows: `bt index` may write other pieces."""
    with IndexFolder.open(folder) as index:
        queries = np.stack([embedding_of(b"query %d" % number) for number in range(3)])
        scores, ids = index.search(queries, ANSWERS, ids=np.arange(len(index)))
        names = [index.stored_path(number) for number in range(len(index))]
        vectors = index.vectors_of(np.arange(len(index)))
        columns = index.table().drop_columns(["embedding"])
        columns = columns.set_column(3, "mtime", columns.column("mtime").cast(pa.int64()))
        content = {
            "images": [scores.tolist(), [[names[number] for number in line] for line in ids.tolist()]],
            "vectors": sorted(zip(names, (vector.tobytes() for vector in vectors), strict=True)),
            "table": sorted(tuple(row.values()) for row in columns.to_pylist()),
        }
        if index.captions is not None:
            table = pa.concat_tables(index.captions.batches())
            numbers = range(len(index.captions))
            owners = [names[number] for number in index.captions.image_ids(numbers).tolist()]
            content["captions"] = [table.drop_columns(["embedding"]).to_pylist(), owners, index.captions.texts(numbers)]
            content["found"] = found(index.captions.search(queries, ANSWERS))
        return content


def found(answer: tuple[np.ndarray, np.ndarray]) -> list[Any]:
    return [answer[0].tolist(), answer[1].tolist()]


def read(folder: Path, whole: WholeIndex) -> Outcome:
    """Every question has the answer of the index that is whole, or a named refusal with the way out."""
    refused = Outcome("right")
    try:
        answers = dict(parts_of(folder))
    except BtError as error:
        return refusal(error)
    if answers.keys() != whole.parts.keys():
        raise Lost(f"only {', '.join(answers)} can be asked")
    for name, answer in answers.items():
        if isinstance(answer, BtError):
            refused = refusal(answer)
            if "bt index" not in str(answer):
                raise Lost(f"no way out: {answer}")
        elif not same(answer, whole.parts[name]):
            raise Lost(f"another answer: {name}")
    return refused


def same(mine: Any, theirs: Any) -> bool:
    """Whether two answers are equal; of tables the rows are."""
    return mine.equals(theirs) if isinstance(mine, pa.Table) else mine == theirs


def tortured(folder: Path, whole: WholeIndex, name: str) -> Outcome:
    """Read the index, verify it, let `bt index` mend it, and read it again."""
    outcome = read(folder, whole)
    if not outcome.held:
        return outcome
    verified = judged(command("info", "--verify", "--index", folder, "--json"))
    if not verified.held:
        return verified
    counts = name in Manifest.read(whole.folder).files() and not name.startswith("manifest-")
    if counts and (folder / name).read_bytes() != (whole.folder / name).read_bytes() and verified.word != "refused":
        raise Lost("bt info --verify finds nothing")
    return Outcome(outcome.word, outcome.detail, (mended(folder, whole),))


def mended(folder: Path, whole: WholeIndex) -> str:
    """What `bt index` does about it, in words."""
    encoder = PictureEncoder(512)
    try:
        build_index(folder, [], encoder)
    except BtError as error:
        if not refusal(error).held:
            raise Lost(f"bt index: {error}") from error
        return "left as they are by bt index, in one line"
    try:
        content = content_of(folder)
    except BtError as error:
        raise Lost(f"after bt index: {error}") from error
    other = [name for name in whole.content if content.get(name) != whole.content[name]]
    if other:
        raise Lost(f"after bt index: another answer: {', '.join(other)}")
    wrong = [error for piece in Manifest.read(folder).all_pieces() for error in damages(folder, piece)]
    if wrong:
        raise Lost(f"after bt index: {wrong[0]}")
    if encoder.encoded or encoder.texts:
        return "mended by bt index, some of it encoded again"
    return "mended by bt index without encoding"


class _OfIndexes(Ordeal):
    def prepare(self) -> None:
        self.wholes = [WholeIndex.small(self.folder / "small", 1), WholeIndex.large(self.folder / "large", 1)]
        self.others = [WholeIndex.small(self.folder / "small-2", 2), WholeIndex.large(self.folder / "large-2", 2)]

    def chosen(self, chance: random.Random) -> int:
        return 0 if chance.random() < 0.6 else 1

    def place(self, whole: WholeIndex, scratch: Path) -> Path:
        """Beside the whole one: relative paths start from the folder above."""
        return whole.folder.parent / f".{scratch.name}"

    def work(self, folder: Path, whole: WholeIndex, name: str) -> Work:
        def do() -> Outcome:
            try:
                return tortured(folder, whole, name)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return do


class Stores(_OfIndexes):
    """A single bit, or a single byte, of any file of an index."""

    kind = "stores"
    count = 2000

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        whole = self.wholes[self.chosen(chance)]
        name = chance.choice([name for name in whole.files() if (whole.folder / name).stat().st_size])
        folder = self.place(whole, scratch)
        file = whole.copy(folder, name)
        file.write_bytes(one_place(file.read_bytes(), chance, bit=number % 2 == 0))
        return f"{whole.folder.parent.name}: {name}", self.work(folder, whole, name)


class Swaps(_OfIndexes):
    """A file of another index in the place of this one's, two files of an index in each other's, and none at all."""

    kind = "swaps"
    count = 50

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        which = self.chosen(chance)
        whole, other = self.wholes[which], self.others[which]
        folder = self.place(whole, scratch)
        name = chance.choice([name for name in whole.files() if name != "lock"])
        file = whole.copy(folder, name)
        if number % 5 < 3:
            shutil.copy2(other.folder / name, file)
            return f"{whole.folder.parent.name}: {name} of another index", self.work(folder, whole, name)
        second = chance.choice([other for other in whole.files() if GENERATED.fullmatch(other) and other != name])
        if number % 5 == 3:
            shutil.copy2(whole.folder / second, file)
            return f"{whole.folder.parent.name}: {second} as {name}", self.work(folder, whole, name)
        file.unlink()
        if chance.random() < 0.5:
            file.mkdir()
        return f"{whole.folder.parent.name}: {name} gone, or a folder", self.work(folder, whole, name)
