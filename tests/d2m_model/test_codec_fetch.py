"""Fetching against a small server on loopback; the public address is never asked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from d2m_model.codec import fetch as fetching
from d2m_model.codec.cli import app
from d2m_model.codec.fetch import fetch, record_path
from d2m_model.codec.files import open_codec
from d2m_model.codec.jukebox import LICENCE, JukeboxVQVAE
from tiktok_dm.errors import UserError


@dataclass
class Server:
    """`bodies` by path; `statuses` and `cut` (bytes sent of the body) of each request in turn, then 200 and all."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    asked: int = 0
    port: int = 0

    def url(self, path: str = "/vqvae.pth.tar") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            told.asked += 1
            status = told.statuses.pop(0) if told.statuses else 200
            body = told.bodies.get(self.path)
            if status != 200 or body is None:
                self.send_error(status if status != 200 else 404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body[: told.cut.pop(0)] if told.cut else body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield told
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_path", lambda *a, **k: tmp_path / "data")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *a, **k: tmp_path / "cache")


def checkpoint(seed: int = 0) -> bytes:
    """A random state of full size in the public layout."""
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for level in range(3):
        state |= JukeboxVQVAE(level).state_dict()
        for running, shape in (("k_sum", (2048, 64)), ("k_elem", (2048,))):
            state[f"bottleneck.level_blocks.{level}.{running}"] = torch.zeros(shape)
    file = io.BytesIO()
    torch.save({"model": state, "step": 1}, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def public() -> bytes:
    return checkpoint()


@pytest.fixture(scope="module")
def other() -> bytes:
    return checkpoint(1)


def test_without_the_word_nothing_is_asked_of_anyone(server: Server, tmp_path: Path):
    out = tmp_path / "vqvae.pth.tar"
    with pytest.raises(UserError) as caught:
        fetch(out, accept_licence=False, url=server.url())
    assert str(caught.value) == f"{LICENCE} If that suits you, fetch its weights with --accept-licence."
    result = CliRunner().invoke(app, ["fetch", "--out", str(out), "--url", server.url()])
    assert result.exit_code == 1
    assert isinstance(result.exception, UserError)
    assert server.asked == 0
    assert list(tmp_path.iterdir()) == []


def test_the_first_fetch_records_what_it_got(server: Server, tmp_path: Path, public: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    out = tmp_path / "weights" / "vqvae.pth.tar"
    told: list[tuple[int, int]] = []
    path, sha256 = fetch(out, accept_licence=True, url=server.url(), progress=lambda *now: told.append(now))
    assert path == out
    assert out.read_bytes() == public
    assert sha256 == hashlib.sha256(public).hexdigest()
    assert (out.parent / "vqvae.pth.tar.sha256").read_text() == f"{sha256}  vqvae.pth.tar\n"
    assert f'"{server.url()}": "{sha256}"' in record_path().read_text()
    assert told[-1] == (len(public), len(public))
    assert sorted(p.name for p in out.parent.iterdir()) == ["vqvae.pth.tar", "vqvae.pth.tar.sha256"]
    assert open_codec(out, 2).hop == 128
    # Again: it is there, so nobody is asked.
    assert fetch(out, accept_licence=True, url=server.url()) == (out, sha256)
    assert server.asked == 1


def test_the_default_place_is_the_users_cache(server: Server, tmp_path: Path, public: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    result = CliRunner().invoke(app, ["fetch", "--accept-licence", "--url", server.url()])
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "cache" / "jukebox" / "vqvae.pth.tar").read_bytes() == public
    assert LICENCE in result.stdout
    megabytes = f"{len(public) / 1e6:.1f}"
    assert f"{megabytes} of {megabytes} MB" in result.stderr


def test_other_bytes_from_the_same_address_are_refused(server: Server, tmp_path: Path, public: bytes, other: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    fetch(first, accept_licence=True, url=server.url())
    record = record_path().read_text()
    server.bodies["/vqvae.pth.tar"] = other
    with pytest.raises(UserError, match="now gives another file than at the first fetch"):
        fetch(second, accept_licence=True, url=server.url())
    assert not second.exists()
    assert first.read_bytes() == public
    assert record_path().read_text() == record
    # Another address may give another file.
    server.bodies["/mirror"] = other
    fetch(second, accept_licence=True, url=server.url("/mirror"))
    assert second.read_bytes() == other


def test_a_file_that_is_there_is_never_overwritten(server: Server, tmp_path: Path, public: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    out = tmp_path / "vqvae.pth.tar"
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="was not fetched from"):
        fetch(out, accept_licence=True, url=server.url())
    assert out.read_bytes() == b"mine"
    out.unlink()
    fetch(out, accept_licence=True, url=server.url())
    out.write_bytes(b"changed")
    with pytest.raises(UserError, match="has been changed since it was fetched"):
        fetch(out, accept_licence=True, url=server.url())
    assert out.read_bytes() == b"changed"


def test_without_the_users_record_the_one_beside_the_file_counts(server: Server, tmp_path: Path, public: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    out = tmp_path / "vqvae.pth.tar"
    _, sha256 = fetch(out, accept_licence=True, url=server.url())
    record_path().unlink()
    assert fetch(out, accept_licence=True, url=server.url()) == (out, sha256)


@pytest.mark.parametrize("body", [b"<html>not found</html>", b"", "half a model", "other sizes"])
def test_what_is_no_vqvae_is_not_kept(server: Server, tmp_path: Path, body: bytes | str):
    if body == "other sizes":
        file = io.BytesIO()
        torch.save({"model": JukeboxVQVAE(2).state_dict()}, file)  # level 1 is missing
        body = file.getvalue()
    elif isinstance(body, str):
        body = checkpoint()[:100_000]
    server.bodies["/vqvae.pth.tar"] = body
    with pytest.raises(UserError, match=r"is not JukeBox's VQ-VAE .*nothing was kept") as caught:
        fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path, public: bytes):
    server.bodies["/vqvae.pth.tar"] = public
    server.statuses, server.cut = [503], [1000]
    out, _ = fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url(), pause_s=0.0)
    assert server.asked == 3  # busy; broken off; whole
    assert out.read_bytes() == public


def test_a_lasting_failure_is_one_sentence(server: Server, tmp_path: Path):
    out = tmp_path / "vqvae.pth.tar"
    with pytest.raises(UserError, match=r"answers with status 404; give a mirror with --url\."):
        fetch(out, accept_licence=True, url=server.url())
    assert server.asked == 1
    server.statuses = [500] * 10
    with pytest.raises(UserError, match=r"could not be fetched in 4 attempts \(status 500\)"):
        fetch(out, accept_licence=True, url=server.url(), pause_s=0.0)
    for url in ("file:///etc/passwd", "vqvae.pth.tar", "ftp://host/file"):
        with pytest.raises(UserError, match="is no address to fetch from"):
            fetch(out, accept_licence=True, url=url)
    assert list(tmp_path.iterdir()) == []


def test_far_too_much_is_broken_off(server: Server, tmp_path: Path, public: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "_MOST_BYTES", 1 << 20)
    server.bodies["/vqvae.pth.tar"] = public
    with pytest.raises(UserError, match="gives more than 1 MiB"):
        fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url())
    assert list(tmp_path.iterdir()) == []
