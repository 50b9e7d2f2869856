"""A real server on loopback over an index of the sample pictures, in a thread of this process."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"
HOSTILE = '"><script>alert(1)</script>.jpg'


@dataclass
class Served:
    """A running server."""

    url: str
    folder: Path
    service: Any


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures, one of a hostile name, captions, and the index `.bt` that tiny made."""
    from bt_cli.commands.app import main

    home = tmp_path_factory.mktemp("served") / "library"
    home.mkdir()
    for number in range(1, 13):
        shutil.copy(SAMPLES / f"scene-{number:04}.jpg", home / f"scene-{number:04}.jpg")
    (home / "scene-0012.jpg").rename(home / HOSTILE.replace("/", "_"))
    (home / "captions.csv").write_text("image,caption\nscene-0001.jpg,one\nscene-0001.jpg,uno\nscene-0002.jpg,two\n")
    arguments = ["index", str(home), "--captions", str(home / "captions.csv"), "--index", str(home / ".bt")]
    assert main([*arguments, "--model", "tiny", "--dtype", "float32", "-q"]) == 0
    return home


def serve(folder: Path, thumbnails: Path, **changes: Any) -> Iterator[Served]:
    """Run a server in a thread as long as the generator lives."""
    from bt_cli.api.application import listen, run_server, server
    from bt_cli.serving.service import Service
    from bt_cli.serving.settings import Settings

    settings = Settings(port=0, thumbnails=thumbnails, **changes)
    listening = listen(settings)
    service = Service([folder / ".bt"], settings, dtype="float32")
    service.warm()
    url: list[str] = []
    made = server(service, url.append)
    thread = threading.Thread(target=run_server, args=(made, listening))
    thread.start()
    while not url and thread.is_alive():
        time.sleep(0.01)
    yield Served(url[0], folder, service)
    made.should_exit = True
    thread.join(20)
    service.close()
    listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def serving() -> Callable[..., Iterator[Served]]:
    """`serve`, for fixtures of a wider scope than `start`."""
    return serve


@pytest.fixture(scope="session")
def served(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that only ask."""
    yield from serve(library, tmp_path_factory.mktemp("thumbnails"), body_bytes=2 << 20, body_seconds=1.5)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers of a test's own over a library; they end with the test."""
    running: list[Iterator[Served]] = []

    def start(folder: Path, **changes: Any) -> Served:
        running.append(serve(folder, tmp_path / "thumbnails", **changes))
        return next(running[-1])

    yield start
    for one in running:
        next(one, None)


@pytest.fixture
def web(served: Served) -> Iterator[Any]:
    """An httpx client of the server."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def no_server_named() -> None:
    """No test asks a server of the user's."""
    os.environ.pop("BT_SERVER", None)
