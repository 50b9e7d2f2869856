"""Embeddings as a table of their own, Parquet or NumPy, without an index: `bt encode`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np

from bt_cli.captions.captions import Caption
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import ImageFile, find_images, path_key
from bt_cli.embeddings.embedding_table import (
    ROW_GROUP,
    caption_schema,
    image_schema,
    path_columns,
    reading,
    times,
    vector_array,
)
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.kept_columns import with_kept_columns
from bt_cli.embeddings.npy_file import table_file
from bt_cli.embeddings.photo_columns import arrow_columns, facts_arrays
from bt_cli.errors import UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.encoder import EncodedBatch, FileEncoder
from bt_cli.indexing.summary import IndexSummary, no_images, nothing_readable
from bt_cli.indexing.update_run import is_readable
from bt_cli.inference.truncation import one_warning
from bt_cli.kept.lookup import Kept, Lookup
from bt_cli.kept.names import require_names
from bt_cli.sources.shard_list import shard_list
from bt_cli.sources.web_address import WebImage, is_url

LOG = logging.getLogger("bt_cli")
TEXTS_AT_A_TIME = 256


class PairEncoder(Protocol):
    """A checkpoint that embeds pairs; see `ModelEncoder.encode_pairs`."""

    @property
    def identity(self) -> Identity:
        """What makes the embeddings."""

    def encode_pairs(
        self, paths: Sequence[str], texts: Sequence[str], on_error: Callable[[int, UnreadableImage], None]
    ) -> np.ndarray:
        """Embeddings of image files each with its text, (n, d) float32; NaN for those that can't be read."""


Progress = Callable[[int, int], None]


def encode_image_table(
    roots: Sequence[str],
    out: str,
    encoder: FileEncoder,
    *,
    dtype: str = "float16",
    strict: bool = False,
    exclude: Sequence[str] = (),
    default_excludes: bool = True,
    keep: Sequence[str] = (),
    allow_private: bool = False,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    before_done: Callable[[list[tuple[str, str]]], None] | None = None,
    remarks: list[str] | None = None,
) -> IndexSummary:
    """Write an image table (see `embedding_table`; with the suffix `.npy`, `npy_file`) of the images below `roots`, in
    the order of their paths as given.
    `exclude` and `default_excludes` leave out what `Exclusion` says; `keep` and `allow_private` as in `build_index`.
    What is to be said of columns to keep is logged, or goes into `remarks`; then one that is nowhere is no error.
    `metadata` are further entries of the table's own; `before_done` hears of the files that could not be read (path,
    reason) when all is encoded: what it raises keeps the table from appearing.

    Raises:
        NotFound, EmptyFolder, Misuse: A root does not exist; there is no image; a glob is none; a column to keep is not
            there.
        UnreadableImage: A file can't be read, when `strict`, or none can.
        Unwritable: `out` can't be written. It appears when it is whole, or not at all.
    """
    start = time.monotonic()
    summary = IndexSummary(index=out)
    unreadable: list[tuple[str, str]] = []
    exclusion = Exclusion(tuple(exclude), default_excludes)
    exclusion.check()
    passed_over = summary.passed_over
    found = find_images(
        [_opened(name, allow_private) for root in roots for name in shard_list(root)],
        exclusion=exclusion,
        passed_over=passed_over,
        on_error=lambda path, error: unreadable.append((path, error.strerror or str(error))),
    )
    files = sorted(
        (file for file in found if is_readable(file.path, passed_over)), key=lambda file: path_key(file.path)
    )
    for path, reason in unreadable:
        _skip(summary, path, f"{shown_path(path)}: {reason}", strict)
    if not files:
        raise no_images(roots, passed_over)
    kept = _kept([file.path for file in files], roots, keep, allow_private, remarks)
    schema = image_schema(encoder.identity, dtype, os.getcwd(), keep=keep)
    schema = schema.with_metadata({**schema.metadata, **(metadata or {})})
    with (
        table_file(out, schema) as table,
        closing(encoder.encode_files([_opened(file.path, allow_private) for file in files])) as batches,
    ):
        for batch in batches:
            for number, message in batch.failures:
                _skip(summary, files[number].path, message, strict)
            if batch.numbers:
                numbers = np.array(batch.numbers, np.int64)
                values = {name: column[numbers].tolist() for name, column in kept.items()}
                table.write(_image_columns(files, batch, dtype) | values)
            summary.encoded += len(batch.numbers)
            summary.incomplete += [message for _, message in batch.incomplete]
            if progress is not None:
                progress(summary.encoded + len(summary.failures) - len(unreadable), len(files))
        if not summary.encoded:
            raise nothing_readable(summary)
        if before_done is not None:
            before_done(summary.failures)
    return _finished(summary, start)


def keep_anew(
    table: str, roots: Sequence[str], keep: Sequence[str], *, allow_private: bool = False, remarks: list[str]
) -> None:
    """Write a Parquet table of `encode_image_table` again, with these columns carried along from the same `roots` in
    place of those that it has; its relative paths start here. `remarks` as `encode_image_table`.

    Raises:
        Misuse: As `encode_image_table`.
        BrokenIndex, Unwritable: It is damaged; it can't be written.
    """
    import pyarrow.parquet

    rows = ImageRows.read(table)
    kept = _kept(rows.paths, roots, keep, allow_private, remarks)
    with reading(table), pyarrow.parquet.ParquetFile(table, page_checksum_verification=True) as file:
        schema = with_kept_columns(file.schema_arrow.empty_table(), keep).schema
        with table_file(table, schema) as new:
            first = 0
            for batch in file.iter_batches(ROW_GROUP):
                columns = {name: batch.column(name) for name in batch.schema.names}
                for name, values in kept.items():
                    columns[name] = values[first : first + len(batch)].tolist()
                first += len(batch)
                new.write(columns)


