"""The review's web server: starting it, its routes, and what stands before them.

Only this machine can reach it: it listens on the loopback interface, goes by no other name (against DNS rebinding) and
takes edits from its own page alone. Files are found by ids that are known, never by a path from a request.

Every edit is on disk before it is answered, and carries the revision that it was made on: one made on older files is
refused with status 409 and the new state.

What would spoil a session is said before it begins, while nothing is changed yet: no proposals, mistakes in the tables,
a place that cannot be written, videos that are gone or are others by now.
"""

from __future__ import annotations

import re
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tiktok_dm.curate.proposals import Proposals, read_proposals, read_sources, revision_of, work_folder, write_sources
from tiktok_dm.curate.review.assets import PEAKS_HZ, Assets
from tiktok_dm.curate.review.edits import Malformed, SplitNeeded, edit_asked
from tiktok_dm.curate.review.session import Broken, Session, Stale, candidates, is_place
from tiktok_dm.errors import UserError
from tiktok_dm.web_guard import LOOPBACK, guarded, is_json, read_json, refuse, same_site

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
_DECODERS = 2  # pictures and sounds decoded at a time: more would only wait for each other
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def _from_elsewhere(request: Request, cookie: str = "", token: str = "") -> Response | None:
    """The refusal of a request that the page did not make; a link from elsewhere may open the page, no more."""
    if re.search(r"\d{10}", request.url.path):
        return refuse(404, "There is no such thing.")
    opens = request.method == "GET" and request.url.path == "/"
    if token and opens and secrets.compare_digest(request.query_params.get("token", "").encode(), token.encode()):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
        return answer
    if token and not secrets.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
        return refuse(403, "Open the review by the link that the command printed when it was started.")
    if not same_site(request.headers) and not (request.method == "GET" and request.url.path == "/"):
        return refuse(403, "The request comes from another site.")
    if request.method not in ("GET", "HEAD") and not is_json(request.headers):
        return refuse(415, "The request should be JSON.")
    return None


