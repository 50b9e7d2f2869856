"""Tools for assistants, over the Model Context Protocol: search, rerank, score and show, of an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from bt_cli.errors import BtError
from bt_cli.search.candidates import Candidate
from bt_cli.search.photo_filter import PhotoFilter
from bt_cli.search.query import Query, validate_text
from bt_cli.search.scoring import every_pair
from bt_cli.search.two_stage import Request
from bt_cli.serving.lanes import Job
from bt_cli.serving.refusals import Refusal
from bt_cli.serving.service import Service, hit_records
from bt_cli.serving.thumbnails import SIDES
from bt_cli.version import __version__

Result = TypeVar("Result")
Count = Annotated[int, Field(ge=1, le=100)]
Ids = Annotated[list[int], Field(min_length=1, max_length=200, description="ids of images, as search gives them")]


async def _in_thread(work: Callable[[], Result]) -> Result:
    """The result of work done beside the protocol; what it refuses is said to the assistant as it is."""
    try:
        return await anyio.to_thread.run_sync(work)
    except (BtError, Refusal) as error:
        raise ToolError(str(error)) from None


def assistant_tools(service: Service) -> MCPServer[Any]:
    """The tools over a service's first index. Images are named by their ids: no other file is ever read."""
    tools: MCPServer[Any] = MCPServer(
        "bt", version=__version__, instructions="Find pictures in an index by what they show, and look at them."
    )
    index = service.index(None)

    @tools.tool()
    async def search(
        query: str,
        k: Count = 10,
        rerank: bool = False,
        glob: list[str] | None = None,
        after: str | None = None,
        before: str | None = None,
        near: str | None = None,
        camera: str | None = None,
    ) -> dict[str, Any]:
        """Find images by a description. With rerank a second model reads the best candidates together with the
        description: slower, and it sees who does what and where. glob keeps only paths that match, as in "2024/**";
        after and before (2024, 2024-06, 2024-06-03) keep what was taken from the one on and before the other, near
        (48.2,16.37,20km) what was taken around a place, camera what was taken with it. unknown in the answer counts
        images left out because they don't say when, where or with what they were taken."""

        def answer() -> dict[str, Any]:
            folder = index.current()
            request = Request(
                Query.build(query),
                k,
                globs=tuple(glob or ()),
                candidates=100 if rerank else None,
                photos=PhotoFilter.build(after, before, near, [camera] if camera else []),
                facts=True,
            )
            found = service.search(folder, request, Job())
            captions = folder.captions is not None
            return {
                "hits": hit_records(folder, found.hits, captions=captions),
                "searched": found.searched,
                "unknown": found.unknown,
            }

        return await _in_thread(answer)

    @tools.tool()
    async def rerank(query: str, ids: Ids) -> dict[str, Any]:
        """Put images in the order in which they match a description; itm_prob is the probability of a match."""

        def answer() -> dict[str, Any]:
            folder = index.current()
            candidates = [Candidate(folder.image_path(id), id) for id in ids]
            found = service.rerank(folder, candidates, Query.build(query).texts, Job())
            return {"hits": hit_records(folder, found.hits, captions=False), "skipped": found.skipped}

        return await _in_thread(answer)

    @tools.tool()
    async def score(ids: Ids, texts: Annotated[list[str], Field(min_length=1, max_length=50)]) -> dict[str, Any]:
        """How well each image and each text match: itm_prob, the probability of a match, and itc, a cosine."""

        most = service.settings.candidates
        if len(ids) * len(texts) > most:
            raise ToolError(f"{len(ids) * len(texts):,} pairs; at most {most:,} are read in one go")

        def answer() -> dict[str, Any]:
            folder = index.current()
            wanted = every_pair(
                [folder.image_path(id) for id in ids], [validate_text(text, "a text") for text in texts]
            )
            return service.score(folder, wanted, Job())

        return await _in_thread(answer)

    @tools.tool()
    async def show(id: int, large: bool = False) -> Image:
        """Look at an image: small, or large where its details matter."""
        side = 1024 if large else SIDES["thumb"]
        data = await _in_thread(lambda: service.picture(index.current(), id, side))
        return Image(data=data, format="jpeg")

    return tools
