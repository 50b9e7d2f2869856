"""bt's own API, asked over HTTP: answers, errors, bounds, and nothing but images of the index."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import socket
import time

import pytest

import bt_cli

JSON = {"content-type": "application/json"}


def data_url(path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def refused(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert sorted(error) == ["message", "type"]
    return error["message"]


def test_search_answers_as_the_index_does(web, library):
    got = web.get("/api/search", params={"q": "a red car", "k": 3}).json()
    with bt_cli.Index.open(library / ".bt", dtype="float32") as index:
        hits = index.search("a red car", k=3)
    assert [(hit["rank"], hit["id"]) for hit in got["hits"]] == [(hit.rank, hit.id) for hit in hits]
    assert [hit["itc"] for hit in got["hits"]] == pytest.approx([hit.itc for hit in hits], abs=1e-5)
    assert (got["searched"], got["more"], got["index"]) == (12, True, "library")


def test_windows_of_answers_join(web):
    whole = web.get("/api/search", params={"q": "a cat", "k": 12}).json()["hits"]
    parts = [web.get("/api/search", params={"q": "a cat", "k": 5, "offset": first}).json() for first in (0, 5, 10)]
    assert [hit["id"] for part in parts for hit in part["hits"]] == [hit["id"] for hit in whole]
    assert [part["more"] for part in parts] == [True, True, False]


def test_reranking_tells_where_each_came_from(web):
    first = web.get("/api/search", params={"q": "a dog", "k": 12}).json()["hits"]
    again = web.get("/api/search", params={"q": "a dog", "k": 12, "rerank": "1"}).json()
    assert again["read"] == 12
    assert {hit["id"]: hit["before"] for hit in again["hits"]} == {hit["id"]: hit["rank"] for hit in first}


def test_pictures_are_terms_by_data_and_by_id(web, library):
    sent = {"images": [{"data": data_url(library / "scene-0003.jpg"), "name": "mine.jpg", "weight": 1}], "k": 1}
    by_data = web.post("/api/search", json=sent).json()["hits"][0]
    assert by_data["path"].endswith("/scene-0003.jpg")
    assert by_data["itc"] > 0.999
    by_id = web.post("/api/search", json={"images": [{"id": by_data["id"]}], "k": 1}).json()["hits"][0]
    assert by_id["id"] == by_data["id"]
    assert web.get("/api/search", params={"like": by_data["id"], "k": 1}).json()["hits"][0]["id"] == by_data["id"]


def test_captions_come_with_their_images(web):
    hits = web.get("/api/search", params={"q": "one", "k": 12}).json()["hits"]
    assert {hit["path"].rpartition("/")[2]: hit["captions"] for hit in hits if hit["captions"]} == {
        "scene-0001.jpg": ["one", "uno"],
        "scene-0002.jpg": ["two"],
    }


def test_images_come_by_their_id_and_nothing_else_does(web):
    image = web.get("/thumb/library/0")
    assert (image.status_code, image.headers["content-type"]) == (200, "image/jpeg")
    assert image.content[:2] == b"\xff\xd8"
    assert "no image 12" in refused(web.get("/image/library/12"), 404)
    for path in ("/image/library/-1", "/image/library/../../etc/passwd", "/image/library/%2e%2e%2fetc%2fpasswd"):
        refused(web.get(path), 404)
    refused(web.get("/thumb/other/0"), 404)


def test_heat_maps_of_images_by_id(web):
    drawn = web.get("/heat/library/2", params={"q": "a dog"})
    assert (drawn.status_code, drawn.content[:4]) == (200, b"\x89PNG")
    refused(web.get("/heat/library/2"), 400)
    refused(web.get("/heat/library/99", params={"q": "a dog"}), 404)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "nothing to search for"),
        ({"q": "a", "k": "many"}, 400, "k has to be a whole number, not 'many'"),
        ({"q": "a", "k": 0}, 400, "k has to be from 1 to 10,000, not 0"),
        ({"q": "a", "k": True}, 400, "k has to be a whole number"),
        ({"q": 7}, 400, "q has to be a string"),
        ({"q": "a", "kay": 1}, 400, "'kay' is no field here"),
        ({"q": "a", "min_score": 10**400}, 400, "min_score has to be a finite number"),
        ({"q": "x" * 20_001}, 413, "q is longer than 20,000 characters"),
        ({"images": ["data:image/png;base64,AAAA"]}, 400, "images[0]: not an image that can be read"),
        ({"images": ["https://example.org/a.png"]}, 400, "nothing is fetched from anywhere"),
        ({"images": [{"id": 99}]}, 400, "id has to be from 0 to 11, not 99"),
        ({"images": ["/etc/passwd"]}, 400, "images[0] is no data URL of an image"),
        ({"q": "a", "rerank": True, "candidates": 10**9}, 400, "candidates has to be from 1 to 1,000"),
        ({"q": "a", "index": "other"}, 404, "no index 'other' here; there are library"),
        ([], 400, "the body has to be a JSON object"),
    ],
)
def test_what_is_wrong_is_said_in_json(web, body, status: int, says: str):
    assert says in refused(web.post("/api/search", json=body), status)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/api/search-many", {}, 400, "texts has to be a list of strings"),
        ("/api/search-many", {"texts": ["a", " "]}, 400, "query 1 is empty"),
        ("/api/search-many", {"texts": ["a"] * 2000, "k": 10_000}, 400, "at most 100,000 in one request"),
        ("/api/search-many", {"texts": ["a"] * 3000}, 413, "texts has more than 2048 texts"),
        ("/api/search-many", {"texts": ["a"], "to": "videos"}, 400, "to has to be images or captions"),
        ("/api/search-many", {"texts": ["a"], "rerank": True}, 400, "'rerank' is no field here"),
        (
            "/api/search",
            {"q": "a", "rerank": True, "combine": "sum"},
            400,
            "combine has to be one of itm, itm+itc, itc",
        ),
        ("/api/heat-map", {"image": {"id": 0}}, 400, "text has to be a string"),
        ("/api/heat-map", {"image": {"id": 12}, "text": "a"}, 400, "id has to be from 0 to 11"),
        ("/api/heat-map", {"image": "data:image/png;base64,AAAA", "text": "a"}, 400, "not an image that can be read"),
        ("/api/heat-map", {"image": {"id": 0}, "text": "x " * 99 + "<mask>"}, 400, "no <mask> in what is read"),
    ],
)
def test_what_is_wrong_is_said_of_the_others_too(web, path: str, body, status: int, says: str):
    assert says in refused(web.post(path, json=body), status)


def test_many_texts_are_answered_as_each_alone(web):
    asked = {"k": 3, "glob": ["!*-0001*"]}
    many = web.post("/api/search-many", json={"texts": ["a dog", "a red car"], **asked}).json()
    assert many["searched"] == 12
    for text, hits in zip(["a dog", "a red car"], many["answers"], strict=True):
        alone = web.post("/api/search", json={"q": text, **asked}).json()["hits"]
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
    captions = web.post("/api/search-many", json={"texts": ["a dog"], "to": "captions", "k": 9}).json()["answers"][0]
    assert sorted((hit["caption"], hit["image_id"]) for hit in captions) == [("one", 1), ("two", 2), ("uno", 1)]


def test_an_image_comes_in_the_size_that_is_asked_for(web, library):
    from io import BytesIO

    from PIL import Image

    sides = {kind: max(Image.open(BytesIO(web.get(f"/{kind}/library/3").content)).size) for kind in ("thumb", "small")}
    whole = max(Image.open(library / "scene-0003.jpg").size)
    assert sides == {"thumb": min(320, whole), "small": min(400, whole)}
    refused(web.get("/medium/library/12"), 404)


@pytest.mark.parametrize(
    "body", [b'{"q": NaN}', b"{", b"\xff", b"[" * 100_000, b'{"k": ' + b"9" * 9999 + b"}", b'{"q": "a", "q": "b"}']
)
def test_what_is_no_json_is_refused(web, body: bytes):
    headers = {"content-type": "application/json"}
    assert "the body is no JSON" in refused(web.post("/api/search", content=body, headers=headers), 400)


def test_a_foreign_pages_form_is_refused(web):
    refused(web.post("/api/search", content=b"{}", headers={"content-type": "text/plain"}), 415)
    refused(web.get("/api/indexes", headers={"host": "evil.example"}), 421)


def test_large_bodies_and_bombs_are_refused_unread(web):
    started = time.monotonic()
    refused(web.post("/api/search", json={"q": "x" * (3 << 20)}), 413)
    refused(web.post("/api/search", json={"q": "x" * (7 << 20)}), 413)

    def endless():
        for _ in range(40):
            yield b" " * 100_000

    headers = {"content-type": "application/json"}
    refused(web.post("/api/search", content=endless(), headers=headers), 413)
    bomb = b"P6 60000 60000 255\n"
    sent = {"images": ["data:image/x-portable-pixmap;base64," + base64.b64encode(bomb).decode()]}
    assert "pixels" in refused(web.post("/api/search", json=sent), 400)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99\r\n\r\n{",
    ],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
def test_who_dribbles_is_sent_away(served, sent: bytes):
    host, port = served.url.removeprefix("http://").split(":")
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"timeout_error"' in answer
    assert 1 < time.monotonic() - started < 5


def test_score_and_fill_mask(web, library):
    picture = {"name": "a.jpg", "data": data_url(library / "scene-0001.jpg")}
    scores = web.post("/api/score", json={"images": [picture, {"id": 2}], "texts": ["a dog", "a cat"]}).json()
    assert [(pair["image"].rpartition("/")[2], pair["text"]) for pair in scores["pairs"]] == [
        ("a.jpg", "a dog"),
        ("a.jpg", "a cat"),
        ("scene-0002.jpg", "a dog"),
        ("scene-0002.jpg", "a cat"),
    ]
    filled = web.post("/api/fill-mask", json={"image": picture, "text": "a <mask> dog", "k": 2}).json()
    assert [(word["mask"], word["image"]) for word in filled["words"]] == [(0, "a.jpg")] * 2
    assert "no <mask>" in refused(web.post("/api/fill-mask", json={"image": picture, "text": "a dog"}), 400)


def test_health_metrics_and_the_openapi_document(web):
    assert web.get("/healthz").json() == {"status": "ok"}
    web.get("/nowhere/at/all")
    metrics = web.get("/metrics").text
    assert 'bt_requests_total{method="GET",route="/healthz",status="200"}' in metrics
    assert 'bt_index_images{index="library"} 12.0' in metrics
    assert "/nowhere" not in metrics
    document = web.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    for path in ("/api/search", "/api/rerank", "/api/score", "/api/fill-mask", "/v1/embeddings", "/v1/rerank"):
        assert "post" in document["paths"][path]
    assert refused(web.put("/healthz"), 405) == "not with this method"


def test_a_number_means_the_image_that_the_answer_meant(web, library):
    got = web.get("/api/search", params={"q": "a red car", "k": 1}).json()
    hit, state = got["hits"][0], got["state"]
    for path in (f"/thumb/library/{hit['id']}?", f"/heat/library/{hit['id']}?q=a&"):
        assert web.get(f"{path}state={state}").status_code == 200
        assert "the index library has changed" in refused(web.get(f"{path}state=another"), 409)
    for path, body in (
        ("/api/search", {"images": [{"id": 0}]}),
        ("/api/rerank", {"q": "a", "images": [{"id": 0}]}),
        ("/api/score", {"images": [{"id": 0}], "texts": ["a"]}),
        ("/api/fill-mask", {"image": {"id": 0}, "text": "a <mask>"}),
        ("/api/heat-map", {"image": {"id": 0}, "text": "a"}),
    ):
        assert web.post(path, json=body | {"state": state}).status_code == 200
        refused(web.post(path, json=body | {"state": "another"}), 409)


def test_images_of_the_index_are_named_by_their_paths_too(web, library):
    path = str(library / "scene-0003.jpg")
    got = web.post("/api/search", json={"images": [{"path": path}], "k": 1}).json()
    assert got["hits"][0]["path"] == path
    assert got["images"] == [{"id": got["hits"][0]["id"], "path": path}]
    assert web.post("/api/rerank", json={"q": "a", "images": [{"path": path}]}).json()["hits"][0]["path"] == path
    for other in ("/etc/passwd", "scene-0003.jpg", "", "/", f"{library}/*", f"{library}/captions.csv", "\ud800"):
        refused(web.post("/api/search", content=json.dumps({"images": [{"path": other}]}), headers=JSON), 404)
    refused(web.post("/api/search", json={"images": [{"path": path, "id": 3}]}), 400)


def test_an_image_that_is_known_is_not_sent_again(web):
    state = web.get("/api/search", params={"q": "a", "k": 1}).json()["state"]
    plain, lasting = web.get("/thumb/library/3"), web.get(f"/thumb/library/3?state={state}")
    assert plain.headers["cache-control"] == "private, no-cache"  # ids move when the index changes
    assert lasting.headers["cache-control"] == "private, max-age=3600"
    again = web.get("/thumb/library/3", headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert web.get("/thumb/library/4", headers={"If-None-Match": plain.headers["etag"]}).status_code == 200


def test_methods_and_codings_that_are_not_taken(web):
    answer = web.put("/api/search", json={})
    refused(answer, 405)
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "POST"]
    packed = gzip.compress(b'{"q": "a"}')
    assert "Content-Encoding" in refused(
        web.post("/api/search", content=packed, headers=JSON | {"content-encoding": "gzip"}), 415
    )
    refused(web.get("/thumb/library/" + "9" * 6000), 404)


def test_a_data_url_that_is_no_image_is_skipped_like_one_with_a_name(web):
    got = web.post("/api/score", json={"images": ["AAAA", {"id": 1}], "texts": ["a"]}).json()
    assert (len(got["pairs"]), got["skipped"]) == (1, ["images[0]: not an image that can be read"])


def test_what_goes_wrong_within_is_said_to_whoever_runs_the_server(web, served, monkeypatch, caplog):
    monkeypatch.setattr(served.service, "picture", lambda *given: 1 / 0)
    monkeypatch.setattr(logging.getLogger("bt_cli"), "propagate", True)
    assert "unexpected ZeroDivisionError" in refused(web.get("/thumb/library/0"), 500)
    assert "GET /thumb/library/0 failed: ZeroDivisionError: division by zero" in caplog.text
