"""What stands before both web applications, review and listening test: who may ask, how much, and safe headers.

`guarded` makes an application of routes that goes by known names only (against DNS rebinding), takes bodies of limited
size, and says on every answer that a browser should load nothing from elsewhere. Whether a request comes from the
application's own page is for its endpoints to ask (`same_site`, `is_json`), or for a `refusal` of its own.

Not for sessions, tokens or what a request means. Needs Starlette, which `tiktok-dm[web]` installs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names by which only this machine itself can reach a server."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_GREATEST = 1e15
_TOO_LARGE = "The request is too large."

Refusal = Callable[[Request], Response | None]


def guarded(
    routes: Sequence[BaseRoute],
    *,
    hosts: Collection[str] | None,
    policy: str,
    max_body: int,
    refusal: Refusal | None = None,
) -> ASGIApp:
    """An application of `routes` behind the guard.

    Args:
        routes: of the application.
        hosts: names by which the server may be called; None: any.
        policy: the Content-Security-Policy of every answer.
        max_body: bytes of a request's body.
        refusal: asked before every request that the guard lets through; None from it lets the request pass.
    """
    app = Starlette(routes=routes, exception_handlers={_TooLarge: _too_large})
    return _Guard(app, hosts, policy, max_body, refusal)


def refuse(status: int, sentence: str, **more: Any) -> JSONResponse:
    """An answer that says in `error` why something is not done."""
    return JSONResponse({"error": sentence} | more, status)


def same_site(headers: Headers) -> bool:
    """Whether a request comes from this server's own page or no page at all, as far as the browser says."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False


def is_json(headers: Headers) -> bool:
    """Whether a body is said to be JSON: a type that no form of another site can send unasked."""
    return headers.get("content-type", "").split(";")[0].strip() == "application/json"


def read_json(body: bytes) -> Any:
    """A body as JSON that can be sent out again, kept and compared: numbers are finite, and text is Unicode.

    Raises:
        ValueError: it is none, or holds NaN, a number beyond any use, or half of a surrogate pair.
    """

    def number(text: str) -> float:
        value = float(text)
        if not abs(value) <= _GREATEST:
            raise ValueError("a number is out of bounds")
        return value

    def whole(text: str) -> int:
        if len(text) > 300:  # beyond, Python itself refuses to write some numbers
            raise ValueError("a number is out of bounds")
        return int(text)

    def constant(text: str) -> float:
        raise ValueError(f"{text} is no number of JSON's")

    try:
        value = json.loads(body, parse_float=number, parse_int=whole, parse_constant=constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


class _TooLarge(Exception):
    """A body without a stated length turned out too long."""


async def _too_large(request: Request, error: Exception) -> Response:
    return refuse(413, _TOO_LARGE)


class _Guard:
    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None, policy: str, max_body: int, refusal: Refusal | None
    ) -> None:
        self.app, self.hosts, self.max_body, self.refusal = app, hosts, max_body, refusal
        self.headers = [(b"content-security-policy", policy.encode()), *_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), *self.headers]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        got = 0

        async def received() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.max_body:
                raise _TooLarge
            return message

        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, sent)
        else:
            await self.app(scope, received, sent)

    def _refusal(self, request: Request) -> Response | None:
        if self.hosts is not None and _host_name(request.headers.get("host", "")) not in self.hosts:
            return refuse(421, "This server does not go by that name.")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body:
            return refuse(413, _TOO_LARGE)
        return None if self.refusal is None else self.refusal(request)


def _host_name(host: str) -> str | None:
    try:
        return urlsplit("//" + host).hostname
    except ValueError:
        return None
