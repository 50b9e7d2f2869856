"""The OpenAPI document of the server."""

from __future__ import annotations

from typing import Any

from bt_cli.api.endpoints import FILTERS
from bt_cli.serving.thumbnails import SIDES
from bt_cli.version import __version__

_TEXT, _WHOLE, _NUMBER, _FLAG = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
_TEXTS = {"type": "array", "items": _TEXT}
_IMAGE = {
    "description": "A data URL; or an object with data (a data URL) and name, or with id or path of an indexed image.",
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "properties": {"data": _TEXT, "name": _TEXT, "id": _WHOLE, "path": _TEXT, "weight": _NUMBER},
        },
    ],
}
_STATE = {
    "type": "string",
    "description": "The state of the answer that ids were taken from; where they are others by now, 409 says so.",
}
_IMAGES = {"type": "array", "items": _IMAGE}
_SEARCH = {
    "q": _TEXT,
    "k": _WHOLE,
    "offset": _WHOLE,
    "rerank": _FLAG,
    "candidates": _WHOLE,
    "combine": {"type": "string", "enum": ["itm", "itm+itc", "itc"]},
    "add": _TEXTS,
    "subtract": _TEXTS,
    "glob": _TEXTS,
    "min_score": _NUMBER,
    "to": {"type": "string", "enum": ["images", "captions"]},
    "index": _TEXT,
    "after": _TEXT,
    "before": _TEXT,
    "near": _TEXT,
    "cameras": _TEXTS,
    "facts": _FLAG,
    "state": _STATE,
}
_DOCUMENT = {
    "anyOf": [_TEXT, {"type": "object", "properties": {"text": _TEXT, "image": _TEXT}}],
    "description": "A text, or an image as a data URL.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1, as /openapi.json gives it."""
    posts = {
        "/api/search": ("Images or captions nearest to a query", {**_SEARCH, "images": _IMAGES}, []),
        "/api/search-many": (
            "Every text a query of its own",
            {"texts": _TEXTS, **{name: _SEARCH[name] for name in ("k", *FILTERS)}},
            ["texts"],
        ),
        "/api/rerank": (
            "The ITM head's order of images",
            {"q": _TEXT, "k": _WHOLE, "candidates": _WHOLE, "images": _IMAGES, "index": _TEXT, "state": _STATE},
            ["q"],
        ),
        "/api/score": (
            "How well images and texts match",
            {"images": _IMAGES, "texts": _TEXTS, "pairs": {"type": "array"}, "index": _TEXT, "state": _STATE},
            ["images", "texts"],
        ),
        "/api/fill-mask": (
            "The best words for each <mask>",
            {"image": _IMAGE, "text": _TEXT, "k": _WHOLE, "index": _TEXT, "state": _STATE},
            ["image", "text"],
        ),
        "/api/heat-map": (
            "Where an image matched a text, or where each <mask> looked, as PNG",
            {"image": _IMAGE, "text": _TEXT, "index": _TEXT, "state": _STATE},
            ["image", "text"],
        ),
        "/v1/embeddings": (
            "Embeddings in OpenAI's shape",
            {
                "input": {"anyOf": [_DOCUMENT, {"type": "array", "items": _DOCUMENT}]},
                "model": _TEXT,
                "encoding_format": {"type": "string", "enum": ["float", "base64"]},
                "dimensions": _WHOLE,
            },
            ["input"],
        ),
        "/v1/rerank": (
            "Rerank in Cohere's and Jina's shape",
            {
                "query": _DOCUMENT,
                "documents": {"type": "array", "items": _DOCUMENT},
                "top_n": _WHOLE,
                "return_documents": _FLAG,
                "rank_fields": _TEXTS,
                "model": _TEXT,
            },
            ["query", "documents"],
        ),
    }
    paths: dict[str, Any] = {path: {"post": _post(*described)} for path, described in posts.items()}
    paths["/v2/rerank"] = paths["/v1/rerank"]
    query = {**_SEARCH, "like": _WHOLE}
    paths["/api/search"]["get"] = _get("Images or captions nearest to a query", query)
    paths["/api/indexes"] = {"get": _get("The indexes that are served")}
    paths["/v1/models"] = {"get": _get("The checkpoints, in OpenAI's shape")}
    paths["/healthz"] = {"get": _get("Whether the server answers")}
    paths["/metrics"] = {"get": _get("Counters in Prometheus's text format")}
    pictures = {kind: f"An image, of at most {side} pixels a side," for kind, side in SIDES.items()}
    pictures |= {"heat": "Where it matched a text: an image"}
    for kind, what in pictures.items():
        named = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in (("index", _TEXT), ("id", _WHOLE))
        ]
        named += [{"name": "state", "in": "query", "schema": _STATE}]
        named += [{"name": "q", "in": "query", "required": True, "schema": _TEXT}] if kind == "heat" else []
        paths[f"/{kind}/{{index}}/{{id}}"] = {"get": {**_get(f"{what} of an index"), "parameters": named}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "bt", "version": __version__, "summary": "Find images by text and text by image."},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "object", "properties": {"message": _TEXT, "type": _TEXT}}},
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def _post(summary: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {**_get(summary), "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _get(summary: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "Done"},
            "4XX": {"description": "What the caller did", **error},
            "5XX": {"description": "What the server could not do", **error},
        },
    }
    if parameters:
        operation["parameters"] = [{"name": name, "in": "query", "schema": kind} for name, kind in parameters.items()]
    return operation
