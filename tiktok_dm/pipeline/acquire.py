"""The acquire stage: a compilation as a whole, checked file, from a local folder or from its link.

It probes, counts bytes, takes the checksum, and says why a source cannot be had. Not for cutting (`segment`), and not
for how yt-dlp is driven and its errors sorted (`downloads`). What is finished is kept under a content key by the
caller, so a finished download is not fetched again.
"""

from __future__ import annotations

import re
import shutil
import time
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from tiktok_dm.errors import DiskFull, Gone, MediaError, UserError, is_no_room
from tiktok_dm.files import sha256_file
from tiktok_dm.network import NotPublic, public_only
from tiktok_dm.pipeline.downloads import (
    NO_FFMPEG,
    NO_JAVASCRIPT,
    RETRY,
    STOP,
    AcquireParams,
    Refused,
    StopAsking,
    TemporaryFailure,
    check_url,
    classify,
    guarded_downloader,
    http_status,
    is_youtube,
    javascript_runtime,
    too_large,
    too_long,
    ytdlp_options,
)

__all__ = [
    "VERSION",
    "VIDEO_SUFFIXES",
    "AcquireParams",
    "StopAsking",
    "TemporaryFailure",
    "acquire_local",
    "acquire_url",
    "find_local",
    "javascript_runtime",
    "named_after",
]

VERSION = 1

VIDEO_SUFFIXES = {
    ".mp4",
    ".mkv",
    ".webm",
    ".mov",
    ".m4v",
    ".avi",
    ".ts",
    ".mts",
    ".m2ts",
    ".flv",
    ".wmv",
    ".mpg",
    ".mpeg",
}
# What a page may tell of its video, by the same names in the record.
_TOLD = ("title", "uploader", "upload_date", "license")
# A whole file has a picture, or at least sound, this close to the end that its header states (a tenth of a short file).
_TAIL_S = 1.5


def find_local(media_dir: Path, compilation_id: int, file: str | None) -> Path | None:
    """The local file of a compilation, or None.

    Args:
        media_dir: folder with compilations.
        compilation_id: a file named after it counts: `3.mp4`, `000003.mkv`, `compilation_3.webm`.
        file: name in the annotations; it is looked for first, then in any case and Unicode form.

    Raises:
        UserError: several files are named after the id or like `file`, or `file` points out of the folder.
    """
    media_dir = Path(media_dir)
    if file:
        named = Path(file)
        if named.is_absolute() or ".." in named.parts:
            raise UserError(
                f"'{file}' of compilation {compilation_id} points out of the media folder: give a plain name"
            )
        if (media_dir / named).is_file():
            return media_dir / named
        folder = media_dir / named.parent
        here = sorted(folder.iterdir()) if folder.is_dir() else []
        alike = [path for path in here if _plain(path.name) == _plain(named.name) and path.is_file()]
        if len(alike) > 1:
            names = " and ".join(repr(path.name) for path in alike)
            raise UserError(
                f"{names} in {media_dir} could all be '{file}' of compilation {compilation_id}: write its name as it is"
            )
        if alike:
            return alike[0]
    pattern = named_after(compilation_id)
    found = sorted(
        path
        for path in media_dir.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and pattern.fullmatch(path.stem) and path.is_file()
    )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{names} in {media_dir} could all be compilation {compilation_id}: leave one of them there")
    return found[0] if found else None


