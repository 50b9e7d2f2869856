"""bt's own API: search, rerank, score, fill-mask, pictures by id, and what there is to ask."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from bt_cli.api.request_body import Fields, finite, picture, read_json
from bt_cli.checkpoints.combination import COMBINATIONS
from bt_cli.display.data_lines import object_line
from bt_cli.errors import NoMask, UnreadableImage
from bt_cli.preprocessing.tokenizer import MASK
from bt_cli.search.candidates import Candidate
from bt_cli.search.many import ManyTexts
from bt_cli.search.photo_filter import PhotoFilter
from bt_cli.search.query import Query, Term, validate_text
from bt_cli.search.scoring import every_pair
from bt_cli.search.two_stage import CANDIDATES, Request
from bt_cli.serving.lanes import Job, Lane
from bt_cli.serving.refusals import invalid, not_found
from bt_cli.serving.served_index import ServedFolder, ServedIndex, StoredImage
from bt_cli.serving.service import Service, hit_records, made_by
from bt_cli.serving.thumbnails import SIDES

Result = TypeVar("Result")
Endpoint = Callable[[HttpRequest], Awaitable[Response]]

PHOTOS = ("after", "before", "near", "cameras")
FILTERS = ("glob", "min_score", "to", "index", *PHOTOS, "facts")
SEARCH = ("q", "k", "offset", "rerank", "candidates", "combine", "add", "subtract", *FILTERS, "images", "state")
SEARCH_OF_URL = (*(name for name in SEARCH if name != "images"), "like")
SEARCH_MANY = ("texts", "k", *FILTERS)
RERANK = ("q", "k", "candidates", "images", "index", "state")
SCORE = ("images", "texts", "pairs", "index", "state")
FILL_MASK = ("image", "text", "k", "index", "state")
REMARKS = 20
"""Remarks that an answer holds, at most."""
HEAT_MAP = ("image", "text", "index", "state")


def json_response(value: Any, status: int = 200) -> Response:
    """An object as JSON; bytes of file names that are no UTF-8 as the command line writes them."""
    return Response(object_line(value), status, media_type="application/json")


async def in_lane(lane: Lane, http: HttpRequest, service: Service, work: Callable[[Job], Result]) -> Result:
    """The result of work done in a lane, called off when the caller goes; an object also holds the `remarks` on it."""

    def noted(job: Job) -> Result:
        result = work(job)
        if isinstance(result, dict) and job.remarks:
            result["remarks"] = list(dict.fromkeys(job.remarks))[:REMARKS]
        return result

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    return await lane.run(noted, gone=gone, seconds=service.settings.seconds)


class Endpoints:
    """The handlers of one service."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings = service, service.settings

    async def indexes(self, http: HttpRequest) -> Response:
        """GET /api/indexes: each index with its size, checkpoint and what can be asked of it."""

        def describe(job: Job) -> list[dict[str, Any]]:
            return [_described(name, index.current()) for name, index in self.service.indexes.items()]

        found = await in_lane(self.service.searches, http, self.service, describe)
        return json_response({"indexes": found, "body_bytes": self.settings.body_bytes})

    async def search(self, http: HttpRequest) -> Response:
        """GET and POST /api/search."""
        if http.method == "POST":
            fields = Fields(await read_json(http, self.settings), self.settings, known=SEARCH)
        else:
            fields = self._of_url(http, *SEARCH_OF_URL)
        index = self.service.index(fields.text("index"))
        offset = fields.whole("offset", 0, least=0, most=self.settings.answers)
        started = time.perf_counter()

        def answer(job: Job) -> dict[str, Any]:
            folder = index.current(fields.text("state"))
            request = self._request(fields, folder)
            request.check()
            whole = replace(request, k=self._depth(request, offset))
            found = self.service.search(folder, whole, job)
            shown = found.hits[offset : offset + request.k]
            records = hit_records(folder, shown, captions=not request.to_captions and folder.captions is not None)
            for hit, record in zip(shown, records, strict=True):
                if hit.id is not None and hit.id in found.first_ranks:
                    record["before"] = found.first_ranks[hit.id]
            return {
                **_from(index, folder),
                "searched": found.searched,
                "unknown": found.unknown,
                "read": found.read,
                "combine": found.combine,
                "by": found.checkpoint,
                "skipped": found.skipped,
                "more": len(found.hits) > offset + request.k,
                "images": [_stored(term, folder) for term in request.query.images],
                "hits": records,
                **made_by(found.engine, started),
                "reading": found.reading,
                "seconds": round(time.perf_counter() - started, 6),
            }

        lane = self.service.reading if fields.flag("rerank") else self.service.searches
        return json_response(await in_lane(lane, http, self.service, answer))

    async def search_many(self, http: HttpRequest) -> Response:
        """POST /api/search-many: every text is a query of its own."""
        fields = Fields(await read_json(http, self.settings), self.settings, known=SEARCH_MANY)
        index = self.service.index(fields.text("index"))
        texts = {str(place): text for place, text in enumerate(fields.texts("texts", needed=True))}
        k, to = fields.whole("k", 10, most=self.settings.answers), _wanted(fields)
        most = 10 * self.settings.answers
        if len(texts) * k > most:
            raise invalid(f"{len(texts):,} texts with {k:,} answers each; at most {most:,} in one request")
        asked = ManyTexts(
            texts,
            k,
            to == "captions",
            tuple(fields.texts("glob")),
            fields.number("min_score"),
            _photos(fields),
            fields.flag("facts"),
        )
        started = time.perf_counter()

        def answer(job: Job) -> dict[str, Any]:
            folder = index.current()
            answers, found = self.service.search_many(folder, asked, job)
            return {
                **_from(index, folder),
                "searched": answers.searched,
                "unknown": answers.unknown,
                "answers": [hit_records(folder, hits, captions=False) for hits in found],
                **made_by(answers.engine, started),
                "seconds": round(time.perf_counter() - started, 6),
            }

        return json_response(await in_lane(self.service.searches, http, self.service, answer))

    async def rerank(self, http: HttpRequest) -> Response:
        """POST /api/rerank: the ITM head's order of pictures, or of the best candidates of the index."""
        fields = Fields(await read_json(http, self.settings), self.settings, known=RERANK)
        index = self.service.index(fields.text("index"))
        query = Query.build(fields.text("q", needed=True))

        def answer(job: Job) -> dict[str, Any]:
            folder = index.current(fields.text("state"))
            given = fields.several("images", self.settings.candidates)
            if fields.values.get("images") is not None:
                candidates = [self._candidate(item, place, folder) for place, item in enumerate(given)]
                found = self.service.rerank(folder, candidates, query.texts, job)
                k = fields.whole("k", len(given) or 1, most=self.settings.answers)
                found = replace(found, hits=found.hits[:k])
            else:
                k = fields.whole("k", 10, most=self.settings.answers)
                read = fields.whole("candidates", CANDIDATES, most=self.settings.candidates)
                found = self.service.search(folder, Request(query, k, candidates=read), job)
            return {
                "index": index.name,
                "state": folder.state,
                "home": folder.home,
                "searched": found.searched,
                "read": found.read,
                "skipped": found.skipped,
                "hits": [_record(hit) for hit in found.hits]
                if given
                else hit_records(folder, found.hits, captions=False),
                **made_by(found.engine, 0.0),
                "reading": found.reading,
            }

        return json_response(await in_lane(self.service.reading, http, self.service, answer))

    async def score(self, http: HttpRequest) -> Response:
        """POST /api/score: each image with each text, or the pairs that are named."""
        fields = Fields(await read_json(http, self.settings), self.settings, known=SCORE)
        folder = self.service.index(fields.text("index")).current(fields.text("state"))
        texts = [validate_text(text, "a text") for text in fields.texts("texts", needed=True)]
        given = fields.several("images", self.settings.pictures)
        if not texts or not given:
            raise invalid("nothing to score: give images and texts")

        def answer(job: Job) -> dict[str, Any]:
            images = [self._image(item, f"images[{place}]", folder, lenient=True) for place, item in enumerate(given)]
            rows = [_pair(pair, len(images), len(texts)) for pair in fields.several("pairs", 100_000)]
            wanted: list[tuple[Any, str]] = (
                [(images[row], texts[column]) for row, column in rows]
                if "pairs" in fields.values
                else every_pair(images, texts)
            )
            if len(wanted) > self.settings.candidates:
                raise invalid(f"{len(wanted):,} pairs; at most {self.settings.candidates:,} are read in one request")
            return self.service.score(folder, wanted, job)

        return json_response(await in_lane(self.service.reading, http, self.service, answer))

    async def fill_mask(self, http: HttpRequest) -> Response:
        """POST /api/fill-mask: the best words for each <mask>."""
        fields = Fields(await read_json(http, self.settings), self.settings, known=FILL_MASK)
        folder = self.service.index(fields.text("index")).current(fields.text("state"))
        text = validate_text(fields.text("text", needed=True) or "", "the text")
        if MASK not in text:
            raise NoMask(f"no {MASK} in the text; write it where a word is wanted, as in 'a {MASK} on a table'")
        k = fields.whole("k", 5, most=1000)

        def answer(job: Job) -> dict[str, Any]:
            return self.service.fill_mask(
                folder, self._image(fields.values.get("image"), "image", folder), text, k, job
            )

        return json_response(await in_lane(self.service.reading, http, self.service, answer))

    async def picture(self, http: HttpRequest) -> Response:
        """GET /image/{index}/{id}, smaller /thumb, /small, /medium: an image of the index as JPEG, by its id alone."""
        index = self.service.index(http.path_params["index"])
        id, side = http.path_params["id"], SIDES[http.path_params["kind"]]
        state = self._of_url(http, "state").text("state")
        data = await in_lane(
            self.service.pictures, http, self.service, lambda job: self.service.picture(index.current(state), id, side)
        )
        return _image_response(http, data, "image/jpeg", lasting=state is not None)

    async def heat_map(self, http: HttpRequest) -> Response:
        """GET /heat/{index}/{id}?q=: where an image of the index matched a text, as PNG."""
        index = self.service.index(http.path_params["index"])
        fields = self._of_url(http, "q", "state")
        text, state = validate_text(fields.text("q", needed=True) or "", "q"), fields.text("state")

        def draw(job: Job) -> bytes:
            folder = index.current(state)
            try:
                return self.service.heat_map(folder, folder.image_path(http.path_params["id"]), text)
            except UnreadableImage as error:
                raise not_found(str(error)) from None

        data = await in_lane(self.service.reading, http, self.service, draw)
        return _image_response(http, data, "image/png", lasting=state is not None)

    async def heat_map_of(self, http: HttpRequest) -> Response:
        """POST /api/heat-map: where a picture of the request, or of the index, matched a text, as PNG."""
        fields = Fields(await read_json(http, self.settings), self.settings, known=HEAT_MAP)
        folder = self.service.index(fields.text("index")).current(fields.text("state"))
        text = validate_text(fields.text("text", needed=True) or "", "the text")

        def draw(job: Job) -> bytes:
            image = self._image(fields.values.get("image"), "image", folder)
            return self.service.heat_map(folder, image, text)

        return Response(await in_lane(self.service.reading, http, self.service, draw), media_type="image/png")

    def _of_url(self, http: HttpRequest, *known: str) -> Fields:
        several = {name: http.query_params.getlist(name) for name in http.query_params}
        return Fields(several, self.settings, known=known, of_url=True)

    def _request(self, fields: Fields, folder: ServedFolder) -> Request:
        to = _wanted(fields)
        combine = fields.text("combine")
        if combine not in (None, *COMBINATIONS):
            raise invalid(f"combine has to be one of {', '.join(COMBINATIONS)}")
        text, add, subtract = fields.text("q"), fields.texts("add"), fields.texts("subtract")
        images = [
            Term(
                self._image(item, f"images[{place}]", folder, stored=True),
                finite(item.get("weight", 1.0), "weight") if isinstance(item, dict) else 1.0,
            )
            for place, item in enumerate(fields.several("images", self.settings.pictures))
        ]
        if fields.values.get("like") is not None:
            like = fields.whole("like", 0, least=0, most=max(len(folder) - 1, 0))
            images.append(Term(StoredImage(folder, like)))
        if any(term.weight == 0 for term in images):
            raise invalid("an image of weight 0: leave it out instead")
        words = (text or "").strip() or None
        only_images = images and words is None and not add and not subtract
        texts = () if only_images else Query.build(words, add=add, subtract=subtract).texts
        return Request(
            Query(texts, tuple(images)),
            fields.whole("k", 10, most=self.settings.answers),
            to == "captions",
            tuple(fields.texts("glob")),
            fields.number("min_score"),
            fields.whole("candidates", CANDIDATES, most=self.settings.candidates) if fields.flag("rerank") else None,
            combine=combine,
            photos=_photos(fields),
            facts=fields.flag("facts"),
        )

    def _depth(self, request: Request, offset: int) -> int:
        """How many answers have to be found for a window of them, and one more to know whether there are more."""
        if request.candidates is not None:
            return request.candidates
        if offset + request.k > self.settings.answers:
            raise invalid(f"offset + k is more than the {self.settings.answers:,} answers that are given")
        return offset + request.k + 1

    def _image(self, item: Any, name: str, folder: ServedFolder, *, stored: bool = False, lenient: bool = False) -> Any:
        """A picture of a request: of the index, `{"id": 3}` or `{"path": "/photos/x.jpg"}`; else a data URL, alone or
        with a name, `{"data": "data:...", "name": "x.jpg"}`."""
        if not isinstance(item, dict):
            return picture(item, self.settings, name, lenient=lenient)
        fields = Fields(item, self.settings, known=("data", "id", "path", "name", "weight"))
        if len(item.keys() & {"data", "id", "path"}) > 1:
            raise invalid(f"{name} has to have one of data, id and path")
        if "path" in item:
            id = folder.id_of(fields.text("path", needed=True) or "")
            return StoredImage(folder, id) if stored else folder.image_path(id)
        if "id" not in item:
            called = fields.text("name", name) or name
            return picture(item.get("data"), self.settings, called, lenient=lenient)
        id = fields.whole("id", 0, least=0, most=max(len(folder) - 1, 0))
        return StoredImage(folder, id) if stored else folder.image_path(id)

    def _candidate(self, item: Any, place: int, folder: ServedFolder) -> Candidate:
        if isinstance(item, dict) and "data" in item:
            known = Fields(item, self.settings, known=("data", "name", "id", "itc"))
            called = known.text("name") or f"images[{place}]"
            image: Any = picture(item["data"], self.settings, called, lenient=True)
            id = known.whole("id", 0, least=0, most=2**62) if item.get("id") is not None else None
            return Candidate(image, id, known.number("itc"))
        image = self._image(item, f"images[{place}]", folder, lenient=True)
        if isinstance(item, dict):
            return Candidate(image, item["id"] if "id" in item else folder.id_of(item["path"]))
        return Candidate(image)


