"""The APIs that others speak: OpenAI's own client, and plain requests in Cohere's and Jina's shape."""

from __future__ import annotations

import base64

import numpy as np
import pytest

import bt_cli


@pytest.fixture(scope="module")
def model():
    with bt_cli.load("tiny", dtype="float32") as model:
        yield model


def data_url(path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_openais_client_gets_embeddings(served, library, model, form):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none")
    picture = library / "scene-0001.jpg"
    chosen = {} if form is None else {"encoding_format": form}
    got = client.embeddings.create(model="tiny", input=["a red car", data_url(picture)], **chosen)
    rows = [
        np.frombuffer(base64.b64decode(item.embedding), "<f4") if isinstance(item.embedding, str) else item.embedding
        for item in got.data
    ]
    np.testing.assert_allclose(rows[0], model.encode_texts(["a red car"])[0], atol=1e-5)
    np.testing.assert_allclose(rows[1], model.encode_images([str(picture)])[0], atol=1e-5)
    assert got.model == "tiny"
    assert got.usage.total_tokens == 5
    assert [item.id for item in client.models.list().data] == ["tiny"]


def test_a_text_with_an_image_gives_their_joint_embedding(web, library, model):
    picture = library / "scene-0001.jpg"
    given = [{"text": "a red car", "image": data_url(picture)}]
    got = web.post("/v1/embeddings", json={"input": given}).json()
    np.testing.assert_allclose(
        got["data"][0]["embedding"], model.encode_pairs([str(picture)], ["a red car"])[0], atol=1e-5
    )
    mixed = web.post("/v1/embeddings", json={"input": [*given, "a red car"]})
    assert (mixed.status_code, "can't be compared" in mixed.json()["error"]["message"]) == (400, True)


def test_openais_client_raises_its_own_errors(served):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="input"):
        client.embeddings.create(model="tiny", input=[[1, 2, 3]])


def test_rerank_of_images_by_a_text(web, library, model):
    paths = [library / f"scene-{number:04}.jpg" for number in (1, 2, 3)]
    documents = [{"image": data_url(paths[0])}, data_url(paths[1]), {"image": data_url(paths[2])}]
    asked = {"model": "tiny", "query": "a dog", "documents": documents, "top_n": 2, "return_documents": True}
    got = web.post("/v1/rerank", json=asked).json()
    logits = model.score([str(path) for path in paths], ["a dog"])[:, 0]
    assert [result["index"] for result in got["results"]] == np.argsort(-logits)[:2].tolist()
    assert all(0 <= result["relevance_score"] <= 1 and "image" in result["document"] for result in got["results"])


def test_rerank_of_texts(web, library, model):
    texts = ["a dog", {"text": "a red car"}, "a cat"]
    got = web.post("/v2/rerank", json={"query": "a red car", "documents": texts}).json()
    assert got["results"][0] == {"index": 1, "relevance_score": pytest.approx(1.0, abs=1e-5)}
    got = web.post("/v1/rerank", json={"query": data_url(library / "scene-0001.jpg"), "documents": texts}).json()
    logits = model.score([str(library / "scene-0001.jpg")], ["a dog", "a red car", "a cat"])[0]
    assert [result["index"] for result in got["results"]] == np.argsort(-logits).tolist()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/embeddings", {}, 400),
        ("/v1/embeddings", {"input": []}, 400),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 400),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, 400),
        ("/v1/embeddings", {"input": ["a"] * 3000}, 400),
        ("/v1/rerank", {"query": "a", "documents": []}, 400),
        ("/v1/rerank", {"query": "a", "documents": ["a", {"image": "https://example.org/a.png"}]}, 400),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": -1}, 400),
        ("/v1/rerank", {"query": "a", "documents": ["a"] * 1001}, 413),
    ],
)
def test_what_is_wrong_is_said(web, path, body, status):
    answer = web.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_fields_to_rank_by_are_those_that_are_read(web):
    documents = [{"title": "a cat", "text": "a red car"}, {"title": "a red", "more": "car", "text": "a cat"}]
    asked = {"query": "a red\ncar", "documents": documents, "rank_fields": ["title", "more"], "return_documents": True}
    first = web.post("/v1/rerank", json=asked).json()["results"][0]
    assert first == {"index": 1, "relevance_score": pytest.approx(1.0, abs=1e-5), "document": documents[1]}
    nothing = web.post("/v1/rerank", json=asked | {"rank_fields": ["body"]})
    assert (nothing.status_code, nothing.json()["error"]["message"][:21]) == (400, "documents[0] is empty")


def test_the_model_that_is_named_is_the_one_that_answers(web, served, library, tmp_path, monkeypatch):
    import shutil
    from dataclasses import replace

    from bt_cli.serving.served_index import ServedIndex

    shutil.copytree(library / ".bt", tmp_path / "other" / ".bt")
    other = ServedIndex("other", tmp_path / "other" / ".bt", served.service.settings, lambda size: None)
    folder = other.current()
    folder.manifest = replace(folder.manifest, identity=replace(folder.identity, checkpoint="bridgetower-of-mine"))
    monkeypatch.setitem(served.service.indexes, "other", other)
    monkeypatch.setitem(
        served.service._models, "bridgetower-of-mine", served.service.models(served.service.index(None).current())
    )
    for name, answers in (("bridgetower-of-mine", "bridgetower-of-mine"), ("tiny", "tiny"), ("gpt", "tiny")):
        got = web.post("/v1/embeddings", json={"input": "a", "model": name}).json()
        assert got["model"] == answers
        got = web.post("/v1/rerank", json={"query": "a", "documents": ["a"], "model": name}).json()
        assert got["model"] == answers
    other.close()
