"""An index as collections of Qdrant, on this disk or at a server."""

from __future__ import annotations

import os
import warnings
from typing import Any

from bt_cli.errors import Misuse
from bt_cli.export.index_contents import Exported, IndexContents, vectors_and_records


def to_qdrant(contents: IndexContents, out: str, *, name: str, overwrite: bool) -> Exported:
    """Write the collections NAME and, where there are captions, NAME_captions: a point's id is the row's, its payload
    the row's columns. The collection's metadata say what made the vectors. One that could not be finished goes.

    Args:
        out: A folder (Qdrant's local mode), or a server's http(s) address, with its key in QDRANT_API_KEY.
        name: Of the collection of images.
        overwrite: Replace collections of these names; others stay as they are.

    Raises:
        Misuse: A collection is there already, without `overwrite`.
    """
    from qdrant_client import QdrantClient, models

    at_server = out.startswith(("http://", "https://"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # local mode says that it is for small collections
        client = (
            QdrantClient(url=out, api_key=os.environ.get("QDRANT_API_KEY")) if at_server else QdrantClient(path=out)
        )
        try:
            wanted = {name: contents.images()} | ({f"{name}_captions": contents.texts()} if contents.captions else {})
            there = [collection for collection in wanted if client.collection_exists(collection)]
            if there and not overwrite:
                raise Misuse(f"{out}: has a collection {there[0]} already; give another --name, or --overwrite")
            for collection, tables in wanted.items():
                if collection in there:
                    client.delete_collection(collection)
                size = models.VectorParams(size=contents.dimension, distance=models.Distance.COSINE)
                client.create_collection(collection, vectors_config=size, metadata=contents.about())
                try:
                    for table in tables:
                        vectors, payload = vectors_and_records(table)
                        ids = [record.pop("id") for record in payload]
                        client.upload_collection(collection, vectors, map(_in_utf8, payload), ids, wait=True)
                except BaseException:
                    client.delete_collection(collection)
                    raise
        finally:
            client.close()
    return Exported(len(contents.folder), contents.captions)


def _in_utf8(record: dict[str, Any]) -> dict[str, Any]:
    r"""A payload that a server can take: a name that is no UTF-8 with `\xNN` for each stray byte, as the Parquet table
    shows it, and its bytes in hex as `path_bytes`."""
    safe: dict[str, Any] = {}
    for key, value in record.items():
        safe[key] = value
        if isinstance(value, str) and not value.isascii():
            name = os.fsencode(value)
            safe[key] = name.decode("utf-8", "backslashreplace")
            if safe[key] != value:
                safe[f"{key}_bytes"] = name.hex()
    return safe
