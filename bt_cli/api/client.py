"""A server asked by the command line, with the standard library alone: the same answers, and nothing to load."""

from __future__ import annotations

import glob
import http.client
import io
import json
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bt_cli.api.sent_image import as_url, data_url
from bt_cli.display.remarks import remark
from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import path_from
from bt_cli.search.candidates import Hit
from bt_cli.search.query import Query, Term

if TYPE_CHECKING:
    from bt_cli.pages.picture import Picture
    from bt_cli.pages.search_page import Background
    from bt_cli.search.many import ManyTexts
    from bt_cli.search.two_stage import Answer, Request

TIMEOUT = 300
"""Seconds without a byte after which a server counts as gone."""

TEXTS, ANSWERS = 128, 50_000
"""Texts that one request looks for, and answers to all of them, at most."""

PNG = b"\x89PNG\r\n\x1a\n"

_NUMBER, _MAYBE = (int, float), type(None)
OF_OBJECTS, OF_TEXTS = ("hits", "pairs", "words"), ("skipped", "remarks", "captions")
TYPES: dict[str, Any] = (
    dict.fromkeys((*OF_OBJECTS, *OF_TEXTS, "answers"), list)
    | dict.fromkeys(("rank", "searched", "unknown", "read", "mask", "token_id", "before"), int)
    | dict.fromkeys(("score", "prob", "reading"), _NUMBER)
    | dict.fromkeys(("itc", "itm_logit", "itm_prob"), (*_NUMBER, _MAYBE))
    | {"error": dict}
    | dict.fromkeys(("id", "image_id"), (int, _MAYBE))
    | dict.fromkeys(("path", "caption", "home"), (str, _MAYBE))
    | dict.fromkeys(
        ("sentence", "device", "precision", "image", "token", "combine", "by", "index", "state", "message", "type"), str
    )
)
"""What the fields of a bt server's answers hold, wherever they stand."""

Masks = list[list[tuple[str, int, float]]]


class RemoteModel(NamedTuple):
    """What computed an answer, as the closing line says it."""

    device: str
    precision: str