def _plain(name: str) -> str:
    """A file name as it is compared: in any case, and in any Unicode form, since a Mac writes accents otherwise."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def named_after(compilation_id: int) -> re.Pattern[str]:
    """What the stem of a file that is named after a compilation matches: `3`, `000003`, `compilation_3`."""
    return re.compile(rf"(compilation[_ -]?)?0*{compilation_id}", re.IGNORECASE)


def acquire_local(path: Path) -> dict[str, Any]:
    """Probe and checksum a local file; it stays where it is.

    Returns:
        `file` (name), `sha256`, `bytes`, `probe` (see `tiktok_dm.media.Probe`), `extractor` (`local`).

    Raises:
        MediaError: missing, empty, broken or not a video.
    """
    path = Path(path)
    probe = _probe(path)
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "bytes": path.stat().st_size,
        "probe": probe,
        "extractor": "local",
    }


def acquire_url(
    url: str,
    params: AcquireParams,
    out: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
    random: Random | None = None,
) -> dict[str, Any]:
    """Download a whole video to `out`/source.<ext>.

    What an earlier, killed attempt left in `out` is thrown away: its bytes may be of another version of the video.
    Within one call a broken-off download goes on where it was, if the server can do that.

    A 403 or 404 for the page (or for a plain file) is final after the retries; once a page has answered, the same
    status from its content network is not, since such links run out.

    Args:
        url: the video's page or file, http or https.
        params: see `AcquireParams`.
        out: folder, empty.
        sleep: waits so many seconds; for tests.
        random: varies the pauses.

    Returns:
        As `acquire_local`, and `extractor`, `extractor_version` (yt-dlp's), `url` (the page's own address), and what
        the page tells of `video_id`, `title`, `uploader`, `upload_date`, `license`, `format`.

    Raises:
        UserError: not an http(s) link, no cookies file, no JavaScript runtime for YouTube.
        Gone: not to be had, and another try is not worth it.
        StopAsking: the host took us for a robot or asked for a pause.
        TemporaryFailure: a later run may try again.
        DiskFull: no room.
    """
    import tenacity

    from tiktok_dm.media import ffmpeg_executable

    check_url(url)
    if is_youtube(url):
        if javascript_runtime() is None:
            raise UserError(NO_JAVASCRIPT)
        if ffmpeg_executable() is None:
            raise UserError(NO_FFMPEG)
    random = random or Random()
    for left in out.glob("source*"):
        left.unlink()

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(1 + params.retries),
        wait=tenacity.wait_exponential(multiplier=params.backoff_s, max=60),
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, TemporaryFailure | Gone) and error.reason in RETRY
        ),
        sleep=sleep,
        reraise=True,
    )
    info, path, probe = retrying(_attempt, url, params, out, sleep, random)
    record = {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size, "probe": probe}
    record |= {"extractor": str(info.get("extractor") or ""), "extractor_version": _ytdlp_version()}
    record["url"] = str(info.get("webpage_url") or url)
    told = {"video_id": "id", "format": "format_id"} | {name: name for name in _TOLD}
    return record | {ours: str(info[theirs]) for ours, theirs in told.items() if info.get(theirs)}


def _attempt(
    url: str, params: AcquireParams, out: Path, sleep: Callable[[float], None], random: Random
) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    options = ytdlp_options(params, out, youtube=is_youtube(url))
    messages = options["logger"] = _Messages()
    downloader = guarded_downloader(options, params, sleep, random)
    page_seen = False
    try:
        with public_only(params.allow_private):
            info = downloader.extract_info(url, download=False)
            _check_info(info, params)
            page_seen = not info.get("direct")
            info = downloader.process_ie_result(info, download=True)
    except (TemporaryFailure, Gone):
        raise
    except Refused as error:
        raise Gone("unsupported", str(error)) from error
    except Exception as error:
        if _is_not_public(error):
            raise Gone("unsupported", "the link is refused: it leads to an address that is not public") from error
        raise _sorted(error, messages, page_seen, out) from error
    finally:
        downloader.close()
    return info, *_whole_file(out, params, messages)


def _is_not_public(error: BaseException | None) -> bool:
    """Whether the guard refused an address, however deep yt-dlp has wrapped that."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NotPublic):
            return True
        inner = getattr(error, "exc_info", None)
        error = (inner[1] if inner else None) or getattr(error, "cause", None) or error.__cause__ or error.__context__
    return False


