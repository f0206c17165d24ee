"""The review as a local web application: the page, its pictures and sounds, and the edits that it posts.

Only this machine can reach it: it listens on the loopback interface, goes by no other name (against DNS rebinding) and
takes edits from its own page alone. Files are found by ids that are known, never by a path from a request.

Every edit is on disk before it is answered, and carries the revision that it was made on: one made on older files is
refused with status 409 and the new state. Not for what an edit does (`session`).
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tiktok_dm.curate.proposals import (
    EditedMeanwhile,
    Proposals,
    read_proposals,
    read_sources,
    revision_of,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.curate.review import session
from tiktok_dm.curate.review.assets import PEAKS_HZ, Assets
from tiktok_dm.curate.review.history import History, Step
from tiktok_dm.curate.review.session import Edit, Ids, Refused, SplitNeeded
from tiktok_dm.curate.review.view import candidates, told
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.pipeline.store import write_atomic
from tiktok_dm.pose.skeletons import BODY_25

MAX_BODY = 65_536
"""Bytes; the longest edit names every clip of a song."""

_STATIC = {
    "app.js": "text/javascript",
    "dom.js": "text/javascript",
    "overlay.js": "text/javascript",
    "pairs.js": "text/javascript",
    "timeline.js": "text/javascript",
    "app.css": "text/css",
    "vendor/wavesurfer/wavesurfer.esm.js": "text/javascript",
    "vendor/wavesurfer/regions.esm.js": "text/javascript",
}
_VIDEO_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_HOSTS = {"127.0.0.1", "localhost", "::1"}
_DECODERS = 2  # pictures and sounds decoded at a time: more would only wait for each other
_PLACE_KEYS = {"clip", "rejected", "compilation", "time", "filters", "zoom", "skeleton", "autoplay"}


class Guard:
    """Around the application: names it goes by, other sites' requests, size of requests, safe headers."""

    def __init__(self, app: ASGIApp, nonce: str) -> None:
        self.app = app
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
            "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

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

        refusal = self._refusal(dict(scope["headers"]), scope["method"], scope["path"])
        await (refusal or self.app)(scope, receive, sent)

    def _refusal(self, headers: Mapping[bytes, bytes], method: str, path: str) -> Response | None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit("//" + host).hostname
        except ValueError:
            name = None
        if name not in _HOSTS:
            return _refuse(421, "This server does not go by that name.")
        # A link from elsewhere may open the page; nothing else may be asked for from another site.
        site = headers.get(b"sec-fetch-site", b"same-origin")
        if site not in (b"same-origin", b"none") and not (method == "GET" and path == "/"):
            return _refuse(403, "The request comes from another site.")
        if method not in ("GET", "HEAD"):
            origin = headers.get(b"origin")
            if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
                return _refuse(403, "The request comes from another site.")
            if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
                return _refuse(415, "The request should be JSON.")
            length = headers.get(b"content-length", b"")
            if not length.isdigit() or int(length) > MAX_BODY:
                return _refuse(413, "The request is too large.")
        return None


def _refuse(status: int, sentence: str, **more: Any) -> JSONResponse:
    return JSONResponse({"error": sentence} | more, status)


class Stale(Exception):
    """An edit was made on files that have changed since."""


class Broken(Exception):
    """The files hold problems, so that nothing can be edited."""