class Client:
    """A server at `url` (http or https); the token, if it needs one, is taken from BT_TOKEN.

    Raises:
        Misuse: The address is none, or what it refuses as misused.
        BtError: The server can't be reached, or refuses.
    """

    def __init__(self, url: str) -> None:
        refused = Misuse(f"--server {shown_path(url)}: no address of a server, as http://127.0.0.1:7788 is")
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError:
            raise refused from None
        beside = parts.query or parts.fragment or parts.username is not None
        if parts.scheme not in ("http", "https") or not host or beside or any(one <= " " for one in url):
            raise refused
        token = os.environ.get("BT_TOKEN", "")
        if not (token.isascii() and (token.isprintable() or not token)):
            raise Misuse("BT_TOKEN has to be printable ASCII characters, as the --token of bt serve is")
        self.url, self._base = url, urllib.parse.quote(parts.path.rstrip("/"), safe="/%")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=TIMEOUT)

    def search(self, request: Request) -> Answer:
        """As `two_stage.search`, of the server's first index."""
        return self._find(request)[0]

    def search_for_page(self, request: Request) -> tuple[Answer, Background]:
        """The same, and what a page shows beside the answers: captions and pictures are the server's, too."""
        from bt_cli.pages.search_page import Background

        answer, got = self._find(request)
        captions = {hit.id: record.get("captions", []) for hit, record in zip(answer.hits, got["hits"], strict=True)}
        of_image = "image_id" if request.to_captions else "id"
        ids = {record["rank"]: record.get(of_image) for record in got["hits"]}

        def read(hit: Hit, side: int) -> Picture:
            return self.picture(got["index"], ids[hit.rank], side, str(hit.path), got["state"])

        return answer, Background(got["checkpoint"], captions, read)

    def search_many(self, asked: ManyTexts) -> RemoteAnswers:
        """As `ManyAnswers`, of the server's first index."""
        return RemoteAnswers(self, asked)

    def picture(self, index: str, id: int | None, side: int, name: str, state: str) -> Picture:
        """An image of an index, its longer side at most so many pixels, or the next size that the server has.

        Raises:
            UnreadableImage: The server has none, or can't read it.
        """
        from bt_cli.pages.picture import of_jpeg
        from bt_cli.preprocessing.image_file import ImageBytes, image_size
        from bt_cli.serving.thumbnails import SIDES

        if id is None:
            raise UnreadableImage(f"{shown_path(name)}: not in the index")
        kind = min((pixels, kind) for kind, pixels in SIDES.items() if pixels >= side)[1]
        place = f"/{kind}/{urllib.parse.quote(index, safe='')}/{id}?state={urllib.parse.quote(state, safe='')}"
        status, data = self._exchange("GET", place)
        if status == 404:
            raise UnreadableImage(f"{shown_path(name)}: the server can't read it any more")
        if status != 200:
            self._require_success(status, data)
        return of_jpeg(data, *image_size(ImageBytes(data, name)))

    def heat_map(self, image: str, text: str) -> bytes:
        """Where an image matched a text, or where each of its masks looked: a PNG."""
        asked = {"image": {"name": image, "data": data_url(image)}, "text": text}
        status, data = self._exchange("POST", "/api/heat-map", asked)
        if status != 200 or not data.startswith(PNG):
            self._require_success(status, data)
            raise self._stranger(status)
        return data

    def fill_mask(self, image: str, text: str, k: int) -> tuple[list[dict[str, Any]], str, Masks, RemoteModel]:
        """The `--json` objects, the sentence, the words of each mask, and what computed them."""
        sent = {"name": image, "data": data_url(image)}
        got = self.post("/api/fill-mask", {"image": sent, "text": text, "k": k})
        masks: Masks = [[] for _ in range(1 + max((word["mask"] for word in got["words"]), default=-1))]
        for word in got["words"]:
            masks[word["mask"]].append((word["token"], word["token_id"], word["prob"]))
        return got["words"], got["sentence"], masks, model_of(got)

    def post(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """The server's answer to an object: an object."""
        return self._require_success(*self._exchange("POST", path, value))

    def _find(self, request: Request) -> tuple[Answer, dict[str, Any]]:
        from bt_cli.search.two_stage import Answer

        got = self.post("/api/search", _asked(request))
        require_all(got["skipped"], request.strict)
        hits = [hit_of(record, got["home"]) for record in got["hits"]]
        first = {record["id"]: record["before"] for record in got["hits"] if "before" in record}
        made = (model_of(got), got["skipped"], got["reading"], first, got["combine"], got["by"])
        return Answer(hits, got["searched"], got["read"], *made, unknown=got["unknown"]), got

    def _exchange(self, method: str, path: str, value: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        headers = {} if value is None else {"Content-Type": "application/json"}
        token = os.environ.get("BT_TOKEN")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = None if value is None else json.dumps(value, ensure_ascii=True).encode("ascii")
        try:
            self._connection.request(method, self._base + path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BtError(f"{self.url}: {reason}; is `bt serve` running there?") from None
        finally:
            self._connection.close()

    def _require_success(self, status: int, data: bytes) -> dict[str, Any]:
        """The object that an answer holds; what it refuses is raised as here."""
        try:
            got = json.loads(data, object_hook=lambda value: _Said(value, self._stranger(status)))
        except (ValueError, RecursionError):
            raise self._stranger(status) from None
        if not isinstance(got, _Said):
            raise self._stranger(status)
        if status == 200:
            for line in got.get("remarks", ()):
                remark(line)
            return got
        message, kind = got["error"]["message"], got["error"]["type"]
        reasons = got["error"].get("skipped", [])
        if status == 401:
            message = "the server wants a token: set BT_TOKEN"
        if reasons:
            error = UnreadableImage(message)
            error.reasons = reasons
            raise error
        raise (Misuse if kind == "invalid_request_error" else BtError)(message)

    def _stranger(self, status: int) -> BtError:
        return BtError(f"{self.url}: answers {status}, and not as a bt server does")


class _Said(dict[str, Any]):
    """An object of a server's answer; where it lacks what is asked of it, or holds another type, no bt server spoke."""

    def __init__(self, values: dict[str, Any], stranger: BtError) -> None:
        super().__init__(values)
        self._stranger = stranger

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        known = isinstance(value, TYPES.get(name, object))
        if known and name in OF_OBJECTS:
            known = all(isinstance(one, _Said) for one in value)
        if known and name in OF_TEXTS:
            known = all(isinstance(one, str) for one in value)
        if not known:
            raise self._stranger
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict, and checked."""
        return self[name] if name in self else default  # noqa: SIM401 - that would come back here

    def __missing__(self, name: str) -> Any:
        raise self._stranger


class RemoteAnswers:
    """A server's answers to many texts, asked for in portions: (id, its hits) in the order of the texts.

    Attributes:
        searched: How many images or captions the index holds.
        unknown: As `ManyAnswers.unknown`.
        engine: What the texts were encoded with.
    """

    def __init__(self, client: Client, asked: ManyTexts) -> None:
        asked.check()
        self._client, self._asked = client, asked
        self._queries = list(asked.texts)
        self._portion = max(1, min(TEXTS, ANSWERS // asked.k))
        self._first = self._ask(0)  # what is refused is refused at once
        self.searched: int = self._first["searched"]
        self.unknown: int = self._first["unknown"]
        self.engine = model_of(self._first)

    def __iter__(self) -> Iterator[tuple[str, list[Hit]]]:
        for first in range(0, len(self._queries), self._portion):
            got = self._ask(first) if first else self._first
            for query, records in zip(self._queries[first:], got["answers"], strict=False):
                yield query, [hit_of(record, got["home"]) for record in records]

    def _ask(self, first: int) -> dict[str, Any]:
        asked = self._asked
        texts = [asked.texts[query] for query in self._queries[first : first + self._portion]]
        value: dict[str, Any] = {"texts": texts, "k": asked.k, "to": "captions" if asked.to_captions else "images"}
        return self._client.post("/api/search-many", value | _filters(asked))


def refuse_local_choices(**given: object) -> None:
    """Refuse options that the server has decided, where they are typed and not taken from their variables.

    Raises:
        Misuse: One of them, by its name.
    """
    for name, value in given.items():
        if value is not None and os.environ.get(f"BT_{name.upper()}") != str(value):
            raise Misuse(f"--{name} is the server's to choose; give it to bt serve, or leave out --server (BT_SERVER)")


def require_all(skipped: list[str], strict: bool) -> None:
    """Raises UnreadableImage with `strict` where anything was skipped."""
    if strict and skipped:
        raise UnreadableImage(skipped[0])


def _asked(request: Request) -> dict[str, Any]:
    asked: dict[str, Any] = {"k": request.k, "to": "captions" if request.to_captions else "images"}
    asked |= _texts(request.query)
    if request.query.images:
        asked["images"] = [_image_term(term) for term in request.query.images]
    if request.candidates is not None:
        asked |= {"rerank": True, "candidates": request.candidates}
    if request.combine is not None:
        asked["combine"] = request.combine
    return asked | _filters(request)


def _filters(asked: Request | ManyTexts) -> dict[str, Any]:
    filters: dict[str, Any] = {"glob": [_anchored(pattern) for pattern in asked.globs]} if asked.globs else {}
    if asked.min_score is not None:
        filters["min_score"] = asked.min_score
    if asked.photos is not None:
        filters |= asked.photos.record()
    return filters | {"facts": True} if asked.facts else filters


def _texts(query: Query) -> dict[str, list[str]]:
    """The terms with their weights written out, the main text first: the server reads them to the same query."""
    added: list[str] = []
    taken: list[str] = []
    for term in query.texts:
        (added if term.weight > 0 else taken).append(f"{abs(term.weight):.17f}:{term.content}")
    return {name: texts for name, texts in (("add", added), ("subtract", taken)) if texts}


def _image_term(term: Term) -> dict[str, Any]:
    if isinstance(term.content, (str, os.PathLike)):
        return {"name": os.fspath(term.content), "data": data_url(term.content), "weight": term.weight}
    encoded = io.BytesIO()  # what came from stdin or the web was opened here
    term.content.save(encoded, "PNG")
    return {"name": "image", "data": as_url(encoded.getvalue()), "weight": term.weight}


def _anchored(pattern: str) -> str:
    """A glob that begins at the working directory, as the server, which has another, understands it."""
    away, plain = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if not plain.startswith(("./", "../")):
        return pattern
    return away + os.path.normpath(os.path.join(glob.escape(os.getcwd()), plain))


def hit_of(record: dict[str, Any], home: str | None) -> Hit:
    """A hit of an answer; with the index's `home`, its path as a search here would show it."""
    path = record["path"]
    if home is not None and path is not None:
        path = path_from(os.getcwd(), path, home)
    itc, logit, chance = (record[name] for name in ("itc", "itm_logit", "itm_prob"))
    hit = Hit(record["rank"], record["id"], path, record["score"], itc, logit, chance, record.get("caption"))
    facts = PhotoFacts.from_record(record)
    hit = replace(hit, kept=record["kept"]) if "kept" in record else hit
    return replace(hit, facts=facts) if facts != PhotoFacts() else hit


def model_of(got: dict[str, Any]) -> Any:
    """What computed an answer."""
    return RemoteModel(got["device"], got["precision"])