def _check_info(info: dict[str, Any] | None, params: AcquireParams) -> None:
    """Look at what the page tells before the download begins."""
    if info is None:
        raise TemporaryFailure("unknown", "the page told nothing")
    if info.get("_type", "video") != "video":
        raise Gone("unsupported", "the link leads to a list of videos: give the link of one video")
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
        raise TemporaryFailure("not_yet", "the video is live, or still to come")
    if (info.get("duration") or 0) > params.max_duration_s:
        raise too_long(info["duration"], params)
    size = sum(part.get("filesize") or 0 for part in info.get("requested_formats") or [info])
    if size > params.max_bytes:
        raise too_large(size, params)


def _whole_file(out: Path, params: AcquireParams, messages: _Messages) -> tuple[Path, dict[str, Any]]:
    """The downloaded file and its probe, or the reason why it is none."""
    found = [path for path in sorted(out.glob("source.*")) if path.suffix not in (".part", ".ytdl")]
    if len(found) != 1:
        raise TemporaryFailure("unknown", messages.last() or "the download left no file")
    (path,) = found
    size = path.stat().st_size
    try:
        if size > params.max_bytes:
            raise too_large(size, params)
        try:
            probe = _probe(path)
            whole = _has_tail(path, probe)
        except MediaError as error:
            text = str(error)
            if "truncated" in text or "empty" in text:
                raise TemporaryFailure("truncated", text) from error
            raise Gone("not_a_video", text) from error
        if not whole:
            text = f"the file breaks off before the {probe['duration_s']:.1f} s that its header states"
            raise TemporaryFailure("truncated", text)
        if probe["duration_s"] > params.max_duration_s:
            raise too_long(probe["duration_s"], params)
    except (TemporaryFailure, Gone):
        path.unlink()
        raise
    # Names beyond this project's own say nothing, and the extension came from a stranger.
    named = out / f"source{path.suffix.lower() if path.suffix.lower() in VIDEO_SUFFIXES else '.bin'}"
    if named != path:
        shutil.move(path, named)
    return named, probe


def _has_tail(path: Path, probe: dict[str, Any]) -> bool:
    from tiktok_dm.media import read_audio, read_frames

    start_s = max(0.0, probe["duration_s"] - min(_TAIL_S, max(0.25, 0.1 * probe["duration_s"])))
    if any(True for _ in read_frames(path, start_s=start_s, size=(16, 16))):
        return True
    # Sound may run on after the last picture.
    return probe["audio"] is not None and bool(read_audio(path, start_s=start_s).any())


def _sorted(error: BaseException, messages: _Messages, page_seen: bool, out: Path) -> Exception:
    """The exception that says what an exception of yt-dlp means."""
    raw = re.sub(r"^ERROR:\s*", "", str(error) or messages.last() or type(error).__name__)
    if is_no_room(error) or re.search(r"\[Errno (27|28|122)\]|No space left|Disk quota exceeded", raw):
        return DiskFull(f"no room left to download into {out}: make room there, then run the same command again")
    reason, permanent = classify(raw, http_status(error))
    if reason in STOP:
        return StopAsking(reason, raw)
    if permanent and not (page_seen and reason in ("forbidden", "not_found")):
        return Gone(reason, raw)
    return TemporaryFailure(reason, raw)


class _Messages:
    """Keeps what yt-dlp would print."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def debug(self, message: str) -> None:
        if "larger than max-filesize" in message:
            self.errors.append(message)

    def info(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        pass

    def error(self, message: str) -> None:
        self.errors.append(message)

    def last(self) -> str:
        return self.errors[-1] if self.errors else ""


def _probe(path: Path) -> dict[str, Any]:
    from tiktok_dm.media import probe

    try:
        return asdict(probe(path))
    except MediaError as error:
        # Sentences end up in the published ledger, which knows no folders.
        raise MediaError(str(error).replace(str(path), path.name)) from error


def _ytdlp_version() -> str:
    from yt_dlp.version import __version__

    return str(__version__)
