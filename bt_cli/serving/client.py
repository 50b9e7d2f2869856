"""A server asked by the command line, with the standard library alone: the same answers, and nothing to load."""

from __future__ import annotations

import base64
import glob
import http.client
import io
import json
import os
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.search.candidates import Candidate, Hit
from bt_cli.search.query import Query, Term
from bt_cli.search.rerank import none_can_be_read
from bt_cli.search.scoring import Pair, ScoredPairs
from bt_cli.sources.web_address import is_url
from bt_cli.sources.web_image import fetch_image
from bt_cli.store.index_paths import path_from

if TYPE_CHECKING:
    from bt_cli.search.two_stage import Answer, Request

TIMEOUT = 300
"""Seconds without a byte after which a server counts as gone."""

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
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme not in ("http", "https") or not host:
            raise Misuse(f"--server {shown_path(url)}: no address of a server, as http://127.0.0.1:7788 is")
        self.url, self._base = url, parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=TIMEOUT)

    def search(self, request: Request) -> Answer:
        """As `two_stage.search`, of the server's first index."""
        from bt_cli.search.two_stage import Answer

        asked = _asked(request)
        got = self._post("/api/search", asked)
        _require_all(got["skipped"], request.strict)
        hits = [_hit(record, got["home"]) for record in got["hits"]]
        return Answer(hits, got["searched"], got["read"], _model(got), got["skipped"], got["reading"])

    def rerank(self, text: str, candidates: Sequence[Candidate], k: int | None, *, strict: bool = False) -> Answer:
        """As `rerank_images`: files that are here are sent, others have to be the server's own by their id."""
        from bt_cli.search.two_stage import Answer

        images, skipped = [], []
        for candidate in candidates:
            try:
                images.append(_candidate(candidate))
            except UnreadableImage as error:
                skipped.append(str(error))
        if not images:
            raise none_can_be_read(dict(enumerate(skipped)))
        asked: dict[str, Any] = {"q": text, "images": images} | ({} if k is None else {"k": k})
        got = self._post("/api/rerank", asked)
        _require_all(skipped + got["skipped"], strict)
        hits = [_hit(record, None) for record in got["hits"]]
        return Answer(hits, len(candidates), got["read"], _model(got), skipped + got["skipped"], got["reading"])

    def score(
        self, pairs: Sequence[tuple[str, str]], *, strict: bool = False
    ) -> tuple[ScoredPairs, RemoteModel, float]:
        """As `scoring.score`; also what computed it, and in how many seconds."""
        images, texts = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
        columns = {text: column for column, text in enumerate(texts)}
        sent, skipped, places = [], [], {}
        for image in images:
            try:
                sent.append({"name": image, "data": _data_url(image)})
                places[image] = len(sent) - 1
            except UnreadableImage as error:
                skipped.append(str(error))
        if not sent:
            raise none_can_be_read(dict(enumerate(skipped)))
        numbers = [[places[image], columns[text]] for image, text in pairs if image in places]
        got = self._post("/api/score", {"images": sent, "texts": texts, "pairs": numbers})
        _require_all(skipped + got["skipped"], strict)
        scored = [
            Pair(one["image"], one["text"], one["itm_logit"], one["itm_prob"], one.get("itc")) for one in got["pairs"]
        ]
        return ScoredPairs(scored, skipped + got["skipped"], got["images"]), _model(got), got["reading"]

    def fill_mask(self, image: str, text: str, k: int) -> tuple[list[dict[str, Any]], str, Masks, RemoteModel]:
        """The `--json` objects, the sentence, the words of each mask, and what computed them."""
        sent = {"name": image, "data": _data_url(image)}
        got = self._post("/api/fill-mask", {"image": sent, "text": text, "k": k})
        masks: Masks = [[] for _ in range(1 + max((word["mask"] for word in got["words"]), default=-1))]
        for word in got["words"]:
            masks[word["mask"]].append((word["token"], word["token_id"], word["prob"]))
        return got["words"], got["sentence"], masks, _model(got)

    def _post(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        token = os.environ.get("BT_TOKEN")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps(value, ensure_ascii=True).encode("ascii")
        try:
            self._connection.request("POST", self._base + path, body, headers)
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BtError(f"{self.url}: {reason}; is `bt serve` running there?") from None
        finally:
            self._connection.close()
        try:
            got = json.loads(data)
            if answer.status == 200 and isinstance(got, dict):
                return got
            message, kind = got["error"]["message"], got["error"]["type"]
        except (ValueError, KeyError, TypeError):
            raise BtError(f"{self.url}: answers {answer.status}, and not as a bt server does") from None
        if answer.status == 401:
            message = "the server wants a token: set BT_TOKEN"
        raise (Misuse if kind == "invalid_request_error" else BtError)(message)


def refuse_local_choices(**given: object) -> None:
    """Refuse options that the server has decided, where they are typed and not taken from their variables.

    Raises:
        Misuse: One of them, by its name.
    """
    for name, value in given.items():
        if value is not None and os.environ.get(f"BT_{name.upper()}") != str(value):
            raise Misuse(f"--{name} is the server's to choose; give it to bt serve, or leave out --server")


def _require_all(skipped: list[str], strict: bool) -> None:
    if strict and skipped:
        raise UnreadableImage(skipped[0])


def _asked(request: Request) -> dict[str, Any]:
    asked: dict[str, Any] = {"k": request.k, "to": "captions" if request.to_captions else "images"}
    asked |= _texts(request.query)
    if request.query.images:
        asked["images"] = [_image_term(term) for term in request.query.images]
    if request.globs:
        asked["glob"] = [_anchored(pattern) for pattern in request.globs]
    if request.min_score is not None:
        asked["min_score"] = request.min_score
    if request.candidates is not None:
        asked |= {"rerank": True, "candidates": request.candidates}
    return asked


def _texts(query: Query) -> dict[str, list[str]]:
    """The terms with their weights written out, the main text first: the server reads them to the same query."""
    added: list[str] = []
    taken: list[str] = []
    for term in query.texts:
        (added if term.weight > 0 else taken).append(f"{abs(term.weight):.17f}:{term.content}")
    return {name: texts for name, texts in (("add", added), ("subtract", taken)) if texts}


def _image_term(term: Term) -> dict[str, Any]:
    if isinstance(term.content, (str, os.PathLike)):
        return {"name": os.fspath(term.content), "data": _data_url(term.content), "weight": term.weight}
    encoded = io.BytesIO()  # what came from stdin or the web was opened here
    term.content.save(encoded, "PNG")
    return {"name": "image", "data": _as_url(encoded.getvalue()), "weight": term.weight}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    path = candidate.path or ""
    if candidate.id is not None and not os.path.exists(path):
        return {"id": candidate.id}
    sent: dict[str, Any] = {"name": path, "data": _data_url(path)}
    if candidate.id is not None:
        sent |= {"id": candidate.id} | ({} if candidate.itc is None else {"itc": candidate.itc})
    return sent


def _data_url(path: Any) -> str:
    if isinstance(path, str) and is_url(path):
        return _as_url(fetch_image(path))
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        reason = {2: "no such file", 13: "not permitted to read it", 21: "a folder, not an image"}
        said = reason.get(error.errno or 0, error.strerror)
        raise UnreadableImage(f"{shown_path(path)}: {said}") from None
    return _as_url(data)


def _as_url(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")


def _anchored(pattern: str) -> str:
    """A glob that begins at the working directory, as the server, which has another, understands it."""
    away, plain = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if not plain.startswith(("./", "../")):
        return pattern
    return away + os.path.normpath(os.path.join(glob.escape(os.getcwd()), plain))


def _hit(record: dict[str, Any], home: str | None) -> Hit:
    path = record["path"]
    if home is not None and path is not None:
        path = path_from(os.getcwd(), path, home)
    itc, logit, chance = (record[name] for name in ("itc", "itm_logit", "itm_prob"))
    return Hit(record["rank"], record["id"], path, record["score"], itc, logit, chance, record.get("caption"))


def _model(got: dict[str, Any]) -> Any:
    return RemoteModel(got["device"], got["precision"])