class App:
    """The endpoints of a review."""

    def __init__(self, session: Session, nonce: str) -> None:
        self.session, self.assets, self.nonce = session, session.assets, nonce
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
            return refuse(404, "There is no such file.")
        return Response(_static_file(name), media_type=_STATIC[name])

    async def state(self, request: Request) -> Response:
        """Everything the page shows."""
        return JSONResponse(await run_in_threadpool(self.session.state))

    async def revision(self, request: Request) -> Response:
        """Which files lie there: asked for every few seconds."""
        return JSONResponse({"revision": await run_in_threadpool(revision_of, self.session.folder)})

    async def edit(self, request: Request) -> Response:
        """Make an edit and save it; or undo or redo one."""
        body = await _object(request)
        if body is None or not isinstance(body.get("revision"), str):
            return refuse(400, "The request is not an edit.")
        revision, action = str(body["revision"]), body.get("action")
        try:
            if action in ("undo", "redo"):
                made = await run_in_threadpool(getattr(self.session, str(action)), revision)
            else:
                made = await run_in_threadpool(self.session.edit, revision, edit_asked(body, self.assets))
        except Malformed as error:
            return refuse(400, f"The request is not an edit: {error} is missing or not what it should be.")
        except SplitNeeded as error:
            return refuse(422, f"{error}.", clips=error.clips, suggested=error.suggested)
        except Stale:
            state = await run_in_threadpool(self.session.state)
            sentence = (
                "The files were changed elsewhere, so this edit was not made: look at the new state and repeat it."
            )
            return refuse(409, sentence, state=state)
        except Broken:
            state = await run_in_threadpool(self.session.state)
            return refuse(423, "The files hold mistakes: mend them first.", state=state)
        except UserError as error:
            return refuse(422, str(error).rstrip(".") + ".")
        state = await run_in_threadpool(self.session.state)
        return JSONResponse({"what": made.what, "clip": made.clip_id, "state": state})

    async def place(self, request: Request) -> Response:
        """Where the person is."""
        body = await _object(request)
        if body is None or not is_place(body):
            return refuse(400, "The request is not a place.")
        try:
            await run_in_threadpool(self.session.remember, body)
        except (OSError, UserError):  # a full disk, say: an edit says so, and this can wait
            return refuse(422, "The place cannot be kept for the next session.")
        return Response(status_code=204)

    async def candidates(self, request: Request) -> Response:
        """Instants of a compilation that were considered as boundaries."""
        now = await run_in_threadpool(self.session.refresh)
        return JSONResponse([] if now is None else candidates(now, request.path_params["compilation"]))

    # ------------------------------------------------------------------------------------- media

    def _media(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except UserError as error:
                return refuse(404, str(error))

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
            return refuse(404, "There is no such picture.")
        where = request.path_params
        data = await self._decoded(self.assets.picture, where["compilation"], where["index"], size)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def _clip(self, request: Request) -> tuple[int, float, float] | None:
        """Where a clip lies; None for one that is no more, whose page asked while it was rejected or merged."""
        now = await run_in_threadpool(self.session.refresh)
        clips = (
            None
            if now is None
            else now.clips[now.clips.clip_id == request.path_params["clip"]].dropna(subset=["start_s", "end_s"])
        )
        if clips is None or not len(clips):
            if self.session.gave(request.path_params["clip"]):
                return None
            raise UserError("There is no such clip.")
        row = clips.iloc[0]
        return int(row.compilation_id), float(row.start_s), float(row.end_s)

    async def beats(self, request: Request) -> Response:
        """Beats and tempo of a clip."""
        clip = await self._clip(request)
        if clip is None:
            return Response(status_code=204)
        data = await anyio.to_thread.run_sync(self.assets.beats, *clip, limiter=self.listeners)
        return Response(data, media_type="application/json")

    async def poses(self, request: Request) -> Response:
        """Poses of a clip: int32 frames and dancers, then float32 (frames, dancers, 25, 3), all little-endian."""
        clip = await self._clip(request)
        found = None if clip is None else await self._decoded(self.assets.poses, *clip)
        if found is None:
            return Response(status_code=204)
        head = np.array(found.shape[:2], "<i4").tobytes()
        return Response(head + found.astype("<f4").tobytes(), media_type="application/octet-stream")


async def _object(request: Request) -> dict[str, Any] | None:
    try:
        body = read_json(await request.body())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _static_file(name: str) -> bytes:
    return (resources.files("tiktok_dm.curate.review") / "static" / name).read_bytes()


def create_app(folder: Path | str, sources: Mapping[int, Path], token: str = "") -> ASGIApp:
    """The application for one folder of proposals.

    Args:
        sources: the video of each compilation that is on this machine, by id.
        token: what the link to the page carries (`/?token=TOKEN`), so that other accounts of the machine can't write;
            empty: nobody is asked for one.
    """
    folder, nonce = Path(folder), secrets.token_urlsafe(16)
    app = App(Session(folder, Assets(work_folder(folder), sources)), nonce)
    policy = _POLICY.format(nonce=nonce)
    # A browser sends cookies to every port of a machine: each start has a cookie of its own name.
    refusal = partial(_from_elsewhere, cookie=f"review-{nonce[:8]}", token=token)
    return guarded(app.routes, hosts=LOOPBACK, policy=policy, max_body=MAX_BODY, refusal=refusal)


def opened(folder: Path) -> Proposals:
    """The proposals of a folder that can be reviewed.

    Raises:
        UserError: it is no folder of proposals, or nothing can be saved there.
        ProblemsError: anything is wrong in its tables.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the one that `tiktok-dm propose --out` wrote")
    # A change that was cut off lies in `.pending` until the tables are read.
    if not any((folder / name).exists() for name in ("clips.csv", ".pending")):
        raise UserError(f"{folder} holds no clips.csv: give the folder that `tiktok-dm propose --out` wrote")
    for place in (folder, work_folder(folder)):
        try:
            place.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            raise UserError(
                f"{place} cannot be written ({error.strerror}): a review saves every edit there, so allow it first"
            ) from error
    try:
        return read_proposals(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be read ({error.strerror}): allow it first") from error


def find_sources(folder: Path, media: Path | None) -> dict[int, Path]:
    """The videos of a folder's compilations: in `media` by their names, else where they were when it was proposed.

    Raises:
        UserError: `media` is not a folder or holds none of them, or several of its files could be one compilation.
    """
    from tiktok_dm.pipeline.acquire import find_local

    known = read_sources(folder)
    if media is None:
        return known
    if not media.is_dir():
        raise UserError(f"{media} is not a folder: give the one that holds the videos")
    table = read_proposals(folder).annotations.compilations
    found = {}
    for number, file in zip(table.compilation_id, table.file, strict=True):
        path = find_local(media, int(number), file if isinstance(file, str) else None)
        if path is not None:
            found[int(number)] = path
    if not found:
        raise UserError(
            f"{media} holds none of the videos of {folder}: give the folder with the files of compilations.csv"
        )
    return known | found


def check_sources(proposals: Proposals, sources: dict[int, Path]) -> list[int]:
    """Whether the videos are those that the proposals were made from.

    Checksums are kept in the work folder, so that they are computed again only for files that changed.

    Returns:
        Compilations whose video is not on this machine.

    Raises:
        UserError: none is, or one is another file by now.
    """
    folder, table = proposals.root, proposals.annotations.compilations
    missing = [int(number) for number in table.compilation_id if int(number) not in sources]
    if not sources:
        raise UserError(
            f"none of the videos of {folder} is where it was when it was proposed: name the folder that holds them "
            "with --media"
        )
    assets = Assets(work_folder(folder), sources)
    for number, known in zip(table.compilation_id, table.sha256, strict=True):
        if isinstance(known, str) and int(number) in sources and assets.checksum(int(number)) != known.lower():
            raise UserError(
                f"{sources[int(number)]} is not the video that compilation {number} was proposed from (its SHA-256 is "
                "another): name the folder that holds that one with --media, or propose the new one into a new folder"
            )
    return missing


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
        UserError: as `opened` and `check_sources`; or the port is taken.
    """
    import uvicorn

    folder = Path(folder)
    if host not in LOOPBACK:
        raise UserError(f"{host} is not this machine's own: a review is held on 127.0.0.1 alone")
    proposals = opened(folder)
    sources = find_sources(folder, media)
    missing = check_sources(proposals, sources)
    if media is not None:
        write_sources(folder, sources)
    listening = socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # by now, so that no second server binds the port: only one can listen
    except OSError as error:
        listening.close()
        raise UserError(f"port {port} cannot be had ({error.strerror}): choose another with --port") from error
    token = secrets.token_urlsafe(16)
    address = f"http://{'[::1]' if host == '::1' else host}:{listening.getsockname()[1]}/?token={token}"
    print(
        f"Review of {folder} at {address} (end it with Ctrl+C; every edit is saved at once)",
        file=sys.stderr,
        flush=True,
    )
    if missing:
        told = f"compilation{'' if len(missing) == 1 else 's'} {', '.join(map(str, missing))}"
        print(f"note: the videos of {told} are not here: name their folder with --media", file=sys.stderr, flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        create_app(folder, sources, token), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
