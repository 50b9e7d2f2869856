"""`bt info`: what the index holds, what made it, and what this machine works with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bt_cli.arguments.options import Device, Dtype, Index, Json, Quiet
from bt_cli.display.data_lines import write_object
from bt_cli.display.remarks import remark
from bt_cli.display.table import Column, Rows, show
from bt_cli.errors import NoIndex

if TYPE_CHECKING:
    from bt_cli.inference.engine import Engine
    from bt_cli.store.manifest import Manifest

LIBRARIES = ("torch", "faiss-cpu", "pyarrow", "tokenizers", "pillow", "numpy")

FORMATS_WITH_SUMS = 2
LABELS = {
    "made_in": "encoded in",
    "store_dtype": "stored in",
    "faiss": "FAISS index",
    "faiss_reason": "index choice",
    "faiss_search": "index search",
    "bridges": "bridge cache",
    "keep": "columns kept",
    "precision": "computes in",
}
"""What a person reads where the name in `--json` would not say it; the others are their names."""


def run(
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte of the index and compare it with its checksum.")
    ] = False,
    index: Index = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what the index holds, which checkpoint made it, and the versions, device and precision in use.

    Without an index, only the latter. With --verify every stored byte is checked first, and damage ends in exit code 1.
    """
    if verify:
        _verify(index)
    record = {**_index_record(index), **_machine_record(device, dtype)}
    if as_json:
        write_object(record)
        return
    rows = Rows([Column(""), Column("")])
    for name, value in record.items():
        if value is not None:
            rows.add(LABELS.get(name, name.replace("_", " ")), _in_words(value))
    show(rows)


def _verify(explicit: Path | None) -> None:
    """Raises BrokenIndex with what is damaged, the first file in full and the others counted."""
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.manifest import Manifest
    from bt_cli.store.piece import damages

    folder = IndexFolder.locate(explicit)
    manifest = Manifest.read(folder)
    found = [error for piece in manifest.all_pieces() for error in damages(folder, piece)]
    for error in found[:-1]:
        remark(str(error))
    if found:
        raise found[-1]
    if manifest.format < FORMATS_WITH_SUMS:
        remark("the index is of the first format, which has no checksums; bt index brings it to this one's")
    else:
        remark(f"every byte of {len(manifest.files()):,} files is what was written")


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
    identity, largest = manifest.identity, manifest.largest
    return {
        "index": os.fspath(folder),
        "images": manifest.rows,
        "captions": manifest.captions.rows if manifest.captions else 0,
        "embeds": manifest.kind,
        "roots": manifest.roots,
        "caption_files": manifest.caption_files,
        "keep": manifest.keep,
        "checkpoint": identity.checkpoint,
        "fingerprint": identity.fingerprint,
        "preprocessing": identity.preprocessing,
        "made_in": identity.precision,
        "dimension": identity.dimension,
        "store_dtype": manifest.store_dtype,
        "faiss": largest.kind if largest else "exact",
        "faiss_reason": largest.reason if largest else "",
        "faiss_search": (largest.search or None) if largest else None,
        "table": os.fspath(folder / largest.table) if largest else None,
        "vectors": os.fspath(folder / largest.vectors) if largest else None,
        "pieces": len(manifest.pieces),
        "deleted": sum(len(piece.deleted_rows()) for piece in manifest.pieces),
        "format": manifest.format,
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
    from bt_cli.inference.engine import foreseen_engine
    from bt_cli.version import __version__

    engine = foreseen_engine(device, dtype) or _chosen_engine(device, dtype)
    versions = {"bt": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # faiss-gpu in place of faiss-cpu, say
    return {**engine._asdict(), "versions": versions}


def _chosen_engine(device: str, dtype: str) -> Engine:
    from bt_cli.inference.device import choose_device
    from bt_cli.inference.engine import Engine
    from bt_cli.packed.precision import choose_precision

    place = choose_device(device)
    return Engine(str(place), choose_precision(dtype, place))


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
