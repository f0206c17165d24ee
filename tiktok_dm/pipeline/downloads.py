"""What can go wrong with a download, sorted; and yt-dlp held to the limits that this project sets.

yt-dlp finds and fetches the video. Here are its settings, a guard on every request it makes (scheme, pauses, size,
time), and the words for its errors. Not for the acquire stage itself (`acquire`): records, retries, whole files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from tiktok_dm.errors import Unavailable, UserError


class TemporaryFailure(Unavailable):
    """The source could not be had now; a later run may try again."""


class StopAsking(TemporaryFailure):
    """The host took us for a robot or asked us to slow down: ask it no more in this run."""


# Reasons that end all requests to a host for the rest of the run.
STOP = frozenset({"bot_check", "rate_limited"})
# Reasons that are worth another attempt at once. A 403 often is a content network's passing mood.
RETRY = frozenset({"network", "server_error", "truncated", "forbidden"})

# The first pattern that fits wins, so the narrow ones come first. (reason, permanent, pattern)
_PATTERNS: tuple[tuple[str, bool, str], ...] = (
    ("bot_check", False, r"not a (ro)?bot|anti-bot|captcha|verify (that )?you are human|unusual traffic"),
    (
        "rate_limited",
        False,
        r"HTTP Error 429|too many requests|rate.?limit|(your )?IP( address)? (is|has been) blocked|try again later",
    ),
    ("drm", True, r"\bDRM\b"),
    ("copyright", True, r"copyright"),
    (
        "region",
        True,
        r"geo.?restrict|not (made this video )?available (in|from) your (country|location|region)"
        r"|blocked (it )?in your country",
    ),
    ("private", True, r"\bprivate\b|do not have permission to view"),
    (
        "login_required",
        False,
        r"sign in|log ?in|logged.in|members.only|join this channel|registered users|confirm your age|age.restricted"
        r"|requires? (payment|purchase|authentication|a subscription)|HTTP Error 40[17]|authorization required",
    ),
    (
        "removed",
        True,
        r"(has been|was) (removed|deleted|taken down)|no longer (available|exists)|account .{0,80}terminated"
        r"|video (is )?(unavailable|not available)|does not exist|isn.t available",
    ),
    ("not_yet", False, r"premieres in|live event will begin|will begin in|has not (yet )?(started|aired)"),
    (
        "unsupported",
        True,
        r"unsupported URL|is not a valid URL|no video (formats )?found|there.s no video"
        r"|no connection adapters were found|redirection to url .{0,200} is not allowed",
    ),
    ("no_ffmpeg", False, r"ffmpeg .{0,40}(not|could not be) (installed|found)|ffprobe and ffmpeg not found"),
    ("no_format", False, r"requested format is not available"),
    ("not_found", True, r"HTTP Error (404|410)"),
    ("forbidden", True, r"HTTP Error 403"),
    ("server_error", False, r"HTTP Error 5\d\d"),
    ("truncated", False, r"IncompleteRead|bytes read, \d+ more expected|did not get any data|content too short"),
    (
        "network",
        False,
        r"timed? ?out|connection|name resolution|resolve|getaddrinfo|unreachable|SSL|certificate|remote end closed"
        r"|TransportError|urlopen error|proxy|broken pipe|reset by peer",
    ),
)
_COMPILED = tuple((reason, permanent, re.compile(text, re.IGNORECASE)) for reason, permanent, text in _PATTERNS)
_BY_STATUS = {
    401: "login_required",
    403: "forbidden",
    404: "not_found",
    407: "login_required",
    410: "not_found",
    429: "rate_limited",
}
_PERMANENT = {reason: permanent for reason, permanent, _ in _PATTERNS}


def classify(message: str, http_status: int | None = None) -> tuple[str, bool]:
    """Sort an error of yt-dlp.

    Args:
        message: its text, whole.
        http_status: status of the answer behind it, where there was one.

    Returns:
        (reason, permanent): a permanent one is not worth another try by a later run. `login_required` is not
        permanent because a later run may bring cookies; an unknown message never is.
    """
    # Ids and addresses are chosen by others and say nothing of the cause.
    message = re.sub(r"https?://\S+", "", re.sub(r"^(ERROR:\s*)?\[[^\]]+\] [^:\s]*: ", "", message))
    # What a site says of a video tells more than the bare status that it says it with.
    for reason, permanent, pattern in _COMPILED:
        if reason not in ("forbidden", "not_found", "network", "server_error") and pattern.search(message):
            return reason, permanent
    if http_status is not None:
        reason = _BY_STATUS.get(http_status) or ("server_error" if http_status >= 500 else "")
        if reason:
            return reason, _PERMANENT[reason]
    for reason, permanent, pattern in _COMPILED:
        if pattern.search(message):
            return reason, permanent
    return "unknown", False


@dataclass(frozen=True)
class AcquireParams:
    """How downloads are made.

    Args:
        max_height: greatest height in px (for a tall video: width); the smallest above it where there is none below.
        max_bytes: greatest size of a download; it is ended when it grows past that.
        max_duration_s: greatest length of a video.
        retries: further attempts after the first, for errors that pass (network, 5xx, 403, broken-off bodies).
        backoff_s: pause before the first of them; it doubles each time, up to a minute.
        sleep_requests_s: mean pause before each request for a page, so that no server is hammered; varied by half.
        socket_timeout_s: longest wait for the next bytes.
        timeout_s: longest time for one attempt.
        rate_limit_bytes_s: fastest download.
        cookies: file of cookies in Netscape format; it is never written.
        cookies_from_browser: name of a browser to take cookies from, such as `firefox`.
        allow_private: follow links to addresses that are not public, too.
    """

    max_height: int | None = 720
    max_bytes: int = 4 << 30
    max_duration_s: float = 3 * 3600.0
    retries: int = 4
    backoff_s: float = 2.0
    sleep_requests_s: float = 1.0
    socket_timeout_s: float = 20.0
    timeout_s: float = 2 * 3600.0
    rate_limit_bytes_s: int | None = None
    cookies: Path | None = None
    cookies_from_browser: str | None = None
    allow_private: bool = False


def check_url(url: str) -> None:
    """Refuse everything but a plain http or https link, before anything is asked of anyone.

    Raises:
        UserError: another scheme (file, data, ftp, yt-dlp's search words), no host, or not a link at all.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme.lower() not in ("http", "https") or not host or re.search(r"\s|[\x00-\x1f]", url):
        raise UserError(
            f"'{url[:200]}' is not a link that this program downloads: give the address of the video's page or file,"
            " beginning with https:// or http://"
        )


_YOUTUBE = re.compile(r"(^|\.)(youtube\.com|youtu\.be|youtube-nocookie\.com)$", re.IGNORECASE)


def is_youtube(url: str) -> bool:
    """Whether a link leads to YouTube, which hands out videos only to those who run its JavaScript."""
    return bool(_YOUTUBE.search(urlsplit(url).hostname or ""))


def javascript_runtime() -> str | None:
    """The JavaScript runtime that yt-dlp accepts for YouTube (`deno`, `node`, `bun` or `quickjs`), None without one."""
    return next(iter(_javascript_runtimes()), None)


def _javascript_runtimes() -> dict[str, dict[str, str]]:
    """All accepted runtimes, in yt-dlp's order of preference, as its option `js_runtimes` wants them."""
    from yt_dlp.utils import _jsruntime

    kinds = {"deno": "DenoJsRuntime", "node": "NodeJsRuntime", "bun": "BunJsRuntime", "quickjs": "QuickJsRuntime"}
    found = {}
    for name, kind in kinds.items():
        info = getattr(_jsruntime, kind)().info
        if info is not None and info.supported:
            found[name] = {"path": str(info.path)}
    return found


NO_JAVASCRIPT = (
    "YouTube links need a JavaScript runtime and none was found: install deno (`pip install deno`) or Node.js 22 or"
    " newer, or put the downloaded file into the media folder"
)

NO_FFMPEG = (
    "YouTube hands out picture and sound as two files, and no ffmpeg program that starts was found to join them:"
    " install ffmpeg or run pip install 'tiktok-dm[youtube]', or put the downloaded file into the media folder"
)


def ytdlp_options(params: AcquireParams, out: Path, *, youtube: bool) -> dict[str, Any]:
    """yt-dlp's settings: one whole file, at most so high, no retries of its own (`acquire` counts those)."""
    from tiktok_dm.media import ffmpeg_executable

    ffmpeg = ffmpeg_executable()
    options: dict[str, Any] = {
        "outtmpl": {"default": str(out / "source.%(ext)s")},
        # Two files can be joined by an ffmpeg program only.
        "format": "bv*+ba/b" if ffmpeg else "b",
        # `res` prefers the greatest up to the limit, else the smallest above it; a tall video counts by its width.
        "format_sort": ([f"res:{params.max_height}"] if params.max_height else []) + ["vcodec:h264", "acodec:aac"],
        "merge_output_format": "mp4/mkv",
        "ffmpeg_location": ffmpeg,
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "playlist_items": "1:2",
        "socket_timeout": params.socket_timeout_s,
        "retries": 0,
        "extractor_retries": 0,
        "fragment_retries": params.retries,
        "skip_unavailable_fragments": False,
        "file_access_retries": 1,
        # A block holds about a second's worth of bytes once yt-dlp has met the speed, so it starts with a single one.
        "buffersize": 1,
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "enable_file_urls": False,
        "updatetime": False,
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "color": "never",
        "allow_unplayable_formats": False,
        "js_runtimes": _javascript_runtimes() if youtube else {},
    }
    if params.rate_limit_bytes_s:
        options["ratelimit"] = params.rate_limit_bytes_s
    if params.cookies is not None:
        if not params.cookies.is_file():
            raise UserError(f"the cookies file {params.cookies} does not exist: give one in Netscape format")
        with open(params.cookies, "rb") as file:
            if b"HTTP Cookie File" not in file.readline(200):
                raise UserError(
                    f"{params.cookies} is not a cookies file in Netscape format (its first line does not say so):"
                    " export it again from the browser"
                )
        options["cookiefile"] = str(params.cookies)
    if params.cookies_from_browser:
        options["cookiesfrombrowser"] = (params.cookies_from_browser,)
    return options


# Ways of transport that yt-dlp carries out itself, request by request, so that the guard sees each.
_PROTOCOLS = {"http", "https", "m3u8", "m3u8_native", "http_dash_segments", "http_dash_segments_generator", "ism"}
# A page of more than this is no page.
_PAGE_BYTES = 64 << 20
_RECEIVE = 1 << 18


class _Body:
    """A response's body that comes as it arrives, so that a limit is looked at after every packet.

    The library's own `read(n)` waits until n bytes are there: against a server that sends a byte now and then, it
    waits for ever, since no single wait is long enough for the socket's timeout.
    """

    def __init__(self, body: Any, check: Callable[[int], None]) -> None:
        self._body, self._check = body, check

    def read(self, amount: int | None = None, **options: Any) -> bytes:
        if amount is None or amount < 0:
            return b"".join(iter(lambda: self.read(_RECEIVE, **options), b""))
        read = getattr(self._body, "read1", None) or self._body.read
        data = read(min(amount, _RECEIVE), **options)
        self._check(len(data))
        return cast(bytes, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def guarded_downloader(
    options: dict[str, Any], params: AcquireParams, sleep: Callable[[float], None], random: Random
) -> Any:
    """A `yt_dlp.YoutubeDL` whose every request passes the guard.

    It sends nothing to schemes other than http and https, not even after a redirect; it pauses before each page; it
    ends a download that grows past `max_bytes` or lasts longer than `timeout_s`, with TemporaryFailure.

    Raises:
        UserError: the cookies cannot be read.
    """
    import yt_dlp

    class Guarded(yt_dlp.YoutubeDL):
        downloading = False
        received = 0
        deadline = time.monotonic() + params.timeout_s

        def urlopen(self, req: Any) -> Any:
            self._permit(req if isinstance(req, str) else req.url)
            if not self.downloading and params.sleep_requests_s > 0:
                sleep(params.sleep_requests_s * random.uniform(0.5, 1.5))
            response = super().urlopen(req)
            self._permit(response.url)
            page = 0

            def check(size: int) -> None:
                nonlocal page
                page += size
                if self.downloading:
                    self.received += size
                elif page > _PAGE_BYTES:
                    raise TemporaryFailure("too_large", f"a page of more than {_PAGE_BYTES >> 20} MiB")
                self.check_limits()

            response.fp = _Body(response.fp, check)
            return response

        def check_limits(self) -> None:
            if self.received > params.max_bytes:
                raise too_large(self.received, params)
            if time.monotonic() > self.deadline:
                text = f"not finished after {params.timeout_s:g} s, {self.received} bytes received"
                raise TemporaryFailure("too_slow", text)

        def dl(self, name: str, info: dict[str, Any], subtitle: bool = False, test: bool = False) -> Any:
            for part in info.get("requested_formats") or [info]:
                if (part.get("protocol") or urlsplit(part.get("url") or "").scheme) not in _PROTOCOLS:
                    raise TemporaryFailure("unsupported_transport", f"the video is only offered by {part['protocol']}")
            self.downloading = True
            try:
                return super().dl(name, info, subtitle, test)
            finally:
                self.downloading = False

        def save_cookies(self) -> None:
            """The user's cookie file is read, never written."""

        def _permit(self, url: str) -> None:
            if urlsplit(url).scheme.lower() not in ("http", "https"):
                raise Refused(f"the link leads on to {url[:200]}, which is neither http nor https")

    downloader = Guarded(options, auto_init=False)
    downloader.add_default_info_extractors()
    try:
        _ = downloader.cookiejar
    except Exception as error:
        place = params.cookies_from_browser or params.cookies
        raise UserError(
            f"the cookies of {place} cannot be read ({error}): export them into a file and give that"
        ) from error

    def on_progress(state: dict[str, Any]) -> None:
        total = state.get("total_bytes") or 0
        if total > params.max_bytes:
            raise too_large(total, params)
        downloader.check_limits()

    downloader.add_progress_hook(on_progress)
    return downloader


class Refused(Exception):
    """A request that the guard did not let pass."""


def too_large(size: float, params: AcquireParams) -> TemporaryFailure:
    """Not permanent, since a later run may come with another limit."""
    return TemporaryFailure("too_large", f"{size:.0f} bytes and more, but at most {params.max_bytes} are allowed")


def too_long(seconds: float, params: AcquireParams) -> TemporaryFailure:
    """Not permanent, since a later run may come with another limit."""
    return TemporaryFailure("too_long", f"{seconds:.0f} s long, but at most {params.max_duration_s:.0f} s are allowed")


def http_status(error: BaseException) -> int | None:
    """Status of the HTTP answer behind an exception of yt-dlp, None where there was none."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        status = getattr(one, "status", None)
        if isinstance(status, int) and isinstance(one, BaseException):
            return status
        exc_info = getattr(one, "exc_info", None) or (None, None, None)
        todo += [exc_info[1], getattr(one, "cause", None), one.__cause__, one.__context__]
    return None
