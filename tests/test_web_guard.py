"""The guard before both web applications: names, other sites, sizes of bodies, headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="the servers are not installed: pip install 'tiktok-dm[web]'")
pytest.importorskip("httpx", reason="httpx is not installed: pip install 'tiktok-dm[test]'")

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from tiktok_dm.web_guard import LOOPBACK, guarded, is_json, refuse, same_site


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def kept(request: Request) -> Response:
    return PlainTextResponse("kept", headers={"cache-control": "max-age=60"})


def not_here(request: Request) -> Response | None:
    return refuse(410, "Not here.", more=1) if request.url.path == "/not-here" else None


ROUTES = [Route("/", echo, methods=["GET", "POST"]), Route("/kept", kept)]


def client(hosts: frozenset[str] | None = LOOPBACK) -> TestClient:
    app = guarded(ROUTES, hosts=hosts, policy="default-src 'none'", max_body=10, refusal=not_here)
    return TestClient(app, base_url="http://localhost:8000")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("[", 421),
    ],
)
def test_it_goes_by_known_names_alone(host: str, status: int) -> None:
    assert client().get("/", headers={"host": host}).status_code == status
    assert client(None).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({}, True),
        ({"origin": "http://here:1"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://here:1"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "http://here:2"}, False),
        ({"origin": "http://elsewhere"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"origin": ""}, False),
    ],
)
def test_requests_of_other_sites_are_told(headers: dict[str, str], same: bool) -> None:
    assert same_site(Headers({"host": "here:1"} | headers)) is same


def test_json_is_told_by_its_type() -> None:
    assert is_json(Headers({"content-type": "application/json; charset=utf-8"}))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        assert not is_json(Headers({"content-type": kind}))
    assert not is_json(Headers({}))


def test_bodies_are_limited_with_and_without_a_stated_length() -> None:
    page = client()
    assert page.post("/", content=b"0123456789").text == "0123456789"

    def pieces(n: int) -> Iterator[bytes]:
        for _ in range(n):
            yield b"01234"

    assert page.post("/", content=pieces(2)).text == "0123401234"
    for refused in (
        page.post("/", content=b"0123456789a"),
        page.post("/", content=pieces(3)),
        page.post("/", content=b"", headers={"content-length": "-1"}),
        page.post("/", content=b"", headers={"content-length": "²".encode("latin-1")}),
    ):
        assert refused.status_code == 413
        assert refused.json() == {"error": "The request is too large."}


def test_every_answer_has_safe_headers() -> None:
    page = client()
    for reply in (page.get("/"), page.get("/nowhere"), page.get("/", headers={"host": "evil.example"})):
        assert reply.headers["content-security-policy"] == "default-src 'none'"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
    assert page.get("/kept").headers["cache-control"] == "max-age=60"


def test_an_application_may_refuse_more() -> None:
    refused = client().get("/not-here")
    assert refused.status_code == 410
    assert refused.json() == {"error": "Not here.", "more": 1}
    assert client().get("/not-here", headers={"host": "evil.example"}).status_code == 421