class Review:
    """The folder under review, from one sitting's point of view.

    Args:
        folder: of proposals.
        assets: of its videos.
    """

    def __init__(self, folder: Path, assets: Assets) -> None:
        self.folder, self.assets = folder, assets
        self.history = History()
        self.problems: list[dict[str, Any]] = []
        self._lock = threading.RLock()
        self._current: Proposals | None = None
        self._seen = ""
        self._kept = work_folder(folder) / "review"
        self._ids = session.kept_ids(folder)
        self.place = self._json("place.json") or {}

    # ------------------------------------------------------------------------------------- the files

    def look(self) -> Proposals | None:
        """The tables as they lie there now; None, with `problems`, where they cannot be read."""
        with self._lock:
            revision = revision_of(self.folder)
            if self._seen and revision == self._seen:
                return self._current
            if self._seen:
                self.history.forget()
            try:
                self._current, self.problems = read_proposals(self.folder), []
                self._seen = self._current.revision
                self._ids = session.next_ids(self._current, self._ids)
            except ProblemsError as error:
                self._current, self._seen = None, revision
                self.problems = [
                    {"file": p.file, "line": p.row, "column": p.column, "message": p.message} for p in error.problems
                ]
            except UserError as error:
                self._current, self._seen = None, ""
                self.problems = [{"file": str(self.folder), "line": None, "column": None, "message": str(error)}]
            return self._current

    def state(self) -> dict[str, Any]:
        """Everything the page shows, or what is wrong with the files."""
        with self._lock:
            now = self.look()
            if now is None:
                return {"revision": self._seen, "folder": self.folder.resolve().name, "problems": self.problems}
            present = {k for k, path in self.assets.sources.items() if path.is_file()}
            last, following = self.history.last, self.history.next
            more = {"undo": last.what if last else None, "redo": following.what if following else None}
            return told(now, present) | more | {"problems": [], "place": self.place, "bones": BODY_25.edges}

    def edit(self, revision: str, change: Callable[[Proposals, Ids], Edit]) -> Edit:
        """Make an edit on the state `revision` and save it.

        Raises:
            Stale, Broken: the files are others by now; nothing was changed.
            Refused: the edit breaks a rule; nothing was changed.
        """
        with self._lock:
            now = self._held(revision)
            made = change(now, self._ids)
            self._save(made.proposals)
            # The files in hand are those that were just written, so that what comes next fits to them.
            assert self._current is not None
            self.history.add(Step(now, self._current, made.what, made.was, made.clip_id))
            return made

    def undo(self, revision: str) -> Edit:
        """Take the last edit of this sitting back; `edit` says what may go wrong."""
        with self._lock:
            now = self._held(revision)
            step = self.history.last
            if step is None:
                raise Refused("There is nothing to undo: edits of earlier sittings stay")
            self._save(replace(step.before, revision=now.revision))
            self.history.went_back()
            return Edit(step.before, f"Undone: {_lower(step.what)}", step.was)

    def redo(self, revision: str) -> Edit:
        """Make the edit again that was undone last."""
        with self._lock:
            now = self._held(revision)
            step = self.history.next
            if step is None:
                raise Refused("There is nothing to redo")
            self._save(replace(step.after, revision=now.revision))
            self.history.went_on()
            return Edit(step.after, f"Made again: {_lower(step.what)}", step.clip_id)

    def _held(self, revision: str) -> Proposals:
        now = self.look()
        if now is None:
            raise Broken
        if now.revision != revision:
            raise Stale
        return now

    def _save(self, proposals: Proposals) -> None:
        ids = session.next_ids(proposals, self._ids)
        if ids != self._ids:  # before the tables: an id that was given away counts even if nothing comes of it
            write_atomic(self._kept / "ids.json", json.dumps({"clip": ids.clip, "song": ids.song}))
            self._ids = ids
        try:
            self._current = write_proposals(proposals)
        except EditedMeanwhile:
            raise Stale from None
        self._seen = self._current.revision

    # ------------------------------------------------------------------------------------- the place

    def remember(self, place: dict[str, Any]) -> None:
        """Keep where the person is, for the next sitting."""
        with self._lock:
            self.place = place
            write_atomic(self._kept / "place.json", json.dumps(place))

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self._kept / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


# ------------------------------------------------------------------------------------------- edits from the page


class Malformed(Exception):
    """A request that the page never makes."""


def _whole(body: Mapping[str, Any], name: str, low: int = 0) -> int:
    value = body.get(name)
    if type(value) is not int or not low <= value <= 999_999_999:
        raise Malformed(name)
    return value


def _one_of(body: Mapping[str, Any], name: str, *known: str) -> str:
    value = body.get(name)
    if value not in known:
        raise Malformed(name)
    return str(value)


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    if type(value) not in (int, float):
        raise Malformed(name)
    return float(value)  # type: ignore[arg-type]


