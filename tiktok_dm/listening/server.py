"""The study as a web application: pages, clips, answers; results for whoever holds the admin token.

What a rater's browser gets never depends on which version of a clip it is: clips are asked for by the trial's random
id, and no header is made from the file. Not for the transactions (`store`) and not for statistics (`report`).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Collection
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tiktok_dm.listening.report import Report, analyse
from tiktok_dm.listening.store import Position, Refused, Store, Trial
from tiktok_dm.listening.study import STIMULI, Study
from tiktok_dm.web_guard import guarded, is_json, read_json, refuse, same_site

COOKIE = "listening_session"
_COOKIE_DAYS = 30
MAX_BODY = 4096
"""Bytes; an answer takes about a hundred."""

_LIVE_DRAWS = 400
_DAY_S = 86400.0
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_MEDIA = {".mp4": "video/mp4", ".m4a": "audio/mp4"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def _body(request: Request, *wanted: str) -> dict[str, Any]:
    """The JSON object of a request with exactly these fields: text for `trial`, whole numbers for the others.

    Raises:
        Refused: anything else, or another site's.
    """
    if not same_site(request.headers):
        raise Refused(403, "The request comes from another site.")
    if not is_json(request.headers):
        raise Refused(415, "The request should be JSON.")
    try:
        body = read_json(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request is not JSON.") from error
    if not isinstance(body, dict) or body.keys() != set(wanted):
        raise Refused(400, f"The request should have the fields {', '.join(wanted) or 'of an empty object'}.")
    for name, value in body.items():
        if name == "trial":
            good = isinstance(value, str) and len(value) <= 64
        else:
            good = type(value) is int and 0 <= value <= 10_000
        if not good:
            raise Refused(422, f"The field {name} is not what it should be.")
    return body


def _shown(trial: Trial, study: Study) -> dict[str, Any]:
    """A trial in the words that the page shows; the same for every version of a clip."""
    protocol = study.protocol
    scale = [{"value": k + 1, "label": label} for k, label in enumerate(protocol.labels)]
    numbers = [{"value": k + 1, "label": ""} for k in range(trial.choices)]
    title, question, choices, note = protocol.title, protocol.question, scale, ""
    if trial.kind == "volume":
        title, choices = "Set your volume", numbers
        question = "How many tones do you hear?"
        note = "Put your headphones on and choose a comfortable volume. The tones are quiet; you can play them again."
    elif trial.kind == "headphones":
        title = "Headphone check"
        question = "Which of the three tones is the quietest?"
        choices = [{"value": k + 1, "label": label} for k, label in enumerate(("First", "Second", "Third"))]
    elif trial.kind == "practice":
        title, note = "Practice", "This clip is for practice: your rating of it does not count."
    elif trial.kind == "check":
        label = protocol.labels[(trial.expected or 1) - 1]
        question = f"Please choose {trial.expected} ({label}) for this clip, whatever you hear."
    if trial.number:
        title = f"Clip {trial.number} of {study.items_a_rater}"
    base = f"/media/{trial.trial}"
    return {
        "id": trial.trial,
        "kind": trial.kind,
        "title": title,
        "question": question,
        "note": note,
        "choices": choices,
        "video": trial.kind not in ("volume", "headphones") and protocol.video,
        "clip": f"{base}/clip",
        "original": f"{base}/original" if trial.original is not None else None,
    }


class _Addresses:
    """Sessions begun in the last day by network address, in memory alone: no address is written down.

    Args:
        limit: sessions; None: any number.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._begun: dict[str, list[float]] = {}

    @staticmethod
    def _network(address: str) -> str:
        """An IPv4 address, or the /64 that one subscriber of IPv6 has."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return address
        if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
            return str(getattr(parsed, "ipv4_mapped", None) or parsed)
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))

    def count(self, address: str) -> None:
        """A session begins at an address.

        Raises:
            Refused: as many began there in the last day as may.
        """
        if self.limit is None:
            return
        now = time.monotonic()
        self._begun = {name: times for name, times in self._begun.items() if times[-1] > now - _DAY_S}
        begun = [at for at in self._begun.get(self._network(address), []) if at > now - _DAY_S]
        if len(begun) >= self.limit:
            raise Refused(429, "So many sessions began in your network today that a new one has to wait a day.")
        self._begun[self._network(address)] = [*begun, now]

    def take_back(self, address: str) -> None:
        """The session that was counted last did not begin."""
        if self.limit is not None and self._begun.get(self._network(address)):
            self._begun[self._network(address)].pop()
            if not self._begun[self._network(address)]:
                del self._begun[self._network(address)]


class App:
    """The endpoints of one study.

    Args:
        folder: of the study.
        store: its answers.
        public_url: under which raters reach it, for links and for cookies that only travel encrypted.
    """

    def __init__(self, folder: Path, store: Store, public_url: str | None = None) -> None:
        self.folder, self.store, self.study = folder, store, store.study
        self.addresses = _Addresses(self.study.address_limit)
        self.secure = bool(public_url) and urlsplit(public_url or "").scheme == "https"
        self.results_page = Environment(autoescape=True).from_string(_page("results.html.j2").decode())
        self.routes = [
            Route("/", self._static("index.html")),
            Route("/app.js", self._static("app.js")),
            Route("/style.css", self._static("style.css")),
            Route("/favicon.ico", self._no_icon),
            Route("/go-on/{token}", self.go_on),
            Route("/api/state", self._guarded(self.state)),
            Route("/api/begin", self._guarded(self.begin), methods=["POST"]),
            Route("/api/answer", self._guarded(self.answer), methods=["POST"]),
            Route("/api/alive", self._guarded(self.alive), methods=["POST"]),
            Route("/api/leave", self._guarded(self.leave), methods=["POST"]),
            Route("/media/{trial}/{which}", self._guarded(self.media)),
            Route("/results", self.results, methods=["GET", "POST"]),
            Route("/api/results", self._guarded(self.results_json)),
        ]

    # --------------------------------------------------------------------------------------------- raters

    def _static(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        content, kind = _page(name), _TYPES[Path(name).suffix]

        async def serve(request: Request) -> Response:
            return Response(content, headers={"content-type": kind})

        return serve

    async def _no_icon(self, request: Request) -> Response:
        return Response(status_code=204)

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Refused as refused:
                return refuse(refused.status, str(refused))

        return answer

    async def _rater(self, request: Request) -> int | None:
        token = request.cookies.get(COOKIE, "")
        if not token:
            return None
        return self.store.known.get(token) or await run_in_threadpool(self.store.rater, token)

    async def _known(self, request: Request) -> int:
        rater = await self._rater(request)
        if rater is None:
            raise Refused(401, "This browser has no session in this study.")
        return rater

    def _keep(self, response: Response, token: str) -> None:
        response.set_cookie(
            COOKIE,
            token,
            max_age=_COOKIE_DAYS * 86400,
            httponly=True,
            samesite="strict",
            secure=self.secure,
            path="/",
        )

    def _told(self, position: Position, token: str) -> dict[str, Any]:
        told: dict[str, Any] = {
            "stage": position.stage,
            "answered": position.answered,
            "of": self.study.items_a_rater,
            "link": f"/go-on/{token}",
        }
        if position.trial is not None:
            told["trial"] = _shown(position.trial, self.study)
        if position.stage == "done":
            told |= {"code": position.code, "cut_short": position.cut_short}
        return told

    async def state(self, request: Request) -> Response:
        """Where this browser's rater stands; the consent page for a browser without a session."""
        rater = await self._rater(request)
        if rater is None:
            protocol, stage = self.study.protocol, "consent"
            if self.study.access == "invited" and not self.store.invited(request.cookies.get(COOKIE, "")):
                stage = "uninvited"
            elif not await run_in_threadpool(self.store.has_room):
                stage = "full"
            return JSONResponse(
                {
                    "stage": stage,
                    "title": protocol.title,
                    "instructions": protocol.instructions,
                    "consent": self.study.consent,
                    "contact": self.study.contact,
                }
            )
        position = await run_in_threadpool(self.store.position, rater)
        return JSONResponse(self._told(position, request.cookies[COOKIE]))

    async def begin(self, request: Request) -> Response:
        """Consent given: a session for this browser, or the one that it has."""
        await _body(request)
        rater = await self._rater(request)
        token: str | None = request.cookies.get(COOKIE)
        if rater is None:
            address = request.client.host if request.client else ""
            self.addresses.count(address)  # before anything is waited for: a flood comes all at once
            token = await run_in_threadpool(self.store.begin, token or "")
            if token is None:
                self.addresses.take_back(address)
                return JSONResponse({"stage": "full"})
            rater = await run_in_threadpool(self.store.rater, token)
        assert rater is not None
        assert token is not None
        response = JSONResponse(self._told(await run_in_threadpool(self.store.position, rater), token))
        self._keep(response, token)
        return response

    async def go_on(self, request: Request) -> Response:
        """A personal link, or an invitation: takes the session into this browser.

        A page that goes on by itself, and no redirect: after one from another site the browser would keep a strict
        cookie back.
        """
        token = request.path_params["token"]
        if not self.store.invited(token) and await run_in_threadpool(self.store.rater, token) is None:
            return refuse(404, "This link belongs to no session of this study.")
        response = HTMLResponse(
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
            '<title>One moment</title><p><a href="/">Go on</a></p></html>'
        )
        self._keep(response, token)
        return response

    async def answer(self, request: Request) -> Response:
        """Keep an answer; the reply says where the rater stands then."""
        body = await _body(request, "trial", "answer", "plays", "original_plays")
        rater = await self._known(request)
        new, position = await run_in_threadpool(
            self.store.answer_and_go_on, rater, body["trial"], body["answer"], body["plays"], body["original_plays"]
        )
        return JSONResponse({"new": new, **self._told(position, request.cookies[COOKIE])})

    async def alive(self, request: Request) -> Response:
        """The page is still open."""
        body = await _body(request, "trial")
        await run_in_threadpool(self.store.alive, await self._known(request), body["trial"])
        return Response(status_code=204)

    async def leave(self, request: Request) -> Response:
        """The page was closed."""
        body = await _body(request, "trial")
        await run_in_threadpool(self.store.leave, await self._known(request), body["trial"])
        return Response(status_code=204)

    async def media(self, request: Request) -> Response:
        """A clip of the rater's open trial, whole or a range of it."""
        rater = await self._known(request)

        def read() -> tuple[Path, bytes]:
            name = self.store.fetched(rater, request.path_params["trial"], request.path_params["which"])
            path = self.folder / STIMULI / name
            return path, path.read_bytes()

        path, data = await run_in_threadpool(read)
        headers = {"content-type": _MEDIA[path.suffix], "accept-ranges": "bytes"}
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or asked.group(1) == asked.group(2) == "":
            return Response(data, headers=headers)
        first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        last = min(int(asked[2]), len(data) - 1) if asked[1] and asked[2] else len(data) - 1
        if first > last:
            return Response(status_code=416, headers={"content-range": f"bytes */{len(data)}"})
        headers["content-range"] = f"bytes {first}-{last}/{len(data)}"
        return Response(data[first : last + 1], 206, headers)

    # --------------------------------------------------------------------------------------------- results

    def _is_admin(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.store.key.admin_token.encode())

    def _analysed(self) -> Report:
        raters, trials = self.store.everything()
        return analyse(self.study, self.store.key, raters, trials, draws=_LIVE_DRAWS)

    async def results(self, request: Request) -> Response:
        """The results page; asks for the admin token first, which travels in the body and never in an address."""
        report, wrong = None, False
        if request.method == "POST":
            form = parse_qs((await request.body()).decode("utf-8", "replace"))
            if self._is_admin(form.get("token", [""])[0]):
                report = await run_in_threadpool(self._analysed)
            else:
                wrong = True
        page = self.results_page.render(report=report, wrong=wrong, study=self.study)
        return HTMLResponse(page, 403 if wrong else 200)

    async def results_json(self, request: Request) -> Response:
        """The results for `Authorization: Bearer TOKEN`."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not self._is_admin(token.strip()):
            raise Refused(401, "The results want the study's admin token.")
        return JSONResponse((await run_in_threadpool(self._analysed)).as_dict())


def _page(name: str) -> bytes:
    return resources.files("tiktok_dm.listening").joinpath("pages", name).read_bytes()


def application(
    folder: Path, store: Store, *, public_url: str | None = None, hosts: Collection[str] | None = None
) -> ASGIApp:
    """The study in `folder` as an ASGI application.

    Args:
        folder: of the study.
        store: its answers.
        public_url: under which raters reach it; with https, cookies travel encrypted only.
        hosts: names by which the server may be called; None: any.
    """
    routes = App(folder, store, public_url).routes
    return guarded(routes, hosts=hosts, policy=_POLICY, max_body=MAX_BODY)
