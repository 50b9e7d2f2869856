"""`bt info`: what the index holds, what made it, and what this machine works with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.commands.options import Device, Dtype, Index, Json, Quiet
from bt_cli.display.data_lines import write_object
from bt_cli.display.remarks import remark
from bt_cli.display.table import Column, Rows, show
from bt_cli.errors import NoIndex

if TYPE_CHECKING:
    from bt_cli.store.manifest import Manifest

LIBRARIES = ("torch", "faiss-cpu", "pyarrow", "tokenizers", "pillow", "numpy")

LABELS = {
    "made_in": "encoded in",
    "store_dtype": "stored in",
    "faiss": "FAISS index",
    "faiss_reason": "index choice",
    "faiss_search": "index search",
    "bridges": "bridge cache",
    "precision": "computes in",
}
"""What a person reads where the name in `--json` would not say it; the others are their names."""


def run(
    index: Index = None, device: Device = "auto", dtype: Dtype = "auto", as_json: Json = False, quiet: Quiet = False
) -> None:
    """Say what the index holds, which checkpoint made it, and the versions, device and precision in use.

    Without an index, only the latter.
    """
    record = {**_index_record(index), **_machine_record(device, dtype)}
    if as_json:
        write_object(record)
        return
    rows = Rows([Column(""), Column("")])
    for name, value in record.items():
        if value is not None:
            rows.add(LABELS.get(name, name.replace("_", " ")), _in_words(value))
    show(rows)


def _index_record(explicit: Path | None) -> dict[str, Any]:
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.manifest import Manifest

    try:
        folder = IndexFolder.locate(explicit)
    except NoIndex as error:
        if explicit is not None:
            raise
        remark(str(error))
        return {"index": None}
    with IndexFolder.open(folder):
        return _manifest_record(folder, Manifest.read(folder))


def _manifest_record(folder: Path, manifest: Manifest) -> dict[str, Any]:
    identity, images = manifest.identity, manifest.images
    return {
        "index": os.fspath(folder),
        "images": images.rows,
        "captions": manifest.captions.rows if manifest.captions else 0,
        "roots": manifest.roots,
        "caption_files": manifest.caption_files,
        "checkpoint": identity.checkpoint,
        "fingerprint": identity.fingerprint,
        "preprocessing": identity.preprocessing,
        "made_in": identity.precision,
        "dimension": identity.dimension,
        "store_dtype": manifest.store_dtype,
        "faiss": images.kind,
        "faiss_reason": images.reason,
        "faiss_search": images.search or None,
        "table": os.fspath(folder / images.table),
        "vectors": os.fspath(folder / images.vectors),
        "bytes": _bytes_below(folder),
        "bridges": (folder / "bridges").is_dir(),
        "generation": manifest.generation,
        "written": manifest.written,
        "written_by": manifest.version,
    }


def _bytes_below(folder: Path) -> int:
    """The sizes of all files together; one that a writer has just taken away counts for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _machine_record(device: str, dtype: str) -> dict[str, Any]:
    from bt_cli.inference.device import choose_device
    from bt_cli.packed.precision import choose_precision
    from bt_cli.version import __version__

    place = choose_device(device)
    versions = {"bt": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # faiss-gpu in place of faiss-cpu, say
    return {"device": str(place), "precision": choose_precision(dtype, place), "versions": versions}


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