def _change(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    """The edit that a request asks for.

    Raises:
        Malformed: it asks for none.
    """
    action = body.get("action")
    if action == "restore":
        return _restore(body, assets)
    if action == "answer":
        pair = _whole(body, "a"), _whole(body, "b")
        answer, move = _one_of(body, "answer", "same", "different"), body.get("move")
        if move is not None and not (isinstance(move, list) and all(type(k) is int for k in move)):
            raise Malformed("move")
        return lambda p, ids: session.answer_pair(p, *pair, answer, ids, move)
    clip = _whole(body, "clip")

    def frames(p: Proposals) -> session.FrameTimes:
        found = p.clips.compilation_id[p.clips.clip_id == clip]
        if not len(found):
            raise Refused(f"There is no clip {clip} any more: choose one of the list")
        try:
            return assets.frame_times(int(found.iloc[0]))
        except UserError as error:
            raise Refused(str(error)) from error

    if action in ("move", "nudge"):
        edge, alone = _one_of(body, "edge", "start", "end"), bool(body.get("alone"))
        if action == "move":
            index = _whole(body, "frame")
            return lambda p, ids: session.move(p, clip, edge, index, frames(p), alone=alone)
        by = _whole(body, "by", -1000)
        return lambda p, ids: session.nudge(p, clip, edge, by, frames(p), alone=alone)
    if action == "cut":
        at = _whole(body, "frame")
        return lambda p, ids: session.cut(p, clip, at, frames(p), ids)
    if action == "merge":
        other = _whole(body, "other")
        return lambda p, ids: session.merge(p, clip, other)
    if action == "song":
        song = None if body.get("song") is None else _whole(body, "song")
        return lambda p, ids: session.set_song(p, clip, song, ids)
    if action == "dancers":
        n = _whole(body, "n")
        return lambda p, ids: session.set_dancers(p, clip, n)
    if action == "accept":
        return lambda p, ids: session.accept(p, clip)
    if action == "reject":
        return lambda p, ids: session.reject(p, clip)
    raise Malformed("action")


def _restore(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    compilation, start, end = _whole(body, "compilation"), _number(body, "start"), _number(body, "end")

    def change(p: Proposals, ids: Ids) -> Edit:
        try:
            frames = assets.frame_times(compilation)
        except UserError:
            frames = None
        return session.restore(p, compilation, start, end, ids, frames)

    return change


# ------------------------------------------------------------------------------------------- endpoints


class App:
    """The endpoints of a review."""

    def __init__(self, review: Review, nonce: str) -> None:
        self.review, self.assets, self.nonce = review, review.assets, nonce
        self.decoders = anyio.CapacityLimiter(_DECODERS)
        self.listeners = anyio.CapacityLimiter(1)  # beats: librosa keeps a core busy for a second
        self.routes = [
            Route("/", self.page),
            Route("/favicon.ico", self.icon),
            Route("/static/{name:path}", self.static),
            Route("/api/state", self.state),
            Route("/api/revision", self.revision),
            Route("/api/edit", self.edit, methods=["POST"]),
            Route("/api/place", self.place, methods=["POST"]),
            Route("/api/candidates/{compilation:int}", self.candidates),
            Route("/api/beats/{clip:int}", self._media(self.beats)),
            Route("/api/poses/{clip:int}", self._media(self.poses)),
            Route("/media/{compilation:int}/video", self._media(self.video)),
            Route("/media/{compilation:int}/facts", self._media(self.facts)),
            Route("/media/{compilation:int}/frames", self._media(self.frames)),
            Route("/media/{compilation:int}/outline", self._media(self.outline)),
            Route("/media/{compilation:int}/{size}/{index:int}.jpg", self._media(self.picture)),
        ]

    async def page(self, request: Request) -> Response:
        """The page itself."""
        html = _static_file("index.html").decode().replace("{{nonce}}", self.nonce)
        return Response(html, media_type="text/html")

    async def icon(self, request: Request) -> Response:
        """There is none."""
        return Response(status_code=204)

    async def static(self, request: Request) -> Response:
        """Scripts and styles."""
        name = request.path_params["name"]
        if name not in _STATIC:
            return _refuse(404, "There is no such file.")
        return Response(_static_file(name), media_type=_STATIC[name])

    async def state(self, request: Request) -> Response:
        """Everything the page shows."""
        return JSONResponse(await run_in_threadpool(self.review.state))

    async def revision(self, request: Request) -> Response:
        """Which files lie there: asked for every few seconds."""
        return JSONResponse({"revision": await run_in_threadpool(revision_of, self.review.folder)})

    async def edit(self, request: Request) -> Response:
        """Make an edit and save it; or undo or redo one."""
        body = await _object(request)
        if body is None or not isinstance(body.get("revision"), str):
            return _refuse(400, "The request is not an edit.")
        revision, action = str(body["revision"]), body.get("action")
        try:
            if action in ("undo", "redo"):
                made = await run_in_threadpool(getattr(self.review, str(action)), revision)
            else:
                made = await run_in_threadpool(self.review.edit, revision, _change(body, self.assets))
        except Malformed as error:
            return _refuse(400, f"The request is not an edit: {error} is missing or not what it should be.")
        except SplitNeeded as error:
            return _refuse(422, f"{error}.", clips=error.clips, suggested=error.suggested)
        except Stale:
            state = await run_in_threadpool(self.review.state)
            sentence = (
                "The files were changed elsewhere, so this edit was not made: look at the new state and repeat it."
            )
            return _refuse(409, sentence, state=state)
        except Broken:
            state = await run_in_threadpool(self.review.state)
            return _refuse(423, "The files hold mistakes: mend them first.", state=state)
        except UserError as error:
            return _refuse(422, str(error).rstrip(".") + ".")
        state = await run_in_threadpool(self.review.state)
        return JSONResponse({"what": made.what, "clip": made.clip_id, "state": state})

    async def place(self, request: Request) -> Response:
        """Where the person is."""
        body = await _object(request)
        if body is None or not set(body) <= _PLACE_KEYS or len(json.dumps(body)) > 2000:
            return _refuse(400, "The request is not a place.")
        await run_in_threadpool(self.review.remember, body)
        return Response(status_code=204)

    async def candidates(self, request: Request) -> Response:
        """Instants of a compilation that were considered as boundaries."""
        now = await run_in_threadpool(self.review.look)
        return JSONResponse([] if now is None else candidates(now, request.path_params["compilation"]))

    # ------------------------------------------------------------------------------------- media

    def _media(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except UserError as error:
                return _refuse(404, str(error))

        return answer

    async def _decoded(self, make: Callable[..., Any], *args: Any) -> Any:
        return await anyio.to_thread.run_sync(make, *args, limiter=self.decoders)

    async def video(self, request: Request) -> Response:
        """A compilation as it lies there, whole or a range of it."""
        path = self.assets.source(request.path_params["compilation"])
        kind = _VIDEO_TYPES.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=kind, content_disposition_type="inline")

    async def facts(self, request: Request) -> Response:
        """Length and size of a video."""
        found = await self._decoded(self.assets.facts, request.path_params["compilation"])
        return JSONResponse(vars(found) | {"outline_hz": PEAKS_HZ})

    async def frames(self, request: Request) -> Response:
        """When the pictures come: float64, little-endian."""
        found = await self._decoded(self.assets.frame_times, request.path_params["compilation"])
        return Response(found.times.astype("<f8").tobytes(), media_type="application/octet-stream")

    async def outline(self, request: Request) -> Response:
        """The sound's outline, uint8."""
        data = await self._decoded(self.assets.peaks, request.path_params["compilation"])
        return Response(data, media_type="application/octet-stream")

    async def picture(self, request: Request) -> Response:
        """One picture as JPEG."""
        size = request.path_params["size"]
        if size not in ("small", "large"):
            return _refuse(404, "There is no such picture.")
        where = request.path_params
        data = await self._decoded(self.assets.picture, where["compilation"], where["index"], size)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def _clip(self, request: Request) -> tuple[int, float, float]:
        now = await run_in_threadpool(self.review.look)
        clips = (
            None
            if now is None
            else now.clips[now.clips.clip_id == request.path_params["clip"]].dropna(subset=["start_s", "end_s"])
        )
        if clips is None or not len(clips):
            raise UserError("There is no such clip.")
        row = clips.iloc[0]
        return int(row.compilation_id), float(row.start_s), float(row.end_s)

    async def beats(self, request: Request) -> Response:
        """Beats and tempo of a clip."""
        clip = await self._clip(request)
        data = await anyio.to_thread.run_sync(self.assets.beats, *clip, limiter=self.listeners)
        return Response(data, media_type="application/json")

    async def poses(self, request: Request) -> Response:
        """Poses of a clip: int32 frames and dancers, then float32 (frames, dancers, 25, 3), all little-endian."""
        found = await self._decoded(self.assets.poses, *await self._clip(request))
        if found is None:
            return Response(status_code=204)
        head = np.array(found.shape[:2], "<i4").tobytes()
        return Response(head + found.astype("<f4").tobytes(), media_type="application/octet-stream")


async def _object(request: Request) -> dict[str, Any] | None:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _static_file(name: str) -> bytes:
    return (resources.files("tiktok_dm.curate.review") / "static" / name).read_bytes()


def create_app(folder: Path | str, sources: Mapping[int, Path]) -> ASGIApp:
    """The application for one folder of proposals.

    Args:
        sources: the video of each compilation that is on this machine, by id.
    """
    folder, nonce = Path(folder), secrets.token_urlsafe(16)
    app = App(Review(folder, Assets(work_folder(folder), sources)), nonce)
    return Guard(Starlette(routes=app.routes), nonce)


def find_sources(folder: Path, media: Path | None) -> dict[int, Path]:
    """The videos of a folder's compilations: in `media` by their names, else where they were when it was proposed.

    Raises:
        UserError: `media` is not a folder, or several of its files could be one compilation.
    """
    from tiktok_dm.pipeline.acquire import find_local

    known = read_sources(folder)
    if media is None:
        return known
    if not media.is_dir():
        raise UserError(f"{media} is not a folder: give the one that holds the videos")
    try:
        table = read_proposals(folder).annotations.compilations
    except ProblemsError:  # the page will name them
        return known
    found = {}
    for number, file in zip(table.compilation_id, table.file, strict=True):
        path = find_local(media, int(number), file if isinstance(file, str) else None)
        if path is not None:
            found[int(number)] = path
    if not found:
        raise UserError(
            f"{media} holds none of the videos of {folder}: give the folder with the files of compilations.csv"
        )
    sources = known | found
    write_sources(folder, sources)
    return sources


def serve(
    folder: Path, *, media: Path | None = None, host: str = "127.0.0.1", port: int = 0, open_browser: bool = True
) -> None:
    """Hold a review until it is interrupted; prints the page's address.

    Args:
        folder: of proposals.
        media: folder with the videos; by default they are looked for where they were when it was proposed.
        host: of the loopback interface.
        port: 0 for any that is free.

    Raises:
        UserError: the folder is none, or the port is taken.
    """
    import uvicorn

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the one that `tiktok-dm propose --out` wrote")
    if host not in _HOSTS:
        raise UserError(f"{host} is not this machine's own: a review is held on 127.0.0.1 alone")
    sources = find_sources(folder, media)
    listening = socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # by now, so that no second server binds the port: only one can listen
    except OSError as error:
        listening.close()
        raise UserError(f"port {port} cannot be had ({error.strerror}): choose another with --port") from error
    address = f"http://{'[::1]' if host == '::1' else host}:{listening.getsockname()[1]}/"
    print(
        f"Review of {folder} at {address} (end it with Ctrl+C; every edit is saved at once)",
        file=sys.stderr,
        flush=True,
    )
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        create_app(folder, sources), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
