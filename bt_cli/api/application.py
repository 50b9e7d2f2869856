"""The application: its routes, and uvicorn beneath it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from bt_cli.api.endpoints import Endpoints, json_response
from bt_cli.api.familiar_endpoints import FamiliarEndpoints
from bt_cli.api.gate import Gate
from bt_cli.api.openapi import document
from bt_cli.errors import BtError
from bt_cli.files.shown_path import shown_path
from bt_cli.serving.measures import CONTENT_TYPE
from bt_cli.serving.service import Service
from bt_cli.serving.settings import Settings
from bt_cli.serving.thumbnails import SIDES


class _ImageId(Convertor[int]):
    """The number of an image, of no more digits than an index can have."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("image", _ImageId())

_STATIC = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
_STATIC |= {"/page.css": ("page.css", "text/css"), "/icon.svg": ("icon.svg", "image/svg+xml")}
GRACE = 5
"""Seconds that requests under way have when the server is told to stop."""


def application(service: Service) -> ASGIApp:
    """The page and the APIs over a service, as an ASGI application that never lets an exception out."""
    own, familiar = Endpoints(service), FamiliarEndpoints(service)

    async def healthy(http: Request) -> Response:
        return json_response({"status": "ok"})

    async def metrics(http: Request) -> Response:
        service.count()
        return Response(service.measures.text(), headers={"Content-Type": CONTENT_TYPE})

    async def described(http: Request) -> Response:
        return json_response(document())

    routes = [Route(path, _static(*file), methods=["GET"]) for path, file in _STATIC.items()]
    routes += [
        Route("/healthz", healthy),
        Route("/metrics", metrics),
        Route("/openapi.json", described),
        Route("/api/indexes", own.indexes),
        Route("/api/search", own.search, methods=["GET", "POST"]),
        Route("/api/search-many", own.search_many, methods=["POST"]),
        Route("/api/rerank", own.rerank, methods=["POST"]),
        Route("/api/score", own.score, methods=["POST"]),
        Route("/api/fill-mask", own.fill_mask, methods=["POST"]),
        Route("/api/heat-map", own.heat_map_of, methods=["POST"]),
        Route("/v1/models", familiar.models),
        Route("/v1/embeddings", familiar.embeddings, methods=["POST"]),
        Route("/v1/rerank", familiar.rerank, methods=["POST"]),
        Route("/v2/rerank", familiar.rerank, methods=["POST"]),
    ]
    for kind in SIDES:
        routes.append(Route(f"/{kind}/{{index}}/{{id:image}}", _of_kind(own.picture, kind)))

    routes.append(Route("/heat/{index}/{id:image}", own.heat_map))

    @contextlib.asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        yield
        service.stop()

    app = Starlette(routes=routes, lifespan=living)
    # Errors are the gate's: Starlette's own layers would turn them into plain text first.
    app.build_middleware_stack = lambda: app.router  # type: ignore[method-assign]
    return Gate(app, service.settings, service.measures)


def _of_kind(endpoint: Any, kind: str) -> Any:
    async def handle(http: Request) -> Response:
        http.path_params["kind"] = kind
        answer: Response = await endpoint(http)
        return answer

    return handle


def _static(name: str, media_type: str) -> Any:
    content = resources.files("bt_cli.api").joinpath("static", name).read_bytes()

    async def serve(http: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return serve


class PunctualProtocol(H11Protocol):
    """HTTP whose requests have to begin, and their heads to end, in time: who dribbles is answered 408."""

    limit = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection has `limit` seconds for the first head."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """The clock runs from the first byte of a head to its last."""
        if self._idle:
            self._start()
        super().data_received(data)
        if not self._idle:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop()
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.limit, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._idle and not self.transport.is_closing():
            body = b'{"error": {"message": "the request did not come in time", "type": "timeout_error"}}\n'
            head = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn that calls off what runs when it is told to stop, and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service, self._ready = service, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server(service: Service, ready: Callable[[str], None] = lambda url: None) -> uvicorn.Server:
    """A server that is not started yet; `run_server` runs it."""
    settings = service.settings
    limited = type("Limited", (PunctualProtocol,), {"limit": settings.body_seconds})
    config = uvicorn.Config(
        application(service),
        host=settings.host,
        port=settings.port,
        http=limited,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
    )
    return _Server(config, service, ready)


def run_server(made: uvicorn.Server, listening: socket.socket) -> None:
    """Serve until told to stop (SIGINT, SIGTERM, or `made.should_exit`)."""
    made.run(sockets=[listening])


def listen(settings: Settings) -> socket.socket:
    """The socket that the server listens at.

    Raises:
        BtError: The address is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise BtError(f"--host {shown_path(settings.host)}: {reason}; 127.0.0.1 is this machine") from None
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0  # asyncio and socket put words of their own into strerror
        reason = os.strerror(number) if number > 0 else str(error)
        raise BtError(f"{settings.host}:{settings.port}: {reason}; --port takes another") from None