def _record(hit: Any) -> dict[str, Any]:
    """A hit whose image may have come with the request."""
    return replace(hit, path=getattr(hit.path, "name", hit.path)).record()


def _pair(pair: Any, images: int, texts: int) -> tuple[int, int]:
    whole = isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
    if not whole or not (0 <= pair[0] < images and 0 <= pair[1] < texts):
        raise invalid("a pair has to be [number of an image, number of a text], counted from 0")
    return pair[0], pair[1]


def _photos(fields: Fields) -> PhotoFilter | None:
    after, before, near = (fields.text(name) for name in PHOTOS[:3])
    return PhotoFilter.build(after, before, near, fields.texts("cameras"))


def _wanted(fields: Fields) -> str:
    to = fields.text("to", "images")
    if to not in ("images", "captions"):
        raise invalid("to has to be images or captions")
    return to


def _stored(term: Term, folder: ServedFolder) -> dict[str, Any] | None:
    """Which image of the index a term is; None: it came with the request."""
    image = term.content
    return {"id": image.id, "path": folder.image_path(image.id)} if isinstance(image, StoredImage) else None


def _image_response(http: HttpRequest, data: bytes, media_type: str, *, lasting: bool) -> Response:
    """An image, which is asked for anew each time where its address does not say which `state` its id is of."""
    tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600" if lasting else "private, no-cache"}
    known = [each.strip().removeprefix("W/") for each in http.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _from(index: ServedIndex, folder: ServedFolder) -> dict[str, Any]:
    """What an answer came from."""
    made = {"checkpoint": folder.identity.checkpoint, "generation": folder.manifest.generation, "state": folder.state}
    return {"index": index.name, **made, "home": folder.home}


def _described(name: str, folder: ServedFolder) -> dict[str, Any]:
    return {
        "name": name,
        "images": len(folder),
        "captions": 0 if folder.captions is None else len(folder.captions),
        "checkpoint": folder.identity.checkpoint,
        "generation": folder.manifest.generation,
        "state": folder.state,
    }
