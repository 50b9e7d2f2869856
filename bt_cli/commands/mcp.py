"""`bt mcp`: an index's tools for assistants, over stdio."""

from __future__ import annotations

from bt_cli.arguments.options import AllowPrivateUrls, Device, Dtype, Index, Model, Quiet, Reranker
from bt_cli.display.remarks import remark
from bt_cli.errors import BtError


def run(
    model: Model = None,
    reranker: Reranker = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    index: Index = None,
    allow_private_urls: AllowPrivateUrls = False,
    quiet: Quiet = False,
) -> None:
    """Offer search, rerank, score and show over the Model Context Protocol, on stdin and stdout.

    An assistant starts this itself; it needs the command `bt mcp --index DIR`. Images are named by their ids in the
    index, and no other file is read.
    """
    try:
        from bt_cli.api.assistant_tools import assistant_tools
        from bt_cli.serving.service import Service
    except ImportError as error:
        raise BtError(f"bt mcp needs an extra: pip install 'bridgetower[mcp]' ({error})") from None
    from bt_cli.serving.settings import Settings
    from bt_cli.store.index_folder import IndexFolder

    folder = IndexFolder.locate(index)
    settings = Settings(allow_private_urls=allow_private_urls)
    service = Service([folder], settings, model=model, reranker=reranker, device=device, dtype=dtype)
    try:
        remark(f"{len(service.index(None).current()):,} images, waiting for an assistant on stdin")
        assistant_tools(service).run("stdio")
    finally:
        service.close()