def _kept(
    paths: Sequence[str], roots: Sequence[str], keep: Sequence[str], allow_private: bool, remarks: list[str] | None
) -> dict[str, np.ndarray]:
    """The columns that are carried along, (n,) objects by name.

    Raises:
        Misuse: One is in no source, or can't be kept.
    """
    require_names(keep)
    lookup = Lookup(keep, [_opened(name, allow_private) for root in roots for name in shard_list(root)])
    found = lookup.of([_opened(path, allow_private) for path in paths]) if keep else Kept({}, {})
    if remarks is None:
        lookup.require(keep)
        for said in lookup.remarks(keep):
            LOG.warning("%s", said)
    else:
        remarks += lookup.remarks(keep)
    return found.values


def encode_caption_table(
    captions: Sequence[Caption],
    out: str,
    encoder: FileEncoder,
    *,
    dtype: str = "float16",
    progress: Progress | None = None,
) -> IndexSummary:
    """Write a caption table of `captions` in their order; `image` is what the caption file calls it.

    Raises:
        Unwritable: `out` can't be written.
    """
    start = time.monotonic()
    summary = IndexSummary(index=out)
    with (
        one_warning(),
        table_file(out, caption_schema(encoder.identity, dtype, os.getcwd())) as table,
    ):
        for first in range(0, len(captions), TEXTS_AT_A_TIME):
            part = captions[first : first + TEXTS_AT_A_TIME]
            embeddings = encoder.encode_texts([caption.text for caption in part])
            table.write(_caption_columns(part, embeddings, dtype))
            summary.encoded += len(part)
            if progress is not None:
                progress(summary.encoded, len(captions))
    summary.captions = len(captions)
    return _finished(summary, start)


def encode_pair_table(
    captions: Sequence[Caption],
    out: str,
    encoder: PairEncoder,
    *,
    dtype: str = "float16",
    strict: bool = False,
    progress: Progress | None = None,
) -> IndexSummary:
    """Write a table of pairs: each caption's embedding joined with its image's, in the order of the captions.

    `image` is the file's path; captions without one make no row. A pair whose image can't be read is left out, and
    counted and named once an image.

    Raises:
        UnreadableImage: A file can't be read, when `strict`.
        EmptyFolder: Not one can be read; nothing is written.
        MissingHead: The checkpoint embeds no pairs.
        Unwritable: `out` can't be written.
    """
    start = time.monotonic()
    summary = IndexSummary(index=out)
    paired = [caption for caption in captions if caption.image is not None]
    schema = caption_schema(encoder.identity, dtype, os.getcwd(), pairs=True)
    unreadable: dict[str, str] = {}
    with table_file(out, schema) as table:
        for first in range(0, len(paired), TEXTS_AT_A_TIME):
            part = paired[first : first + TEXTS_AT_A_TIME]
            paths = [caption.image or "" for caption in part]

            def tell(pair: int, error: UnreadableImage, paths: list[str] = paths) -> None:
                if paths[pair] not in unreadable:
                    unreadable[paths[pair]] = str(error)
                    _skip(summary, paths[pair], str(error), strict)

            embeddings = encoder.encode_pairs(paths, [caption.text for caption in part], tell)
            read = [place for place in range(len(part)) if not np.isnan(embeddings[place, 0])]
            if read:
                table.write(_caption_columns([part[place] for place in read], embeddings[read], dtype))
            summary.encoded += len(read)
            if progress is not None:
                progress(first + len(part), len(paired))
        if not summary.encoded:
            raise nothing_readable(summary)
    summary.captions = summary.encoded
    return _finished(summary, start)


def _caption_columns(captions: Sequence[Caption], embeddings: np.ndarray, dtype: str) -> dict[str, object]:
    images, raw = path_columns([caption.image or "" for caption in captions])
    return {
        "caption": [caption.text for caption in captions],
        "image": [image or None for image in images],
        "image_path_bytes": raw,
        "caption_id": [caption.caption_id for caption in captions],
        "embedding": vector_array(embeddings, dtype),
    }


def _opened(path: str, allow_private: bool) -> str:
    return WebImage(path) if allow_private and is_url(path) else path


def _image_columns(files: list[ImageFile], batch: EncodedBatch, dtype: str) -> dict[str, object]:
    encoded = [files[number] for number in batch.numbers]
    for place, stamp in enumerate(batch.stamps or ()):
        if stamp is not None and encoded[place].is_unknown:
            encoded[place] = ImageFile(encoded[place].path, *stamp)
    texts, raw = path_columns([os.fspath(file.path) for file in encoded])
    return {
        "path": texts,
        "path_bytes": raw,
        "size": [file.size for file in encoded],
        "mtime": times(np.array([file.mtime_ns for file in encoded], np.int64)),
        "content_hash": batch.content_hashes,
        "width": np.asarray(batch.widths, np.int32),
        "height": np.asarray(batch.heights, np.int32),
        **arrow_columns(facts_arrays(batch.facts, len(encoded))),
        "embedding": vector_array(batch.embeddings, dtype),
    }


def _skip(summary: IndexSummary, path: str, message: str, strict: bool) -> None:
    if strict:
        raise UnreadableImage(message)
    summary.skipped += 1
    summary.failures.append((path, message))


def _finished(summary: IndexSummary, start: float) -> IndexSummary:
    summary.added = summary.encoded
    summary.seconds = time.monotonic() - start
    summary.images_per_second = summary.encoded / summary.seconds if summary.seconds > 0 else 0.0
    return summary
