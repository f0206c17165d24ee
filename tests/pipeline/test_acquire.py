"""The acquire stage: local files, and downloads from a server on loopback that behaves well and badly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from http_server import Page, Server, serve

from tiktok_dm.errors import DiskFull, Gone, MediaError, UserError
from tiktok_dm.pipeline import acquire, downloads
from tiktok_dm.pipeline.acquire import (
    AcquireParams,
    StopAsking,
    TemporaryFailure,
    acquire_local,
    acquire_url,
    find_local,
)
from tiktok_dm.pipeline.downloads import check_url, classify, http_status, javascript_runtime, ytdlp_options

PARAMS = AcquireParams(
    allow_private=True, sleep_requests_s=0, backoff_s=0.5, retries=2, socket_timeout_s=5, timeout_s=30
)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> bytes:
    """Five seconds of noise, 96x64 at 30 fps, index first; about half a megabyte."""
    from tiktok_dm.media import write_video

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rng = np.random.default_rng(0)
    write_video(path, (rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(150)), fps=30)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Download:
    """One call of `acquire_url` against one page: its record or error, its pauses, what the server was asked."""

    def __init__(self, tmp_path: Path, page: Page, name: str = "/film.mp4", **changes: object) -> None:
        self.pauses: list[float] = []
        self.record: dict = {}
        self.error: Exception | None = None
        self.out = tmp_path / "out"
        self.out.mkdir(exist_ok=True)
        with serve({name: page}) as server:
            self.server: Server = server
            params = dataclasses.replace(PARAMS, **changes)
            try:
                self.record = acquire_url(
                    server.url(name), params, self.out, sleep=self.pauses.append, random=random.Random(0)
                )
            except Exception as error:
                self.error = error

    @property
    def reason(self) -> str:
        assert isinstance(self.error, Gone | TemporaryFailure), repr(self.error)
        return self.error.reason


def test_a_good_file_comes_whole_and_described(film, tmp_path):
    got = Download(tmp_path, Page(film, ranges=True))
    assert got.error is None
    assert (got.out / got.record["file"]).read_bytes() == film
    assert got.record["file"] == "source.mp4"
    assert got.record["sha256"] == hashlib.sha256(film).hexdigest()
    assert got.record["bytes"] == len(film)
    assert got.record["extractor"] == "generic"
    assert got.record["title"] == "film"
    probe = got.record["probe"]
    assert (probe["width"], probe["height"], probe["fps"], probe["audio"]) == (96, 64, 30, None)
    assert probe["duration_s"] == pytest.approx(5, abs=0.05)
    assert json.loads(json.dumps(got.record)) == got.record
    assert [path.name for path in got.out.iterdir()] == ["source.mp4"]
    # One look at the page, one download, nothing more.
    assert got.server.asked("/film.mp4") == 2


def test_what_is_gone_is_asked_for_once(tmp_path):
    got = Download(tmp_path, Page(statuses=(404,)))
    assert isinstance(got.error, Gone)
    assert got.reason == "not_found"
    assert "HTTP Error 404" in got.error.raw
    assert got.server.asked("/film.mp4") == 1
    assert got.pauses == []


def test_forbidden_is_tried_again_then_gone(tmp_path):
    got = Download(tmp_path, Page(statuses=(403,)))
    assert isinstance(got.error, Gone)
    assert got.reason == "forbidden"
    assert got.server.asked("/film.mp4") == 3
    assert got.pauses == [0.5, 1.0]


def test_forbidden_by_the_content_network_is_not_final(film, tmp_path):
    pages = {
        "/page": Page(
            b"<html><head><title>x</title></head><body><video src='/cdn.mp4'></video></body></html>",
            content_type="text/html",
        ),
        "/cdn.mp4": Page(film, statuses=(403,)),
    }
    with serve(pages) as server, pytest.raises(TemporaryFailure) as failure:
        acquire_url(server.url("/page"), PARAMS, tmp_path, sleep=lambda seconds: None)
    assert failure.value.reason == "forbidden"
    assert server.asked("/page") == 3


def test_a_passing_server_error_is_survived(film, tmp_path):
    got = Download(tmp_path, Page(film, statuses=(500, 503, 200)))
    assert got.record["bytes"] == len(film)
    assert got.pauses == [0.5, 1.0]


def test_a_lasting_server_error_is_bounded(tmp_path):
    got = Download(tmp_path, Page(statuses=(500,)), retries=3)
    assert type(got.error) is TemporaryFailure
    assert got.reason == "server_error"
    assert got.server.asked("/film.mp4") == 4
    assert got.pauses == [0.5, 1.0, 2.0]


def test_too_many_requests_stop_the_asking(tmp_path):
    got = Download(tmp_path, Page(statuses=(429,)))
    assert isinstance(got.error, StopAsking)
    assert got.reason == "rate_limited"
    assert got.server.asked("/film.mp4") == 1


def test_a_broken_off_body_goes_on_where_it_was(film, tmp_path):
    half = len(film) // 2
    # The first request is the look at the page, the second one breaks off.
    got = Download(tmp_path, Page(film, ranges=True, send=(None, half, None)))
    assert got.record["sha256"] == hashlib.sha256(film).hexdigest()
    assert got.server.log[-1] == ("/film.mp4", f"bytes={half}-")
    assert got.pauses == [0.5]


def test_without_ranges_it_begins_again(film, tmp_path):
    got = Download(tmp_path, Page(film, send=(None, len(film) // 2, None)))
    assert got.record["sha256"] == hashlib.sha256(film).hexdigest()


def test_a_body_that_always_breaks_off_fails(film, tmp_path):
    got = Download(tmp_path, Page(film, send=(len(film) // 2,)))
    assert type(got.error) is TemporaryFailure
    assert got.reason == "truncated"
    assert len(got.pauses) == 2
    assert not (got.out / "source.mp4").exists()


def test_a_file_without_its_tail_is_noticed_without_a_stated_length(film, tmp_path):
    # Its index comes first and states five seconds; nothing of the protocol tells that the rest is missing.
    got = Download(tmp_path, Page(film, send=(len(film) * 3 // 4,), length=None))
    assert type(got.error) is TemporaryFailure
    assert got.reason == "truncated"
    assert "breaks off before the 5.0 s" in got.error.raw
    assert not (got.out / "source.mp4").exists()


def test_an_endless_body_ends_at_the_size_limit(film, tmp_path):
    limit = 3 * len(film)
    got = Download(tmp_path, Page(film, endless=True, length=None), max_bytes=limit)
    assert type(got.error) is TemporaryFailure
    assert got.reason == "too_large"
    assert got.pauses == []
    assert sum(path.stat().st_size for path in got.out.iterdir()) <= limit + (4 << 20)


def test_a_stated_size_over_the_limit_ends_at_once(film, tmp_path):
    got = Download(tmp_path, Page(film), max_bytes=len(film) - 1)
    assert got.reason == "too_large"
    assert sum(path.stat().st_size for path in got.out.iterdir()) < 1000


def test_a_dripping_body_ends_at_the_time_limit(film, tmp_path):
    # Every wait for a byte is short; only the whole takes for ever.
    got = Download(tmp_path, Page(film, drip_s=0.005), timeout_s=0.3)
    assert type(got.error) is TemporaryFailure
    assert got.reason == "too_slow"
    assert got.server.asked("/film.mp4") == 2


def test_a_silent_server_ends_at_the_socket_timeout(film, tmp_path):
    got = Download(tmp_path, Page(film, drip_s=30), socket_timeout_s=0.1, retries=0)
    assert type(got.error) is TemporaryFailure
    assert got.reason == "network"


def test_an_endless_page_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_PAGE_BYTES", 1 << 20)
    page = Page(b"<html>" + b" " * 100_000, content_type="text/html", endless=True, length=None)
    assert Download(tmp_path, page, "/page").reason == "too_large"


def test_too_long_a_video_is_refused(film, tmp_path):
    got = Download(tmp_path, Page(film), max_duration_s=4)
    assert type(got.error) is TemporaryFailure
    assert got.reason == "too_long"
    assert got.error.raw == "5 s long, but at most 4 s are allowed"
    assert list(got.out.iterdir()) == []


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1:1/film.mp4", "data:video/mp4;base64,AAAA"])
def test_redirects_to_other_schemes_are_refused(target, tmp_path):
    got = Download(tmp_path, Page(location=target))
    assert isinstance(got.error, Gone)
    assert got.reason == "unsupported"
    assert got.server.asked("/film.mp4") == 1
    assert list(got.out.iterdir()) == []


def test_redirects_within_http_are_followed(film, tmp_path):
    with serve({"/old": Page(location="/film.mp4"), "/film.mp4": Page(film)}) as server:
        record = acquire_url(server.url("/old"), PARAMS, tmp_path)
    assert record["sha256"] == hashlib.sha256(film).hexdigest()
    assert record["url"] == server.url("/film.mp4")


def test_a_page_without_a_video(tmp_path):
    got = Download(tmp_path, Page(b"<html><body>hello</body></html>", content_type="text/html"), "/page")
    assert isinstance(got.error, Gone)
    assert got.reason == "unsupported"


def test_a_page_that_calls_itself_a_video(tmp_path):
    got = Download(tmp_path, Page(b"<html><body>hello</body></html>" * 30))
    assert isinstance(got.error, Gone)
    assert got.reason == "not_a_video"
    assert str(tmp_path) not in str(got.error)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain"])
def test_a_wrong_content_type_does_no_harm(content_type, film, tmp_path):
    got = Download(tmp_path, Page(film, content_type=content_type))
    assert got.record["sha256"] == hashlib.sha256(film).hexdigest()


def test_leftovers_of_a_killed_attempt_are_not_used(film, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "source.mp4.part").write_bytes(b"\0" * 1000)
    (out / "source.mkv").write_bytes(b"\0" * 1000)
    got = Download(tmp_path, Page(film, ranges=True))
    assert got.record["sha256"] == hashlib.sha256(film).hexdigest()
    assert [path.name for path in out.iterdir()] == ["source.mp4"]
    assert all(asked == "" for _, asked in got.server.log)


def test_pages_are_asked_for_with_pauses(film, tmp_path):
    got = Download(tmp_path, Page(film), sleep_requests_s=2.0)
    # One before the page, none inside the download.
    assert len(got.pauses) == 1
    assert 1.0 <= got.pauses[0] <= 3.0
    assert got.pauses == Download(tmp_path, Page(film), sleep_requests_s=2.0).pauses


def test_a_full_disk_is_no_failure_of_the_source(film, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        acquire, "guarded_downloader", lambda *args: type("D", (), {"extract_info": full, "close": int})()
    )
    with pytest.raises(DiskFull, match="no room left to download"):
        acquire_url("http://127.0.0.1:1/film.mp4", PARAMS, tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "ftp://example.org/film.mp4",
        "ytsearch:dance compilation",
        "film.mp4",
        "",
        "https://",
        "http:///film.mp4",
        "https://example.org/a b",
        "https://example.org/\nfile:///etc/passwd",
        "http://[bad",
        "javascript:alert(1)",
    ],
)
def test_other_links_are_refused_before_anything_starts(url, tmp_path):
    with pytest.raises(UserError, match="is not a link that this program downloads"):
        acquire_url(url, PARAMS, tmp_path)


@pytest.mark.parametrize("url", ["https://example.org/watch?v=1", "HTTP://example.org:8080/film.mp4"])
def test_plain_links_pass(url):
    check_url(url)


# Messages as yt-dlp words them, from several of its extractors.
MESSAGES = [
    ("[youtube] x: Private video. Sign in if you've been granted access to this video", None, "private", True),
    ("[youtube] x: Sign in to confirm you’re not a bot. Use --cookies", None, "bot_check", False),
    ("[youtube] x: Sign in to confirm your age. This video may be inappropriate", None, "login_required", False),
    ("[youtube] x: Video unavailable. This video has been removed by the uploader", None, "removed", True),
    (
        "[youtube] x: Video unavailable. This video is no longer available because the YouTube account associated with"
        " this video has been terminated.",
        None,
        "removed",
        True,
    ),
    ("[youtube] x: This video is no longer available due to a copyright claim by Label", None, "copyright", True),
    ("[youtube] x: The uploader has not made this video available in your country", None, "region", True),
    ("[youtube] x: The current session has been rate-limited by YouTube", None, "rate_limited", False),
    ("[youtube] x: Join this channel to get access to members-only content", None, "login_required", False),
    ("[youtube] x: Premieres in 3 hours", None, "not_yet", False),
    ("[TikTok] 1: Your IP address is blocked from accessing this post", None, "rate_limited", False),
    ("[TikTok] 1: You do not have permission to view this post. Log into an account", None, "private", True),
    ("[TikTok] 1: Video not available, status code 10204", None, "removed", True),
    ("[generic] Unable to download webpage: HTTP Error 429: Too Many Requests", 429, "rate_limited", False),
    ("[generic] x: Unable to download webpage: HTTP Error 404: Not Found", 404, "not_found", True),
    ("[generic] x: Unable to download webpage: HTTP Error 410: Gone", 410, "not_found", True),
    ("[generic] x: Unable to download webpage: HTTP Error 403: Forbidden", 403, "forbidden", True),
    ("[generic] x: Unable to download webpage: HTTP Error 401: Unauthorized", 401, "login_required", False),
    ("[generic] x: Got HTTP Error 403 caused by Cloudflare anti-bot challenge", 403, "bot_check", False),
    ("[generic] x: Unable to download webpage: HTTP Error 502: Bad Gateway", 502, "server_error", False),
    ("unable to download video data: HTTP Error 403: Forbidden", None, "forbidden", True),
    ("[generic] x: Unable to download webpage: <urlopen error timed out>", None, "network", False),
    ("[generic] x: [Errno -3] Temporary failure in name resolution", None, "network", False),
    ("[download] Got error: 5 bytes read, 7 more expected", None, "truncated", False),
    ("Unsupported URL: https://example.org/private-dance", None, "unsupported", True),
    ("[generic] private-drm-captcha: HTTP Error 404: Not Found", 404, "not_found", True),
    ("This video is DRM protected", None, "drm", True),
    ("You have requested merging of multiple formats but ffmpeg is not installed", None, "no_ffmpeg", False),
    ("[x] y: Requested format is not available", None, "no_format", False),
    ("[x] y: 'NoneType' object has no attribute 'get'", None, "unknown", False),
]


@pytest.mark.parametrize(("message", "status", "reason", "permanent"), MESSAGES)
def test_messages_are_sorted(message, status, reason, permanent):
    assert classify(message, status) == (reason, permanent)
    assert classify("ERROR: " + message, status) == (reason, permanent)


def test_the_status_is_found_behind_other_exceptions():
    cause = type("Answer", (Exception,), {"status": 418})()
    outer = ValueError("no page")
    outer.__cause__ = cause
    assert http_status(outer) == 418
    assert http_status(ValueError("no answer")) is None


def test_youtube_without_a_javascript_runtime_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(acquire, "javascript_runtime", lambda: None)
    for url in ("https://www.youtube.com/watch?v=1", "https://youtu.be/1"):
        with pytest.raises(UserError, match=r"JavaScript runtime.*pip install deno"):
            acquire_url(url, PARAMS, tmp_path)
    assert not downloads.is_youtube("https://example.org/youtube.com")
    assert not downloads.is_youtube("https://notyoutube.com/")


def test_youtube_without_an_ffmpeg_program_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(acquire, "javascript_runtime", lambda: "deno")
    monkeypatch.setattr("tiktok_dm.media.ffmpeg_executable", lambda: None)
    with pytest.raises(UserError, match=r"no ffmpeg program.*tiktok-dm\[youtube\]"):
        acquire_url("https://youtu.be/1", PARAMS, tmp_path)
    options = ytdlp_options(PARAMS, tmp_path, youtube=False)
    assert (options["format"], options["ffmpeg_location"]) == ("b", None)


@pytest.mark.parametrize(("version", "found"), [("v22.1.0", "node"), ("v16.20.2", None)])
def test_javascript_runtime(version, found, tmp_path, monkeypatch):
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name, *args: str(tmp_path / "scripts"))
    assert javascript_runtime() == found


def test_options(tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    params = AcquireParams(max_height=480, cookies=cookies, cookies_from_browser="firefox", rate_limit_bytes_s=1000)
    options = ytdlp_options(params, tmp_path, youtube=False)
    assert options["format_sort"][0] == "res:480"
    assert options["cookiefile"] == str(cookies)
    assert options["cookiesfrombrowser"] == ("firefox",)
    assert options["ratelimit"] == 1000
    assert options["noplaylist"] is True
    with pytest.raises(UserError, match="does not exist"):
        ytdlp_options(dataclasses.replace(params, cookies=tmp_path / "none"), tmp_path, youtube=False)


def test_cookies_are_sent_and_their_file_is_never_written(film, tmp_path):
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tname\tvalue\n"
    cookies.write_text(text)
    got = Download(tmp_path, Page(film, headers={"Set-Cookie": "other=1"}), cookies=cookies)
    assert got.error is None
    assert cookies.read_text() == text
    assert set(got.server.cookies) == {"name=value", "name=value; other=1"}


def test_cookies_that_cannot_be_read_are_the_users_to_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    wrong = tmp_path / "cookies.json"
    wrong.write_text("{}")
    for changes, text in (
        ({"cookies": wrong}, "not a cookies file in Netscape format"),
        ({"cookies_from_browser": "firefox"}, "the cookies of firefox cannot be read"),
        ({"cookies_from_browser": "mosaic"}, "the cookies of mosaic cannot be read"),
    ):
        with pytest.raises(UserError, match=text):
            acquire_url("http://127.0.0.1:1/film.mp4", dataclasses.replace(PARAMS, **changes), tmp_path)


def test_acquire_local(film, tmp_path):
    path = tmp_path / "3.mp4"
    path.write_bytes(film)
    record = acquire_local(path)
    assert record["file"] == "3.mp4"
    assert record["sha256"] == hashlib.sha256(film).hexdigest()
    assert record["bytes"] == len(film)
    assert record["extractor"] == "local"
    assert record["probe"]["height"] == 64
    assert [one.name for one in tmp_path.iterdir()] == ["3.mp4"]


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 100, "half"])
def test_broken_local_files_are_refused_without_naming_folders(content, film, tmp_path):
    path = tmp_path / "3.mp4"
    if content == "half":
        # The index is at the front of this film, so cut into that.
        content = film[:500]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=r"3\.mp4") as error:
        acquire_local(path)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("name", ["3.mp4", "000003.mkv", "compilation_3.webm", "Compilation-03.MOV"])
def test_local_files_are_found_by_id(name, tmp_path):
    for other in ("13.mp4", "33.mp4", "3.txt", "3.mp4.part", "clip_3.mp4", name):
        (tmp_path / other).touch()
    (tmp_path / "003.avi").mkdir()
    assert find_local(tmp_path, 3, None) == tmp_path / name
    assert find_local(tmp_path, 3, "gone.mp4") == tmp_path / name
    assert find_local(tmp_path, 4, None) is None


def test_the_name_in_the_annotations_comes_first(tmp_path):
    (tmp_path / "3.mp4").touch()
    (tmp_path / "summer dances.mp4").touch()
    assert find_local(tmp_path, 3, "summer dances.mp4") == tmp_path / "summer dances.mp4"


def test_two_files_of_one_id_are_named(tmp_path):
    (tmp_path / "3.mp4").touch()
    (tmp_path / "compilation_3.mkv").touch()
    with pytest.raises(UserError, match=r"3\.mp4 and compilation_3\.mkv .* compilation 3"):
        find_local(tmp_path, 3, None)


@pytest.mark.parametrize("name", ["../3.mp4", "/etc/passwd", "a/../../3.mp4"])
def test_names_that_point_out_of_the_folder_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="points out of the media folder"):
        find_local(tmp_path, 3, name)
