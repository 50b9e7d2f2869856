"""A server as its clients meet it: re-opens, asks for its token, ends with its client, stops."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"


@pytest.fixture
def own(library, tmp_path):
    """A copy of the library that a test may change."""
    shutil.copytree(library, tmp_path / "library")
    return tmp_path / "library"


def test_the_index_is_opened_anew_when_a_writer_commits(own, start, bt):
    with httpx.Client(base_url=start(own).url, timeout=60) as web:
        before = web.get("/api/search", params={"q": "a dog"}).json()
        assert before["searched"] == 12
        shutil.copy(SAMPLES / "scene-0050.jpg", own / "new.jpg")
        arguments = ["index", str(own), "--index", str(own / ".bt"), "--dtype", "float32", "-q"]
        assert bt(*arguments).code == 0
        got = web.get("/api/search", params={"q": "a dog"}).json()
        assert got["searched"] == 13
        assert got["generation"] > before["generation"]
        (own / ".bt" / "manifest.json").write_text("broken")
        assert web.get("/api/search", params={"q": "a dog"}).json()["searched"] == 13


def test_a_token_is_asked_for(own, start):
    with httpx.Client(base_url=start(own, token="s3cret").url, timeout=60) as web:
        assert web.get("/healthz").status_code == 200
        for path in ("/", "/metrics", "/api/search?q=a", "/thumb/library/0", "/?token=guess"):
            answer = web.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
        assert web.get("/api/indexes", headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert web.get("/?token=s3cret").headers["location"] == "/"
        assert web.get("/").status_code == 200  # by the cookie
        assert web.get("/?q=a+dog&token=s3cret&like=1%3A3").headers["location"] == "/?q=a+dog&like=1%3A3"


def test_a_rerank_ends_when_its_client_hangs_up(served):
    service = served.service
    body = {"q": "never asked before", "rerank": True, "candidates": 12}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/api/search", json=body, timeout=httpx.Timeout(30, read=0.01))
    end = time.monotonic() + 10
    while service.reading.inside and time.monotonic() < end:
        time.sleep(0.01)
    assert service.reading.inside == 0
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_the_command_serves_until_it_is_told_to_stop(library, tmp_path):
    other = tmp_path / "two words" / ".bt"
    shutil.copytree(library / ".bt", other, symlinks=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "bt_cli", "serve", "--port", "0", "--dtype", "float32"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BT_INDEX": f"{library / '.bt'}{os.pathsep}{other}"},
    )
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("bt: library (12 images), two words (12 images) at http://127.0.0.1:")
        url = line.split(" at ")[1].split(",")[0]
        assert httpx.get(f"{url}/api/search", params={"q": "a"}, timeout=60).status_code == 200
        # What there is to remark on a request is the caller's to hear, and not the log's.
        asked = {"q": "a " * 100, "glob": ["nothing*", "*-000*"]}
        told = httpx.get(f"{url}/api/search", params=asked, timeout=60).json()["remarks"]
        assert re.match("text .* is longer than 64 tokens: its end is not read", told[0])
        assert told[1:] == ["--glob nothing*: no image of the index matches"]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert server.stderr.read() == "bt: stopped\n"
    finally:
        server.kill()


def test_an_address_that_is_taken_is_one_line(bt, served, library):
    port = served.url.rpartition(":")[2]
    ran = bt("serve", "--port", port, "--index", library / ".bt")
    assert (ran.code, ran.err) == (1, f"bt: 127.0.0.1:{port}: Address already in use; --port takes another\n")
    ran = bt("serve", "--host", "[::1", "--token", "x", "--index", library / ".bt")
    assert (ran.code, ran.err) == (
        1,
        "bt: --host [::1: Name or service not known; 127.0.0.1 is this machine\n",
    )
    ran = bt("serve", "--host", "0.0.0.0", "--index", library / ".bt")
    assert (ran.code, ran.out) == (2, "")
