"""Captioned images in tar shards, as img2dataset writes them, and in Parquet files, as the hub has them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Sample = tuple[bytes, list[str]]
"""An image and its captions."""
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_members(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A tar file, packed if its name says so."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_shard(path: Path, samples: dict[str, Sample], suffix: str = ".png") -> Path:
    """Key -> sample: picture, text and the row of the download beside it."""
    members = []
    for key, (image, captions) in samples.items():
        members += [
            (f"{key}{suffix}", image),
            (f"{key}.txt", "\n".join(captions).encode()),
            (f"{key}.json", json.dumps({"key": key, "url": f"https://example.org/{key}"}).encode()),
        ]
    return write_members(path, members)


def write_rows(path: Path, samples: dict[str, Sample], *, column: str = "caption", group: int = 3) -> Path:
    """A row a sample, the captions in a list."""
    images = [{"bytes": image, "path": "all-alike.png"} for image, _ in samples.values()]
    texts = [captions for _, captions in samples.values()]
    table = pa.table({"image": pa.array(images, IMAGE), column: texts, "url": list(samples)})
    pq.write_table(table, path, row_group_size=group)
    return path
