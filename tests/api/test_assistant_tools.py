"""`bt mcp` asked by the protocol's own client, over stdio."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import pytest

mcp = pytest.importorskip("mcp")


@pytest.mark.anyio
async def test_an_assistant_searches_ranks_scores_and_looks(library):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    arguments = ["-m", "bt_cli", "mcp", "--index", str(library / ".bt"), "--dtype", "float32", "-q"]
    server = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment)
    async with mcp.stdio_client(server) as (read, write), mcp.ClientSession(read, write) as session:
        await session.initialize()
        assert sorted(tool.name for tool in (await session.list_tools()).tools) == ["rerank", "score", "search", "show"]
        found = (await session.call_tool("search", {"query": "a red car", "k": 3})).structured_content
        ids = [hit["id"] for hit in found["hits"]]
        assert len(ids) == 3
        dated = (await session.call_tool("search", {"query": "a red car", "after": "1990"})).structured_content
        assert (dated["hits"], dated["unknown"]) == ([], 12)
        vague = await session.call_tool("search", {"query": "a red car", "near": "here"})
        assert "--near here: no place" in vague.content[0].text
        ranked = (await session.call_tool("rerank", {"query": "a red car", "ids": ids})).structured_content
        assert sorted(hit["id"] for hit in ranked["hits"]) == sorted(ids)
        scored = (await session.call_tool("score", {"ids": ids[:1], "texts": ["a dog"]})).structured_content
        assert 0 <= scored["pairs"][0]["itm_prob"] <= 1
        much = await session.call_tool("score", {"ids": ids * 10, "texts": ["a"] * 50})
        assert "1,500 pairs; at most 1,000 are read in one go" in much.content[0].text
        shown = (await session.call_tool("show", {"id": ids[0]})).content[0]
        assert base64.b64decode(shown.data)[:2] == b"\xff\xd8"
        refused = await session.call_tool("show", {"id": 99})
        assert refused.is_error
        assert "no image 99" in refused.content[0].text


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
