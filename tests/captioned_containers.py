"""Captioned images in tar shards, as img2dataset writes them, in Parquet files and saved data sets."""

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


def rows_of(samples: dict[str, Sample], column: str = "caption") -> pa.Table:
    """A row a sample, the captions in a list."""
    images = [{"bytes": image, "path": "all-alike.png"} for image, _ in samples.values()]
    texts = [captions for _, captions in samples.values()]
    return pa.table({"image": pa.array(images, IMAGE), column: texts, "url": list(samples)})


def write_rows(path: Path, samples: dict[str, Sample]) -> Path:
    """A Parquet file."""
    pq.write_table(rows_of(samples), path, row_group_size=3)
    return path


def write_data_set(folder: Path, *parts: dict[str, Sample]) -> Path:
    """A folder as `datasets` saves a data set, of an Arrow file for each part."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    for name, samples in zip(names, parts, strict=True):
        table = rows_of(samples)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=4)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder
