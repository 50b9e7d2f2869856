"""APIs that other programs already speak: OpenAI's embeddings and the rerank of Cohere and Jina."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from bt_cli.api.endpoints import in_lane, json_response
from bt_cli.api.request_body import Fields, is_data_url, picture, read_json
from bt_cli.search.query import validate_text
from bt_cli.search.rerank import match_probability
from bt_cli.serving.lanes import Job
from bt_cli.serving.refusals import Refusal, invalid
from bt_cli.serving.served_index import ServedFolder
from bt_cli.serving.service import Service

Parts = tuple[str | None, Any]
"""A text, an image, or both."""


class FamiliarEndpoints:
    """The handlers of one service. Fields that others' clients send and that mean nothing here are passed over."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings = service, service.settings

    async def models(self, http: HttpRequest) -> Response:
        """GET /v1/models."""
        names = {index.current().identity.checkpoint for index in self.service.indexes.values()}
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "bridgetower"} for name in sorted(names)]
        return json_response({"object": "list", "data": data})

    async def embeddings(self, http: HttpRequest) -> Response:
        """POST /v1/embeddings: of texts, of images as data URLs, or of both together (the joint embedding)."""
        fields = Fields(await read_json(http, self.settings), self.settings)
        form = fields.text("encoding_format", "float")
        if form not in ("float", "base64"):
            raise invalid("encoding_format has to be float or base64")
        given = fields.values.get("input")
        several = given if isinstance(given, list) else [given]
        if not several or len(several) > self.settings.texts:
            raise invalid(f"input has to be from 1 to {self.settings.texts} texts or images")
        parts = [self._parts(item, f"input[{place}]") for place, item in enumerate(several)]
        if sum(image is not None for _, image in parts) > self.settings.pictures:
            raise Refusal(413, "request_too_large", f"input has more than {self.settings.pictures} images")
        folder = self._folder(fields)
        dimensions = fields.values.get("dimensions")
        if dimensions is not None and dimensions != folder.dimension:
            raise invalid(f"dimensions: this model's embeddings have {folder.dimension}, and can't be shortened")

        def answer(job: Job) -> dict[str, Any]:
            rows = self._embed(folder, parts)
            data = [
                {"object": "embedding", "index": place, "embedding": _written(row, form)}
                for place, row in enumerate(rows)
            ]
            return {
                "object": "list",
                "data": data,
                "model": folder.identity.checkpoint,
                "usage": self._usage(folder, parts),
            }

        only_texts = all(image is None for _, image in parts)
        lane = self.service.searches if only_texts else self.service.reading
        return json_response(await in_lane(lane, http, self.service, answer))

    async def rerank(self, http: HttpRequest) -> Response:
        """POST /v1/rerank and /v2/rerank: documents by how well they match a query.

        An image with a text is read by the ITM head, and the score is the probability of a match; two texts or two
        images are compared by the cosine of their embeddings.
        """
        fields = Fields(await read_json(http, self.settings), self.settings)
        query = self._single(fields.values.get("query"), "query")
        given = fields.several("documents", self.settings.candidates)
        if not given:
            raise invalid("documents is empty: there is nothing to rank")
        parts = fields.texts("rank_fields")
        documents = [self._single(_ranked(item, parts), f"documents[{place}]") for place, item in enumerate(given)]
        if len({text is None for text, _ in documents}) > 1:
            raise invalid("documents has texts and images; their scores can't be compared: rank them apart")
        if sum(image is not None for _, image in documents) > self.settings.pictures:
            raise Refusal(413, "request_too_large", f"documents has more than {self.settings.pictures} images")
        most = fields.whole("top_n", len(given), most=10**9)
        wanted = fields.flag("return_documents")
        folder = self._folder(fields)

        def answer(job: Job) -> dict[str, Any]:
            scores = self._relevance(folder, query, documents, job)
            order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:most]
            results: list[dict[str, Any]] = [
                {"index": place, "relevance_score": float(f"{scores[place]:.7g}")} for place in order
            ]
            for result in results if wanted else ():
                document = given[result["index"]]
                plain = {"image": document} if is_data_url(document) else {"text": document}
                result["document"] = plain if isinstance(document, str) else document
            usage = self._usage(folder, [query, *documents])
            named = {"id": str(uuid.uuid4()), "model": folder.identity.checkpoint, "object": "list"}
            return {**named, "results": results, "usage": usage, "meta": {"api_version": {"version": "1"}}}

        return json_response(await in_lane(self.service.reading, http, self.service, answer))

    def _folder(self, fields: Fields) -> ServedFolder:
        """The first index made by the `model` that was asked for; for a name that is none here, the first of all."""
        folders = [index.current() for index in self.service.indexes.values()]
        wanted = fields.values.get("model")
        return next((folder for folder in folders if folder.identity.checkpoint == wanted), folders[0])

    def _parts(self, item: Any, name: str) -> Parts:
        if isinstance(item, str):
            if is_data_url(item):
                return None, picture(item, self.settings, name)
            item = {"text": item}
        if not isinstance(item, dict) or not item.keys() & {"text", "image"}:
            raise invalid(f"{name} has to be a text, a data URL of an image, or an object with text, image or both")
        fields = Fields(item, self.settings)
        text = fields.text("text")
        image = fields.values.get("image")
        return (
            None if text is None else validate_text(text, name),
            None if image is None else picture(image, self.settings, name),
        )

    def _single(self, item: Any, name: str) -> Parts:
        text, image = self._parts(item, name)
        if (text is None) == (image is None):
            raise invalid(f"{name} has to be a text or an image, and not both")
        return text, image

    def _embed(self, folder: ServedFolder, parts: Sequence[Parts]) -> np.ndarray:
        """Embeddings (n, d) float32 of texts, images and pairs, each kind in one go."""
        retriever = self.service.models(folder).retriever()
        texts = [place for place, (_, image) in enumerate(parts) if image is None]
        images = [place for place, (text, _) in enumerate(parts) if text is None]
        both = sorted({*range(len(parts))} - {*texts, *images})
        width = folder.dimension
        if both:
            if len(both) < len(parts):
                raise invalid("input has pairs beside texts or images alone; their embeddings can't be compared")
            if not hasattr(retriever.model, "encode_pairs"):
                raise Refusal(501, "not_supported_error", "joint embeddings of a text with an image are not made here")
            return np.asarray(
                retriever.model.encode_pairs([image for _, image in parts], [text or "" for text, _ in parts]),
                np.float32,
            )
        rows = np.empty((len(parts), width), np.float32)
        if texts:
            rows[texts] = retriever.encode_texts([parts[place][0] for place in texts])
        if images:
            rows[images] = retriever.encode_images([parts[place][1] for place in images])
        return rows

    def _relevance(self, folder: ServedFolder, query: Parts, documents: Sequence[Parts], job: Job) -> list[float]:
        if (query[0] is None) == (documents[0][0] is None):
            asked = self._embed(folder, [query])[0]
            return [float(cosine) for cosine in self._embed(folder, documents) @ asked]
        reranker = self.service.models(folder).at_index(folder).reranker()
        if query[1] is None:
            logits = reranker.itm([image for _, image in documents], [query[0] or ""], progress=job.check)[:, 0]
        else:
            logits = reranker.itm([query[1]], [text or "" for text, _ in documents], progress=job.check)[0]
        return [float(chance) for chance in match_probability(logits)]

    def _usage(self, folder: ServedFolder, parts: Sequence[Parts]) -> dict[str, int]:
        texts = [text for text, _ in parts if text is not None]
        tokens = 0
        if texts:
            tokenizer = self.service.models(folder).retriever().tokenizer
            tokens = int(tokenizer.encode(texts).attention_mask.sum())
        return {"prompt_tokens": tokens, "total_tokens": tokens}


def _ranked(item: Any, parts: Sequence[str]) -> Any:
    """A document of which, as Cohere's `rank_fields` has it, some fields are what is read, in that order."""
    if not parts or not isinstance(item, dict) or "image" in item:
        return item
    return {"text": "\n".join(value for part in parts if isinstance(value := item.get(part), str))}


def _written(row: np.ndarray, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode("ascii")
    return [float(f"{value:.8g}") for value in row.tolist()]
