"""A small web server on loopback that behaves well or badly on purpose, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """One path of the server.

    Args:
        body: what is served.
        statuses: status of each request in turn; the last one stays. Other than 200: nothing of the body is sent.
        content_type: as sent.
        ranges: whether parts of the body can be asked for.
        send: only so many bytes of the body are sent, then the connection ends; by request in turn, None: all.
        length: value of Content-Length; "body" the true one, None: no such header.
        drip_s: pause after each byte.
        endless: the body is sent again and again.
        headers: further ones, whatever the status.
        location: target of a redirect.
    """

    body: bytes = b""
    statuses: tuple[int, ...] = (200,)
    content_type: str = "video/mp4"
    ranges: bool = False
    send: tuple[int | None, ...] = (None,)
    length: int | str | None = "body"
    drip_s: float = 0.0
    endless: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None


@dataclass
class Server:
    """A running server: `pages` by path, `log` of (path, Range header or ""), `cookies` likewise."""

    pages: dict[str, Page]
    port: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def asked(self, path: str) -> int:
        """How many requests came for a path."""
        return sum(1 for one, _ in self.log if one == path)


@contextmanager
def serve(pages: dict[str, Page]) -> Iterator[Server]:
    """Serve until the block ends; bodies that would never end are broken off then."""
    server = Server(pages)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            page = server.pages.get(self.path)
            before = server.asked(self.path)
            server.log.append((self.path, self.headers.get("Range", "")))
            server.cookies.append(self.headers.get("Cookie", ""))
            self.close_connection = True
            if page is None:
                self.send_error(404)
                return
            status = page.statuses[min(before, len(page.statuses) - 1)]
            if page.location is not None:
                self.send_response(302)
                self.send_header("Location", page.location)
                self.end_headers()
                return
            if status != 200:
                self._refuse(page, status)
                return
            self._body(page, page.send[min(before, len(page.send) - 1)])

        def _refuse(self, page: Page, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", "0")
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _body(self, page: Page, send: int | None) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = 0
            if page.ranges and asked and int(asked[1]) < len(page.body):
                first = int(asked[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(page.body) - 1}/{len(page.body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", page.content_type)
            if page.ranges:
                self.send_header("Accept-Ranges", "bytes")
            if page.length is not None:
                length = len(page.body) - first if page.length == "body" else page.length
                self.send_header("Content-Length", str(length))
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may leave, as it should
                self._send(page, page.body[first:][:send])

        def _send(self, page: Page, body: bytes) -> None:
            while not server.stop.is_set():
                if page.drip_s:
                    for k in range(len(body)):
                        self.wfile.write(body[k : k + 1])
                        if server.stop.wait(page.drip_s):
                            return
                else:
                    self.wfile.write(body)
                if not page.endless:
                    return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        http.shutdown()
        http.server_close()
        thread.join()
