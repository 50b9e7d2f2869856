"""What every request passes on its way in and out: who may come in, errors as JSON, headers, counting."""

from __future__ import annotations

import hmac
import logging
import os
import time
import traceback
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bt_cli.api.endpoints import json_response
from bt_cli.display.remarks import debugging
from bt_cli.errors import BtError
from bt_cli.files.shown_path import shown_path
from bt_cli.serving.lanes import Cancelled
from bt_cli.serving.measures import Measures
from bt_cli.serving.refusals import Refusal, refusal_of
from bt_cli.serving.settings import Settings

COOKIE = "bt_token"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NAMES = {404: "not_found_error", 405: "method_not_allowed_error"}
NONE: Mapping[str, str] = {}
_log = logging.getLogger("bt_cli.serving")


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, measures: Measures) -> None:
        self.app, self.settings, self.measures = app, settings, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            response: Any = self._admit(scope)
            if response is None:
                response = self.app
            await response(scope, receive, answer)
        except Cancelled:
            self.measures.called_off.inc()
            if status == 0:
                await self._refuse(Refusal(503, "unavailable_error", "called off"), scope, receive, answer)
        except Exception as error:
            refusal = _of(error)
            if refusal.status == 500:
                _log.error("%s %s failed: %s", scope["method"], shown_path(scope["path"])[:200], _where(error))
            if status != 0:
                raise
            allowed = (getattr(error, "headers", None) or {}).get("Allow")
            await self._refuse(refusal, scope, receive, answer, {} if allowed is None else {"Allow": allowed})
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        self.measures.requests.labels(route, method, str(status)).inc()
        self.measures.seconds.labels(route).observe(time.perf_counter() - started)

    async def _refuse(
        self, refusal: Refusal, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str] = NONE
    ) -> None:
        response = json_response(refusal.body(), refusal.status)
        response.headers.update(headers)
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if refusal.type in ("overloaded_error", "unavailable_error"):
            response.headers["Retry-After"] = "1"
        if refusal.status in (408, 413):
            response.headers["Connection"] = "close"  # the rest of the body is not wanted
        await response(scope, receive, send)

    def _admit(self, scope: Scope) -> ASGIApp | None:
        """None for who may go on; a redirect for who brought the token in the address.

        Raises:
            Refusal: 401 without the token; 421 for a name that is not this machine's: a foreign page that had its own
                name point here would otherwise read answers.
        """
        headers = Headers(scope=scope)
        if self.settings.token is None:
            self._require_own_name(headers.get("host", ""))
            return None
        if scope["path"] == "/healthz":
            return None
        token = self.settings.token
        brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] == "GET" and _same(brought, token):
            asked = [pair for pair in scope["query_string"].split(b"&") if not pair.startswith(b"token=")]
            rest = b"&".join(asked).decode("latin-1")
            response = RedirectResponse(f"/?{rest}" if rest else "/", 303)  # a deep link stays one
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return response
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and _same(shown.strip(), token)) or _same(_cookie(headers), token):
            return None
        raise Refusal(401, "authentication_error", "the token is needed: Authorization: Bearer TOKEN, or /?token=TOKEN")

    def _require_own_name(self, host: str) -> None:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in (
            "localhost",
            "127.0.0.1",
            "[::1]",
            self.settings.host.lower(),
            f"[{self.settings.host}]",
        ):
            raise Refusal(421, "invalid_request_error", "this server answers to localhost alone")


def _of(error: Exception) -> Refusal:
    if isinstance(error, HTTPException):
        message = {404: "nothing here; /openapi.json says what there is", 405: "not with this method"}
        return Refusal(
            error.status_code,
            _NAMES.get(error.status_code, "invalid_request_error"),
            message.get(error.status_code, error.detail),
        )
    return refusal_of(error)


def _where(error: Exception) -> str:
    """What went wrong, and where in the code: a line for who runs the server; with BT_DEBUG=1 the whole of it."""
    if isinstance(error, BtError):
        return str(error)
    if debugging():
        return "".join(traceback.format_exception(error))
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "bt_cli" in frame.filename]
    place = f", {os.path.basename(places[-1].filename)}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}: {error}{place}; BT_DEBUG=1 says more"


def _same(brought: str, token: str) -> bool:
    return hmac.compare_digest(brought.encode("utf-8", "surrogateescape"), token.encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
