"""A Google Drive on loopback, for what gdown asks of it; the public one is never asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from http_server import Page, Server, serve

LINK = "/uc?id="  # before a file's id


@dataclass
class Drive:
    """Its server, and the addresses that were asked for as they were before they led there."""

    server: Server
    addresses: list[str] = field(default_factory=list)

    def share(self, file_id: str, name: str | None, body: bytes, **page: Any) -> None:
        """Hand out a file; without a name, the body is a page of HTML that stands in its place."""
        if name is not None:
            sent = {"Content-Disposition": f'attachment; filename="{name}"'}
            page = {"content_type": "application/octet-stream", "headers": sent, "ranges": True} | page
        self.server.pages[LINK + file_id] = Page(body, **({"content_type": "text/html"} | page))

    @property
    def asked(self) -> list[tuple[str, str]]:
        """(id, Range header or "") of each request."""
        return [(path.removeprefix(LINK), ranges) for path, ranges in self.server.log]


@contextmanager
def google_drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """Whatever `requests` asks of anyone is asked of the drive until the block ends, path and query kept."""
    import requests

    with serve({}) as server:
        drive = Drive(server)
        send = requests.adapters.HTTPAdapter.send

        def redirected(self: Any, request: Any, **options: Any) -> Any:
            drive.addresses.append(request.url)
            parts = urlsplit(request.url)
            request.url = parts._replace(scheme="http", netloc=f"127.0.0.1:{server.port}").geturl()
            return send(self, request, **{**options, "proxies": {}})

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", redirected)
        yield drive
