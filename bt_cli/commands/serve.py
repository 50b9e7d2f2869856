"""`bt serve`: a page and APIs over an index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bt_cli.arguments.options import (
    AllowPrivateUrls,
    Device,
    Dtype,
    Model,
    Quiet,
    Reranker,
    Threads,
    bytes_of_gib,
    named_folder,
)
from bt_cli.display.remarks import remark
from bt_cli.errors import BtError


def run(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any free port.")] = 7788,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="T",
            envvar="BT_TOKEN",
            help="What callers have to show; needed where other machines can reach --host.",
        ),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(
            "--index",
            metavar="DIR",
            parser=named_folder,
            help="Index folder; repeat it for several. Default: BT_INDEX, else the nearest .bt.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", metavar="GIB", min=0, help="Most memory for images seen before.")
    ] = 0.25,
    thumbnails: Annotated[
        float, typer.Option("--thumbnails", metavar="GIB", min=0, help="Most disk for thumbnails.")
    ] = 0.5,
    candidates: Annotated[
        int, typer.Option("--max-candidates", metavar="N", min=1, help="Most that one request has reranked.")
    ] = 1000,
    seconds: Annotated[
        float, typer.Option("--max-seconds", metavar="S", min=0.1, help="Most time that one request may take.")
    ] = 120.0,
    allow_private_urls: AllowPrivateUrls = False,
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Serve a page and APIs over an index, on this machine alone unless --host says otherwise.

    The page searches as you type. /v1/embeddings and /v1/rerank are what clients of OpenAI, Cohere and Jina speak;
    /openapi.json describes everything. bt search --server URL asks a server instead of loading a checkpoint.
    """
    try:
        from bt_cli.api.application import listen, run_server, server
    except ImportError as error:
        raise BtError(f"bt serve needs an extra: pip install 'bridgetower[serve]' ({error})") from None
    from bt_cli.arguments.opening import each_once, named_indexes
    from bt_cli.serving.service import Service
    from bt_cli.serving.settings import Settings
    from bt_cli.store.index_folder import IndexFolder

    settings = Settings(
        host=host,
        port=port,
        token=token,
        candidates=candidates,
        seconds=seconds,
        allow_private_urls=allow_private_urls,
        memory_bytes=bytes_of_gib("--memory", memory),
        thumbnail_bytes=bytes_of_gib("--thumbnails", thumbnails),
        thumbnails=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bt" / "thumbnails",
    )
    settings.check()
    folders = each_once([IndexFolder.locate(folder) for folder in named_indexes(index)])
    listening = listen(settings)
    service = Service(folders, settings, model=model, reranker=reranker, device=device, dtype=dtype, threads=threads)
    try:
        service.warm()
        names = ", ".join(f"{name} ({len(served.current()):,} images)" for name, served in service.indexes.items())
        run_server(server(service, lambda url: remark(f"{names} at {url}, Ctrl-C stops")), listening)
        remark("stopped")
    finally:
        service.close()
        listening.close()
